"""The pages hold what results/ hold: blocks are the tool's output, links lead somewhere, what they
name exists."""

import importlib.util
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from varireal_utils import __main__ as command_line
from varireal_utils.core import shown, storage
from varireal_utils.reporting import (
    answer,
    benchmark_blocks,
    claim_blocks,
    design_blocks,
    figure_blocks,
    first_page,
    readme,
    result_blocks,
)

ROOT = Path(__file__).resolve().parents[2]
SHOWN = shown.name(ROOT)
PAGES = {p.relative_to(ROOT).as_posix(): p for p in [*readme.pages(ROOT), ROOT / "CONTRIBUTING.md"]}
REMEDY = "run: python -m varireal_utils.reporting.readme"
ROW = {
    "claim": "A1",
    "says": "s",
    "estimand": "q",
    "reported": "below 0.3",
    "source": "abstract [V]",
    "ours": 0.5,
    "low": -0.1,
    "high": 1.1,
    "low90": 0.0,
    "high90": 1.0,
    "confidence": 0.95,
    "margin": 0.3,
    "population": "replicates of the study",
    "unit": "replicates",
    "units": 20.0,
    "p": 0.1,
    "p_holm": 0.2,
    "share": 0.5,
    "family": "paper",
    "datasets": 3,
    "cells": 6,
    "verdict": "inconclusive",
    "because": "",
    "detail": "",
    "again": "",
}


