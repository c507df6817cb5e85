"""Browses a finished study: edits and predictions, filtered, and the steps of one edit
(notebooks/explore)."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

from ..analysis import load
from ..analysis.stage import ClaimsStage
from ..core import storage
from ..core.study_paths import StudyPaths
from ..editing import batches
from ..editing import stage as editing_stage
from ..training import recipes
from .style import look


def edit_steps(
    paths: StudyPaths, images: pd.DataFrame, row: pd.Series, variants: int
) -> dict[str, np.ndarray]:
    """Pictures of one edit in the order in which they came about: name -> uint8 array."""
    source = images.loc[row["image_id"]]
    out = {
        "source": storage.read_image(paths.root / source["path"]),
        "mask": storage.read_mask(paths.root / source["mask_path"]),
        "canny": storage.read_mask(paths.root / source["canny_path"]),
    }
    folder = paths.edits(row["dataset"], row["attribute"], row["feasibility"])
    prior = folder / batches.prior_file(
        row["phrase"], (int(row["seed"]) + int(row["attempt"])) % variants
    )
    if prior.exists():
        out["prior"] = storage.read_image(prior)
    return out | {"edit": storage.read_image(paths.root / row["path"])}


def facts(row: pd.Series) -> pd.DataFrame:
    """Phrase, prompt, scores and seed of one edit, as a small table."""
    keys = [
        "class_name",
        "phrase",
        "prompt",
        "attempt",
        "accepted",
        "attribute_margin",
        "attribute_passed",
        "identity",
        "identity_passed",
        "seed",
    ]
    known = [k for k in keys if k in row]
    return pd.DataFrame({"": [row[k] for k in known]}, index=known)


def show(paths: StudyPaths, images: pd.DataFrame, row: pd.Series, variants: int) -> None:
    """Draw the steps of an edit and print its facts."""
    pictures = edit_steps(paths, images, row, variants)
    with look():
        fig, axes = plt.subplots(
            1, len(pictures), figsize=(2.2 * len(pictures), 2.5), layout="constrained"
        )
        for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
            gray = "gray" if picture.ndim == 2 else None
            axis.imshow(picture, cmap=gray, interpolation="nearest")
            axis.set_title(name, fontsize=9)
            axis.axis("off")
        plt.show()
    display(facts(row))


PAGE = 12  # thumbnails at a time
ANY = "all"
ORDERS = {
    "by photograph": "edit_id",
    "worst verified first": "worst_margin",
    "least like its source first": "identity",
}
RIGHT = {
    "any prediction": None,
    "feasible alone is right": (True, False),
    "infeasible alone is right": (False, True),
    "both are right": (True, True),
    "neither is right": (False, False),
}


def pick_edits(edits: pd.DataFrame, order: str = "edit_id", **wanted) -> pd.DataFrame:
    """The edits whose columns equal `wanted` (ANY: whatever), sorted."""
    for column, value in wanted.items():
        if value != ANY:
            edits = edits[edits[column] == value]
    return edits.sort_values([order, "edit_id"], ignore_index=True)


def pick_predictions(
    predictions: pd.DataFrame, recipes: tuple[str, str], seed: int, right: tuple[bool, bool] | None
) -> pd.DataFrame:
    """Test images of one data set by the predictions of two recipes with one seed.

    predictions: of load.predictions. Returns image_id and correctness, columns `feasible` and
    `infeasible`.
    """
    here = predictions[(predictions["seed"] == seed) & predictions["recipe"].isin(recipes)]
    wide = here.pivot(index="image_id", columns="recipe", values="correct")
    if set(recipes) - set(wide):
        return pd.DataFrame(columns=["image_id", "feasible", "infeasible"])
    wide = wide[list(recipes)].set_axis(["feasible", "infeasible"], axis=1).reset_index()
    if right is not None:
        wide = wide[(wide["feasible"] == right[0]) & (wide["infeasible"] == right[1])]
    return wide.reset_index(drop=True)


def _png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


class _Gallery:
    """Filters, a page of thumbnails with a button each, and the details of the chosen one."""

    def __init__(self, boxes: list, find: Callable, thumbnail: Callable, detail: Callable):
        self.find, self.thumbnail, self.detail = find, thumbnail, detail
        self.page = widgets.IntSlider(min=0, max=0, description="page", continuous_update=False)
        self.count, self.details = widgets.Label(), widgets.Output()
        self.grid = widgets.GridBox(
            layout=widgets.Layout(grid_template_columns="repeat(auto-fill, 136px)", grid_gap="6px")
        )
        for box in boxes:
            box.observe(self.draw, "value")
        self.page.observe(self.draw, "value")
        self.whole = widgets.VBox(
            [
                widgets.HBox(boxes, layout=widgets.Layout(flex_flow="row wrap")),
                widgets.HBox([self.page, self.count]),
                self.grid,
                self.details,
            ]
        )
        self.draw()

    def draw(self, _=None) -> None:
        rows = self.find()
        self.page.max = max(0, -(-len(rows) // PAGE) - 1)
        self.count.value = f"{len(rows)} found"
        start = PAGE * self.page.value
        cells = []
        for _, row in rows.iloc[start : start + PAGE].iterrows():
            picture, words = self.thumbnail(row)
            button = widgets.Button(
                description=words, tooltip=words, layout=widgets.Layout(width="128px")
            )
            button.on_click(lambda _, row=row: self.open(row))
            cells.append(widgets.VBox([widgets.Image(value=_png(picture), width=128), button]))
        self.grid.children = cells
        if len(rows):
            self.open(rows.iloc[start])
        else:
            self.details.clear_output()

    def open(self, row: pd.Series) -> None:
        self.details.clear_output(wait=True)
        with self.details:
            self.detail(row)


def browser(paths: StudyPaths, variants: int) -> widgets.Widget:
    """Edits by data set, attribute, arm, class and verdict; a click shows the steps of one."""
    found = editing_stage.of_study(paths)
    edits = found["edits"]
    if edits.empty:
        return widgets.HTML(f"No edits under {paths.root}: run <code>make study</code> first.")

    def box(key: str, all_of_them: bool, options: list | None = None) -> widgets.Dropdown:
        values = sorted(edits[key].unique()) if options is None else options
        return widgets.Dropdown(options=[ANY] * all_of_them + list(values), description=key)

    pick = {
        "dataset": box("dataset", False),
        "attribute": box("attribute", False),
        "feasibility": box("feasibility", True),
        "class_name": box("class_name", True),
        "accepted": box("accepted", True, [True, False]),
    }
    order = widgets.Dropdown(options=ORDERS, description="order")
    return _Gallery(
        [*pick.values(), order],
        lambda: pick_edits(edits, order.value, **{k: b.value for k, b in pick.items()}),
        lambda row: (storage.read_image(paths.root / row["path"]), row["phrase"]),
        lambda row: show(paths, found["images"][row["dataset"]], row, variants),
    ).whole


def prediction_browser(paths: StudyPaths, asked: ClaimsStage) -> widgets.Widget:
    """Test photographs by the predictions of the classifiers of both arms."""
    try:
        predictions = load.predictions(paths, asked)
    except FileNotFoundError:
        return widgets.HTML(
            f"No predictions under {paths.root}: run <code>make study</code> first."
        )
    images = editing_stage.of_study(paths)["images"]
    pairs = {
        f"{real}{a}": tuple(f"{real}edit({a},{arm})" for arm in ("feasible", "infeasible"))
        for real in ("", "real+")
        for a in recipes.ATTRIBUTES
    }
    known = set(predictions["recipe"])
    pairs = {k: v for k, v in pairs.items() if set(v) <= known}
    if not pairs:
        return widgets.HTML("No attribute has classifiers of both arms.")
    dataset = widgets.Dropdown(
        options=sorted(predictions["dataset"].unique()), description="dataset"
    )
    pair = widgets.Dropdown(options=pairs, description="trained on")
    seed = widgets.Dropdown(options=sorted(predictions["seed"].unique()), description="seed")
    right = widgets.Dropdown(options=RIGHT, description="predictions")

    def find() -> pd.DataFrame:
        here = predictions[predictions["dataset"] == dataset.value]
        return pick_predictions(here, pair.value, seed.value, right.value)

    def thumbnail(row: pd.Series) -> tuple[np.ndarray, str]:
        source = images[dataset.value].loc[row["image_id"]]
        return storage.read_image(paths.root / source["path"]), str(source["class_name"])

    def detail(row: pd.Series) -> None:
        here = predictions[
            (predictions["dataset"] == dataset.value) & (predictions["image_id"] == row["image_id"])
        ]
        share = here.groupby("recipe")["correct"].mean().rename("share of seeds that are right")
        display(share.to_frame())

    return _Gallery([dataset, pair, seed, right], find, thumbnail, detail).whole
