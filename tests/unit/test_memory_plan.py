"""GPU memory by stage and role: the table against its computation, each file against its card."""

import math
import re

import pytest

from bench import memory as bench
from tests.conftest import ROOT
from varireal_utils.core.config import ParameterError, load_config
from varireal_utils.models import loaders
from varireal_utils.verification import vlm_asker
from varireal_utils.workflow import cost, memory, plan, plan_table, rates

FILES = sorted(
    p.name
    for p in (ROOT / "params").glob("*.yaml")
    if p.name not in ("paper.yaml", "datadream.yaml", "weekend.yaml")
)
HUB = [  # of models that are fetched
    f
    for f in FILES
    if any(
        s and s.path and not s.local()
        for s in load_config(ROOT / "params" / f).models.present().values()
    )
]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", HUB)
def test_every_file_of_real_models_names_a_card_and_fits_on_it(name):
    config = load_config(f"params/{name}")
    assert config.plan and config.plan.card and config.plan.card_gb, name
    assert rates.peak_of(config.plan.card), config.plan.card
    most = memory.peak_gb(config)
    assert most is not None and memory.fits(most, config.plan.card_gb), (name, most)
    word = f"fits on {config.plan.card}"
    assert name != "weekend_oxford_pets.yaml" or word in plan.report(config)


@pytest.mark.parametrize("dataset", ["oxford_pets", "fgvc_aircraft", "stanford_cars"])
def test_a_weekend_is_under_24_hours_on_24_gb(dataset):
    config = load_config(f"params/weekend_{dataset}.yaml")
    assert config.plan.card_gb == 24
    jobs = cost.jobs(config)
    assert sum(j.hours[1] for j in jobs if j.hours) < 24
    unknown = {j.stage for j in jobs if not j.hours and "zero_shot" not in j.what}
    assert unknown <= {"01_data", "02_attributes", "03_guidance", "07_quality", "07_claims"} | {
        "08_figures"
    }
    arms = {j.what for j in jobs if j.stage == "04_edit"}
    assert len(arms) == 6  # the whole question: three attributes, both arms
    small = memory.peak_gb(load_config(f"params/weekend16_{dataset}.yaml"))
    assert memory.fits(small, 16) and not memory.fits(memory.peak_gb(config), 16)


@pytest.mark.slow
def test_the_docs_state_peaks_and_hours_of_today():
    text = (ROOT / "docs/paper_scale.md").read_text(encoding="utf-8")
    names = plan_table.LINE.findall(text)
    assert set(names) >= {f.removesuffix(".yaml") for f in HUB if "_p" in f}
    assert plan_table.written(text) == text, "run: python -m varireal_utils.workflow.plan_table"
    shorter = re.sub(
        r"(\| `weekend_oxford_pets` .* \|) .* \|$", r"\1 0 |", text, flags=re.MULTILINE
    )
    assert shorter != text and plan_table.written(shorter) == text


def test_a_card_that_is_too_small_is_said():
    config = load_config("params/paper_oxford_pets.yaml", {"plan.card_gb": 16})
    assert "DOES NOT FIT" in plan.report(config)
    other = load_config("params/paper_oxford_pets.yaml", {"models.inpaint.path": "owner/unknown"})
    assert memory.peak_gb(other) is None and "not known" in plan.report(other)


def test_batches_bits_and_offloading_change_the_peak():
    def peak(phase, **changes):
        settings = {k.replace("__", "."): v for k, v in changes.items()}
        config = load_config("params/paper_oxford_pets.yaml", settings)
        return next(p for p in memory.peaks(config) if p.phase == phase)

    whole, half = peak("first stage", edit__batch_size=16), peak("first stage")
    assert math.isclose(half.working, whole.working / 2, rel_tol=0.01)
    assert half.weights == whole.weights
    judge = peak("verification")
    one = memory.working("prefill", "llava_language", 672, 1)
    assert math.isclose(judge.working, vlm_asker.PICTURES * one, rel_tol=0.01)
    assert 15 < judge.weights < 15.3
    assert 4 < peak("verification", models__verifier__quantization="4bit").weights < 5
    assert 7 < peak("verification", models__verifier__quantization="8bit").weights < 8.5
    assert peak("verification", models__verifier__offload="sequential").weights == 0
    parts = peak("first stage", models__inpaint__offload="model")
    assert 5 < parts.weights < 5.3  # the UNet alone


def phases(name, **changes):
    """(stage, phase) -> Peak of a parameter file."""
    settings = {k.replace("__", "."): v for k, v in changes.items()}
    config = load_config(f"params/{name}.yaml", settings)
    return {(p.stage, p.phase): p for p in memory.peaks(config)}


def test_a_batch_is_decoded_one_picture_at_a_time():
    """As the loaders set each of these pipelines (models/loaders.py)."""
    for name, found in memory.architectures()["pipelines"].items():
        own = memory.architectures()["networks"].get(found.get("denoiser"), {}).get("config", {})
        if "decoder" in found:
            assert own.get("sample_size", 128) * 8 >= loaders.SLICED_FROM, name
    one, pixels = memory.working("decode", "autoencoder", 1024, 1), 3 * 1024**2 * 2 / 1e9
    few = phases("weekend_oxford_pets")["04_edit color", "first stage"]
    assert math.isclose(few.working, one + 2 * 8 * pixels, rel_tol=1e-6)
    assert memory.working("decode", "autoencoder", 1024, 8) > 6 * few.working


