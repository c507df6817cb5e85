"""DataDream's model: its autoencoder goes on from the shipped one, a stopped training ends as
another, and what is written loads, draws and takes an adapter."""

import itertools

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from microworld import captions
from microworld.feasibility import FAMILIES, values
from microworld.pretrain import data, dream, dream_card, dream_model, trainer, vocabulary
from microworld.pretrain.trainer import FitSettings
from varireal_utils.analysis.gates import NAMED
from varireal_utils.core.config import load_config

FEW = {"datadream.epochs": 1, "datadream.steps": 2, "datadream.shots": 1}


@pytest.fixture
def small(monkeypatch):
    """Networks of a few channels."""
    monkeypatch.setattr(dream_model, "CHANNELS", (16, 16, 32))


def test_a_wider_autoencoder_begins_with_what_the_shipped_one_knows():
    old = AutoencoderTiny.from_pretrained(dream.SHIPPED / "vae", torch_dtype=torch.float32)
    new = dream_model.widened(old)
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        mine, theirs = new.encode(pictures).latents, old.encode(pictures).latents
        assert mine.shape == (2, dream_model.LATENTS, 16, 16)
        assert torch.allclose(mine[:, :4], theirs, atol=1e-5)
        padded = torch.cat([theirs, torch.zeros_like(theirs)], 1)
        back = new.decode(padded).sample
        assert torch.allclose(back, old.decode(theirs).sample, atol=1e-4)


def test_halves_hold_the_object_and_mirrored_latents_its_mirror():
    pixels = np.zeros((1, 128, 128, 4), np.uint8)
    pixels[:, :, :64] = (200, 100, 50, 3)
    half = dream_model.halved(pixels)
    assert half.shape == (1, 64, 64, 4)
    assert half[0, 5, 5].tolist() == [200, 100, 50, 255] and half[0, 5, 60].tolist() == [0] * 4
    cover = dream_model.coverage(half)
    assert cover.shape == (2, 1, 1, 16, 16)
    assert (cover[0, ..., :7] == 1).all() and (cover[0, ..., 9:] == 0).all()
    assert np.array_equal(cover[1], cover[0, ..., ::-1])
    vae = dream_model.widened(AutoencoderTiny.from_pretrained(dream.SHIPPED / "vae"))
    both = dream_model.encode(vae, np.concatenate([half, half[:, :, ::-1]]))
    assert np.array_equal(both[0, 0], both[1, 1]) and not np.array_equal(both[0, 0], both[1, 0])


def test_training_pictures_are_feasible_and_of_all_classes():
    specs = [data.feasible(i).spec for i in range(60)]
    for spec in specs:
        for attribute in ("color", "texture", "background"):
            assert getattr(spec, attribute) in values(spec.family, attribute)[0]
    assert {s.family for s in specs} == set(FAMILIES)
    assert data.feasible(3).spec == specs[3] != data.feasible(3, stream=1).spec


def test_captions_mostly_name_the_class_and_time_steps_are_mostly_middle():
    spec, rng = data.feasible(0).spec, np.random.default_rng(0)
    texts = [dream_model.caption(spec, rng) for _ in range(1000)]
    assert np.mean([spec.class_name in t.split() for t in texts]) > 0.85
    assert 0.3 < np.mean([t == captions.sentence(spec.class_name) for t in texts]) < 0.5
    t = dream_model.times(4000, rng)
    assert t.min() >= 0 and t.max() <= 999 and np.mean(abs(t - 500) < 250) > 0.6
    assert np.mean(t > 900) > 0.02  # noise alone is trained too: there the drawing begins


def _examples(folder) -> dream_model.Examples:
    rng = np.random.default_rng(0)
    specs = [data.feasible(i).spec for i in range(6)]
    x0 = rng.standard_normal((2, 6, dream_model.LATENTS, 16, 16)).astype(np.float16)
    cover = rng.random((2, 6, 1, 16, 16)).astype(np.float16)
    vocab = vocabulary.build_tokenizer(captions.vocabulary(), folder / "words").get_vocab()
    return dream_model.Examples(x0, cover, specs, vocab)


def test_a_paused_training_ends_with_the_weights_of_one_that_was_not(small, tmp_path, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(trainer.time, "time", lambda: float(next(clock)))
    examples = _examples(tmp_path)

    def trained(name: str, pause: float) -> tuple[int, dict]:
        calls = 0
        while True:
            torch.manual_seed(0)
            net, text = dream_model.unet(), dream_model.text_encoder(examples.vocab)
            settings = FitSettings(tmp_path / name, 5, lr=1e-3, batch=3, warmup=2, pause=pause)
            report = dream_model.train_unet(net, text, examples, settings)
            calls += 1
            if report["step"] == 5:
                return calls, {**net.state_dict(), **text.state_dict()}

    (once, whole), (often, parts) = trained("a.pt", float("inf")), trained("b.pt", 6)
    assert once == 1 and often > 1
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


@pytest.mark.slow
def test_the_command_resumes_measures_and_says_what_is_missed(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        dream, "load_config", lambda file, changed: load_config(file, FEW | changed)
    )
    words = ["--checkpoints", str(tmp_path / "c"), "--output", str(tmp_path / "o")]
    words += ["--steps", "2", "--autoencoder-steps", "2", "--text-steps", "2"]
    words += ["--count", "250", "--per-class", "1"]
    assert dream.main([*words, "--minutes", "0"]) == 1
    assert "the UNet has not begun: call again" in capsys.readouterr().out
    assert not (tmp_path / "o").exists()
    assert dream.main(words) == 1
    said = capsys.readouterr().out
    assert "unet: 2 of 2 steps" in said and "wanted at least" in said
    folder = tmp_path / "o/datadream"
    card = (folder / "README.md").read_text()
    assert "Not reached: named_cars is" in card and "unet: 2 of 2 steps" in card
    assert (tmp_path / "c/sheet.png").exists()
    weights = (folder / "unet/diffusion_pytorch_model.safetensors").read_bytes()
    assert dream.main([*words, "--minutes", "0", "--guidance", "5"]) == 1
    assert "guidance 5" in (folder / "README.md").read_text()  # measured again, not trained
    assert (folder / "unet/diffusion_pytorch_model.safetensors").read_bytes() == weights


def test_a_study_that_draws_nothing_cannot_measure(tmp_path):
    study = load_config(dream.STUDY).model_copy(update={"datadream": None})
    with pytest.raises(ValueError, match="wanted a section `datadream`"):
        dream_card.Measure(tmp_path, study, "cpu", 1)


def _figures(**changed):
    known = {"photograph": 0.7, "ceiling": 0.6, "named": 0.4, "adapted": 0.5}
    return {f"{k}_{f}": v for f in FAMILIES for k, v in known.items()} | changed


def test_a_model_that_misses_the_gate_is_refused_by_name():
    assert dream_card.TARGETS == {"named": NAMED, "adapted": NAMED}
    assert dream_card.faults(_figures()) == []
    found = dream_card.faults(_figures(named_pets=0.34, adapted_cars=0.2))
    assert [line.split()[0] for line in found] == ["named_pets", "adapted_cars"]
    assert "wanted at least 0.350" in found[0]
    text = dream_card.card(_figures(), ["unet: 9 of 12 steps, 2 minutes"], 500, "params/x.yaml", 64)
    assert "Every target is reached." in text and "500 renderings" in text
    assert "| named cars | 0.400 | >= 0.350 |" in text and "unet: 9 of 12 steps" in text
    text = dream_card.card(_figures(named_pets=0.34), [], 500, "params/x.yaml", 64)
    assert "Not reached: named_pets is 0.340, wanted at least 0.350." in text
