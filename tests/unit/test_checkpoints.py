"""Checkpoints: equal after a round trip, equal bytes, nothing unpickled, damage named."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from varireal_utils.core import checkpoints

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text(max_size=8)
    | st.floats(allow_nan=False)
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 99), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_plain_values_come_back(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "c.safetensors"
    checkpoints.write(path, value)
    assert checkpoints.read(path) == value


def test_an_optimiser_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    def training() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3))
        return weight, torch.optim.AdamW([weight], lr=0.1)

    def step(weight: torch.nn.Parameter, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        weight.square().sum().backward()
        optimiser.step()

    weight, optimiser = training()
    step(weight, optimiser)
    checkpoints.write(tmp_path / "c", {"w": weight, "o": optimiser.state_dict(), "at": (1, 2.5)})
    first = (tmp_path / "c").read_bytes()
    checkpoints.write(tmp_path / "c", {"w": weight, "o": optimiser.state_dict(), "at": [1, 2.5]})
    assert (tmp_path / "c").read_bytes() == first
    step(weight, optimiser)
    other, resumed = training()
    saved = checkpoints.read(tmp_path / "c")
    assert saved["at"] == [1, 2.5]
    other.data.copy_(saved["w"])
    resumed.load_state_dict(saved["o"])
    step(other, resumed)
    assert torch.equal(weight, other)


@pytest.mark.parametrize("damage", ["pickle", "cut", "empty", "foreign"])
def test_damage_is_named_and_nothing_is_unpickled(tmp_path: Path, damage: str) -> None:
    path, marker = tmp_path / "c.safetensors", tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (marker,)

    checkpoints.write(path, {"w": torch.ones(9)})
    from safetensors.torch import save

    path.write_bytes(
        {
            "pickle": pickle.dumps(Bomb()),
            "cut": path.read_bytes()[:-5],
            "empty": b"",
            "foreign": save({"a": torch.ones(1)}),
        }[damage]
    )
    with pytest.raises(ValueError, match=r"c\.safetensors: no checkpoint.*delete it"):
        checkpoints.read(path)
    assert not marker.exists()


def test_what_it_cannot_hold_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "c", [1])
    with pytest.raises(TypeError, match="cannot hold object"):
        checkpoints.write(tmp_path / "c", [object()])
    assert checkpoints.read(tmp_path / "c") == [1]