def test_datadream_trains_float32_weights():
    training = phases("datadream_dtd")["05_datadream", "training"]
    networks = memory._table()["networks"]
    millions = sum(networks[n]["millions"] for n in ("sd21_unet", "clip_h_text", "autoencoder"))
    assert math.isclose(training.weights, 4 * millions / 1e3, rel_tol=0.01)
    prior = phases("paper_oxford_pets")["04_edit texture", "prior"]
    assert math.isclose(prior.weights, training.weights / 2, rel_tol=0.01)
    words = r"models.datadream.dtype: got 'float16', wanted 'float32'"
    with pytest.raises(ParameterError, match=words):
        plan.report(load_config("params/datadream_dtd.yaml", {"models.datadream.dtype": "float16"}))


def test_a_refinement_from_noise_holds_its_own_models_and_runs_all_its_steps():
    noise = phases("faithful_oxford_pets")["04_edit color", "second stage"]
    assert noise.roles == "refine, controlnet, ip_adapter"
    assert 11 < noise.weights < 12  # RealVisXL, ControlNet, adapter and encoder; no inpainting UNet
    values = {"edit.color.refine_strength": 0.5}
    config = load_config("params/faithful_oxford_pets.yaml", values)
    own = config.edit.attributes["color"]
    edit = own.model_copy(update={"refine_from": "edit"})
    section = config.edit.model_copy(
        update={"attributes": {**config.edit.attributes, "color": edit}}
    )
    half = config.model_copy(update={"edit": section})
    whole, part = (cost.edit_tflop(c, "color", "feasible") for c in (config, half))
    step = 2 * sum(config.models.get(r).tflop for r in ("refine", "controlnet"))
    assert math.isclose(whole - part, (own.refine_steps - math.ceil(own.refine_steps / 2)) * step)


def test_what_a_large_local_model_works_with_is_not_known(tmp_path):
    """A copy of SDXL on the machine's own disk is not a micro model."""
    with open(tmp_path / "unet.safetensors", "wb") as file:
        file.truncate(5 * 10**9)  # sparse
    small = phases("micro")["04_edit color", "first stage"]
    assert small.working == 0 and small.gb < 2
    large = phases("micro", models__inpaint__path=str(tmp_path))["04_edit color", "first stage"]
    assert large.weights == 5.0 and large.working is None


@pytest.mark.parametrize("dataset", ["oxford_pets", "fgvc_aircraft", "stanford_cars"])
def test_a_weekend_edits_as_the_paper_size_file_but_for_its_steps(dataset):
    """What weekend.yaml names as otherwise, and nothing else."""
    few = {"steps", "guidance_scale", "refine_steps", "refine_guidance_scale"}
    files = [load_config(f"params/{kind}_{dataset}.yaml") for kind in ("weekend", "paper")]
    for attribute in ("background", "color", "texture"):
        own, paper = (f.edit.attributes[attribute].model_dump(exclude=few) for f in files)
        assert own == paper, attribute
    assert files[0].datasets == files[1].datasets and files[0].guidance == files[1].guidance


def test_parameters_of_the_architectures_are_those_published():
    """Against the sizes of the published files, and of parameter files' size_gb."""
    counted = memory._table()["networks"]
    for name, spec in memory.architectures()["networks"].items():
        assert math.isclose(counted[name]["millions"], spec["millions"], rel_tol=0.04), name
        assert spec["from"]
    models = load_config("params/paper_oxford_pets.yaml").models
    for role in ("controlnet", "verifier", "detector", "segmenter"):
        spec = models.get(role)
        assert math.isclose(memory.weights_gb(spec), spec.size_gb, rel_tol=0.05), role
    instruct = load_config("params/baseline_instruct_pets.yaml").models.instruct
    whole = instruct.model_copy(update={"dtype": "float32"})  # no variant: its files are float32
    assert math.isclose(memory.weights_gb(whole), instruct.size_gb, rel_tol=0.05)


def test_a_row_of_the_table_is_what_it_is_computed_from():
    """A batch that the line was not laid through; the cheapest network."""
    bytes_of = bench.denoise("sd21_unet", 6, 512)
    assert math.isclose(
        bytes_of / 1e9, memory.working("denoise", "sd21_unet", 512, 6), rel_tol=0.02
    )


def test_live_storages_are_counted_until_they_go():
    import torch

    with bench.Live() as live:
        kept = torch.empty(1024, device="meta")
        for _ in range(3):
            torch.empty(4096, device="meta")
        view = kept[:2]
    assert live.peak == 4 * (1024 + 4096) and live.now == 4 * 1024
    del kept, view
    assert live.now == 0


def test_rates_are_measured_ones_and_say_where_from():
    found = rates.of_card("A100", 8, classes=37)
    assert math.isclose(found["paint"].tflops, 0.415 * 312, rel_tol=0.01)
    assert found["train"].tflops < 0.25 * 312  # measured, not 40 % of the peak
    assert all("results/bench_gpu.json" in r.source for r in found.values())
    slow = rates.of_card("T4", 8, classes=37)
    assert slow["train"].tflops < found["train"].tflops and rates.of_card("Voodoo2", 8) == {}
    assert (
        rates.of_card("H100", 1, 37)["paint"].tflops < rates.of_card("H100", 8, 37)["paint"].tflops
    )
