import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from varireal_utils.models import packed_linear


def layer(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(48, 80).requires_grad_(False)


def relative(a, b):
    return float((a.float() - b.float()).abs().max() / b.float().abs().max())


@pytest.mark.parametrize("kind, close", [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("shape", [(7, 48), (3, 5, 48)])
def test_a_packed_layer_gives_the_plain_one_s_outputs_and_gradients(
    kind, close, shape, monkeypatch
):
    monkeypatch.setattr(packed_linear, "SMALL", 0)
    plain = layer()
    ours, x = packed_linear.Linear(plain), torch.randn(shape)
    seen = []
    for one in (ours, plain):
        given = x.clone().requires_grad_()
        with torch.autocast("cpu", kind, enabled=kind != torch.float32):
            y = one(given)
        assert y.dtype == kind
        weight = torch.linspace(-1, 1, y.numel()).view(y.shape)
        (y.float() * weight).sum().backward()
        seen.append((y.detach(), given.grad))
    for a, b in zip(*seen, strict=True):
        assert relative(a, b) < close
    assert bool(ours.packed._made) == packed_linear.supported()


def test_it_shares_its_weights_and_notices_when_they_change():
    plain = layer()
    ours, x = packed_linear.Linear(plain), torch.randn(3, 48)
    assert {k: v.data_ptr() for k, v in ours.state_dict().items()} == {
        k: v.data_ptr() for k, v in plain.state_dict().items()
    }
    with torch.inference_mode():
        before = ours(x)
    plain.load_state_dict(layer(1).state_dict())
    assert relative(ours(x), plain(x)) < 1e-6 < relative(before, plain(x))
    other = copy.deepcopy(ours)
    other.weight.mul_(2)
    assert relative(other(x), F.linear(x, other.weight, other.bias)) < 1e-6
    assert not torch.equal(other(x), ours(x))


def test_a_weight_that_learns_is_never_packed():
    ours, x = packed_linear.Linear(layer()), torch.randn(3, 48)
    ours.requires_grad_(True)
    ours(x).sum().backward()
    assert ours.weight.grad is not None and not ours.packed._made


def test_without_the_operators_it_is_a_plain_layer(monkeypatch):
    monkeypatch.setattr(packed_linear, "supported", lambda: False)
    plain, x = layer(), torch.randn(3, 48)
    ours = packed_linear.Linear(plain)
    assert torch.equal(ours(x), plain(x)) and not ours.packed._made


def test_small_layers_are_packed_for_float32_alone():
    ours = packed_linear.Linear(layer())
    with torch.autocast("cpu", torch.bfloat16):
        ours(torch.randn(7, 48))
    assert not ours.packed._made
    ours(torch.randn(7, 48))
    assert bool(ours.packed._made) == packed_linear.supported()
