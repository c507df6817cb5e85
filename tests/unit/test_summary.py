import csv

import pytest

from varireal_utils.workflow.summary import summary

FIELDS = ("dataset", "attribute", "arm", "training", "mean", "low", "high", "seeds", "n", "recipe")
ROWS = [
    ("cars", "", "zero-shot", "none", 57.0, 52.1, 62.0, 1, 400, "zero_shot"),
    ("cars", "", "real", "real", 85.875, 74.3, 96.2, 2, 400, "real"),
    ("cars", "color", "feasible", "edited only", 82.5, 58.9, 99.0, 2, 400, "edit(color,feasible)"),
    (
        "cars",
        "color",
        "infeasible",
        "edited only",
        80.04,
        7.0,
        9.0,
        2,
        400,
        "edit(color,infeasible)",
    ),
    ("cars", "", "datadream dset", "edited only", 37.0, 27.4, 46.1, 2, 400, "datadream(dset)"),
]


def write(path, fields, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([fields, *rows])


def study(folder, starts):
    at = FIELDS.index("seeds")
    rows = [r if r[2] == "zero-shot" else (*r[:at], starts, *r[at + 1 :]) for r in ROWS]
    write(folder / "results/main_table.csv", FIELDS, rows)
    fields = ("claim", "estimand", "ours", "low", "high", "confidence", "verdict", "says")
    claim = ("A1", "feasible minus infeasible", 0.704, 0.18, 1.24, 0.95, "inconclusive", "a claim")
    write(folder / "results/claims.csv", fields, [claim])
    return folder


@pytest.mark.parametrize("starts", [1, 3])
def test_a_small_study_shows_no_interval_and_no_verdict_of_its_own(tmp_path, starts):
    own, published = study(tmp_path / "own", starts), study(tmp_path / "published", 5)
    text = summary(own, published / "results")
    assert "too small to decide" in text and "57.0" in text and "80.0 to 82.5" in text
    assert "37.0" in text
    lines = text.splitlines()
    assert [line for line in lines if "[" in line or "inconclusive" in line] == [
        f"The published study ({published / 'results'}), A1: inconclusive;",
        "feasible minus infeasible: +0.70 [+0.18, +1.24] points (95 %).",
    ]
    nowhere = summary(own, tmp_path / "nowhere")
    assert "[" not in nowhere and "inconclusive" not in nowhere


def test_replicates_are_called_so_and_the_shown_study_is_quoted(tmp_path, monkeypatch):
    own, at = study(tmp_path / "own", 3), FIELDS.index("seeds")
    rows = [(*r[:at], 3, *r[at + 1 :], "replicates") for r in ROWS]
    write(own / "results/main_table.csv", (*FIELDS, "unit"), rows)
    monkeypatch.chdir(tmp_path)
    text = summary(own)
    assert "3 replicates of photographs, edits and classifiers." in text
    assert "The published study" not in text  # nothing says which one is shown
    (tmp_path / "results").mkdir()
    (study(tmp_path / "drawn", 27) / "results").rename(tmp_path / "results/drawn")
    (tmp_path / "results/shown.txt").write_text("drawn\n")
    assert "The published study (results/drawn), A1: inconclusive;" in summary(own)


def test_a_larger_study_shows_its_claims(tmp_path):
    text = summary(study(tmp_path, 4), tmp_path / "nowhere")
    assert "too small" not in text
    assert any(line.split()[:3] == ["A1", "inconclusive", "0.70"] for line in text.splitlines())


def test_it_names_pictures_that_are_there_and_fits_a_screen(tmp_path):
    folder = study(tmp_path, 1)
    (folder / "figures").mkdir()
    for name in ("pipeline_strip", "qualitative_grid", "accuracy_by_arm", "cost"):
        (folder / f"figures/{name}.png").touch()
    lines = summary(folder).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 160
    named = [line.split()[0] for line in lines if line.strip().startswith(str(folder))]
    assert named == [
        str(folder / f"figures/{n}.png")
        for n in ("pipeline_strip", "qualitative_grid", "accuracy_by_arm")
    ]
    assert any(line.startswith("  make lab") for line in lines)
    (folder / "figures/qualitative_grid.png").unlink()
    assert "qualitative_grid" not in summary(folder)


def test_a_folder_without_results_says_nothing(tmp_path):
    assert summary(tmp_path) == ""
