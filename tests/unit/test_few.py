"""No interval from fewer than four units: one rule, in tables and pages (figures:
test_figures.py)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from varireal_utils.analysis import few, printing, verdict
from varireal_utils.core import storage
from varireal_utils.reporting import claim_blocks, report
from varireal_utils.workflow.summary import summary

ROW = {"difference": 1.0, "low": -1.0, "high": 3.0, "low90": -0.5, "high90": 2.5}
BASE = {"dataset": "d", "attribute": "color", "training": "edited only", "unit": "replicates"}


def effects(units: int) -> pd.DataFrame:
    return pd.DataFrame([BASE | ROW | {"units": units}])


@pytest.mark.parametrize(("units", "shown"), [(1, False), (3, False), (4, True), (27, True)])
def test_a_row_of_few_units_loses_its_bounds_and_nothing_else(units, shown):
    got = few.without_few(effects(units)).iloc[0]
    assert all(pd.notna(got[c]) == shown for c in few.BOUNDS) and got["difference"] == 1.0
    plain = effects(units).drop(columns="units")
    assert few.without_few(plain).equals(plain)  # nobody knows how many
    assert few.without_few(plain, units)["low"].notna().all() == shown
    assert few.least_units(effects(units)) == units and few.least_units(effects(1).head(0)) == 0


def _claims(units: int) -> pd.DataFrame:
    row = {"claim": "A1", "says": "s", "estimand": "q", "reported": "r", "ours": 1.0, **ROW}
    row |= {"unit": "replicates", "units": units, "p": 0.1, "p_holm": 0.2}
    row |= {
        "verdict": "inconclusive",
        "because": "",
        "confidence": 0.95,
        "margin": 0.3,
        "datasets": 1,
        "cells": 1,
    }
    row |= {"source": "", "family": "paper", "detail": ""}
    return pd.DataFrame([row])


def _main(units: int) -> pd.DataFrame:
    arms = {"zero-shot": 1, "real": units, "feasible": units}
    rows = [
        BASE
        | {"arm": arm, "mean": 80.0, "low": 70.0, "high": 90.0, "seeds": n, "n": 10}
        | ({"attribute": ""} if arm != "feasible" else {})
        for arm, n in arms.items()
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("units", "shown"), [(3, False), (4, True)])
def test_markdown_and_latex_obey(units, shown):
    known = pd.DataFrame([{"dataset": "d", "low": 1.0, "high": 2.0}])
    found = {"known": known, "main_table": _main(units), "effects": effects(units)}
    texts = printing.files(found | {"claims": _claims(units)})
    for name in ("main_table.md", "main_table.tex"):
        assert ("70.0" in texts[name]) == shown and "80.0" in texts[name], name
    for name in ("effects.md", "effects.tex", "claims.md", "claims.tex"):
        assert ("-1.00" in texts[name]) == shown and "1.00" in texts[name], name


@pytest.mark.parametrize(("units", "shown"), [(3, False), (4, True)])
def test_a_claims_detail_obeys(units, shown):
    said = "90 % interval [-0.1, 0.3]; no answers of real"
    got = few.without_few(_claims(units).assign(detail=said))["detail"].iloc[0]
    assert got == (said if shown else "no answers of real")
    assert few.without_few(_claims(3).assign(detail="90 % interval [0, 1]"))["detail"].iloc[0] == ""


@pytest.mark.parametrize(("units", "shown"), [(3, False), (4, True)])
def test_pages_and_report_obey(tmp_path, units, shown):
    storage.write_table(tmp_path / "effects.csv", effects(units))
    storage.write_table(tmp_path / "main_table.csv", _main(units))
    checks = pd.DataFrame([{"attribute": "a", "estimate": 1.0, "low": -1.0, "high": 3.0}])
    storage.write_table(tmp_path / "cross_checks.csv", checks)  # has no count of its own
    for table in report._tables(tmp_path, {}):
        low = [c[0] for c in table["columns"]].index("low")
        assert all((row["cells"][low] != "") == shown for row in table["rows"]), table["name"]
    row = few.without_few(_claims(units)).iloc[0].to_dict()
    assert ("interval" in report._claim(row)["interval"]) == shown
    assert ("[" in verdict.interval_text(row)) == shown
    facts = dict(claim_blocks._facts(row))
    assert ("90 % interval" in facts) == ("interval" in facts["this study"]) == shown


def test_the_screen_of_a_study_obeys(tmp_path):
    storage.write_table(tmp_path / "results/main_table.csv", _main(5))
    both = pd.concat([_claims(5), _claims(1).assign(claim="D1")])
    storage.write_table(tmp_path / "results/claims.csv", both)
    lines = {words[0]: words for line in summary(tmp_path).splitlines() if (words := line.split())}
    assert "-1.00" in lines["A1"] and "-1.00" not in lines["D1"] and "1.00" in lines["D1"]


def test_a_main_table_of_many_arms_has_a_column_a_data_set():
    arms = [f"arm {i:02d}" for i in range(printing.MOST_ARMS)]
    rows = [
        BASE | {"dataset": d, "arm": arm, "mean": m, "low": m - 1, "high": m + 1, "n": 10}
        for d, m in (("cars", 80.0), ("pets", 60.0))
        for arm in ["zero-shot", *arms]
    ]
    table = pd.DataFrame(rows).assign(seeds=27)
    out = printing.wide(table)
    assert list(out) == [*("attribute", "training", "arm", "cars", "pets", "replicates", "n")]
    assert list(out["arm"]) == ["zero-shot", *arms]
    assert set(out["cars"]) == {"80.0 [79.0, 81.0]"} and set(out["pets"]) == {"60.0 [59.0, 61.0]"}
    few_arms = printing.wide(table[table["arm"] != arms[0]])
    assert "zero-shot" in few_arms and "arm" not in few_arms


def test_markdown_keeps_the_decimals_of_each_number():
    text = printing.to_markdown(pd.DataFrame({"x": [0.5, np.nan], "name": ["84.0", "b"]}))
    assert "| 0.50 |" in text.replace("  ", " ") and "84.0" in text
