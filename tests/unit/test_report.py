"""The report page: whole, readable by machines, and nothing from data ever runs in it."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import nbformat
import numpy as np
import pandas as pd
import pytest

from varireal_utils.analysis.verdict import VERDICTS
from varireal_utils.core import storage
from varireal_utils.core.study_paths import StudyPaths
from varireal_utils.reporting import notebook_pages, report

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """Collects ids, images, links and headings."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.images, self.links, self.tags, self.levels = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img":
            self.images.append(found)
        if tag == "a":
            self.links.append(found["href"])
        if re.fullmatch(r"h\d", tag):
            self.levels.append(int(tag[1]))


@pytest.fixture
def study(tmp_path):
    """Results, one figure and one executed notebook, with a hostile phrase wherever data goes."""
    row = {
        "claim": "A1",
        "says": HOSTILE,
        "estimand": "q",
        "reported": HOSTILE,
        "source": "",
        "ours": 0.5,
        "low": -0.1,
        "high": 1.1,
        "low90": 0.0,
        "high90": 1.0,
        "margin": 0.3,
        "unit": "replicates",
        "units": 5,
        "datasets": 1,
        "cells": 2,
        "verdict": "inconclusive",
        "because": "",
        "detail": HOSTILE,
    }
    folder = tmp_path / "study"
    storage.write_table(
        folder / "results/claims.csv",
        pd.DataFrame(
            [
                row | {"confidence": 0.983, "because": HOSTILE},
                row | {"claim": "S1", "ours": np.nan, "verdict": "not run"},
            ]
        ),
    )
    storage.write_table(
        folder / "results/main_table.csv",
        pd.DataFrame(
            [
                {"dataset": HOSTILE, "attribute": "color", "arm": a, "mean": m, "seeds": 2}
                for a, m in (("feasible", 61.25), ("real", 60.0), ("zero-shot", 58.5))
            ]
        ),
    )
    storage.write_table(
        folder / "results/quality_sets.csv",
        pd.DataFrame(
            [
                {"dataset": HOSTILE, "set": s, "recognised": r}
                for s, r in (("real", 0.8), ("datadream dset", 0.1))
            ]
        ),
    )
    storage.write_table(
        folder / "results/runs.csv",
        pd.DataFrame([{"stage": "01_data", "what": "cars", "seconds": 3.5, "peak_memory_mb": 700}]),
    )
    storage.write_json(
        folder / "results/run.json",
        {
            "parameters": {
                "study": "s",
                "protocol": "controlled",
                "seed": 1,
                "datasets": {HOSTILE: {"source": "world"}},
                "classify": {"seeds": [0, 1]},
            },
            "parameter_file": "params/x.yaml",
            "parameter_digest": "0" * 64,
            "commit": "",
            "dirty": None,
            "started": "2026-01-02T00:00:00Z",
            "machine": "m",
            "device": "cpu",
        },
    )
    storage.write_json(folder / "figures/run.json", {})
    picture = np.zeros((4, 4, 3), np.uint8)
    storage.write_image(folder / "figures/effect_forest.png", picture)
    storage.write_json(folder / "figures/effect_forest.json", {"caption": HOSTILE, "runs": ["a"]})
    storage.write_table(folder / "figures/effect_forest.csv", pd.DataFrame({"x": [1]}))
    for name in ("a", "b"):
        storage.write_image(folder / f"results/pictures/{name}.png", picture)
    cells = {"source": "a.png", f"{HOSTILE} feasible": ["b.png", f"{HOSTILE} (rejected)"]}
    storage.write_json(
        folder / "results/pictures/index.json",
        {"grid": [{"name": HOSTILE, "cells": cells}], "strips": []},
    )
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# Title"),
            nbformat.v4.new_code_cell(
                "2",
                outputs=[
                    nbformat.v4.new_output(
                        "display_data",
                        {"text/markdown": HOSTILE, "application/javascript": "alert(3)"},
                    )
                ],
            ),
            nbformat.v4.new_code_cell(
                "1",
                outputs=[
                    nbformat.v4.new_output("display_data", {"text/html": f"<b>kept</b>{HOSTILE}"})
                ],
            ),
        ]
    )
    (folder / "notebooks").mkdir()
    nbformat.write(book, folder / "notebooks/01_data-cars.ipynb")
    return folder


