"""Browsing a finished study: one edit with its whole story side by side (notebooks/explore)."""

from __future__ import annotations

from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

from . import arms, store


def story(study: Path, images: pd.DataFrame, row: pd.Series,
          variants: int) -> dict[str, np.ndarray]:
    """Pictures of one edit in the order in which they came about: name -> uint8 array."""
    source = images.loc[row["image_id"]]
    out = {"source": store.read_image(study / source["path"]),
           "mask": store.read_mask(study / source["mask_path"]),
           "canny": store.read_mask(study / source["canny_path"])}
    folder = study / "edits" / store.slug(row["dataset"]) / row["attribute"] / row["feasibility"]
    prior = folder / arms.prior_file(row["phrase"], (int(row["seed"]) + int(row["attempt"]))
                                     % variants)
    if prior.exists():
        out["prior"] = store.read_image(prior)
    return out | {"edit": store.read_image(study / row["path"])}


def answers(row: pd.Series) -> pd.DataFrame:
    """What is on record of one edit, as a small table."""
    keys = ["class_name", "phrase", "prompt", "attempt", "accepted", "attribute_margin",
            "attribute_passed", "identity", "identity_passed", "seed"]
    known = [k for k in keys if k in row]
    return pd.DataFrame({"": [row[k] for k in known]}, index=known)


def show(study: Path, images: pd.DataFrame, row: pd.Series, variants: int) -> None:
    """Draw the story and print the answers."""
    pictures = story(study, images, row, variants)
    fig, axes = plt.subplots(1, len(pictures), figsize=(2.2 * len(pictures), 2.5),
                             layout="constrained")
    for axis, (name, picture) in zip(axes, pictures.items()):
        axis.imshow(picture, cmap="gray" if picture.ndim == 2 else None, interpolation="nearest")
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    plt.show()
    display(answers(row))


def browser(study: Path, variants: int) -> widgets.Widget:
    """Drop-downs for data set, attribute, arm and order, a slider over edits, and their story."""
    found = arms.of_study(study)
    edits = found["edits"]
    if edits.empty:
        return widgets.HTML(f"No edits under {study}: run <code>make study</code> first.")
    pick = {key: widgets.Dropdown(options=list(edits[key].unique()), description=key)
            for key in ("dataset", "attribute", "feasibility")}
    orders = {"by image": "edit_id", "worst verified first": "worst_margin"}
    order = widgets.Dropdown(options=orders, description="order")
    index = widgets.IntSlider(min=0, max=0, description="edit")
    out = widgets.Output()

    def chosen() -> pd.DataFrame:
        here = edits
        for key, box in pick.items():
            here = here[here[key] == box.value]
        return here.sort_values(order.value)

    def draw(_=None) -> None:
        here = chosen()
        index.max = max(0, len(here) - 1)
        with out:
            out.clear_output(wait=True)
            if here.empty:
                print("no edits of this choice")
            else:
                row = here.iloc[min(index.value, len(here) - 1)]
                show(study, found["images"][row["dataset"]], row, variants)

    for box in (*pick.values(), order, index):
        box.observe(draw, "value")
    draw()
    return widgets.VBox([widgets.HBox([*pick.values()]), widgets.HBox([order, index]), out])
