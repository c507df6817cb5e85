"""DataDream's mixing, loss and few shots against tests/reference/datadream_arithmetic.py."""

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from tests.reference import datadream_arithmetic as plain
from varireal_utils.core.config import load_config
from varireal_utils.core.config_sections import MixSettings
from varireal_utils.data.shots import few_shot
from varireal_utils.models import preprocess
from varireal_utils.training import train_step

CLASSES = 5
ALWAYS = MixSettings(probability=1.0, mixup_alpha=1.0)
IS_REAL = torch.tensor([True, False] * 4)


def mixed(seed: int, settings: MixSettings = ALWAYS):
    """Pixels and labels of eight images, before and after."""
    pixels = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(8) % CLASSES
    torch.manual_seed(seed)
    made, soft = train_step.mix(pixels, labels, IS_REAL, CLASSES, settings)
    return pixels, F.one_hot(labels, CLASSES).float(), made, soft


def share_of(before: torch.Tensor, after: torch.Tensor) -> float:
    """How much an image's own pixels weigh in a mixture with the one before it."""
    others = before.roll(1, 0)
    return float(((after - others) * (before - others)).sum() / (before - others).square().sum())


def test_mixup_and_cutmix_mix_each_kind_with_itself():
    kinds = set()
    for seed in range(40):
        pixels, labels, made, soft = mixed(seed)
        for kind in (IS_REAL, ~IS_REAL):
            before, after = pixels[kind], made[kind]
            share = share_of(before, after)
            wanted, weights = plain.mixup(before, labels[kind], share)
            if torch.allclose(after, wanted, atol=1e-5):
                kinds.add("mixup")
            else:
                kinds.add("cutmix")
                share = float(plain.cutmix_share(before, after)[0])
                weights = plain.mixup(before, labels[kind], share)[1]
            assert torch.allclose(soft[kind], weights, atol=1e-5)
    assert kinds == {"mixup", "cutmix"}


def test_a_fifth_of_the_batches_is_mixed():
    settings = MixSettings(probability=0.2, mixup_alpha=1.0)
    changed = [not torch.equal(*mixed(seed, settings)[::2]) for seed in range(400)]
    assert 0.14 < sum(changed) / len(changed) < 0.26


class Linear(torch.nn.Module):
    """A classifier of mean colours, as far as a step asks for one."""

    learns_text, classes, device = False, CLASSES, torch.device("cpu")
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(3, CLASSES))

    def text_features(self):
        return None

    def logits(self, pixels, text):
        return pixels.mean(dim=(2, 3)) @ self.weight


@pytest.mark.parametrize("mix", [ALWAYS, None], ids=["mixed", "plain"])
@pytest.mark.parametrize("weight", [0.8, 0.5])
def test_a_step_weighs_the_means_of_both_kinds(monkeypatch, mix, weight):
    seen, honest = [], train_step.mix
    monkeypatch.setattr(train_step, "mix", lambda *a: seen.append(honest(*a)) or seen[-1])
    own = {"lambda_real": weight, "mix": mix, "batch_size": 8}
    settings = load_config("params/micro.yaml").classify.training().model_copy(update=own)
    rows = pd.DataFrame({"label": [i % CLASSES for i in range(8)], "is_real": IS_REAL.numpy()})
    net = Linear()
    before = net.weight.detach().clone()
    step = train_step.Step(net, [net.weight], rows, settings, 22)
    images = torch.randint(256, (8, 3, 12, 12), dtype=torch.uint8)
    loss = float(step(0, images, torch.arange(8)))
    given = preprocess.normalise(images, net.preprocess), F.one_hot(step.labels.cpu(), CLASSES)
    pixels, targets = seen[0] if mix else given
    logs = (pixels.mean(dim=(2, 3)) @ before).log_softmax(dim=1)
    assert loss == pytest.approx(float(plain.loss(logs, targets, IS_REAL, weight)), rel=1e-5)
    assert loss != pytest.approx(float(plain.loss(logs, targets, ~IS_REAL, 0.9)), rel=1e-4)


def test_fewer_shots_are_the_first_of_more():
    rows = [(f"c{c}-{i}", c, "train") for c in range(3) for i in range((30, 16, 5)[c])]
    images = pd.DataFrame([*rows, ("t", 0, "test")], columns=["image_id", "label", "split"])
    drawn = {count: set(few_shot(images, count, 22)["image_id"]) for count in (1, 4, 16)}
    assert drawn[1] < drawn[4] < drawn[16] and "t" not in drawn[16]
    assert few_shot(images, 16, 22).groupby("label").size().tolist() == [16, 16, 5]
    assert drawn[4] != set(few_shot(images, 4, 23)["image_id"])