def prose(path: Path) -> str:
    """A page without its fenced code blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)


def anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in heads}


def test_the_first_page_is_one_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", [p.relative_to(ROOT).as_posix() for p in readme.pages(ROOT)])
def test_blocks_are_what_the_tool_writes(page):
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    up = "" if path.parent == ROOT else "../"
    assert text == readme.fill(text, ROOT, up, page), REMEDY


def test_every_block_stands_in_a_page():
    text = "".join(p.read_text() for p in readme.pages(ROOT))
    assert {name for name in readme.BLOCKS if f"<!-- begin {name} -->" not in text} == set()


def test_the_picture_shows_the_published_photographs():
    with Image.open(ROOT / readme.PICTURE) as picture:
        assert picture.text["Source"] == first_page.chosen(ROOT)[1], REMEDY


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    path = PAGES[page]
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        there = path if not name else (path.parent / name).resolve()
        assert there.exists() and there.is_relative_to(ROOT), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page}: {target} has no such heading"


def test_verdicts_of_both_pages_are_explained():
    text = (ROOT / "docs/results.md").read_text()
    for verdict, plain in answer.PLAIN.items():
        assert f"| {verdict} | {plain} |" in text


def test_three_clicks_lead_from_a_claim_to_its_cell():
    rows = result_blocks.claims(ROOT)
    first, second = (ROOT / "README.md").read_text(), (ROOT / "docs/results.md").read_text()
    for row in rows:
        assert f"[{row['claim']}](docs/results.md#{row['claim'].lower()})" in first
        section = second.split(f"\n### {row['claim']}\n")[1].split("\n## ")[0].split("\n### ")[0]
        if row["verdict"] == result_blocks.NOT_RUN:
            assert "Not computed yet" in section and "cell [" not in section
            continue
        link = re.search(r"\[cell \[\d+\] of 07_claims\]\(\.\./(\S+\.ipynb)\)", section)
        assert link and (ROOT / link[1]).is_file(), row["claim"]


def exit_code(words: list[str]) -> int:
    """What a command line ends with."""
    try:
        return command_line.main(words)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_pages_name_exist(page, capsys):
    text = PAGES[page].read_text(encoding="utf-8")
    for word in set(re.findall(r"python -m varireal_utils ([a-z][\w-]*)", text)):
        assert exit_code([word, "--help"]) == 0, f"{page}: varireal_utils {word}"
    for module in set(re.findall(r"python -m ((?:varireal_utils|bench|microworld)\.[\w.]+)", text)):
        assert importlib.util.find_spec(module.rstrip(".")), f"{page}: {module}"
    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.M)
    for target in set(re.findall(r"(?:^|`|\"|/ )make ([a-z][\w-]*)", text, re.M)):
        assert target in targets, f"{page}: make {target}"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_pages_name_exist(page):
    text = PAGES[page].read_text(encoding="utf-8")
    written = re.findall(r"^File `([^`]+)`:", text, re.M)  # the page's own examples
    for name in re.findall(r"varireal_utils new (\w+)", text):  # what that command writes
        written += [f"params/{name}.yaml", f"params/prompts/{name}.yaml"]
    for name in re.findall(r"(?<![\w/])(?:params|profiles|notebooks|tests)/[\w./*-]+\w", text):
        if "<" not in name and not name.endswith(("sha256", "failed.ipynb", *written)):
            assert list(ROOT.glob(name)), f"{page}: {name}"


def test_every_command_is_documented():
    text = (ROOT / "docs/command_line.md").read_text()
    section = text.split("## python -m varireal_utils\n")[1].split("\n## ")[0].split("\n###")[0]
    listed = re.findall(r"^\| `([a-z][\w-]*)", section, re.M)
    commands = command_line.app.registered_commands
    assert sorted(listed) == sorted(c.name or c.callback.__name__ for c in commands) and listed
    assert {word: exit_code([word, "--help"]) for word in listed} == dict.fromkeys(listed, 0)
    for target in re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split():
        assert f"make {target}" in text, target


def cited(text: str) -> list[str]:
    """Ids of docs/protocol.md in a text: "PROTOCOL.md, C4.2 and C4.3", "[protocol, C1](...)"."""
    out = []
    flat = re.sub(r"\s*\n[\s#\"]*", " ", text)
    for place in re.finditer(r"protocol(?:\.md)?`?, ([^)\]:;]{1,30})", flat, re.I):
        out += re.findall(r"\b[A-E](?:\d{1,2}(?:\.\d{1,2})?)?\b", place[1])
    return out


def test_ids_that_code_cites_stand_in_the_protocol():
    text = (ROOT / "docs/protocol.md").read_text()
    known = set(re.findall(r"^#+ ([A-E]\d?)\.? ", text, re.M))
    known |= set(re.findall(r"^\| ([A-E]\d{1,2}(?:\.\d{1,2})?) \|", text, re.M))
    assert {"A1", "A8", "B1", "C2", "C4.2", "C4.24", "D1"} <= known
    found = {}
    for folder in ("varireal_utils", "microworld", "notebooks", "params", "bench", "tests"):
        for path in (ROOT / folder).rglob("*.*"):
            if path.suffix in (".py", ".yaml", ".ipynb") and path != Path(__file__):
                found |= dict.fromkeys(cited(path.read_text(encoding="utf-8")), path)
    assert len(found) > 5
    assert {i: p for i, p in found.items() if i not in known} == {}


def test_markers_without_partner_or_block_are_refused(tmp_path):
    with pytest.raises(ValueError, match="page.md: a marker .* stands alone"):
        readme.fill("<!-- begin models --> <!-- end gpu -->", tmp_path, "", "page.md")
    with pytest.raises(ValueError, match="page.md: a marker .* stands alone"):
        readme.fill("text <!-- end models -->", tmp_path, "", "page.md")
    with pytest.raises(ValueError, match="page.md: no block 'nothing'; known are answer"):
        readme.fill("<!-- begin nothing --><!-- end nothing -->", tmp_path, "", "page.md")


def test_blocks_fill_lines_and_parts_of_lines(tmp_path, monkeypatch):
    monkeypatch.setitem(readme.BLOCKS, "models", lambda root, up: f"{up}new\n")
    text = "a <!-- begin models -->old<!-- end models --> b"
    new = "a <!-- begin models -->../new<!-- end models --> b"
    assert readme.fill(text, tmp_path, "../") == new == readme.fill(new, tmp_path, "../")
    text = "<!-- begin models -->\nold\n\nolder\n<!-- end models -->"
    new = "<!-- begin models -->\nnew\n<!-- end models -->"
    assert readme.fill(text, tmp_path, "") == new


def test_a_section_says_what_came_out_and_how_sure_it_is():
    facts = dict(claim_blocks._facts(ROW))
    assert facts["this study"] == "+0.50 pp, 95 % interval -0.10 to +1.10"
    assert facts["the paper"] == "below 0.3 (abstract [V])"
    assert facts["verdict"] == "**inconclusive**" and facts["from"].startswith("20 replicates")
    for p, words in {0.2: "0.200", 0.0004: "below 0.001", 0.001: "0.001"}.items():
        facts = dict(claim_blocks._facts(ROW | {"p_holm": p}))
        assert facts["p, after Holm in the family paper"] == words
    assert (
        "98.3 % interval"
        in dict(claim_blocks._facts(ROW | {"confidence": 1 - 0.05 / 3}))["this study"]
    )
    nothing = {"ours": float("nan"), "p_holm": float("nan"), "source": ""}
    empty = ROW | nothing | {"verdict": "not run"}
    facts = dict(claim_blocks._facts(empty))
    assert "this study" not in facts and facts["verdict"] == "**not run**"
    facts = dict(claim_blocks._facts(ROW | {"verdict": "not valid", "because": "x"}))
    assert facts["verdict"] == "**not valid**" and facts["why"] == "x"


def _shown(root: Path, *further: str) -> Path:
    """Folder of the published study of a root that holds nothing else. further: studies that are
    shown beside it."""
    storage.write_text(root / shown.FILE, "\n".join([SHOWN, *further, ""]))
    return shown.folder(root)


def test_a_further_study_answers_the_claims_that_the_first_did_not_run(tmp_path):
    idle = {"verdict": "not run", "ours": float("nan"), "low": float("nan"), "family": "datadream"}
    first = [ROW, ROW | {"claim": "D1"} | idle, ROW | {"claim": "D2"} | idle]
    storage.write_table(_shown(tmp_path) / "claims.csv", pd.DataFrame(first))
    assert "D1 and D2 have a study of their own" in first_page._datadream(tmp_path)
    _shown(tmp_path, "dreams")
    own = {"verdict": "reproduced", "ours": 4.0, "low": 3.0, "high": 5.0, "family": "datadream"}
    second = [ROW | {"ours": -9.0}, ROW | {"claim": "D1"} | own, ROW | {"claim": "D2"} | idle]
    folder = shown.folder(tmp_path, "dreams")
    storage.write_table(folder / "claims.csv", pd.DataFrame(second))
    rows = {r["claim"]: r for r in result_blocks.claims(tmp_path)}
    assert [(c, r["study"], r["ours"] > 0) for c, r in rows.items()] == [
        ("A1", SHOWN, True),  # what the first study ran, no other one answers
        ("D1", "dreams", True),
        ("D2", SHOWN, False),
    ]
    assert result_blocks.answered(tmp_path, "dreams") == ["D1"]
    table = first_page.claims(tmp_path, "")
    assert (
        "+4.00" in table
        and "-9.00" not in table
        and table.endswith("Not run yet: [D2](docs/results.md#d2).")
    )
    assert "one holds (D1)" in answer.answer(tmp_path, "")
    assert first_page._datadream(tmp_path) == ""
    poor = [r | {"verdict": "not valid"} if r["claim"][0] == "D" else r for r in second]
    storage.write_table(folder / "claims.csv", pd.DataFrame(poor))
    assert "rarely draws a recognisable class" in first_page._datadream(tmp_path)
    storage.write_table(folder / "claims.csv", pd.DataFrame(second))
    for study, count in ((SHOWN, 3), ("dreams", 5)):
        home = shown.folder(tmp_path, study)
        main = {
            "dataset": "a",
            "unit": "replicates",
            "seeds": count,
            "n": 9,
            "low": 1.0,
            "high": 2.0,
        }
        arms = pd.DataFrame(
            [main | {"arm": a, "mean": m} for a, m in (("zero-shot", 50), ("real", 55))]
        )
        recipes = {"zero-shot": "zero_shot", "real": "real"}
        storage.write_table(home / "main_table.csv", arms.assign(recipe=arms["arm"].map(recipes)))
        book = {
            "cells": [
                {
                    "cell_type": "code",
                    "execution_count": count,
                    "outputs": [
                        {"data": {"text/html": ["<td>A1</td><td>D1</td><td>D2</td> verdict"]}}
                    ],
                }
            ]
        }
        storage.write_json(home / result_blocks.NOTEBOOK, book)
        storage.write_json(home / "run.json", {"parameter_file": f"params/{study}.yaml"})
    sections = claim_blocks.claim_sections(tmp_path, "../").split("### ")
    assert "cell [5] of 07_claims](../results/dreams/notebooks" in sections[2]
    assert "(../results/dreams/claims.csv)" in sections[2]
    assert "cell [3] of 07_claims" in sections[1] and "Not computed yet" in sections[3]
    checks = result_blocks.validity(tmp_path, "")
    assert f"| a ({SHOWN}) |" in checks and "| a (dreams) |" in checks
    assert result_blocks.baselines(tmp_path, "").count("| a (") == 2
    assert result_blocks.replicates(tmp_path, "dreams") == 5
    drawn = result_blocks.drawn(tmp_path, "../")
    assert drawn.endswith(" D1 is from another one, [dreams](../results/dreams), of 5.")
    assert "--params" not in result_blocks.command(tmp_path, "dreams")
    assert "PARAMS=params/dreams.yaml" in result_blocks.command(tmp_path, "dreams")


def test_claims_in_words():
    words = {
        (): "",
        ("D1",): "D1",
        ("A2", "A5"): "A2 and A5",
        ("F1", "F2", "F3", "F4"): "F1 to F4",
        ("D3", "D5", "D6"): "D3, D5 and D6",
        ("E4", "F1", "F2"): "E4, F1 and F2",
        ("[E3](a)", "[F1](b)", "[F3](c)"): "[E3](a), [F1](b) and [F3](c)",
    }
    assert {names: result_blocks.in_words(names) for names in words} == words


def test_a_verdict_that_the_family_alone_prevents_is_explained(tmp_path):
    """Its interval looks decided, and the page says why it is not."""
    mean = {"share": float("nan")}
    near, far = mean | {"p": 0.04, "p_holm": 0.08}, mean | {"p": 0.2, "p_holm": 0.4}
    table = _shown(tmp_path) / "claims.csv"
    within = near | {"ours": 0.1}
    for numbers, said in (
        (near, "that correction [A1](docs/results.md#a1) would not hold."),
        (within, "that correction [A1](docs/results.md#a1) would hold."),
        (far, ""),
        (near | {"verdict": "withheld"}, ""),
    ):
        row = ROW | numbers
        storage.write_table(table, pd.DataFrame([row]))
        page = first_page.claims(tmp_path, "")
        assert said in page and ("*Families*" in page) == bool(said)
        assert ("p of this claim alone" in dict(claim_blocks._facts(row))) == bool(said)


def test_which_way_a_claim_leans_follows_its_own_rule():
    """Of a small effect and a large one: a mean, a widest pair, a least gain, a share."""
    nothing = ROW | {"share": float("nan")}
    kinds = {
        "mean": (nothing, True, False),
        "widest": (nothing | {"detail": "x minus y, the widest of 3 pairs"}, False, True),
        "least": (nothing | {"estimand": "the least gain of a data set"}, True, True),
        "share": (ROW | {"share": 0.2}, False, False),
    }
    for name, (row, small, large) in kinds.items():
        assert result_blocks.leans(row | {"ours": 0.1}) == small, name
        assert result_blocks.leans(row | {"ours": 0.9}) == large, name
    assert not result_blocks.leans(kinds["least"][0] | {"ours": -0.9})


def test_an_interval_that_is_not_a_claims_own_says_whose_it_is(tmp_path):
    """Of the least gain, or of all pairs at once; a 90 % one would be of another kind."""
    least = ROW | {"estimand": "the least gain of a data set"}
    widest = ROW | {"detail": "x minus y, the widest of 3 pairs"}
    for row, words in ((least, "picked as the least"), (widest, "Scheffé"), (ROW, "")):
        facts = dict(claim_blocks._facts(row))
        assert words in facts.get("that interval is", "") and ("90 % interval" in facts) == (
            not words
        )
        assert ("margin" in facts) == (row is not least)
        storage.write_table(_shown(tmp_path) / "claims.csv", pd.DataFrame([row]))
        page = first_page.claims(tmp_path, "")
        assert ("*The least of several*" in page) == (row is least)
        assert ("*Do several differ?*" in page) == (row is widest)


def test_the_placebo_of_every_study_stands_beside_the_first(tmp_path):
    placebo = ROW | {"claim": "P0", "family": "placebo"}
    for study, ours in (("", 0.5), ("dreams", -0.25)):
        _shown(tmp_path, "dreams")
        table = pd.DataFrame([ROW, placebo | {"ours": ours}])
        storage.write_table(shown.folder(tmp_path, study) / "claims.csv", table)
    page = first_page.claims(tmp_path, "").replace("&nbsp;", " ")
    assert "+0.50 [-0.10, +1.10]<br>No claim (dreams): -0.25 [" in page
    row = next(r for r in result_blocks.claims(tmp_path) if r["claim"] == "P0")
    said = dict(claim_blocks._beside(tmp_path, row))
    assert said["in the study dreams, for that study alone"].startswith("-0.25 [")


def test_mixed_edits_are_compared_with_each_arm_too(tmp_path):
    home = _shown(tmp_path)
    row = ROW | {"claim": claim_blocks.MIXING, "study": ""}
    cell = {"dataset": "a", "attribute": "color", "low": 1.0, "high": 2.0, "seeds": 20}
    means = {"feasible": 90.0, "infeasible": 88.0, "mixed": 89.5}
    rows = [cell | {"arm": a, "mean": m, "training": "edited only"} for a, m in means.items()]
    rows += [cell | {"arm": a, "mean": 50.0, "training": "real + edited"} for a in ("feasible",)]
    for table in (rows, rows[:2]):
        main = pd.DataFrame(table).assign(unit="replicates", recipe="edit")
        storage.write_table(home / "main_table.csv", main)
        found = claim_blocks.mixing(tmp_path)
        assert found == ({"feasible": -0.5, "infeasible": 1.5} if table is rows else {})
        assert bool(claim_blocks._beside(tmp_path, row)) == bool(found)
        assert len(first_page._mixing(tmp_path, [row], "")) == bool(found)


def test_two_studies_of_one_quantity_make_an_estimate_without_a_verdict(tmp_path):
    assert claim_blocks.both_studies(ROOT, "").count("replicates |") == 3  # E4 and F4 differ
    rows = [ROW | {"claim": c, "low90": 0.1, "high90": 0.9, "units": 20} for c in ("E1", "F1")]
    rows[1] |= {"again": "E1", "ours": 0.7}
    table = _shown(tmp_path) / "claims.csv"
    storage.write_table(table, pd.DataFrame(rows))
    said = claim_blocks.both_studies(tmp_path, "")
    assert "| +0.60 | " in said and "| 40 replicates |" in said and "inconclusive" not in said
    storage.write_table(table, pd.DataFrame([rows[0], rows[1] | {"verdict": "withheld"}]))
    assert claim_blocks.both_studies(tmp_path, "").startswith("No claim was asked twice")


def test_what_adapters_change_is_shown_of_replicates(tmp_path):
    folder = _shown(tmp_path)
    assert design_blocks.adapters(tmp_path, "").startswith("Stands here once")
    about = {"dataset": "a", "variant": "dset"}
    rows = []
    for replicate in range(4):
        for model, named, distance in (
            ("unadapted", 0.5, 300.0),
            ("adapted", 0.6 + 0.01 * replicate, 200.0 - replicate),
            ("photographs", 0.7, float("nan")),
        ):
            values = {"class_named": named, "kernel_distance_x1000": distance}
            rows.append({**about, "replicate": replicate, "model": model, **values})
    storage.write_table(folder / "learned.csv", pd.DataFrame(rows))
    line = design_blocks.adapters(tmp_path, "").splitlines()[2]
    assert line.startswith("| a | 70 % | 50 % | 62 % | +12 [+9, +14] | 300 | 198 | -102 [")
    storage.write_table(folder / "learned.csv", pd.DataFrame(rows[:6]))
    assert "| 50 % | 60 % | +10 | 300 | 200 | -100 |" in design_blocks.adapters(tmp_path, "")


def test_a_claim_that_was_asked_again_says_so(tmp_path):
    idle = {"verdict": "not run", "ours": float("nan"), "low": float("nan"), "again": "E1"}
    first = [ROW, ROW | {"claim": "E1", "family": "decomposition"}, ROW | {"claim": "F1"} | idle]
    storage.write_table(_shown(tmp_path, "parts") / "claims.csv", pd.DataFrame(first))
    second = [r | {"verdict": "not run", "ours": float("nan")} for r in first]
    second[2] |= {"verdict": "different", "ours": 0.5, "low": 0.4, "high": 0.6, "family": "parts"}
    path = shown.folder(tmp_path, "parts") / "claims.csv"
    storage.write_table(path, pd.DataFrame(second))
    table = first_page.claims(tmp_path, "")
    assert "**undecided,&nbsp;asked&nbsp;again:&nbsp;F1**" in table
    rows = {r["claim"]: r for r in result_blocks.claims(tmp_path)}
    assert dict(claim_blocks._facts(rows["E1"]))["asked again"] == "[F1](#f1)"
    assert dict(claim_blocks._facts(rows["F1"]))["asks again"] == "[E1](#e1)"
    assert rows["F1"]["study"] == "parts" and not rows["A1"]["later"]
    assert "[together](docs/results.md#both-studies-together)" in table
    storage.write_table(path, pd.DataFrame([ROW]))
    assert "sked again" not in first_page.claims(tmp_path, "")


def test_a_withheld_verdict_names_the_placebo_of_its_own_study(tmp_path):
    """Not that of the first study, which held."""
    guard = {"claim": "P0", "family": "placebo", "margin": 0.5, "ours": 0.0, "low": -0.2}
    holds = ROW | guard | {"high": 0.2, "low90": -0.1, "high90": 0.1, "verdict": "reproduced"}
    idle = {"verdict": "not run", "ours": float("nan"), "low": float("nan"), "family": "datadream"}
    first = [ROW, ROW | {"claim": "D1"} | idle, holds]
    storage.write_table(_shown(tmp_path, "dreams") / "claims.csv", pd.DataFrame(first))
    unsure = holds | {"verdict": "inconclusive", "ours": -0.23, "low": -0.74, "high": 0.28}
    unsure |= {"low90": -0.64, "high90": 0.18}
    held = ROW | {"claim": "D1", "verdict": "withheld", "because": "the placebo fails"}
    path = shown.folder(tmp_path, "dreams") / "claims.csv"
    storage.write_table(path, pd.DataFrame([held, unsure]))
    table = first_page.claims(tmp_path, "")
    said = f"in the study of D1 (-0.23 [-0.74, +0.28] pp, {result_blocks.units(ROW)}, margin ±0.5)"
    assert f"the placebo is not shown to be null {said}, so no" in table
    assert "**holds&nbsp;here**" in table  # the first study's, in its own row
    assert list(result_blocks.placebos(tmp_path)) == [SHOWN, "dreams"]
    conditions = [result_blocks._conditions(tmp_path, study) for study in (SHOWN, "dreams")]
    (first_row,), (second_row,) = conditions
    assert first_row.endswith("| holds |") and second_row.endswith("| **fails** |")
    assert "| -0.23 pp, 90 % -0.64 to +0.18 pp" in second_row and "±0.5 pp" in second_row
    storage.write_table(path, pd.DataFrame([held | {"verdict": "different"}, unsure]))
    assert "Withheld" not in first_page.claims(tmp_path, "")
    own = [holds | {"verdict": "inconclusive"}, ROW | {"verdict": "withheld"}]
    storage.write_table(shown.folder(tmp_path) / "claims.csv", pd.DataFrame(own))
    assert "shown to be null (+0.00 [-0.20, +0.20] pp" in first_page.claims(tmp_path, "")


def test_what_is_not_valid_reads_not_valid(tmp_path):
    s4 = ROW | {"claim": "S4", "verdict": "not valid", "because": "poor images"}
    path = _shown(tmp_path) / "claims.csv"
    storage.write_table(path, pd.DataFrame([ROW, s4]))
    table = first_page.claims(tmp_path, "")
    assert table.count("**undecided**") == 1 and table.count("**not&nbsp;valid**") == 1
    one = ROW | {
        "verdict": "no verdict",
        "because": "one draw: its seeds",
        "unit": "seeds of one draw",
    }
    idle = ROW | {"claim": "E1", "verdict": "not run", "ours": float("nan")}
    drawn = tmp_path / "drawn"
    storage.write_table(_shown(drawn) / "claims.csv", pd.DataFrame([one, idle]))
    said = first_page.claims(drawn, "")
    assert "**no&nbsp;verdict:&nbsp;one&nbsp;draw**" in said and "Not run yet: [E1]" in said
    assert "say nothing of another draw" in said and "*Undecided*" not in said
    assert "Do several differ?" not in said
    wide = ROW | {"claim": "A2", "detail": "background minus texture, the widest of 3 pairs"}
    storage.write_table(_shown(tmp_path / "wide") / "claims.csv", pd.DataFrame([ROW, wide]))
    assert "[A2](docs/results.md#a2) ask whether" in first_page.claims(tmp_path / "wide", "")
    said = answer.answer(tmp_path, "")
    assert "one stays undecided (A1)" in said and "one is not valid (S4)" in said


@pytest.mark.parametrize(
    "change, said",
    [
        ({}, "too uncertain to tell whether it stays within the paper's 0.3 pp."),
        ({"low": 0.1}, "20 replicates): too uncertain"),  # no second verdict beside the registered
        ({"verdict": "reproduced"}, "mostly within the paper's 0.3 pp."),
        ({"verdict": "different", "low": 0.4}, "20 replicates): mostly beyond the paper's 0.3 pp."),
        (
            {"verdict": "no verdict", "because": "one draw: x", "unit": "seeds of one draw"},
            "20 seeds of one draw): no verdict on the paper's 0.3 pp, because this is one draw.",
        ),
        ({"verdict": "not valid"}, "not valid, because a condition of the study does not hold."),
        ({"ours": float("nan")}, "The effect of feasibility has not been measured."),
    ],
)
def test_the_answer_follows_the_verdict(change, said):
    assert said in answer.effect(ROW | change)


def test_wall_time_counts_jobs_side_by_side_once_and_no_pause():
    runs = pd.DataFrame(
        {
            "started": [f"2026-01-01T00:{m:02d}:00Z" for m in (0, 1, 3, 20)],
            "seconds": [120.0, 60.0, 60.0, 60.0],  # 0-2, 1-2, 3-4 after a minute, 20-21
        }
    )
    assert result_blocks.wall_minutes(runs) == pytest.approx(4.0)
    near = runs.assign(started=["2026-01-01T00:00:00Z"] * 2 + ["2026-01-01T00:02:30Z"] * 2)
    assert result_blocks.wall_minutes(near) == pytest.approx(3.5)


def test_a_study_of_replicates_costs_its_median_job(tmp_path):
    rows = [
        (0, "01_data", "a", 100.0),
        (0, "04_edit", "color a familiar", 200.0),
        (0, "01_data", "b", 300.0),
        (1, "01_data", "a", 300.0),
        (1, "01_data", "b", 10.0),
        (1, "06_classify", "b", 7190.0),  # disturbed
        (None, "07_claims", None, 60.0),
    ]
    runs = pd.DataFrame(rows, columns=["replicate", "stage", "what", "seconds"])
    assert result_blocks.core_hours(runs) == pytest.approx(4 * 300 / 3600)
    storage.write_table(_shown(tmp_path) / "runs.csv", runs)
    main = pd.DataFrame({"unit": ["replicates"], "seeds": [2], "arm": ["real"]})
    storage.write_table(_shown(tmp_path) / "main_table.csv", main)
    table = result_blocks.replicate_cost(tmp_path, "../")
    assert "| 01_data | 1 | 200 |" in table and "| all | 2 | **300** |" in table
    assert f"of {SHOWN}: 4 data sets of replicates, so 0.3 core-hours in all" in table
    further = runs.assign(stage=runs["stage"].replace("06_classify", "05_datadream"))
    assert set(further["stage"]) != set(runs["stage"])
    further["seconds"] *= 10
    storage.write_table(shown.folder(tmp_path, "dreams") / "runs.csv", further)
    storage.write_table(shown.folder(tmp_path, "dreams") / "main_table.csv", main)
    _shown(tmp_path, "dreams")
    table = result_blocks.replicate_cost(tmp_path, "../")
    assert "| 01_data | 1 | 200 | 1 | 2000 |" in table
    assert "| 05_datadream |  |  | 1 | 71900 |" in table and "| **3000** |" in table
    assert "results/dreams/runs.csv) of dreams: 4 data sets" in table
    storage.write_table(_shown(tmp_path) / "main_table.csv", main.assign(unit="seeds of one draw"))
    assert "once a study of replicates" in result_blocks.replicate_cost(tmp_path, "../")
    about = {"parameter_file": "params/drawn.yaml", "commit": "0123456789abcdef"}
    storage.write_json(_shown(tmp_path) / "run.json", about)
    assert result_blocks.command(tmp_path) == "make study PARAMS=params/drawn.yaml"
    name = _shown(tmp_path).name
    storage.write_json(tmp_path / f"registrations/{name}.json", {})
    registered = result_blocks.command(tmp_path)
    assert registered.endswith("study --params params/drawn.yaml --set study=again")


def test_one_unit_is_in_the_singular():
    assert result_blocks.units({"units": 1.0, "unit": "seeds of one draw"}) == "1 seed of one draw"
    assert result_blocks.units({"units": 1.0, "unit": "replicates"}) == "1 replicate"
    assert result_blocks.units({"units": 5.0, "unit": "seeds of one draw"}) == "5 seeds of one draw"


def test_tables_of_an_older_version_are_refused(tmp_path):
    folder = _shown(tmp_path)
    folder.mkdir(parents=True)
    (folder / "claims.csv").write_text("claim,verdict\nA1,supported\n")
    with pytest.raises(ValueError, match="claims.csv has no column .* older version"):
        result_blocks.load(tmp_path, "claims")


def test_conditions_that_fail_are_named_by_data_set(tmp_path):
    folder = _shown(tmp_path)
    assert result_blocks.warnings(result_blocks.gates(folder)) == []  # nothing was measured
    gains = {"a": 12.0, "b": 4.5}
    main = [
        {"dataset": d, "arm": arm, "mean": 50 + (gain if arm == "real" else 0)}
        for d, gain in gains.items()
        for arm in ("zero-shot", "real")
    ]
    storage.write_table(folder / "main_table.csv", pd.DataFrame(main))
    sets = pd.DataFrame({"dataset": "a", "set": ["real", "datadream dset"]})
    storage.write_table(folder / "quality_sets.csv", sets.assign(recognised=[0.6, 0.29]))
    first, second = result_blocks.warnings(result_blocks.gates(folder))
    assert first.startswith("b: fine-tuning on real photographs gains +4.5 points")
    assert second.startswith("a: zero-shot CLIP names the class of 29 % of DataDream's (dset)")
    table = result_blocks.validity(tmp_path, "")
    assert table.count("**fails**") == 2 and table.count("holds") == 1
    storage.write_table(folder / "quality_sets.csv", sets.assign(recognised=[0.6, 0.3]))
    assert len(result_blocks.warnings(result_blocks.gates(folder))) == 1  # half is enough
    pairs = [
        {"dataset": "a", "recipe": f"matched({attribute},{arm})", "distance": 0.2, "gap": gap}
        for attribute, gap in {"color": 0.05, "texture": 0.02}.items()
        for arm in ("familiar", "infeasible")
    ]
    storage.write_table(folder / "trainings.csv", pd.DataFrame(pairs))
    *_, last = result_blocks.validity(tmp_path, "").splitlines()
    assert "| 2 cells | 18 % | at most 20 % | holds |" in last  # the mean of 25 and 10
    storage.write_table(folder / "trainings.csv", pd.DataFrame(pairs).replace(0.02, 0.04))
    assert result_blocks.validity(tmp_path, "").endswith("| 22 % | at most 20 % | **fails** |")


def test_figures_that_are_not_there_are_not_listed(tmp_path):
    _shown(tmp_path, "dreams")
    there = ["decomposition", "learning_curves_b", "learning_curves_a", "unknown"]
    for name in [*there, "dreams/decomposition", "dreams/generated_grid", "other/acceptance"]:
        storage.write_text(tmp_path / f"figures/{name}.png", "")
    lines = figure_blocks.listed(tmp_path, "../").splitlines()[2:]
    assert [re.findall(r"\((\S+)\)", line) for line in lines] == [
        ["../figures/decomposition.png", "../figures/dreams/decomposition.png"],
        ["../figures/dreams/generated_grid.png"],
        ["../figures/learning_curves_b.png"],
    ]
    assert "| [dreams](../figures/dreams/decomposition.png) |" in lines[0]


def test_costs_stand_there_once_they_were_measured(tmp_path):
    assert first_page._setup({}) == first_page._first_study(tmp_path, {}) == ""
    bench = {"rows": [{"what": "make study", "seconds": 540.0}]}
    storage.write_json(tmp_path / "results/bench.json", bench)
    assert first_page._first_study(tmp_path, {}) == "9 min"
    first = {"setup_seconds": 100.0, "download_gb": 3.24, "environment_gb": 7.0}
    assert first_page._setup(first) == "2 min, 3.2 GB to download, 7.0 GB of disk"
    first |= {"study_seconds": 300.0, "study_gb": 0.1}
    assert first_page._first_study(tmp_path, first) == "5 min, 0.1 GB of disk"
    where = {"machine": "m", "started": "2026-01-01T00:00:00Z"}
    storage.write_json(tmp_path / "results/first_run.json", first | where)
    table = benchmark_blocks.first_run(tmp_path, "")
    assert "| packages to download | 3.24 GB |" in table and "again" not in table


SPEED = {
    "rows": [
        *(
            {"what": "training step", "classes": 37, "way": w, "seconds": s, "ratio": 12 / s}
            for w, s in (
                ("plain", 12.0),
                ("float32", 6.0),
                ("float32 by prefix", 8.0),
                ("bfloat16", 2.0),
            )
        ),
        {"what": "make study", "classes": None, "way": "ours", "seconds": 500.0, "ratio": None},
    ],
    "repeats": 3,
    "model": "ViT-B-16",
    "batch": 16,
    "machine": "m",
    "started": "2026-01-01T00:00:00Z",
    "missed": ["too slow", "a bottleneck"],
}
GPU_ROW = {"classes": None, "way": "plain", "batch": 1, "images_per_second": 9.0}
GPU = {
    "card": "a card",
    "peak_tflops": 1000.0,
    "matrix_tflops": 750.0,
    "started": "2026-01-01T00:00:00Z",
    "rows": [
        GPU_ROW
        | {"what": "training step", "classes": 37, "way": "bfloat16", "batch": 64}
        | {"images_per_second": 1252.3, "share_of_peak": 0.086},
        GPU_ROW | {"what": "colour edits", "share_of_peak": None},
    ],
}


def test_speed_and_growth_stand_there_once_they_were_measured(tmp_path):
    for block in ("speed", "gpu", "growth", "operations"):
        assert readme.BLOCKS[block](tmp_path, "").startswith("Not measured yet: `")
    row = {"way": "captured", "operations": 1792, "casts": 9, "reads": 0}
    facts = {"model": "M", "classes": 37, "torch": "2", "rows": [row]}
    storage.write_json(tmp_path / "results/operations.json", facts)
    last = benchmark_blocks.operations(tmp_path, "").splitlines()[-1]
    assert last == "| captured | 1,792 | 9 | 0 |"
    storage.write_json(tmp_path / "results/bench.json", SPEED)
    text = benchmark_blocks.speed(tmp_path, "").splitlines()
    assert text[-3] == "| training step, 37 classes | 12 s | 6 s (**2.0x**) | 2 s (**6.0x**) |"
    assert text[-2] == "| training step, 37 classes, noise by prefix | 12 s | 8 s (**1.5x**) |  |"
    assert text[-1] == "| make study |  | 500 s |  |"
    assert "Missed: too slow; a bottleneck." in text[0]
    storage.write_json(tmp_path / "results/bench_gpu.json", GPU)
    text = benchmark_blocks.gpu(tmp_path, "").splitlines()
    assert "a card" in text[0] and "75 %" in text[0]
    assert text[-2:] == [
        "| training step, 37 classes | bfloat16 | 64 | 1,252 | 9 % |",
        "| colour edits | plain | 1 | 9 |  |",
    ]
    table = pd.DataFrame({"images": [1000, 2000], "stage": "01_data", "seconds": [1.2, 2.3]})
    storage.write_table(tmp_path / "results/growth.csv", table.assign(memory_mb=[700.4, 701.0]))
    last = benchmark_blocks.growth(tmp_path, "").splitlines()[-1]
    assert last == "| 01_data | 1 s, 700 MB | 2 s, 701 MB |"
