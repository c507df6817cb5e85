"""Preflight: a sound study passes, and each planted fault is named by its own check and remedy."""

from __future__ import annotations

import copy
import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from varireal_utils import __main__ as command_line
from varireal_utils.core import storage
from varireal_utils.core.config import load_config
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.data.sets import world
from varireal_utils.editing import compositing, sources
from varireal_utils.models import loaders
from varireal_utils.preflight import registry, stage, watch
from varireal_utils.preflight.check import Check, Finding
from varireal_utils.preflight.checks import memory, speed, verifier, zero_shot
from varireal_utils.preflight.floors import floor_of
from varireal_utils.preflight.workspace import Workspace
from varireal_utils.prompts import phrase_bank
from varireal_utils.verification.build import Verifier
from varireal_utils.workflow import memory as plan_memory

CHECKS = {check.name: check for check in registry.CHECKS}
SMALL = {
    "device": "cpu",
    "precision": "float32",
    "edit.batch_size": 4,
    "datadream.batch_size": 4,
    "datadream.steps": 3,
    "classify.batch_size": 8,
    "datasets.micro_cars.val_per_class": 12,
}


def configured(folder, **changes):
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    return load_config("params/micro.yaml", SMALL | {"runs_dir": str(folder)} | overrides)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A workspace whose photographs are read once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        folder = tmp_path_factory.mktemp("preflight")
        bench = Workspace(configured(folder), folder / "micro/preflight")
        assert len(bench.guided) == 52 and len(bench.sample().split("val")) == 96
        yield bench


@pytest.fixture
def bench(shared, monkeypatch):
    """The shared workspace, to be changed by one test."""
    monkeypatch.chdir(ROOT)
    own = copy.copy(shared)
    own.pictures, own.rates, own._nets = [], {}, {}
    own._samples = dict(shared._samples)
    return own


def changed(bench, **changes):
    """The workspace with other settings."""
    bench.config = configured(bench.folder.parents[1], **changes)
    return bench


def found(bench, name: str, tmp_path) -> list[Finding]:
    """The findings of one check, errors included."""
    with open(tmp_path / "log", "w") as log:
        return stage._found(CHECKS[name], bench, [], log)


def named(findings: list[Finding], what: str, *words: str) -> None:
    """The only failures are those of `what`, whose value and remedy hold the words."""
    failed = [f for f in findings if f.status == "fail"]
    assert failed, [f for f in findings]
    text = " ".join(f"{f.what} {f.value} {f.wanted} {f.remedy}" for f in failed)
    assert any(what in f.what for f in failed), text
    for word in words:
        assert word in text, text
    assert all(f.remedy for f in failed)


def passed(findings: list[Finding]) -> None:
    assert findings and not [f for f in findings if f.status == "fail"], findings


# files, settings, machine


def with_clip(bench, folder):
    """A copy of the micro CLIP as the study's."""
    shutil.copytree(ROOT / "models/micro/clip", folder)
    return changed(bench, models__clip__name=f"local-dir:{folder}")


def test_truncated_weights(bench, tmp_path):
    bench = with_clip(bench, tmp_path / "clip")
    passed(found(bench, "weights", tmp_path))
    file = tmp_path / "clip/open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    named(found(bench, "weights", tmp_path), "clip", "truncated", "fetch it again")
    file.write_bytes(b"\xff" * 40)
    named(found(bench, "weights", tmp_path), "clip", "cannot be read")


def test_stale_weights(bench, tmp_path):
    bench = with_clip(bench, tmp_path / "clip")
    file = tmp_path / "clip/open_clip_model.safetensors"
    digest = storage.sha256_file(file)
    sums = tmp_path / "clip/SHA256SUMS"
    sums.write_text(f"{digest}  {file.name}\n")
    passed(found(bench, "weights", tmp_path))
    sums.write_text(f"{'0' * 64}  {file.name}\n")
    named(found(bench, "weights", tmp_path), "clip", "stale or damaged", digest[:12])