def test_the_page_is_whole_and_nothing_from_data_is_markup(study):
    text = report.build(study).read_text()
    page = Page(text)
    script = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert page.tags.count("script") == 1 and f"script-src 'sha256-{digest}'" in text
    assert "onerror" not in [k for i in page.images for k in i]
    assert len(page.images) == 3 and all(i["alt"].strip() for i in page.images)
    assert all(i["src"].startswith("data:image/png;base64,") for i in page.images)
    assert len(set(page.ids)) == len(page.ids)
    inside = [x for x in page.links if not x.startswith(("data:", "#"))]
    assert inside == ["notebooks/01_data-cars.html"]
    assert all(x[1:] in page.ids for x in page.links if x.startswith("#"))
    assert not re.search(r"(src|href)=\"https?:", text)
    assert page.levels[0] == 1 and all(b - a <= 1 for a, b in zip(page.levels, page.levels[1:]))
    assert "+0.50 points, 98.3 % interval -0.10 to +1.10" in text and "(5 replicates, " in text
    assert "61.25" in text and "3.50" in text and text.count("not run") >= 1
    assert "(5 replicates, 1 data set, 2 cells)" in text
    assert "by +0.50 percentage points (pp; 95 % interval -0.10 to +1.10, 5 replicates)" in text
    assert "were asked for before the runs" in text and "of DataDream&#39;s" in text  # warnings


def test_executed_notebooks_lie_beside_it_and_run_nothing(study):
    report.build(study)
    path = study / "report/notebooks/01_data-cars.html"
    text = path.read_text()
    page = Page(text)
    assert "<b>kept</b>" in text and "script" not in page.tags
    assert not any("onerror" in image for image in page.images)
    assert "Content-Security-Policy" in text.split("</head>")[0]
    before = path.stat().st_mtime_ns
    report.build(study)
    assert path.stat().st_mtime_ns == before


def test_a_study_without_results_is_told_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="claims.csv.*make study"):
        report.build(tmp_path)


def test_notebooks_stand_in_the_order_of_the_stages(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in (
        "08_figures",
        "04_edit-b",
        "04_edit-a",
        "01_data",
        "07_quality",
        "explore",
        "06_classify.failed",
    ):
        (tmp_path / f"notebooks/{name}.ipynb").write_text(json.dumps({}))
    assert [p.stem for p in notebook_pages.executed(StudyPaths(tmp_path))] == [
        "01_data",
        "04_edit-a",
        "04_edit-b",
        "07_quality",
        "08_figures",
        "explore",
    ]


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(
    "address, shown",
    [
        ("", ["A1", "S1"]),
        ("#claims.verdict=not+run", ["S1"]),
        ("#claims.sort=-claim", ["S1", "A1"]),
        ("#claims.q=onerror&claims.verdict=inconclusive", ["A1"]),
        ("#claims.verdict=%E0&claims.sort=__proto__&=", ["A1", "S1"]),
    ],
)
def test_the_address_filters_and_sorts_without_a_kernel(study, address, shown):
    page = report.build(study)
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=2000", page.as_uri() + address],
        capture_output=True,
        text=True,
        timeout=120,
    )
    listed = done.stdout.split('data-list="claims"')[1].split("</ul>")[0]
    items = re.findall(r"<li ([^>]*)>\s*<h3>(\w+):", listed)
    assert [name for about, name in items if "hidden" not in about] == shown
    assert f"{len(shown)} of 2 shown" in done.stdout


def test_the_look_of_a_verdict_is_never_that_of_a_warning():
    source = report._packaged("report_page.html")
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", source.split("<style>")[1].split("</style>")[0])
    for selector, _ in (r for r in rules if "warning" in r[0]):
        assert "verdict" not in selector and all(
            part.strip() in (".warning", ".warning::before") for part in selector.split(",")
        )
    kinds = set(re.findall(r'\[data-verdict="([^"]+)"\]', source))
    assert kinds == set(VERDICTS) - {"inconclusive"}


def test_a_figure_links_to_the_cell_that_drew_it(study):
    cell = nbformat.v4.new_code_cell(
        'pictures.add("other")',
        outputs=[
            nbformat.v4.new_output(
                "display_data",
                {"text/plain": "p"},
                metadata={"image/png": {"figure": "effect_forest"}},
            )
        ],
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("effects"), cell])
    nbformat.write(book, study / "notebooks/08_figures.ipynb")
    page = Page(report.build(study).read_text())
    link = f"notebooks/08_figures.html#cell-id={cell['id']}"
    assert link in page.links and "#parameters" in page.links
    assert f'id="cell-id={cell["id"]}"' in (study / "report/notebooks/08_figures.html").read_text()
