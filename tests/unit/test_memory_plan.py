"""GPU memory by stage and role: the table against its computation, each file against its card."""

import math

import pytest

from bench import memory as bench
from tests.conftest import ROOT
from varireal_utils.core.config import load_config
from varireal_utils.workflow import cost, memory, plan, rates

FILES = sorted(
    p.name
    for p in (ROOT / "params").glob("*.yaml")
    if p.name not in ("paper.yaml", "datadream.yaml", "weekend.yaml")
)
HUB = [f for f in FILES if f.startswith(("paper_", "faithful_", "weekend", "datadream_"))]


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

    whole, half = peak("first stage"), peak("first stage", edit__batch_size=4)
    assert math.isclose(half.working, whole.working / 2, rel_tol=0.01)
    assert half.weights == whole.weights
    judge = peak("verification")
    assert 15 < judge.weights < 15.3
    assert 4 < peak("verification", models__verifier__quantization="4bit").weights < 5
    assert 7 < peak("verification", models__verifier__quantization="8bit").weights < 8.5
    assert peak("verification", models__verifier__offload="sequential").weights == 0
    parts = peak("first stage", models__inpaint__offload="model")
    assert 5 < parts.weights < 5.3  # the UNet alone


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
