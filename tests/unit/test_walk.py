"""The walk over a study's files: links to other disks are followed, bad ones are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from varireal_utils.core import storage, walk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/one.txt", "a/b/two.txt", "three.txt", ".hidden/four.txt"):
        storage.write_text(tmp_path / "s" / name, name)
    return tmp_path / "s"


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in walk.files(folder))


def test_a_folder_moved_to_another_disk_with_a_link_left_changes_nothing(folder: Path) -> None:
    before = names(folder)
    assert before == [".hidden/four.txt", "a/b/two.txt", "a/one.txt", "three.txt"]
    shutil.move(folder / "a", folder.parent / "disk")
    (folder / "a").symlink_to(folder.parent / "disk")
    assert names(folder) == before
    assert walk.inside(folder / "a/one.txt", folder) == "a/one.txt"
    assert walk.inside((folder / "a/one.txt").resolve(), folder) is None
    (folder.parent / "way").symlink_to(folder)
    assert walk.inside(folder.parent / "way/three.txt", folder) == "three.txt"


def test_a_link_that_leads_nowhere_or_up_is_named(folder: Path) -> None:
    (folder / "up").symlink_to(folder)
    with pytest.raises(walk.BadLink, match="s/up: a link to a folder above itself"):
        names(folder)
    (folder / "up").unlink()
    (folder / "gone").symlink_to("nowhere")
    with pytest.raises(walk.BadLink, match="gone: a link to 'nowhere', which is not there"):
        names(folder)


def test_hidden_is_by_any_name_of_the_path(folder: Path) -> None:
    found = {p.name: walk.hidden(p, folder) for p in walk.files(folder)}
    assert found == {"one.txt": False, "two.txt": False, "three.txt": False, "four.txt": True}
