"""A batch that is augmented at once has the pixels of the per-image transform, up to rounding."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms.v2 import functional as tvf

from bench.counting import Operations
from varireal_utils.core import seeds, storage
from varireal_utils.core.config_sections import AugmentSettings
from varireal_utils.models.preprocess import BICUBIC
from varireal_utils.training import augment, batch_augment, draws, feed, image_cache

SIDE = 64
PREPROCESS = {"size": SIDE, "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "shortest"}
COLOURLESS = AugmentSettings(color=False, blur=0.0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """(folder, names): smooth pictures with grain, of many sizes; some narrower than the input."""
    folder, rng, names = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0), []
    for n in range(16):
        height, width = (int(rng.integers(30, 200)) for _ in "hw")
        small = torch.tensor(rng.integers(0, 256, (1, 3, 6, 8))).float()
        smooth = torch.nn.functional.interpolate(small, (height, width), mode="bicubic")
        grain = torch.tensor(rng.normal(0, 4, (1, 3, height, width)))
        pixels = (smooth + grain).clamp(0, 255)[0].permute(1, 2, 0).to(torch.uint8).numpy()
        names.append(f"{n}.png")
        storage.write_image(folder / names[-1], pixels)
    return folder, names


def both(photographs, settings, steps=6, size=32, side=SIDE):
    """(batches of the reference, the same augmented at once)."""
    folder, names = photographs
    images = image_cache.Images(names, folder, side)
    rows = np.random.default_rng(1).integers(0, len(names), (steps, size))
    preprocess = PREPROCESS | {"size": side}
    reference = augment.Batches(images, rows, preprocess, settings, 3)
    crops = feed.CropBatches(images, rows, side, settings, 3)
    at_once = list(feed.OnDevice([crops[s] for s in range(steps)], torch.device("cpu"), side))
    for step, (_, own) in enumerate(at_once):
        assert torch.equal(own, reference[step][1])
    return (
        torch.stack([reference[s][0] for s in range(steps)]),
        torch.stack([pixels for pixels, _ in at_once]),
    )


@pytest.mark.parametrize("side", [SIDE, 33])
def test_a_batch_has_the_pixels_of_the_per_image_transform(photographs, side):
    reference, found = both(photographs, AugmentSettings(), side=side)
    gap = (reference.int() - found.int()).abs()
    assert (gap > 1).float().mean() < 1e-4 and gap.float().mean() < 0.01
    assert reference.shape == found.shape and found.dtype == torch.uint8


@pytest.mark.parametrize(
    "settings",
    [COLOURLESS, COLOURLESS.model_copy(update={"rand_augment": False, "flip": False})],
)
def test_without_colour_a_batch_is_the_reference_to_the_bit(photographs, settings):
    reference, found = both(photographs, settings)
    assert torch.equal(reference, found)


def test_other_seeds_give_other_pixels(photographs):
    folder, names = photographs
    images = image_cache.Images(names, folder, SIDE)
    rows = np.zeros((1, 2), np.int64)
    one, two = (feed.CropBatches(images, rows, SIDE, AugmentSettings(), seed)[0] for seed in (3, 4))
    assert one.groups != two.groups


@pytest.mark.parametrize("kind", batch_augment.JITTERS)
def test_each_change_of_the_jitter_rounds_as_the_reference(kind):
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (6, 3, 40, 40), dtype=torch.uint8)
    factors = torch.linspace(-0.1, 0.1, 6) if kind == "hue" else torch.linspace(0.6, 1.4, 6)
    found = batch_augment.jittered(kind, pixels, factors.view(-1, 1, 1, 1))
    change = getattr(tvf, f"adjust_{kind}")
    wanted = torch.stack([change(p, float(f)) for p, f in zip(pixels, factors, strict=True)])
    gap = (found.int() - wanted.int()).abs()
    assert gap.max() <= 1 and (gap > 0).float().mean() < 1e-3


@pytest.mark.parametrize(("length", "side"), [(90, 64), (64, 64), (20, 64), (701, 224), (3, 5)])
def test_resizing_in_a_batch_is_torchs_to_the_bit(length, side):
    rng = np.random.default_rng(length)
    crops = torch.tensor(rng.integers(0, 256, (2, length, length + 9, 3)), dtype=torch.uint8)
    sizes = torch.tensor([[length, length + 9], [length - 1, length + 3]], dtype=torch.float64)
    found = batch_augment.resized(crops, sizes, side)
    for crop, (height, width), own in zip(crops, sizes.long().tolist(), found, strict=True):
        one = crop[:height, :width].permute(2, 0, 1).contiguous()
        assert torch.equal(tvf.resize(one, [side, side], BICUBIC, antialias=True), own)


def test_numbers_are_those_of_the_transform_where_no_crop_fits():
    """A strip: every crop of a usual shape is too wide for it, and its middle is taken."""
    strip = torch.arange(3 * 200 * 9, dtype=torch.int64).remainder(251).to(torch.uint8)
    image, settings = strip.view(3, 200, 9), COLOURLESS.model_copy(update={"scale_min": 0.9})
    reference = augment.Batches([image], np.zeros((1, 1), np.int64), PREPROCESS, settings, 5)[0][0]
    generator = torch.Generator().manual_seed(seeds.seed_for(5, "augment", 0, 0))
    drawn = draws.draw(settings, 200, 9, SIDE, generator)
    top, left, height, width = drawn.crop
    assert (left, width, height) == (0, 9, 12) and top == 94

    def cut(i, top, left, out):
        out[...] = image.permute(1, 2, 0).numpy()[top : top + height, left : left + width]

    batch = batch_augment.Crops.of([drawn], np.zeros(1, np.int64), cut)
    assert torch.equal(batch_augment.augmented(batch, SIDE), reference)


def test_a_batch_on_a_gpu_reads_no_value_from_it():
    """On fake CUDA tensors, every operation once."""
    ops = tuple((name, size) for name, size, _ in draws.space(True, SIDE))
    jitter = ((0, 1, 2, 3), (1.1, 0.9, 1.1, 0.05))
    drawn = [draws.Draw((0, 0, 20, 30), True, (op, ops[0]), jitter, True, True, 1.0) for op in ops]
    batch = batch_augment.Crops.of(drawn, np.zeros(len(ops), np.int64), lambda *_: None)
    for kind, size, _ in draws.space(True, SIDE):
        if kind in draws.GEOMETRIC[1:]:
            batch_augment._sources(kind, size, SIDE, torch.device("cpu"))
    with FakeTensorMode(allow_non_fake_inputs=True), Operations() as counted:
        batch_augment.augmented(batch.to(torch.device("cuda")), SIDE)
    assert not counted.waits and counted.kernels < 600
