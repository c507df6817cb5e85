"""Protocol faithful against the reference, written out plainly in tests/reference/varireal_*.py.

Pictures to the pixel, on real photographs where they are there and on renderings; models to the
argument of every call, recorded on small random checkpoints at the true sizes.
"""

import inspect
import os
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image

from microworld import render
from tests import checkpoints
from tests.reference import varireal_arithmetic as plain
from tests.reference import varireal_settings as wanted
from varireal_utils.core.config import ParameterError, StudyConfig, checked, load_config, merged
from varireal_utils.core.config_base import content, flattened
from varireal_utils.core.config_sections import AugmentSettings
from varireal_utils.core.seeds import numpy_rng
from varireal_utils.editing import (
    canvas,
    compositing,
    guidance,
    passes,
    pipeline,
    priors,
    roles,
    segmentation,
)
from varireal_utils.editing import sources as photographs
from varireal_utils.editing.slices import EditStage, GuidanceStage
from varireal_utils.editing.sources import Source, editable_mask
from varireal_utils.models import loaders
from varireal_utils.prompts import phrase_bank

SHARED = Path(os.environ.get("VARIREAL_SHARED", Path(__file__).resolve().parents[3] / "shared"))
PETS = SHARED / "data/oxford_pets_mini/oxford-iiit-pet"
CPU = torch.device("cpu")
KINDS = {
    "prior": StableDiffusionPipeline,
    "inpaint": StableDiffusionXLInpaintPipeline,
    "refine": StableDiffusionXLControlNetPipeline,
}


def rendered() -> list[tuple[np.ndarray, np.ndarray]]:
    """A portrait and a landscape of renderings, in a photograph's size."""
    out = []
    for index, part in enumerate((np.s_[8:120, 24:104], np.s_[30:110, 4:124])):
        p = render.photograph("cars", "val", index)
        image = np.ascontiguousarray(p.image[part])
        size = (image.shape[1] * 4 + 1, image.shape[0] * 4 + 3)
        mask = np.asarray(Image.fromarray(p.mask[part]).resize(size, Image.Resampling.NEAREST))
        out.append((np.asarray(Image.fromarray(image).resize(size)), mask))
    return out


def pets(count: int = 2) -> list[tuple[np.ndarray, np.ndarray]]:
    """Real photographs with the masks of their trimaps, of different shapes; none without them."""
    out, shapes = [], set()
    for path in sorted((PETS / "annotations/trimaps").glob("[!.]*.png")):
        mask = np.where(np.asarray(Image.open(path)) == 1, 255, 0).astype(np.uint8)
        file = PETS / "images" / f"{path.stem}.jpg"
        if mask.shape not in shapes and file.is_file() and len(out) < count:
            shapes.add(mask.shape)
            out.append((np.asarray(Image.open(file).convert("RGB")), mask))
    return out


