"""Registry of attributes: order, facts, and how an unregistered name is refused."""

import numpy as np
import pytest

from tests.conftest import tiny_config
from varireal_utils.core.attributes import ATTRIBUTES, Attribute, attribute
from varireal_utils.core.config import ParameterError
from varireal_utils.editing.sources import editable_mask

HAT = Attribute("hat", "hat", "object", "flat", "what the object wears")


def test_entries_are_found_by_their_own_names():
    for name, entry in ATTRIBUTES.items():
        assert attribute(name) is entry and entry.name == name
    with pytest.raises(ValueError, match="'hat' is not known; known: background, color, texture"):
        attribute("hat")


def test_an_attribute_says_what_an_edit_may_change(monkeypatch):
    mask = np.array([[0, 255]], np.uint8)
    monkeypatch.setitem(ATTRIBUTES, "hat", HAT)
    assert editable_mask("background", mask, None).tolist() == [[255, 0]]
    for name in ("color", "texture", "hat"):
        assert editable_mask(name, mask, None).tolist() == [[0, 255]]
    assert [a.generates_prior for a in ATTRIBUTES.values()] == [True, False, True, False]
    assert [a.coloured for a in ATTRIBUTES.values()] == [False, True, False, True]


def test_a_study_names_registered_attributes_only(monkeypatch, tmp_path):
    settings = {"steps": 1, "guidance_scale": 1.0, "strength": 0.5, "alpha": 0.5}
    own = {"attributes": ["hat"], "edit__hat": settings}
    with pytest.raises(ParameterError, match="'hat' is not registered"):
        tiny_config(tmp_path, **own)
    monkeypatch.setitem(ATTRIBUTES, "hat", HAT)
    assert tiny_config(tmp_path, **own).edit.attributes["hat"].steps == 1
