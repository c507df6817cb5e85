"""Badges come from one setting, and go with it."""

import json
import shutil
from pathlib import Path

import pytest

from varireal_utils.reporting import badges

ROOT = Path(__file__).resolve().parents[2]


def books(root: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in (root / "notebooks").glob("*.ipynb")}


def test_badges_are_written_once_and_taken_out_again(tmp_path):
    shutil.copytree(
        ROOT / "notebooks",
        tmp_path / "notebooks",
        ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
    )
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.varireal]\nrepository = ""\n')
    badges.write(tmp_path)
    plain = books(tmp_path)
    project.write_text('[tool.varireal]\nrepository = "owner/study"\n')
    assert len(badges.write(tmp_path)) == len(plain) and badges.write(tmp_path) == []
    for name, text in books(tmp_path).items():
        first = "".join(json.loads(text)["cells"][0]["source"])
        assert first.count("Open in Colab") == 1
        assert f"/github/owner/study/blob/main/notebooks/{name})" in first
    project.write_text('[tool.varireal]\nrepository = "other/place"\n')
    badges.write(tmp_path)
    assert all("owner/study" not in text for text in books(tmp_path).values())
    project.write_text('[tool.varireal]\nrepository = ""\n')
    badges.write(tmp_path)
    assert books(tmp_path) == plain


def test_an_address_is_no_name(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.varireal]\nrepository = "https://x/y"\n')
    with pytest.raises(ValueError, match="wanted owner/name"):
        badges.repository(tmp_path)


def test_the_committed_notebooks_agree_with_the_setting(tmp_path):
    before = books(ROOT)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert badges.write(tmp_path) == [] and books(tmp_path) == before
