"""Edits of photographs that the verifier cannot name are exempt from identity, in both arms."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from varireal_utils.core.config import load_config
from varireal_utils.editing import exemption, phases, pipeline
from varireal_utils.preflight.checks import verifier as preflight
from varireal_utils.verification.build import Verifier
from varireal_utils.verification.clip_verifier import by_arm

NAMED, UNNAMED = 200, 90  # grey levels of photographs: this verifier names bright ones
EDITED, LOST, PLAIN = (
    201,
    10,
    91,
)  # an edit of a bright one, one that lost its object, of a dark one


class Seer:
    """A verifier that names pictures above 150 and sees the attribute in anything that is odd."""

    def __init__(self):
        self.asked: list[list[int]] = []

    def score(self, pictures, rows, sources) -> pd.DataFrame:
        levels = [int(p[0, 0, 0]) for p in pictures]
        self.asked.append(levels)
        there = np.array([level % 2 == 1 or level == LOST for level in levels])
        same = np.array(levels) > 150
        return pd.DataFrame(
            {
                "attribute_passed": there,
                "identity_passed": same,
                "accepted": there & same,
                "worst_margin": np.where(there & same, 0.1, -0.1),
            }
        )


def grey(level: int) -> np.ndarray:
    return np.full((4, 4, 3), level, np.uint8)


def asked(levels: list[int]) -> tuple[list[dict], list[SimpleNamespace]]:
    rows = [{"image_id": f"p{i}", "k": 0} for i in range(len(levels))]
    return rows, [SimpleNamespace(image=grey(level)) for level in levels]


def test_only_edits_of_photographs_that_fail_themselves_are_exempt():
    seer = Seer()
    rows, sources = asked([NAMED, NAMED, UNNAMED, UNNAMED])
    pictures = [grey(level) for level in (EDITED, LOST, PLAIN, UNNAMED)]
    got = exemption.exempting(Verifier({}, seer.score)).score(pictures, rows, sources)
    assert got["exempt"].tolist() == [False, False, True, False]
    assert got["accepted"].tolist() == [True, False, True, False]  # the last lacks its attribute
    assert got["identity_passed"].tolist() == [True, False, False, False]  # as it was answered
    assert seer.asked[1:] == [[NAMED, UNNAMED]]  # photographs in question alone, once
    exempt = exemption.exempting(Verifier({}, seer.score))
    for _ in range(2):
        exempt.score(pictures, rows, sources)
    assert seer.asked.count([NAMED, UNNAMED]) == 2  # once for each of the two verifiers


def test_an_exempt_edit_uses_no_further_attempt(monkeypatch):
    """Through the phases of an arm: without it, all attempts are spent."""
    monkeypatch.setattr(
        pipeline,
        "edit_batches",
        lambda pipes, batches, *_: [[grey(PLAIN)] * len(r) for _, r in batches],
    )
    rows = pd.DataFrame([{"image_id": "p", "k": k, "edit_id": f"p{k}"} for k in range(2)])
    edit = SimpleNamespace(batch_size=2, pool=1, max_attempts=3)
    source = SimpleNamespace(image=grey(UNNAMED))

    def finished(verify) -> pd.DataFrame:
        pipes = SimpleNamespace(device=torch.device("cpu"))
        given = (pipes, rows, lambda i: source, {}, {}, SimpleNamespace(edit=edit), verify)
        return next(phases.run(*given, {0: None}))[2]

    seer = Seer()
    done = finished(exemption.exempting(Verifier({}, seer.score)).score)
    assert done["accepted"].all() and (done["attempt"] == 0).all() and done["exempt"].all()
    assert len(seer.asked) == 2  # the edits, then their photograph
    plain = Seer()
    assert not finished(plain.score)["accepted"].any() and len(plain.asked) == 3


def test_acceptance_counts_the_exempt():
    edits = pd.DataFrame(
        {
            "feasibility": ["feasible", "feasible", "infeasible", "infeasible"],
            "image_id": ["a", "b", "a", "b"],
            "k": 0,
            "attempt": 0,
            "accepted": True,
            "attribute_passed": True,
            "identity_passed": [True, False, True, False],
            "exempt": [False, True, False, True],
        }
    )
    assert by_arm(edits).loc["feasible", "exempt"] == 0.5


def test_it_is_for_a_strict_vision_language_verifier_and_warns_below_080():
    paper, faithful, weekend = (
        load_config(f"params/{name}_oxford_pets.yaml") for name in ("paper", "faithful", "weekend")
    )
    kinds = [c.verify.of_kind(c.models.verifier_kind()) for c in (paper, faithful, weekend)]
    assert [exemption.applies(k) for k in kinds] == [True, False, False]
    with pytest.warns(UserWarning, match=r"names 75% of the unedited .*exempt"):
        exemption.exempting(Verifier({"identity_kept": 0.75}, Seer().score))


@pytest.mark.parametrize(
    ("share", "vlm", "status"),
    [(0.9, True, "pass"), (0.5, True, "warn"), (0.0, True, "fail"), (0.5, False, "fail")],
)
def test_preflight_warns_of_photographs_that_are_exempt(share, vlm, status):
    answers = pd.DataFrame(
        {"identity_passed": [True] * int(share * 10) + [False] * (10 - int(share * 10))}
    )
    found = preflight._same("color", answers, vlm)
    assert found.status == status and bool(found.remedy) == (status != "pass")