PICTURES = [pytest.param(rendered, id="rendered")] + [
    pytest.param(
        pets,
        id="pets",
        marks=[
            pytest.mark.skipif(not PETS.is_dir(), reason=f"{PETS} is not there"),
            pytest.mark.shared,
        ],
    )
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict:
    """Small random models of the classes that the reference uses."""
    folder = tmp_path_factory.mktemp("weights")
    base, control, look = checkpoints.sdxl_refiner(folder / "refine")
    return {
        "inpaint": {"path": str(checkpoints.sdxl_inpaint(folder / "inpaint"))},
        "prior": {"path": str(checkpoints.sd21(folder / "prior"))},
        "refine": {"path": str(base)},
        "controlnet": {"path": str(control)},
        "ip_adapter": {"path": str(look), "weight_name": "adapter.safetensors"},
    }


@cache
def bank_of(dataset: str) -> phrase_bank.Bank:
    """The shipped phrases of a data set, for the classes that they name."""
    file = f"params/prompts/{dataset}.yaml"
    names = list(phrase_bank.read_file(file)["families"][dataset]["color"]["classes"])
    return phrase_bank.load_bank(file, dataset, names)


def config_of(dataset: str, folders: dict, protocol: str = "faithful") -> StudyConfig:
    """A shipped file with small models and two priors a phrase, and nothing else changed."""
    values = merged(f"params/{protocol}_{dataset}.yaml", {"precision": "float32", "device": "cpu"})
    kept = {k: v for k, v in values["models"]["prior"].items() if k == "scheduler"}
    values["models"] = values["models"] | folders
    values["models"]["prior"] = folders["prior"] | kept
    values["edit"]["prior_variants"] = 2
    return checked(values, dataset)


def source_of(image: np.ndarray, mask: np.ndarray, config: StudyConfig, attribute: str) -> Source:
    lines = guidance.lines_of(image, mask, GuidanceStage.of(config).guidance)
    return Source(image, mask, editable_mask(attribute, mask, None), lines)


@pytest.fixture(scope="module")
def loaded() -> dict:
    """Pipelines that are loaded once for all tests."""
    return {}


@pytest.fixture
def recorded(monkeypatch, folders, loaded):
    """Every call of a pipeline, in order: (role, arguments, pictures that it gave)."""
    calls = []
    real = {"pipeline": loaders.load_pipeline, "refiner": loaders.load_refiner}

    def once(kind):
        def load(models, role, *others):
            key = (kind, role) if kind == "pipeline" else (kind, *others)
            loaded[key] = loaded.get(key) or real[kind](models, role, *others)
            return loaded[key]

        return load

    monkeypatch.setattr(loaders, "load_pipeline", once("pipeline"))
    monkeypatch.setattr(loaders, "load_refiner", once("refiner"))

    def recorder(role, kind):
        signature = inspect.signature(kind.__call__)

        def call(self, **arguments):
            signature.bind(self, **arguments)  # an argument that it does not know raises
            if role == "refine":
                scales = {p.scale[0] for p in adapters(self)}
                arguments = arguments | {"ip_scales": scales}
            shape = (arguments["height"], arguments["width"], 3)
            count = len(arguments["prompt_embeds"])
            rng = np.random.default_rng(len(calls))
            made = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]
            calls.append((role, arguments, made))
            return SimpleNamespace(images=[m / np.float32(255) for m in made])

        monkeypatch.setattr(kind, "__call__", call)

    for role, kind in KINDS.items():
        recorder(role, kind)
    return calls


def adapters(pipe) -> list:
    return [p for p in pipe.unet.attn_processors.values() if hasattr(p, "scale")]


def edited(config, bank, attribute, arm, pictures):
    """Edits of a batch of photographs: settings, sources, rows, results."""
    settings = EditStage.of(config, attribute=attribute, feasibility=arm)
    pipes = roles.load(settings, CPU, torch.float32)
    name = next(iter(bank["phrases"]["color"]))
    phrases = phrase_bank.lists(bank, attribute, name)[arm]
    phrase = next(p for p in phrases if re.fullmatch(r"[a-z ]+", p))
    rows = [
        {
            "phrase": phrase,
            "seed": 40 + i,
            "class_name": name,
            "prompt": phrase_bank.edit_prompt(bank, attribute, phrase, name),
        }
        for i in range(len(pictures))
    ]
    sources = [source_of(image, mask, config, attribute) for image, mask in pictures]
    prior = passes.prior_bank(pipes, bank, [phrase], settings, 0)
    results = pipeline.edit_batch(pipes, sources, rows, prior, bank, settings, 0)
    return settings, sources, rows, results


def arrays(images) -> list[np.ndarray]:
    return [np.asarray(image) for image in images]


def numbers(arguments: dict) -> dict:
    """The arguments of a call that are no pictures, embeddings or generators."""
    return {k: v for k, v in arguments.items() if isinstance(v, int | float)}


@pytest.mark.parametrize(("dataset", "attribute", "arm"), wanted.CELLS)
def test_every_number_of_the_table_is_the_references(dataset, attribute, arm):
    config = load_config(f"params/faithful_{dataset}.yaml")
    own = EditStage.of(config, attribute=attribute, feasibility=arm).own
    calls = dict(wanted.calls(dataset, attribute, arm))
    first = {"guidance_scale": own.guidance_scale, "num_inference_steps": own.steps}
    assert calls["inpaint"] == wanted.SIZE | first | {"strength": own.strength}
    if "prior" in calls:
        drawn = {"guidance_scale": own.prior_guidance_scale, "num_inference_steps": own.prior_steps}
        assert calls["prior"] == drawn | {"height": own.prior_size, "width": own.prior_size}
    if attribute == "background":
        assert (own.dilate, own.dilate_shape, own.mask_blur) == (
            wanted.kernel(dataset),
            "square",
            41,
        )
        assert own.refine_steps == 0
        return
    numbers = (own.refine_guidance_scale, own.refine_steps, own.controlnet_scale, own.refine_from)
    assert numbers == (7.5, 25, 1.0, "noise")
    assert own.alpha == wanted.alpha(dataset, attribute, arm)
    assert own.ip_scale == wanted.ip_scale(dataset, attribute, arm)


