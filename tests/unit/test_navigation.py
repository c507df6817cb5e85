"""The first cell of every notebook comes from one list and one setting."""

import json
import re
import shutil
from pathlib import Path

import pytest

from varireal_utils.reporting import navigation

ROOT = Path(__file__).resolve().parents[2]


def books(root: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in (root / "notebooks").glob("*.ipynb")}


def copy(tmp_path: Path) -> Path:
    shutil.copytree(
        ROOT / "notebooks",
        tmp_path / "notebooks",
        ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
    )
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.varireal]\nrepository = ""\n')
    return project


def test_badges_are_written_once_and_taken_out_again(tmp_path):
    project = copy(tmp_path)
    navigation.write(tmp_path)
    plain = books(tmp_path)
    project.write_text('[tool.varireal]\nrepository = "owner/study"\n')
    assert len(navigation.write(tmp_path)) == len(plain) and navigation.write(tmp_path) == []
    for name, text in books(tmp_path).items():
        first = "".join(json.loads(text)["cells"][0]["source"])
        assert first.count("Open in Colab") == 1
        assert f"/github/owner/study/blob/main/notebooks/{name})" in first
    project.write_text('[tool.varireal]\nrepository = "other/place"\n')
    navigation.write(tmp_path)
    assert all("owner/study" not in text for text in books(tmp_path).values())
    project.write_text('[tool.varireal]\nrepository = ""\n')
    navigation.write(tmp_path)
    assert books(tmp_path) == plain


def test_an_address_is_no_name(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.varireal]\nrepository = "https://x/y"\n')
    with pytest.raises(ValueError, match="wanted owner/name"):
        navigation.repository(tmp_path)


def test_the_committed_notebooks_agree_with_the_list_and_the_setting(tmp_path):
    before = books(ROOT)
    copy(tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert navigation.write(tmp_path) == [] and books(tmp_path) == before


def test_a_notebook_in_no_list_is_named(tmp_path):
    copy(tmp_path)
    shutil.copy(tmp_path / "notebooks/01_data.ipynb", tmp_path / "notebooks/01_more.ipynb")
    with pytest.raises(ValueError, match="01_more.ipynb: add it to ORDER"):
        navigation.write(tmp_path)


def test_each_notebook_leads_to_the_next_and_back():
    listed = {*navigation.ORDER, *navigation.ASIDE}
    assert listed == {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}
    for one, two in zip(navigation.ORDER, navigation.ORDER[1:]):
        assert f"({two}.ipynb)" in navigation.links(one).split("|")[-1]
        assert f"({one}.ipynb)" in navigation.links(two).split("|")[0]


@pytest.mark.parametrize("name", navigation.ORDER[:-1])
def test_the_last_cell_names_the_next_notebook(name: str):
    book = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())
    last = "".join(book["cells"][-1]["source"])
    following = navigation.neighbours(name)[1]
    assert re.search(rf"Next: \[{following}\]\({following}\.ipynb\)", last), last
