"""The phrase files of the paper's data sets: complete, balanced, without contradiction."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from varireal_utils.prompts import phrase_bank

SHARED = Path(__file__).resolve().parents[3] / "shared/data"


def pets() -> list[str]:
    lines = (SHARED / "oxford_pets_lists/list.txt").read_text().splitlines()
    return sorted(
        {
            line.split()[0].rsplit("_", 1)[0].replace("_", " ").title()
            for line in lines
            if line.strip() and not line.startswith("#")
        }
    )


def aircraft() -> list[str]:
    return (SHARED / "fgvc_aircraft_lists/data/variants.txt").read_text().split("\n")[:100]


def cars() -> list[str]:
    return (SHARED / "stanford_cars_lists/class_names.txt").read_text().splitlines()


OFFICIAL = {
    "oxford_pets": (pets, 37),
    "fgvc_aircraft": (aircraft, 100),
    "stanford_cars": (cars, 196),
}


@pytest.fixture(params=OFFICIAL)
def bank(request) -> dict:
    """Every class that the file itself names in `color`."""
    path = f"params/prompts/{request.param}.yaml"
    raw = phrase_bank.read_file(path)
    names = list(raw["families"][request.param]["color"]["classes"])
    return phrase_bank.load_bank(path, request.param, names) | {"names": names}


def test_every_class_has_its_phrases(bank):
    assert len(bank["names"]) == OFFICIAL[bank["dataset"]][1]
    rows = pd.DataFrame(phrase_bank.check_bank(bank, controlled=False))
    counts = rows.groupby(["attribute", "arm"])["phrases"].min()
    assert counts["background"].min() >= 40
    assert counts["color", "feasible"] >= 5
    assert counts["texture", "feasible"] >= 5
    assert min(counts["color", "infeasible"], counts["texture", "infeasible"]) >= 30
    phrase_bank.check_bank(phrase_bank.balance(bank, 0))


def test_infeasible_colours_are_far_from_feasible_ones(bank):
    for name in bank["names"]:
        arms = phrase_bank.lists(bank, "color", name)
        near, far = (
            np.array([phrase_bank.rgb(bank, p) for p in arms[a]], float) for a in phrase_bank.ARMS
        )
        gap = np.linalg.norm(near[:, None] - far[None], axis=-1)
        assert gap.min() > 40, (
            name,
            arms["feasible"][gap.min(1).argmin()],
            arms["infeasible"][gap.min(0).argmin()],
        )


@pytest.mark.shared
def test_classes_are_the_official_ones(bank):
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here: the official lists are not part of the repository")
    assert sorted(bank["names"]) == sorted(OFFICIAL[bank["dataset"]][0]())