SLOW = [
    pytest.param(*cell, marks=[pytest.mark.slow] if cell[0] != "oxford_pets" else [])
    for cell in wanted.CELLS
]


@pytest.mark.parametrize(("dataset", "attribute", "arm"), SLOW)
def test_every_call_is_the_references(dataset, attribute, arm, folders, recorded):
    config, bank = config_of(dataset, folders), bank_of(dataset)
    _, _, _, results = edited(config, bank, attribute, arm, rendered()[:1])
    assert [(role, numbers(arguments)) for role, arguments, _ in recorded] == wanted.calls(
        dataset, attribute, arm
    )
    known = {"prior": set(), "inpaint": {"image", "mask_image"}}
    known["refine"] = {"image", "ip_adapter_image", "ip_scales"}
    given_anywhere = {"generator", "output_type"}
    for role, arguments, _ in recorded:
        others = {k for k in arguments if not k.endswith("embeds")} - set(numbers(arguments))
        assert others == known[role] | given_anywhere
        if role == "refine":
            assert arguments["ip_scales"] == {wanted.ip_scale(dataset, attribute, arm)}
    assert len(results) == 1


@pytest.mark.parametrize("taken", PICTURES)
@pytest.mark.parametrize("attribute", ["background", "color", "texture"])
def test_every_picture_is_the_references(attribute, taken, folders, recorded):
    """From the photograph to the finished edit: each input of each call, and the result."""
    dataset, arm, pictures = "oxford_pets", "infeasible", taken()
    config, bank = config_of(dataset, folders), bank_of(dataset)
    settings, sources, rows, results = edited(config, bank, attribute, arm, pictures)
    by_role = {role: (arguments, made) for role, arguments, made in recorded}
    second = [(arguments, made) for role, arguments, made in recorded if role == "refine"]
    looks = [look for arguments, _ in second for look in arguments["ip_adapter_image"][0]]
    refined = [picture for _, made in second for picture in made]
    first, painted = by_role["inpaint"]
    assert len(pictures) >= 2
    for i, (image, mask) in enumerate(pictures):
        on, region = plain.canvas(image), plain.binary(plain.canvas(mask))
        lines = plain.canny(on, region)
        assert (sources[i].lines == lines).all() and lines.any()
        changed = region
        if attribute == "background":
            prior = by_role["prior"][1][rows[i]["seed"] % settings.edit.prior_variants]
            start = plain.background_start(on, region, prior, wanted.kernel(dataset))
            paint, changed = plain.background_mask(region), 255 - region
        elif attribute == "color":
            rgb = phrase_bank.rgb(bank, rows[i]["phrase"])
            start, paint = (
                plain.blended(on, region, rgb, wanted.alpha(dataset, "color", arm)),
                region,
            )
        else:
            prior = by_role["prior"][1][rows[i]["seed"] % settings.edit.prior_variants]
            left, top = numpy_rng(rows[i]["seed"], "crop", 0).integers(1024 - 256 + 1, size=2)
            new, share = plain.surface(prior, left, top), wanted.alpha(dataset, "texture", arm)
            start, paint = plain.blended(on, region, new, share), region
        assert (arrays(first["image"])[i] == start).all()
        assert (arrays(first["mask_image"])[i] == paint).all()
        last = painted[i]
        if attribute != "background":
            assert (np.asarray(looks[i]) == plain.look(painted[i], region)).all()
            seen = [lines for arguments, _ in second for lines in arguments["image"]][i]
            assert (np.asarray(seen) == lines[..., None]).all()
            last = refined[i]
        whole = plain.back(plain.composed(on, last, changed), *image.shape[:2])
        assert (results[i] == whole).all()
        kept, near = photographs.untouched(sources[i], settings.edit, attribute)
        assert compositing.changed_outside(kept, results[i], near) == 0
        assert compositing.changed_outside(kept, results[i], np.zeros_like(near)) > 0
        assert (near == 0).any()