def test_weights_that_are_not_those_of_the_records(bench, tmp_path):
    bench = changed(bench, runs_dir=str(tmp_path / "runs"))
    file = "models/micro/clip/open_clip_model.safetensors"
    record = {"started": "2026", "weights": {file: "0" * 64}}
    storage.write_json(tmp_path / "runs/micro/edits/run.json", record)
    lines = [f for f in found(bench, "weights", tmp_path) if f.status == "warn"]
    assert len(lines) == 1 and file in lines[0].value and "study" in lines[0].remedy


def test_a_shard_and_a_part_that_are_missing(bench, tmp_path):
    folder = tmp_path / "inpaint"
    shutil.copytree(ROOT / "models/micro/inpaint", folder)
    bench = changed(bench, models__inpaint__path=str(folder))
    passed(found(bench, "weights", tmp_path))
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "part-2.safetensors"}}))
    named(found(bench, "weights", tmp_path), "inpaint", "part-2.safetensors")
    index.unlink()
    (folder / "vae/diffusion_pytorch_model.safetensors").unlink()
    named(found(bench, "weights", tmp_path), "inpaint", "vae/ has a config.json")


def test_a_hub_model_that_was_not_fetched(bench, tmp_path):
    bench = changed(bench, models__prior__path="nobody/has-this")
    named(found(bench, "weights", tmp_path), "prior", "not on this machine", "fetch")
    skipped = stage._found(CHECKS["denoising"], bench, found(bench, "weights", tmp_path), None)
    assert [f.status for f in skipped] == ["skip"]


def test_wrong_activation(bench, tmp_path):
    bench.config = load_config("params/paper_oxford_pets.yaml", {"models.clip.name": "ViT-B-16"})
    named(
        found(bench, "architecture", tmp_path),
        "models.clip.name",
        "activation GELU, trained with QuickGELU",
        "'ViT-B-16-quickgelu'",
    )


def test_missing_licence(bench, tmp_path):
    passed(found(bench, "licence", tmp_path))
    bench = with_clip(bench, tmp_path / "clip")
    (tmp_path / "clip/README.md").unlink()
    named(found(bench, "licence", tmp_path), "clip", "models.clip.licence")
    bench.config = load_config("params/paper_oxford_pets.yaml", {"models.refine.vae_licence": ""})
    named(found(bench, "licence", tmp_path), "refine.vae", "models.refine.vae_licence")


def test_too_little_disk(bench, tmp_path, monkeypatch):
    passed(found(bench, "disk", tmp_path))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    named(found(bench, "disk", tmp_path), str(bench.config.runs_dir), "runs_dir")


