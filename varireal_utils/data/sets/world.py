"""The micro world: photographs of cars, aircraft or pets, rendered on the fly with exact masks.

The only module of the helper package that imports the renderer for data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator

from microworld import render
from microworld.feasibility import FAMILIES, SIZE

from ...core.config_base import wanted
from ..data_set import DataSet, DataSetSpec, Drawing, PerClass, Sizes
from ..image_record import SPLITS


def _family(value: str) -> str:
    if value not in FAMILIES:
        raise ValueError(value)
    return value


class WorldSpec(DataSetSpec):
    """family: what is drawn; *_per_class: images of each class in a split."""

    family: Annotated[str, AfterValidator(_family), wanted(f"one of {list(FAMILIES)}")]
    train_per_class: PerClass
    val_per_class: PerClass
    test_per_class: PerClass

    def phrase_family(self, name: str) -> str:
        """The family: micro_cars and another data set of cars share their phrases."""
        return self.family

    def sizes(self, data_set: DataSet) -> Sizes | None:
        """Images and classes, by the settings."""
        classes = len(render.class_names(self.family))
        counts = {split: getattr(self, f"{split}_per_class") * classes for split in SPLITS}
        return counts, classes, "its settings"

    def pixels(self) -> float:
        """Number of pixels of a picture."""
        return SIZE * SIZE


def draw(spec: WorldSpec) -> Iterator[Drawing]:
    """The pictures of all splits, image k of a split the same in every study."""
    classes = len(render.class_names(spec.family))
    for split in SPLITS:
        for index in range(getattr(spec, f"{split}_per_class") * classes):
            picture = render.photograph(spec.family, split, index)
            what = picture.spec
            yield Drawing(
                f"{spec.family}-{split}-{index:05d}",
                picture.label,
                what.class_name,
                split,
                picture.image,
                {"mask_path": picture.mask, "paint_mask_path": picture.paint},
                {"color": what.color, "texture": what.texture, "background": what.background},
            )


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
