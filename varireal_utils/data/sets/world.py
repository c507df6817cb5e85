"""The micro world: photographs of cars, aircraft or pets, rendered on the fly with exact masks.

The only module of the helper package that imports the renderer for data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Self

import numpy as np
from pydantic import AfterValidator

from microworld import render
from microworld.feasibility import ALL, ATTRIBUTES, FAMILIES, INFEASIBLE, SIZE, split

from ...core.arms import PLACEBO, THREE, WIDE
from ...core.config_base import Whole, wanted
from ..data_set import DataSet, DataSetSpec, Drawing, PerClass, Sizes
from ..image_record import SPLITS

# columns of a photograph's row that determine its picture (render.Spec)
FACTS = ("family", "class_name", "color", "texture", "background", "scene_seed")


def _family(value: str) -> str:
    if value not in FAMILIES:
        raise ValueError(value)
    return value


class WorldSpec(DataSetSpec):
    """family: what is drawn; *_per_class: images of each class in a split; base, replicate: seed
    of the study and index of the draw, None for the photographs that never change."""

    family: Annotated[str, AfterValidator(_family), wanted(f"one of {list(FAMILIES)}")]
    train_per_class: PerClass
    val_per_class: PerClass
    test_per_class: PerClass
    base: Whole | None = None
    replicate: Whole | None = None

    def of_replicate(self, seed: int, index: int) -> Self:
        """Photographs of its own for each replicate."""
        return self.model_copy(update={"base": seed, "replicate": index})

    def values(self) -> dict[str, dict[str, list[str]]]:
        """What each arm of a replicate asks for (microworld/feasibility.py)."""
        if self.replicate is None:
            return {}
        base = self.base or 0
        found = {a: split(self.family, a, base, self.replicate) for a in ATTRIBUTES}
        arms = (*THREE, PLACEBO)
        return {
            a: {arm: list(getattr(s, arm)) for arm in arms}
            | {WIDE: list(INFEASIBLE[self.family][a])}
            for a, s in found.items()
        }

    def photograph(self, image_split: str, index: int) -> render.Picture:
        """The index-th photograph of a split."""
        if self.replicate is None:
            return render.photograph(self.family, image_split, index)
        return render.photograph_of(self.family, image_split, index, self.base or 0, self.replicate)

    def phrase_family(self, name: str) -> str:
        """The family: micro_cars and another data set of cars share their phrases."""
        return self.family

    def sizes(self, data_set: DataSet) -> Sizes | None:
        """Images and classes, by the settings."""
        classes = len(render.class_names(self.family))
        counts = {part: getattr(self, f"{part}_per_class") * classes for part in SPLITS}
        return counts, classes, "its settings"

    def pixels(self) -> float:
        """Number of pixels of a picture."""
        return SIZE * SIZE


def draw(spec: WorldSpec) -> Iterator[Drawing]:
    """The pictures of all splits, image k of a split the same in every study of one draw.

    scene_seed: with family, class and attributes it determines the picture (render.Spec), so that
    the world can edit it (editing/world_editor.py).
    """
    classes = len(render.class_names(spec.family))
    for part in SPLITS:
        for index in range(getattr(spec, f"{part}_per_class") * classes):
            picture = spec.photograph(part, index)
            what = picture.spec
            yield Drawing(
                f"{spec.family}-{part}-{index:05d}",
                picture.label,
                what.class_name,
                part,
                picture.image,
                {"mask_path": picture.mask, "paint_mask_path": picture.paint},
                {
                    "color": what.color,
                    "texture": what.texture,
                    "background": what.background,
                    "family": what.family,
                    "scene_seed": what.seed,
                },
            )


def value_of(attribute: str, phrase: str) -> str:
    """The world's value that a phrase names: itself, or its end ("on the moon" is moon). Raises
    ValueError where there is none."""
    for value in sorted(ALL[attribute], key=len, reverse=True):
        if phrase == value or phrase.endswith(f" {value}"):
            return value
    raise ValueError(f"phrase {phrase!r} names no {attribute} of the rendered world")


def edited(facts: dict[str, Any], attribute: str, phrase: str) -> np.ndarray:
    """A photograph with the value that a phrase names, else unchanged: (128, 128, 3) uint8.

    facts: FACTS, from the photograph's row.
    """
    spec = render.Spec(
        family=facts["family"],
        class_name=facts["class_name"],
        color=facts["color"],
        texture=facts["texture"],
        background=facts["background"],
        seed=int(facts["scene_seed"]),
    )
    return render.edited(spec, attribute, value_of(attribute, phrase))


DATA_SET = DataSet(
    name="world",
    about="the rendered world: 8 classes of cars, aircraft or pets",
    spec=WorldSpec,
    draw=draw,
    owner="drawn by this repository",
    terms="as this repository",
    phrases="params/prompts/micro.yaml",
    titles={f"micro_{family}": f"Micro {family}" for family in FAMILIES},
)
