"""Values, photographs and perfect edits of replicates. Seed 991 is no study's."""

from collections import Counter

import numpy as np
import pytest

from microworld import render
from microworld.feasibility import ALL, ATTRIBUTES, FAMILIES, split, values

BASE = 991
CELLS = [(f, a) for f in FAMILIES for a in ATTRIBUTES]


@pytest.mark.parametrize(("family", "attribute"), CELLS)
def test_six_feasible_and_six_infeasible_values(family, attribute):
    feasible, infeasible = values(family, attribute)
    assert len(set(feasible)) == len(set(infeasible)) == 6
    assert not set(feasible) & set(infeasible)
    assert set(feasible + infeasible) <= set(ALL[attribute])


@pytest.mark.parametrize(("family", "attribute"), CELLS)
def test_every_value_plays_each_part_once_in_three_replicates(family, attribute):
    feasible, infeasible = values(family, attribute)
    for start in (0, 3, 30):
        found = [split(family, attribute, BASE, start + k) for k in range(3)]
        for part in ("familiar", "placebo", "unfamiliar"):
            assert sorted(v for s in found for v in getattr(s, part)) == sorted(feasible)
        assert sorted(v for s in found for v in s.infeasible) == sorted(infeasible)


def test_no_arm_asks_for_more_values_than_another_and_blocks_differ():
    found = [split("cars", "color", BASE, r) for r in range(60)]
    for s in found:
        parts = (s.familiar, s.placebo, s.unfamiliar, s.infeasible)
        assert [len(set(p)) for p in parts] == [2, 2, 2, 2]
        assert len({v for p in parts for v in p}) == 8
    assert len({s.unfamiliar for s in found}) > 10
    first = Counter(v for s in found for v in s.familiar)
    second = Counter(v for s in found for v in s.placebo)
    assert first == second  # so that the placebo's true difference is 0
    with pytest.raises(ValueError, match="replicate -1"):
        split("cars", "color", BASE, -1)


def test_photographs_show_familiar_values_alone_and_every_replicate_has_its_own():
    picture = [render.photograph_of("pets", "train", i, BASE, 4) for i in range(40)]
    for attribute in ATTRIBUTES:
        shown = split("pets", attribute, BASE, 4).shown
        assert {getattr(p.spec, attribute) for p in picture} == set(shown)
    assert [p.label for p in picture[:9]] == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    others = [
        render.photograph_of("pets", "train", 0, BASE, 5),
        render.photograph_of("pets", "test", 0, BASE, 4),
        render.photograph_of("pets", "train", 0, BASE + 1, 4),
        render.photograph("pets", "train", 0),
    ]
    assert len({p.spec.seed for p in (picture[0], *others)}) == 5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attribute", ["color", "texture"])
def test_a_perfect_edit_of_the_object_leaves_the_scene(family, attribute):
    picture = render.photograph_of(family, "train", 3, BASE, 4)
    s = split(family, attribute, BASE, 4)
    edit = render.edited(picture.spec, attribute, s.infeasible[0])
    gap = np.abs(edit.astype(int) - picture.image.astype(int)).max(2)
    assert (gap[picture.paint > 0] > 0).mean() > 0.5  # the surface is another
    outside = picture.mask == 0  # there soft edges differ, of less than half a pixel's coverage
    assert (gap[outside] > 0).mean() < 0.02 and gap[outside].max() < 128
    around = np.pad(picture.mask, 2)
    near = np.max([around[i : i + 128, j : j + 128] for i in range(5) for j in range(5)], axis=0)
    assert gap[near == 0].max() == 0  # nor does a shadow


@pytest.mark.parametrize("family", FAMILIES)
def test_a_perfect_edit_of_the_background_leaves_the_object(family):
    picture = render.photograph_of(family, "train", 3, BASE, 4)
    scene = split(family, "background", BASE, 4).infeasible[1]
    edit = render.edited(picture.spec, "background", scene)
    changed = (edit != picture.image).any(2)
    inside = np.pad(picture.mask, 2)
    deep = np.min([inside[i : i + 128, j : j + 128] for i in range(5) for j in range(5)], axis=0)
    # through soft borders and an aeroplane's glass and propeller the scene shows
    assert changed[deep > 0].mean() < 0.02 * (1 + (family == "aircraft"))
    assert changed[picture.mask == 0].mean() > 0.8
    empty = render.empty_scene(scene, picture.spec.seed)
    assert (edit[:6] == empty[:6]).all()  # the scene is the world's own
    with pytest.raises(ValueError, match="background, color or texture"):
        render.edited(picture.spec, "size", "large")


def test_web_pictures_are_mostly_feasible_and_hold_some_of_everything():
    specs = [render.web(i).spec for i in range(400)]
    good = np.array([[getattr(s, a) in values(s.family, a)[0] for a in ATTRIBUTES] for s in specs])
    assert abs(good.mean() - render.COMMON) < 0.03
    assert abs(good.all(1).mean() - render.COMMON**3) < 0.07
    for attribute, names in ALL.items():
        seen = {getattr(s, attribute) for s in specs}
        assert len(seen) >= 0.9 * len(names)
