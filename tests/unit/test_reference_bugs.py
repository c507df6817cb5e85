"""Each bug of the references (docs/protocol.md, C4) by its number: the test that shows it gone.

Where a module's own tests show it, TESTED names them; the others follow below.
"""

import ast
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from varireal_utils.analysis import bootstrap
from varireal_utils.analysis.verdict import Finding, decide
from varireal_utils.data.shots import few_shot
from varireal_utils.training import training_rows

HERE = Path(__file__).resolve().parent
TESTED = {
    "2, the verifier is told the answer": (
        "test_vlm",
        "test_the_strict_model_is_never_told_the_answer_nor_the_arm",
    ),
    "3, a constant answer passes the filter": (
        "test_vlm",
        "test_a_constant_answer_cannot_pass_in_either_arm",
    ),
    "4, no box, and the run crashes": ("test_detect", "test_nothing_found_falls_back"),
    "5, two seeds for all images": ("test_edit", "test_noise_belongs_to_the_edit"),
    "6, arms differ in more than feasibility": ("test_edit", "test_arms_are_paired"),
    "9, the first box": ("test_detect", "test_the_best_box"),
    "9, a name with a dot is two phrases": (
        "test_detect",
        "test_every_name_is_one_phrase_to_the_detector",
    ),
    "10, a name with a slash is a folder": (
        "test_storage",
        "test_slug_comes_back_and_is_a_safe_file_name",
    ),
    "12, resuming draws anew": ("test_edit", "test_outside_is_untouched_and_batches_do_not_matter"),
    "14, truncated colours": ("test_priors_compose", "test_color_prior_rounds_and_stays_inside"),
    "15, the best step is chosen on the test set": (
        "test_classify",
        "test_training_learns_and_keeps_the_best_validation_step",
    ),
    "16, the mean of the batches' accuracies": (
        "test_classify",
        "test_accuracy_is_over_images_and_predictions_hold_the_logits",
    ),
    "18, a word in a path decides what is real": (
        "test_classify",
        "test_training_weighs_real_and_edited_images",
    ),
    "19, a batch without real images is not a number": (
        "test_classify",
        "test_one_kind_of_image_has_the_plain_mean",
    ),
    "21, weights are merged twice": (
        "test_clip_lora",
        "test_merging_loading_and_evaluating_twice_change_nothing",
    ),
    "23, a result is stored only at the end of an epoch": (
        "test_classify",
        "test_a_result_is_written_once",
    ),
    "D2, ImageNet has no test set": (
        "test_coop",
        "test_imagenet_tests_on_val_and_keeps_equal_names_apart",
    ),
    "D3, nothing can be drawn without training": (
        "test_datadream",
        "test_baselines_learn_nothing_and_keep_what_clip_is_surest_of",
    ),
    "D4, the same noise for every class, and again after a stop": (
        "test_datadream",
        "test_drawing_goes_on_where_it_stopped",
    ),
    "D5, training without a seed": (
        "test_datadream",
        "test_a_killed_training_ends_with_the_same_bytes",
    ),
}


@pytest.mark.parametrize("bug", TESTED)
def test_another_test_shows_it(bug):
    module, name = TESTED[bug]
    tree = ast.parse((HERE / f"{module}.py").read_text())
    assert name in [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]


def train_rows(classes: int = 3, each: int = 6) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "image_id": f"{c}-{i}",
                "label": c,
                "class_name": f"c{c}",
                "split": "train",
                "path": f"real_train/{c}-{i}.png",
            }
            for c in range(classes)
            for i in range(each)
        ]
    )


def edited_rows() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                **row,
                "attribute": "color",
                "feasibility": arm,
                "k": 0,
                "phrase": "p",
                "accepted": True,
                "path": f"real_train/{arm}-{row['image_id']}.png",
            }
            for row in train_rows().to_dict("records")
            for arm in ("feasible", "infeasible")
        ]
    )


def test_17_a_mixture_is_a_mixture():
    rows = training_rows.training_set("mix(color,0.5)", train_rows(), edited_rows(), seed=1)
    count = rows["feasibility"].value_counts()
    assert count["feasible"] == count["infeasible"] == 9


def test_18_no_path_decides_what_is_real():
    rows = training_rows.training_set(
        "real+edit(color,feasible)", train_rows(), edited_rows(), seed=1
    )
    assert rows["path"].str.startswith("real_train/").all()  # as the reference's real images lie
    assert rows["is_real"].sum() == 18 and (~rows["is_real"].astype(bool)).sum() == 18


def test_20_shots_depend_on_the_seed_alone_and_leave_the_global_one_alone():
    rows = train_rows()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    want = random.random(), np.random.random(), float(torch.rand(1))
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    first = few_shot(rows, 2, 7)
    assert (random.random(), np.random.random(), float(torch.rand(1))) == want
    for order in range(3):
        again = few_shot(rows.sample(frac=1, random_state=order), 2, 7)
        assert list(again["image_id"]) == list(first["image_id"])
    assert (first.groupby("label").size() == 2).all()  # the cap is kept
    assert list(few_shot(rows, 2, 8)["image_id"]) != list(first["image_id"])


def test_24_one_seed_is_not_taken_for_many():
    """Three tenths of a point on Pets, Aircraft and Cars with one seed: no verdict."""
    rng = np.random.default_rng(0)
    for images in (3669, 3333, 8041):
        easy = rng.random(images)
        a, b = (rng.random(images) < np.where(easy < 0.8, 0.98, 0.5) for _ in range(2))
        b = b.copy()
        b[np.flatnonzero(~b)[: round(0.003 * images)]] = True
        found = bootstrap.difference(b[None], a[None], resamples=300)
        assert found.low < 0 < found.high and found.high90 - found.low90 > 0.6
        assert found.se > 0.3
    alone = Finding("A1", "paper", p_holds=0.0, cells=3, of=3)
    assert decide([alone])["A1"].word == "no verdict"


def test_d5_fewer_photographs_than_shots_are_all_taken():
    rows = train_rows(each=3)
    assert len(few_shot(rows, 16, 0)) == 9