def test_prompts_reach_the_models_as_the_reference_weighs_them(folders, recorded):
    """Compel's own reading of (phrase)1.3, for both stages and for the prior; SDXL's negative
    prompt is never passed, the surface's is."""
    from compel import Compel, ReturnedEmbeddingsType

    config, bank = config_of("oxford_pets", folders), bank_of("oxford_pets")
    settings, _, rows, _ = edited(config, bank, "texture", "feasible", rendered()[:1])
    phrase, own = rows[0]["phrase"], settings.own
    given = {role: arguments for role, arguments, _ in recorded}
    prior, first = (loaders.load_pipeline(settings.models, r, CPU) for r in ("prior", "inpaint"))
    marked = f"({phrase}){wanted.PROMPT_WEIGHT['texture']}"
    text = phrase_bank.prior_prompt(bank, "texture", phrase)
    two = Compel(prior.tokenizer, prior.text_encoder)
    assert torch.allclose(given["prior"]["prompt_embeds"][:1], two(text.replace(phrase, marked)))
    negative = prior.encode_prompt(own.prior_negative, CPU, 1, False)[0]
    assert torch.equal(given["prior"]["negative_prompt_embeds"][:1], negative)
    assert own.prior_negative.startswith("clothes, objects") and own.prior_negative.count(",") == 13
    kind = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
    both = Compel(
        [first.tokenizer, first.tokenizer_2],
        [first.text_encoder, first.text_encoder_2],
        returned_embeddings_type=kind,
        requires_pooled=[False, True],
    )
    states, _ = both(rows[0]["prompt"].replace(phrase, marked))
    assert torch.allclose(given["inpaint"]["prompt_embeds"], states)
    for role in ("inpaint", "refine"):
        assert not given[role]["negative_prompt_embeds"].any()
    assert (own.prompt_weight, own.prior_prompt_weight) == (1.3, 1.3)
    for attribute, weight in wanted.PROMPT_WEIGHT.items():
        assert config.edit.attributes[attribute].prompt_weight == weight
        if attribute in wanted.PRIOR_STEPS:
            assert config.edit.attributes[attribute].prior_prompt_weight == weight


@pytest.mark.parametrize("dataset", wanted.DATA_SETS)
def test_every_other_number_of_the_reference(dataset):
    config = load_config(f"params/faithful_{dataset}.yaml")
    classify, edit = config.classify, config.edit
    own = {name: getattr(classify, name) for name in wanted.CLASSIFIER}
    assert own == wanted.CLASSIFIER and classify.augment == AugmentSettings()
    assert classify.templates == [f"a {wanted.WORD[dataset]} photo of a {{class}}"]
    assert (edit.images_per_real, edit.max_attempts, edit.editor) == (5, 3, "varireal")
    assert (config.verify.rule, config.verify.keep) == ("faithful", "all")
    assert (config.guidance.noun, config.guidance.box_threshold) == (wanted.WORD[dataset], 0.4)
    paths = {role: spec.path for role, spec in config.models.present().items()}
    assert paths["inpaint"] == "diffusers/stable-diffusion-xl-1.0-inpainting-0.1"
    assert paths["refine"] == "SG161222/RealVisXL_V4.0"
    assert paths["controlnet"] == "diffusers/controlnet-canny-sdxl-1.0"
    assert paths["verifier"] == "llava-hf/llava-v1.6-mistral-7b-hf"
    assert paths["detector"] == "IDEA-Research/grounding-dino-base"
    assert paths["segmenter"] == "facebook/sam2.1-hiera-large"
    assert config.models.refine.vae == "madebyollin/sdxl-vae-fp16-fix"
    assert config.models.ip_adapter.weight_name == "ip-adapter-plus_sdxl_vit-h.safetensors"
    assert config.models.prior.scheduler.name == "DPMSolverMultistepScheduler"
    assert all(config.models.get(r).scheduler is None for r in ("inpaint", "refine"))


def test_the_detector_sees_the_canvas_and_given_masks_are_left_aside(monkeypatch, tmp_path):
    config = load_config("params/faithful_oxford_pets.yaml")
    settings = GuidanceStage.of(config).guidance
    image, mask = rendered()[0]
    seen = []

    def look(picture, name):
        seen.append(picture)
        return segmentation.Found(plain.binary(plain.canvas(mask)), "sam2", (0, 0, 512, 256), 0.9)

    monkeypatch.setattr(segmentation, "_finder", lambda *given: look)
    find = segmentation.build_finder(settings, config.models, CPU)
    found = find(image, "beagle")
    assert (seen[0] == plain.canvas(image)).all()
    assert guidance.iou(found.mask, mask) > 0.97 and found.mask.shape == mask.shape
    height, width = image.shape[:2]
    inner = plain.inner(height, width)
    assert found.box == pytest.approx((0, 0, 512 * width / inner[1], 256 * height / inner[0]))
    for name, picture in (("a.png", image), ("m.png", np.full_like(mask, 255))):
        Image.fromarray(picture).save(tmp_path / name)
    row = {"image_id": "a", "path": "a.png", "mask_path": "m.png", "split": "train"}
    row["class_name"] = "beagle"
    made = guidance.guide(row, tmp_path, tmp_path / "out", settings, find)
    assert made["origin"] == "sam2" and made["area"] == pytest.approx((found.mask > 0).mean())
    lines = np.asarray(Image.open(tmp_path / made["canny_path"]))
    assert lines.shape == (1024, 1024)


