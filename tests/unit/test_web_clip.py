"""The card of the CLIP of web-like pictures says what was reached and what was not."""

from microworld.feasibility import FAMILIES
from microworld.pretrain import web_clip


def _figures(**changed):
    good = {f"{k}_{f}": 0.4 for k in ("zero_shot", "fine_tuned", "head_room") for f in FAMILIES}
    return good | changed


def test_a_model_without_head_room_is_refused_by_name():
    assert web_clip.faults(_figures()) == []
    found = web_clip.faults(_figures(head_room_pets=0.09, zero_shot_cars=0.2))
    assert [line.split()[0] for line in found] == ["head_room_pets", "zero_shot_cars"]


def test_the_card_holds_figures_targets_and_training():
    reports = {"clip": {"step": 12, "seconds": 120.0}}
    text = web_clip.card(_figures(), reports, 500)
    assert "Every target is reached." in text and "clip: 12 steps, 2 minutes" in text
    assert "| head room cars | 0.400 | >= 0.1 |" in text and "500 renderings" in text
    text = web_clip.card(_figures(head_room_pets=0.0), reports, 500)
    assert "Not reached: head_room_pets is 0.000, wanted at least 0.1." in text