def test_a_device_that_is_not_there(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    named(found(changed(bench, device="cuda"), "device", tmp_path), "device", "device: auto")


def test_too_little_memory(bench, tmp_path, monkeypatch):
    passed(found(bench, "memory", tmp_path))
    monkeypatch.setattr("varireal_utils.preflight.checks.memory.capacity", lambda device: 1e-4)
    named(found(bench, "memory", tmp_path), "04_edit", "offload")


def test_memory_is_the_plans_peak(bench, tmp_path, monkeypatch):
    """Weights alone would fit: the working memory of DataDream's training does not."""
    bench.config = load_config("params/weekend_oxford_pets.yaml")
    most = plan_memory.peak_gb(bench.config)

    def on_a_card_of(gb):
        monkeypatch.setattr(memory, "capacity", lambda device: gb)
        return found(bench, "memory", tmp_path)

    passed(on_a_card_of(most / 0.94))
    named(on_a_card_of(most / 0.96), "05_datadream", "training: datadream", f"{most:,.1f} GB")
    assert [f.what for f in on_a_card_of(80) if f.status != "pass"] == []


def test_memory_that_nobody_knows_is_a_warning(bench, tmp_path):
    path = "models.inpaint.path"
    bench.config = load_config("params/weekend_oxford_pets.yaml", {path: "owner/unknown"})
    lines = {f.what: f for f in found(bench, "memory", tmp_path)}
    assert lines["04_edit"].status == "warn" and "inpaint" in lines["04_edit"].remedy
    assert "at least" in lines["04_edit"].wanted and lines["06_classify"].status == "pass"


def test_an_error_is_a_finding_with_a_remedy(bench, tmp_path):
    def breaks(bench):
        yield Finding("own", "first", "pass", "1", "1")
        raise torch.OutOfMemoryError("CUDA out of memory")

    with open(tmp_path / "log", "w") as log:
        lines = stage._found(Check("own", "?", breaks, "lower it"), bench, [], log)
    assert [f.status for f in lines] == ["pass", "fail"]
    assert lines[1].what == "memory of the device" and lines[1].remedy == "lower it"


def test_slower_than_the_plan(bench, tmp_path, monkeypatch):
    bench.rates["06_classify", "micro_cars"] = 1e6
    assert [f.status for f in speed.run(bench)] == ["pass"]
    bench.rates["06_classify", "micro_cars"] = 0.01
    lines = list(speed.run(bench))
    assert [f.status for f in lines] == ["warn"] and "another process" in lines[0].remedy


# photographs, names, masks, phrases


def test_zero_shot_and_swapped_class_names(bench, tmp_path):
    sample = bench.sample()
    passed(found(bench, "zero_shot", tmp_path))
    val = sample.split("val")
    chances = bench.chances(sample, [storage.read_image(p) for p in val["path"]])
    hits = [(chances[val["label"] == k].argmax(1) == k).mean() for k in range(8)]
    a, b = np.argsort(hits)[-2:]
    names = list(sample.names)
    names[a], names[b] = names[b], names[a]
    swapped = copy.copy(sample)
    object.__setattr__(swapped, "names", names)
    bench._samples["micro_cars"], bench._nets = swapped, {}
    named(found(bench, "zero_shot", tmp_path), "class names", names[a], names[b], "put the names")


def test_a_clip_that_sees_other_colours_misses_its_floor(bench, tmp_path, monkeypatch):
    honest = loaders.load_clip

    def other(spec, device="cpu"):
        model, words, preprocess = honest(spec, device)
        return model, words, preprocess | {"mean": (0.5,) * 3, "std": (50.0,) * 3}

    monkeypatch.setattr(loaders, "load_clip", other)
    named(found(bench, "zero_shot", tmp_path), "96 validation", "acceptance.json", "models.clip")


def test_floors_say_where_they_are_from(bench):
    openai = load_config("params/paper_oxford_pets.yaml").models.clip
    pets = load_config("params/paper_oxford_pets.yaml")
    from varireal_utils.data import registry as data_sets

    spec = data_sets.of_study(pets, "oxford_pets")
    known = floor_of(openai, spec, 200, 37)
    assert 0.80 < known.share < 0.87 and "B1" in known.source
    cars = bench.sample().spec
    other = floor_of(openai, cars, 200, 8)
    assert 0.19 < other.share < 0.26 and "chance" in other.source


def test_exchanged_names_need_evidence():
    labels = np.repeat([0, 1, 2], 10)
    right = np.eye(3)[labels]
    assert zero_shot.exchanged(right, labels) == []
    assert sorted(zero_shot.exchanged(np.eye(3)[[1, 0, 2]][labels], labels)) == [(0, 1), (1, 0)]
    assert zero_shot.exchanged(np.eye(3)[np.zeros(30, int)], labels) == []  # one answer to all


def test_inverted_masks(bench, tmp_path, monkeypatch):
    passed(found(bench, "masks", tmp_path))
    honest = storage.read_mask
    monkeypatch.setattr(storage, "read_mask", lambda path: 255 - honest(path))
    named(found(bench, "masks", tmp_path), "the object is inside", "inverted")


def test_swapped_phrase_lists(bench, tmp_path):
    passed(found(bench, "phrases", tmp_path))
    sample = copy.copy(bench.sample())
    bank = copy.deepcopy(sample.bank)
    for lists in bank["phrases"]["background"].values():
        lists["feasible"], lists["infeasible"] = lists["infeasible"], lists["feasible"]
    object.__setattr__(sample, "bank", bank)
    bench._samples["micro_cars"] = sample
    named(found(bench, "phrases", tmp_path), "micro_cars, background", "arms of background")


# edits


@pytest.fixture
def edit(bench, tmp_path, monkeypatch):
    """(attribute, steps) -> findings of a batch of two edits of each arm."""

    def run(attribute: str, **changes):
        few = {"edit__color__steps": 3, "edit__background__steps": 4, "edit__batch_size": 2}
        few |= {"edit__background__prior_steps": 4, "attributes": [attribute]} | changes
        changed(bench, **few)
        table = bench.guided
        train = table[table["split"] == "train"].head(2)
        bench.__dict__["guided"] = table.loc[[*train.index, *table[table["split"] == "val"].index]]
        shutil.rmtree(bench.paths.edits("micro_cars", attribute, "feasible"), ignore_errors=True)
        shutil.rmtree(bench.paths.edits("micro_cars", attribute, "infeasible"), ignore_errors=True)
        return found(bench, "edits", tmp_path)

    return run


def painted(monkeypatch, change):
    """Compose `change(source, edited, editable)` in place of the edit."""
    monkeypatch.setattr(
        compositing,
        "compose",
        lambda source, edited, editable, feather=0: change(source, edited, editable[..., None] > 0),
    )


@pytest.mark.slow
def test_an_editor_that_returns_its_source(edit, monkeypatch):
    painted(monkeypatch, lambda source, edited, region: source)
    named(edit("color"), "changed inside", "returns its source")


@pytest.mark.slow
def test_an_editor_that_paints_black(edit, monkeypatch):
    painted(monkeypatch, lambda source, edited, region: np.where(region, np.uint8(0), source))
    named(edit("color"), "not black", "safety checker")


@pytest.mark.slow
def test_a_foreground_edit_that_changes_the_background(edit, monkeypatch):
    painted(monkeypatch, lambda source, edited, region: edited // 2)
    named(edit("color"), "unchanged outside", "composition is broken")


@pytest.mark.slow
def test_an_inverted_editable_mask(edit, monkeypatch):
    honest = sources.editable_mask
    monkeypatch.setattr(sources, "editable_mask", lambda *asked: 255 - honest(*asked))
    lines = edit("background")
    named(lines, "unchanged outside", "inverted")
    named(lines, "changed inside")


@pytest.mark.slow
def test_swapped_arms(edit, monkeypatch):
    honest, other = phrase_bank.draw, {"feasible": "infeasible", "infeasible": "feasible"}
    monkeypatch.setattr(
        phrase_bank, "draw", lambda bank, a, arm, *more: honest(bank, a, other[arm], *more)
    )
    named(edit("color"), "arms not swapped", "the arms of color")


@pytest.mark.slow
def test_arms_painted_with_each_others_phrases(edit, monkeypatch):
    honest = phrase_bank.edit_prompt
    lists = phrase_bank.lists

    def swapped(bank, attribute, phrase, name, kind="edit"):
        arms = lists(bank, attribute, name)
        own = "feasible" if phrase in arms["feasible"] else "infeasible"
        other = "infeasible" if own == "feasible" else "feasible"
        return honest(bank, attribute, arms[other][arms[own].index(phrase)], name, kind)

    rgb = phrase_bank.rgb

    def flat(bank, phrase):
        arms = lists(bank, "color", "alvera")
        own = "feasible" if phrase in arms["feasible"] else "infeasible"
        other = "infeasible" if own == "feasible" else "feasible"
        return rgb(bank, arms[other][arms[own].index(phrase)])

    monkeypatch.setattr(phrase_bank, "edit_prompt", swapped)
    monkeypatch.setattr(phrase_bank, "rgb", flat)
    named(edit("color"), "arms not swapped", "nearest to a phrase of their own arm")


def halved(net):
    """A network in float16 but for its norms, which no CPU computes in two half types."""
    net.half()
    for layer in net.modules():
        if isinstance(layer, torch.nn.GroupNorm | torch.nn.LayerNorm):
            layer.float()
    return net


def with_unet(monkeypatch, change):
    """Change every pipeline that is loaded."""
    honest = loaders.load_pipeline

    def load(models, role, device):
        pipe = honest(models, role, device)
        change(pipe)
        return pipe

    monkeypatch.setattr(loaders, "load_pipeline", load)


@pytest.mark.slow
def test_float16_overflow(edit, monkeypatch):
    with torch.no_grad():
        with_unet(monkeypatch, lambda pipe: pipe.unet.conv_out.weight.mul_(1e38))
        named(edit("color"), "finite numbers", "overflows", "UNet2DConditionModel")


@pytest.mark.slow
def test_autocast_over_half_weights(edit, monkeypatch):
    with_unet(monkeypatch, lambda pipe: halved(pipe.unet))
    monkeypatch.setattr(
        "varireal_utils.editing.roles.Pipes.autocast",
        lambda self, pipe: torch.autocast("cpu", torch.bfloat16),
    )
    named(
        edit("color", edit__color__refine_steps=0), "type of the guided", "float16 weights answer"
    )


def test_watch_names_numbers_that_are_lost_and_types_that_are_mixed():
    from diffusers import UNet2DConditionModel

    from tests.checkpoints import unet

    net = halved(unet())
    assert isinstance(net, UNet2DConditionModel)
    asked = torch.zeros(1, 4, 8, 8), torch.tensor([5]), torch.zeros(1, 3, 16)
    with watch.watch() as seen, torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        net(*asked)
    assert watch.blurred(seen) and not watch.lost(seen)
    net = net.float()
    with watch.watch() as seen, torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        net(*asked)
    assert not watch.blurred(seen) and not watch.lost(seen)
    with watch.watch() as seen, torch.no_grad():
        net(*asked)
        net.conv_out.bias.fill_(float("nan"))
        net(*asked)
    assert not watch.blurred(seen) and watch.lost(seen) == ["UNet2DConditionModel: 1 of 2 calls"]


# models


@pytest.mark.slow
def test_a_wrong_scheduler(bench, tmp_path, monkeypatch):
    passed(found(bench, "denoising", tmp_path))
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

    def epsilon(pipe):
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type="epsilon")

    with monkeypatch.context() as patch:
        with_unet(patch, epsilon)
        named(found(bench, "denoising", tmp_path), "UNet and scheduler", "v_prediction")

    def flow(pipe):
        pipe.scheduler = FlowMatchEulerDiscreteScheduler()

    with_unet(monkeypatch, flow)
    named(found(bench, "denoising", tmp_path), "UNet and scheduler", "FlowMatch")


@pytest.mark.slow
def test_a_wrong_scale_of_the_autoencoder(bench, tmp_path, monkeypatch):
    with_unet(monkeypatch, lambda pipe: pipe.vae.register_to_config(scaling_factor=0.18215))
    named(found(bench, "denoising", tmp_path), "scale of latents", "scaling_factor (0.18215)")


def test_a_verifier_that_always_gives_one_answer(bench, tmp_path, monkeypatch):
    bench = changed(bench, attributes=["color"])
    honest, says, built = verifier.build_verifier, [], []

    def build(*asked):
        built[:] = built or [honest(*asked)]

        def score(*given):
            answers = built[0].score(*given)
            told = [c for c in answers if c == "accepted" or c.endswith("_passed")] if says else []
            return answers.assign(**dict.fromkeys(told, says[:1] == [True]))

        return Verifier(built[0].thresholds, score)

    monkeypatch.setattr(verifier, "build_verifier", build)
    passed(found(bench, "verifier", tmp_path))
    says[:] = [True]
    lines = found(bench, "verifier", tmp_path)
    named(lines, "grey picture", "says yes to anything")
    named(lines, "another object")
    named(lines, "an unedited photograph")
    says[:] = [False]
    named(found(bench, "verifier", tmp_path), "the photograph itself", "always says no")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lr", "words"), [(1e-12, "changes nothing"), (30.0, "lower datadream.lr")]
)
def test_a_learning_rate_of_datadream_that_is_wrong(bench, tmp_path, lr, words):
    named(found(changed(bench, datadream__lr=lr), "datadream", tmp_path), "loss over 20", words)


