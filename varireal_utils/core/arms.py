"""Names of the arms of edits, as folders and tables spell them.

    feasible, infeasible                 a study of two values
    familiar, unfamiliar, infeasible     a study of three (microworld/feasibility.py)
    placebo                              the second half of the familiar values
    wide                                 every infeasible value of the world, an edit each
    familiar-perfect, ...                the same slots and values, edited by the world itself

Invariant (tests/unit/test_arm_names.py): every arm is on one side, feasible or infeasible.
"""

from __future__ import annotations

SIDES = ("feasible", "infeasible")
THREE = ("familiar", "unfamiliar", "infeasible")
PLACEBO = "placebo"
WIDE = "wide"
VALUES = ("feasible", *THREE, PLACEBO, WIDE)
PERFECT = "-perfect"  # end of the name of an arm that the world edits itself


def value(arm: str) -> str:
    """One of VALUES: whose phrases the arm asks for. Raises ValueError for what is no arm."""
    found = arm.removesuffix(PERFECT)
    if found not in VALUES:
        raise ValueError(
            f"feasibility is {arm!r}, wanted one of {VALUES}, or one of them with {PERFECT}"
        )
    return found


def perfect(arm: str) -> bool:
    """Whether the world edits the arm itself."""
    return arm.endswith(PERFECT)


def side(arm: str) -> str:
    """feasible or infeasible."""
    return SIDES[value(arm) in ("infeasible", WIDE)]


def beside(arm: str) -> tuple[str, ...]:
    """The arms that an arm is compared with, itself included, feasible ones first. WIDE, of several
    edits a photograph, is compared with none slot by slot."""
    end = PERFECT if perfect(arm) else ""
    if value(arm) == WIDE:
        return (arm,)
    if arm.removesuffix(PERFECT) == "feasible":
        return tuple(name + end for name in SIDES)
    return tuple(name + end for name in ("feasible", *THREE, PLACEBO))
