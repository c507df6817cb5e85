import copy

import open_clip
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from varireal_utils.models import clip_lora, frozen_towers
from varireal_utils.models.clip_classifier import encode_classes
from varireal_utils.training.captured_step import FlatAdapters

CFG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 60, "width": 24, "heads": 3, "layers": 3},
}
END = 59


def adapted(rate=0.0, quick=False, custom=False, noise="caption", depth=None):
    torch.manual_seed(3)
    cfg = copy.deepcopy(CFG)
    if depth:
        cfg["vision_cfg"]["layers"] = cfg["text_cfg"]["layers"] = depth
    net = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**cfg, quick_gelu=quick)
    for p in net.parameters():  # zero biases and unit gains would hide mistakes
        p.data.add_(0.1 * torch.randn_like(p))
    clip_lora.add_lora(net, rank=4, alpha=12, dropout=rate, noise=noise)
    for m in net.modules():
        if isinstance(m, clip_lora.LoRAAttention):
            m.B_q.data.normal_(0, 0.1), m.B_v.data.normal_(0, 0.1)
    return net.train()


def batch(templates=2):
    g = torch.Generator().manual_seed(0)
    pixels = torch.randn(6, 3, 32, 32, generator=g)
    tokens = torch.zeros(templates * 5, 16, dtype=torch.long)
    for row, length in zip(tokens, (3, 9, 5, 7, 4, 6, 3, 10, 4, 4), strict=False):
        row[:length] = torch.randint(1, END, (length,), generator=g)
        row[length] = END
    return pixels, tokens.view(templates, 5, 16), torch.randn(6, 5, generator=g)


def towers(net, tokens, kind):
    flat = FlatAdapters(net, kind)
    flat.read()
    text = clip_lora.text_tower(net)
    ends = clip_lora.end_columns(text, tokens.flatten(0, 1)).tolist()
    return (
        flat,
        frozen_towers.ImageTower(net.visual, flat.of, kind),
        frozen_towers.TextTower(text, tokens, ends, flat.of, kind),
    )


def written_out(net, pixels, tokens, weights, kind=torch.float32):
    """(image features, text features, adapters' gradients) of sum(weights * image @ text.T)."""
    flat, image, text = towers(net, tokens, kind)
    with torch.no_grad():
        seen, said = image.forward(pixels), text.forward()
        image.backward(weights @ said)
        text.backward(weights.t() @ seen)
    flat.write()
    return seen, said, [p.grad.clone() for p in flat.parameters]


def by_autograd(net, pixels, tokens, weights, kind=torch.float32):
    modules = [m for m in net.modules() if isinstance(m, clip_lora.LoRAAttention)]
    parameters = [p for m in modules for p in (m.A_q, m.A_v, m.B_q, m.B_v)]
    with torch.autocast("cpu", kind, enabled=kind != torch.float32):
        seen, said = clip_lora.encode_image(net, pixels), encode_classes(net, tokens)
    return seen, said, torch.autograd.grad((weights * (seen @ said.t())).sum(), parameters)


def worst(a, b):
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max())


def rms(a, b):
    """Root of the mean squared error over all gradients, relative to their size."""
    a, b = (torch.cat([t.detach().flatten() for t in ts]) for ts in (a, b))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("custom", [False, True])
def test_features_and_gradients_are_those_of_autograd(quick, custom):
    pixels, tokens, weights = batch()
    want = by_autograd(adapted(quick=quick, custom=custom), pixels, tokens, weights)
    got = written_out(adapted(quick=quick, custom=custom), pixels, tokens, weights)
    assert worst(got[0], want[0]) < 1e-5 and worst(got[1], want[1]) < 1e-5
    assert len(got[2]) == len(want[2]) == 4 * 6
    for a, b in zip(got[2], want[2], strict=True):
        assert float(b.abs().max()) > 0 and worst(a, b) < 1e-4


def test_in_bfloat16_it_is_as_near_to_float32_as_autocast():
    """Over six batches; layer norm's gains are rounded here and not by autocast (about a tenth)."""
    _, tokens, _ = batch()
    half, ratios = torch.bfloat16, []
    for seed in range(6):
        g = torch.Generator().manual_seed(seed)
        pixels, weights = torch.randn(6, 3, 32, 32, generator=g), torch.randn(6, 5, generator=g)
        exact = by_autograd(adapted(), pixels, tokens, weights)
        ours = written_out(adapted(), pixels, tokens, weights, half)
        cast = by_autograd(adapted(), pixels, tokens, weights, half)
        found = [[rms([o[i]], [exact[i]]) for o in (ours, cast)] for i in (0, 1)]
        found.append([rms(o[2], exact[2]) for o in (ours, cast)])
        ratios.append([own / other for own, other in found])
    assert torch._C._get_mkldnn_enabled()  # torch switches it off where a product fails
    image, text, gradients = torch.tensor(ratios).mean(0).tolist()
    assert image < 1.25 and text < 1.25 and gradients < 1.35


@pytest.mark.parametrize("quick", [False, True])
def test_with_dropout_the_gradient_is_that_of_the_same_noise(quick):
    """Finite differences in float64 along a random direction of all adapters."""
    pixels, tokens, weights = batch()
    net = adapted(rate=0.4, quick=quick).double()
    pixels, weights, kind = pixels.double(), weights.double(), torch.float64
    flat, image, text = towers(net, tokens, kind)

    def value():
        torch.manual_seed(5)
        seen, said = image.forward(pixels), text.forward()
        return float((weights * (seen @ said.t())).sum()), seen, said

    with torch.no_grad():
        _, seen, said = value()
        image.backward(weights @ said)
        text.backward(weights.t() @ seen)
        along, start = torch.randn_like(flat.half), flat.half.clone()
        slope = float((flat.half_grad * along).sum())
        ends = []
        for sign in (1, -1):
            flat.half.copy_(start + sign * 1e-5 * along)
            ends.append(value()[0])
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


def test_dropout_thins_what_lora_sees_alone():
    """With B = 0 noise changes nothing; with B it does, and its mean over draws is plain."""
    pixels, tokens, _ = batch()
    net = adapted(rate=0.5, depth=1)
    plain = written_out(adapted(rate=0.0, depth=1), pixels, tokens, torch.ones(6, 5))[0]
    flat, image, _ = towers(net, tokens, torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([image.forward(pixels) for _ in range(400)])
        assert float(draws.std(0).max()) > 1e-3
        error = F.normalize(draws.mean(0), dim=-1) - plain
        assert float(error.norm() / (draws[0] - plain).norm()) < 0.2
        for m in flat.of.values():
            m.B.zero_()
        assert torch.equal(image.forward(pixels), image.forward(pixels))


def test_what_is_not_written_out_is_left_to_the_plain_path():
    assert frozen_towers.fits(adapted()) and frozen_towers.fits(adapted(quick=True))
    assert not frozen_towers.fits(adapted(noise="prefix"))
    odd = adapted()
    odd.visual.transformer.resblocks[1].mlp.gelu = nn.ReLU()
    assert not frozen_towers.fits(odd)
    tanh = adapted()
    tanh.transformer.resblocks[0].mlp.gelu = nn.GELU(approximate="tanh")
    assert not frozen_towers.fits(tanh)