@pytest.mark.slow
def test_a_text_to_image_model_that_draws_black(bench, tmp_path, monkeypatch):
    def blind(pipe):
        pipe.vae.decoder.layers[-1].weight.mul_(0)
        pipe.vae.decoder.layers[-1].bias.fill_(-1)

    with torch.no_grad():
        with_unet(monkeypatch, blind)
        named(
            found(bench, "datadream", tmp_path),
            "untuned pictures, not black",
            "all black",
            "scheduler",
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lr", "what"), [(1e-12, "adapters change the answers"), (50.0, "loss over 12 steps")]
)
def test_a_training_that_learns_nothing_or_falls_apart(bench, tmp_path, lr, what):
    named(found(changed(bench, classify__lr=lr), "training", tmp_path), what, "classify")


# the whole


def test_a_sound_study_passes_and_nothing_else_is_touched(tmp_path, monkeypatch, capsys):
    """One attribute at small sizes; the command's exit code, products, record."""
    monkeypatch.chdir(ROOT)
    params = tmp_path / "own.yaml"
    params.write_text(
        f"include: {ROOT / 'tests/tiny.yaml'}\nstudy: own\nruns_dir: {tmp_path / 'runs'}\n"
        "device: cpu\nprecision: float32\nattributes: [color]\n"
        "datasets:\n  micro_cars: {source: world, family: cars, train_per_class: 1, "
        "val_per_class: 8, test_per_class: 2}\n"
        "edit: {batch_size: 2}\nclassify: {recipes: [real, datadream(dset)]}\n"
    )
    splits = []
    honest = world.render.photograph
    monkeypatch.setattr(
        world.render,
        "photograph",
        lambda family, split, k: splits.append(split) or honest(family, split, k),
    )
    code = command_line.main(["preflight", "--params", str(params)])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert set(splits) == {"train", "val"}
    folder = tmp_path / "runs/own/preflight"
    assert [p.name for p in (tmp_path / "runs/own").iterdir()] == ["preflight"]
    record = storage.read_json(folder / stage.RECORD)
    assert record["ready"] and record["versions"]["torch"] and record["device"] == "cpu"
    assert {f["check"] for f in record["findings"]} == set(CHECKS)
    for name, digest in record["products"].items():
        assert storage.sha256_file(folder / name) == digest
    assert sorted(record["products"]) == ["checks.csv", "contact_sheet.png", "index.html"]
    assert not StudyPaths(tmp_path / "runs/own").records()
    table = storage.read_table(folder / "checks.csv")
    assert len(table) == len(record["findings"]) and "ready for a long run" in printed


@pytest.mark.slow
def test_the_micro_study_passes_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    outcome = stage.run(load_config("params/micro.yaml", {"runs_dir": str(tmp_path)}))
    assert not outcome.failures, outcome.failures
    whats = {f.what for f in outcome.findings}
    for attribute in ("background", "color", "texture"):
        for arm in ("feasible", "infeasible"):
            assert f"{attribute}, {arm}, finite numbers" in whats


def test_a_failure_ends_with_exit_code_1_and_its_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    cheap = tuple(CHECKS[n] for n in ("architecture", "licence", "device"))
    monkeypatch.setattr(stage, "CHECKS", cheap)
    monkeypatch.setattr(stage.run, "__defaults__", (print, cheap))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ["--set", f"runs_dir={tmp_path}", "--set", "device=cuda", "--set", "precision=float32"]
    assert command_line.main(["preflight", "--params", "params/micro.yaml", *words]) == 1
    printed = capsys.readouterr().out
    assert "not ready: 1 failures (device)" in printed and "do:     set device: auto" in printed
