"""README's answer: three sentences that follow the registered verdicts, whatever they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from varireal_utils.analysis.verdict import ONE_DRAW, VERDICTS
from varireal_utils.core import shown, storage
from varireal_utils.reporting import answer, first_page, result_blocks

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = {"A": "paper", "E": "decomposition", "F": "parts", "D": "datadream", "P": "placebo"}
CLAIMS = ("A1", "A2", "A3", "A4", "A5", "E1", "E2", "E3", "E4", "D1", "D2", "P0")
NUMBERS = {"A1": 0.73, "E1": 0.06, "E2": 0.45, "E3": 0.22}


def rows(**words: str) -> list[dict]:
    """Claims of a study of 27 replicates; words: their verdicts, "inconclusive" where not given."""
    out = []
    for claim in CLAIMS:
        word = words.get(claim, "inconclusive")
        ours = float("nan") if word == "not run" else NUMBERS.get(claim, 0.1)
        out.append(
            {
                "claim": claim,
                "says": "s",
                "family": FAMILIES[claim[0]],
                "ours": ours,
                "low": ours - 0.3,
                "high": ours + 0.3,
                "confidence": 0.95,
                "margin": 0.3,
                "unit": "replicates",
                "units": 27.0,
                "share": float("nan"),
                "p": 0.1,
                "p_holm": 0.2,
                "verdict": word,
                "because": "",
            }
        )
    return out


def test_a_claim_that_was_asked_again_is_counted_as_it_was_asked_last():
    found = rows(D1="withheld", D2="withheld")
    again = {"claim": "D3", "verdict": "reproduced", "again": "D1", "later": ""}
    found = [r | {"later": "D3" if r["claim"] == "D1" else ""} for r in found]
    last = answer.sentences([*found, found[0] | again])[2]
    assert (
        "one holds (D3)" in last
        and "one is withheld (D2)" in last
        and "(D1 as asked again)" in last
    )


def test_an_undecided_part_says_what_its_family_prevents():
    """Else an interval beyond or within the margin reads as an error."""
    near = {"p": 0.04, "p_holm": 0.12}
    for ours, side in ((0.62, "beyond"), (0.1, "within"), (-0.62, "beyond")):
        found = [r | near | {"ours": ours} if r["claim"] == "E2" else r for r in rows()]
        said = answer.sentences(found)[1]
        assert said.count(f": {side} ±0.3 pp by itself, undecided with the claims of its fam") == 1
        assert said.count(": undecided whether within ±0.3 pp)") == 2
    assert "by itself" not in answer.sentences(rows())[1]


def test_the_answer_tells_both_trainings_and_the_whole_of_a_further_study():
    found = [r | {"study": "first"} for r in rows()]
    found += [r | {"claim": f"F{r['claim'][1]}", "study": "again"} for r in found[5:8]]
    whole = {"difference": 1.194, "low": 0.9, "high": 1.5}
    trained = {"edited only": {"difference": 1.85}, "real + edited": {"difference": 0.35}}
    first, second, _ = answer.sentences(
        found, pooled={"first": trained, "again": {"pooled": whole}}
    )
    assert "27 replicates; +1.85 on edits alone, +0.35 beside real photographs): " in first
    assert second.startswith(
        "A further study, of 27 replicates, has +1.19 pp (+0.90 to +1.50) and takes it apart: +0.06"
    )


def test_the_parts_of_the_further_study_add_up_to_its_effect():
    """Of the published numbers, which the answer tells side by side."""
    shown_rows, pooled = result_blocks.claims(ROOT), result_blocks.pooled(ROOT)
    parts = answer.parts_of(shown_rows)
    whole = pooled[parts[0]["study"]]["pooled"]["difference"]
    assert sum(row["ours"] for row in parts) == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("word", VERDICTS)
def test_three_sentences_name_every_claim_once_with_its_verdict(word):
    found = answer.sentences(rows(**dict.fromkeys(CLAIMS, word)))
    assert len(found) == 3 and all(s.endswith(".") and s[0].isupper() for s in found)
    assert all("  " not in s and "nan" not in s and "{" not in s for s in found)
    others = [c for c in CLAIMS if c != "A1" and not (word != "not run" and c in answer.PARTS)]
    assert all(len(re.findall(rf"\b{c}\b", found[2])) == 1 for c in others if word != "not run")
    if word == "not run":
        assert found[0] == "The effect of feasibility has not been measured."
        return
    assert "+0.73 percentage points (pp; 95 % interval +0.43 to +1.03, 27 replicates)" in found[0]
    assert found[1].startswith(
        "It is the sum of +0.06 pp of feasibility itself (-0.24 to +0.36), +"
    )
    said = {
        "reproduced": ("mostly within the paper's 0.3 pp", ", each within ±0.3 pp.", "all hold"),
        "different": ("mostly beyond", ", each beyond ±0.3 pp.", "none holds"),
        "inconclusive": (
            "too uncertain to tell",
            ", each undecided whether within",
            "all stay undecided",
        ),
        "not valid": ("not valid, because a condition", ", each not valid.", "none is valid"),
        "withheld": (
            "because the placebo is not shown to be null",
            ", each withheld.",
            "all are withheld",
        ),
        "no verdict": (
            "no verdict on the paper's 0.3 pp",
            ", each without a verdict.",
            "none has a verdict",
        ),
    }[word]
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))


def test_parts_with_verdicts_of_their_own_say_them():
    said = answer.sentences(rows(E1="reproduced", E2="different", A2="reproduced"))
    assert "of feasibility itself (-0.24 to +0.36: within ±0.3 pp), " in said[1]
    assert "with a value (+0.15 to +0.75: beyond ±0.3 pp) and +0.22 pp of the diff" in said[1]
    assert said[1].endswith("(-0.08 to +0.52: undecided whether within ±0.3 pp).")
    assert said[2].startswith("Of the paper's four other claims, one holds (A2) and three stay")


def test_parts_that_were_asked_again_stand_for_the_first_ones():
    again = [r | {"claim": f"F{r['claim'][1]}", "units": 36.0} for r in rows()[5:8]]
    said = answer.sentences(rows() + again)
    assert len(said) == 3
    assert said[1].startswith("A further study, of 36 replicates, takes it apart: +0.06 pp of fea")
    assert "E1" not in said[2] and "F1" not in said[2]
    missing = [r | {"ours": float("nan"), "verdict": "not run"} for r in again[:1]] + again[1:]
    assert answer.sentences(rows() + missing)[1].startswith("It is the sum of")
    idle = dict.fromkeys((c for c in CLAIMS if c != "P0"), "not run")
    alone = answer.sentences(rows(**idle) + again)
    assert alone[0].startswith("Training on feasible instead of infeasible edits changes accuracy")
    assert "five claims, none was run" in alone[1] and "E4" in alone[2]


def test_reasons_are_said_as_the_tables_give_them():
    first = rows(A1="withheld")[0]
    said = "the placebo fails: P0 is inconclusive"
    assert answer.effect(first | {"because": said}).endswith(f"withheld, because {said}.")
    low = "head-room: real gains 4.0 points on d"
    valid = answer.effect(first | {"verdict": "not valid", "because": low})
    assert valid.endswith(f"not valid, because {low}.")
    for reason, words in (
        (ONE_DRAW, "because this is one draw."),
        ("too few replicates: 3, wanted 8", "because its replicates are too few."),
        ("incomplete: 17 of 18 cells were run", "because some of its cells were not run."),
        (
            "26 of 27 planned replicates: no look before the last",
            "because it waits for the last replicate (26 of 27 planned replicates).",
        ),
    ):
        row = first | {"verdict": "no verdict", "because": reason}
        assert answer.effect(row).endswith(words)


def test_few_replicates_have_no_interval_and_a_study_of_photographs_no_micro_world():
    row = rows()[0] | {"low": float("nan"), "high": float("nan"), "units": 3.0}
    assert "by +0.73 percentage points (pp; 3 replicates)" in answer.effect(row, rendered=False)
    assert answer.effect(row, rendered=False).startswith("Here, training on feasible")


def test_each_verdict_that_needs_it_has_a_note_of_its_own():
    notes = "\n".join(
        first_page._notes(rows(A1="withheld", D1="not valid", A2="no verdict"), "", "")
    )
    assert "*Withheld*" in notes and "docs/results.md#validity" in notes and "*Undecided*" in notes
    assert "*One draw*" not in notes  # the replicates were too few
    one = [r | {"because": ONE_DRAW} for r in rows(A1="no verdict")]
    assert "*One draw*" in "\n".join(first_page._notes(one, "", ""))


@pytest.mark.parametrize(
    ("text", "wanted"), [(None, "''"), ("\n", "''"), ("../elsewhere", "'../elsewhere'")]
)
def test_one_file_names_the_study_that_pages_show(tmp_path, text, wanted):
    if text is not None:
        storage.write_text(tmp_path / shown.FILE, text)
    with pytest.raises(ValueError, match=f"shown.txt: got {re.escape(wanted)}, wanted the name"):
        shown.name(tmp_path)
    storage.write_text(tmp_path / shown.FILE, "drawn\n\n dreams \n")
    assert shown.folder(tmp_path) == tmp_path / "results" / "drawn"
    assert shown.names(tmp_path) == ["drawn", "dreams"]
    storage.write_text(tmp_path / shown.FILE, "drawn\ndrawn\n")
    with pytest.raises(ValueError, match="drawn stands there twice"):
        shown.name(tmp_path)
    storage.write_text(tmp_path / shown.FILE, "drawn\n")
    with pytest.raises(FileNotFoundError, match="drawn/claims.csv"):
        result_blocks.load(tmp_path, "claims")
