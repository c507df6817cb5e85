"""The card of the CLIP of web-like pictures says what was reached and what was not."""

from pathlib import Path

from microworld.feasibility import FAMILIES
from microworld.pretrain import web_clip
from microworld.render import class_names
from varireal_utils.core import storage
from varireal_utils.core.config import load_config
from varireal_utils.core.config_sections import ModelSpec
from varireal_utils.models import classifiers, preprocess
from varireal_utils.training import image_cache
from varireal_utils.training.train import evaluate, top1

ROOT = Path(__file__).parents[2]


def _figures(**changed):
    good = {f"{k}_{f}": 0.4 for k in ("zero_shot", "fine_tuned", "head_room") for f in FAMILIES}
    return good | changed


def test_a_model_without_head_room_is_refused_by_name():
    assert web_clip.faults(_figures()) == []
    found = web_clip.faults(_figures(head_room_pets=0.09, zero_shot_cars=0.2))
    assert [line.split()[0] for line in found] == ["head_room_pets", "zero_shot_cars"]


def test_the_card_holds_figures_targets_and_training():
    rooms = {f"head_room_{f}": 0.05 for f in FAMILIES}
    reports = {"clip": {"step": 12, "seconds": 120.0, "head_room": rooms}}
    text = web_clip.card(_figures(), reports, 500)
    assert "Every target is reached." in text and "clip: 12 steps, 2 minutes" in text
    assert "| head room cars | 0.400 | >= 0.1 |" in text and "500 renderings" in text
    assert "with the first tower: 0.050 cars, 0.050 aircraft, 0.050 pets." in text
    text = web_clip.card(_figures(head_room_pets=0.0), reports, 500)
    assert "Not reached: head_room_pets is 0.000, wanted at least 0.1." in text


def test_the_shipped_weights_name_photographs_as_their_card_says(tmp_path):
    folder = ROOT / "models/micro/web_clip"
    figures = storage.read_json(folder / "acceptance.json")["figures"]
    assert web_clip.faults(figures) == []
    lines = (folder / "README.md").read_text().splitlines()
    shown = dict(line.strip("| ").split(" | ")[:2] for line in lines if line.startswith("| "))
    assert {k: shown[k.replace("_", " ")] for k in figures} == {
        k: f"{v:.3f}" for k, v in figures.items()
    }
    table = web_clip._photographs("cars", tmp_path)
    test = table[table["split"] == "test"]
    settings = load_config(ROOT / web_clip.STUDY).classify.training()
    spec, names = ModelSpec(name=f"local-dir:{folder}"), list(class_names("cars"))
    net = classifiers.load(spec, names, settings.templates, "cpu")
    images = image_cache.Images(test["path"], tmp_path, preprocess.input_size(net.preprocess))
    named = top1(evaluate(net, images), test["label"])
    assert abs(named - figures["zero_shot_cars"]) <= 2 / len(test)  # rounding of another machine