@pytest.mark.parametrize("width", [25, 50, 120])
def test_dilation_is_a_squares_width(width):
    mask = np.zeros((400, 400), np.uint8)
    mask[200, 200] = 255
    assert (priors.dilate_by_square(mask, width) > 0).sum() == width**2
    assert (priors.dilate_by_square(mask, width) == plain.grown(mask, width)).all()
    assert (priors.dilate(mask, width) > 0).sum() > 3 * width**2  # what a radius would do


def test_lines_of_the_canvas_are_finer_than_enlarged_ones():
    image, mask = rendered()[1]
    config = load_config("params/paper_oxford_pets.yaml")
    own = GuidanceStage.of(config).guidance
    assert own.canvas.canvas_shape == "photograph"
    lines = guidance.lines_of(image, mask, own)
    region = canvas.place(mask, own.canvas)[0]
    assert lines.shape == region.shape and max(lines.shape) == 1024
    small = guidance.canny(image, mask)
    enlarged = cv2.resize(small, lines.shape[::-1], interpolation=cv2.INTER_NEAREST)
    shares = [(found[region > 0] > 0).mean() for found in (lines, enlarged)]
    assert 0 < shares[0] < 0.6 * shares[1]


def test_photographs_of_any_shape_share_a_batch_without_black_bars(folders, recorded):
    """Controlled: canvases of each photograph's own shape; no pixel of padding is black."""
    config, bank = config_of("oxford_pets", folders, "paper"), bank_of("oxford_pets")
    settings, sources, _, results = edited(config, bank, "background", "feasible", rendered())
    shapes = [source.lines.shape for source in sources]
    assert len(set(shapes)) == 2 and all(side % 64 == 0 for shape in shapes for side in shape)
    inpainted = [arguments for role, arguments, _ in recorded if role == "inpaint"]
    assert [(a["height"], a["width"]) for a in inpainted] == shapes
    for source, result in zip(sources, results, strict=True):
        assert compositing.changed_outside(source.image, result, source.editable) == 0
    assert settings.own.surface_color == "object"  # of a scene it is not read


@pytest.mark.parametrize("dataset", wanted.DATA_SETS)
def test_every_setting_that_differs_is_named_in_the_docs(dataset):
    """By its dotted key; arms with settings of their own by edit.<attribute>.arms."""
    page = Path("docs/differences.md").read_text()
    section = page.split("## Controlled against faithful", 1)[1].split("\n## ", 1)[0]
    files = [f"params/{protocol}_{dataset}.yaml" for protocol in ("paper", "faithful")]
    ours, theirs = (flattened(content(load_config(file))) for file in files)
    named = set(re.findall(r"`([\w.]+)`", section))
    differ = {k for k in {*ours, *theirs} if ours.get(k) != theirs.get(k)}
    differ = {re.sub(r"(\.arms)\..*", r"\1", key) for key in differ}
    assert len(differ) > 25 and differ <= named


def test_settings_that_need_another_are_named():
    for key, needed in (("guidance.find_on", "edit.canvas"), ("edit.compose_on", "edit.canvas")):
        with pytest.raises(ParameterError, match=rf"{key}: got 'canvas' without {needed}"):
            load_config("params/micro.yaml", {key: "canvas"})
    with pytest.raises(ParameterError, match=r"edit.color.refine_from: got 'noise' without"):
        load_config("params/micro.yaml", {"edit.color.refine_from": "noise"})
    with pytest.raises(ParameterError, match=r"mask_blur: got 40 .*wanted an odd int"):
        load_config("params/micro.yaml", {"edit.background.mask_blur": 40})
    values = content(load_config("params/faithful_oxford_pets.yaml").edit)
    assert values["background"]["mask_blur"] == 41


def test_lines_of_another_canvas_are_refused():
    config = load_config("params/faithful_oxford_pets.yaml")
    image, mask = rendered()[0]
    old = Source(image, mask, mask, guidance.canny(image, mask))
    with pytest.raises(ValueError, match="run 03_guidance again"):
        photographs.placed(old, config.edit, "color")
