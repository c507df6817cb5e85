"""The README's numbers are those of results/, or it holds none."""

import re
from pathlib import Path

import pytest

from varireal_utils import readme

ROOT = Path(__file__).resolve().parents[2]


def test_readme_shows_what_results_hold():
    if not (ROOT / "results" / readme.SHOWN / "claims.csv").exists():
        pytest.skip("no results are committed yet")
    text = (ROOT / "README.md").read_text()
    shown = text.split(readme.BEGIN)[1].split(readme.END)[0].strip()
    assert shown == readme.block(ROOT).strip(), "run: python -m varireal_utils.readme"


@pytest.mark.parametrize("page", ["README.md", "REPRODUCIBILITY.md"])
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert target.startswith("http") or (ROOT / target).exists(), target
