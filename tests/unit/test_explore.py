"""The browsers' filters."""

import pandas as pd

from varireal_utils.reporting import explore

EDITS = pd.DataFrame(
    [
        {"edit_id": f"e{i}", "class_name": "ab"[i % 2], "accepted": i < 3, "worst_margin": -i}
        for i in range(6)
    ]
)


def test_edits_are_filtered_and_sorted():
    assert list(explore.pick_edits(EDITS, class_name="a", accepted=explore.ANY)["edit_id"]) == [
        "e0",
        "e2",
        "e4",
    ]
    assert list(explore.pick_edits(EDITS, "worst_margin", accepted=True)["edit_id"]) == [
        "e2",
        "e1",
        "e0",
    ]
    assert explore.pick_edits(EDITS, class_name="c").empty


def test_predictions_are_found_by_who_is_right():
    predictions = pd.DataFrame(
        [
            {"seed": s, "recipe": r, "image_id": i, "correct": c}
            for s in (0, 1)
            for r, row in (("edit(color,feasible)", "1100"), ("edit(color,infeasible)", "1010"))
            for i, c in zip("abcd", (x == "1" for x in row))
        ]
    )
    both = ("edit(color,feasible)", "edit(color,infeasible)")

    def found(right):
        return "".join(
            explore.pick_predictions(predictions, both, 0, explore.RIGHT[right])["image_id"]
        )

    assert found("any prediction") == "abcd" and found("both are right") == "a"
    assert found("feasible alone is right") == "b" and found("infeasible alone is right") == "c"
    assert found("neither is right") == "d"
    assert explore.pick_predictions(predictions, ("real", both[1]), 0, None).empty
