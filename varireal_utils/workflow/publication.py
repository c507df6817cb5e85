"""A published folder, results/<study>: what its seal lists, what its record says, its pictures.

Invariant (tests/unit/test_recompute.py): a changed, missing or added file of a published folder is
named, and so is a picture of an edit that is not one of the study's edits.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from ..core import storage, walk
from . import seal
from .provenance import Check
from .verify import Look, against_sum, code_lines, hold_registration

OF_TRAININGS = re.compile(r"(replicates/\d+/)?classify/")  # inputs that stay in the study
REMEDY = "publish the study again, or, where the change is wanted, seal the folder: python -m "
REMEDY += "varireal_utils.workflow.recompute"


def verify(folder: Path, record: dict[str, Any]) -> Check:
    """Hold a published folder against its seal, and its record against what git keeps."""
    folder, check = Path(folder), Check(records=1)
    look = Look(folder, check)
    try:
        found = list(walk.files(folder))
    except (walk.BadLink, OSError) as error:
        look.fault(str(error))
        return check
    for path in found:
        if path.suffix == ".sha256":
            against_sum(look, path)
    check.wrong += differences(folder)
    if seal.path_of(folder).is_file():
        listed = seal.read(folder) or {}
        check.checked.append(f"the seal's list of {len(listed.get('files', {}))} files")
    else:
        check.notes.append(f"no {seal.SEAL}: pictures, runs.csv and notebooks are not checked")
    for name, wanted in record["outputs"].items():
        path = folder / Path(name).name
        if not path.is_file() or look.digest(path) != wanted:
            look.fault(f"{path}: " + ("not as recorded" if path.is_file() else "missing"))
    hold_registration(look, [record])
    _hold_inputs(look, record)
    _hold_pictures(look)
    check.files = len({*look.digests, *found})
    check.notes += code_lines(Counter([str(record["commit"])[:10]]), [record])
    again = record.get("recomputed")
    if isinstance(again, dict):
        check.notes.append(
            f"tables computed again by commit {str(again.get('commit'))[:10]}"
            + (" with uncommitted changes" if again.get("dirty") else "")
        )
    return check


def is_sealed(folder: Path) -> bool:
    """Whether a published folder has a seal that lists it as it is."""
    return seal.path_of(folder).is_file() and not differences(folder)


def differences(folder: Path) -> list[str]:
    """What a published folder's seal and the folder do not agree on; nothing without a seal."""
    try:
        sealed = seal.read(folder)
    except ValueError as error:
        return [str(error)]
    if sealed is None:
        return []
    own = {seal.SEAL, Path(seal.SEAL).with_suffix(".sha256").name}
    there = {
        p.relative_to(folder).as_posix()
        for p in walk.files(folder)
        if not walk.hidden(p, folder) and p.name not in own
    }
    listed, out = sealed.get("files", {}), []
    for name in sorted(there | set(listed)):
        path = folder / name
        if name not in listed:
            out.append(f"{path}: not in the seal; {REMEDY} {folder}")
        elif name not in there:
            out.append(f"{path}: missing; the seal lists it; {REMEDY} {folder}")
        elif storage.sha256_file(path) != listed[name]:
            out.append(f"{path}: not as sealed; {REMEDY} {folder}")
    return out


def _hold_inputs(look: Look, record: dict[str, Any]) -> None:
    for name, wanted in record["inputs"].items():
        if OF_TRAININGS.match(name):
            look.check.absent.append(name)
            continue
        if name.endswith("answers.parquet"):
            continue  # of another study: recompute looks for it by its digest
        path = Path(name)
        if not path.is_file() or look.digest(path) != wanted:
            look.fault(
                f"{path}: "
                + ("not as recorded" if path.is_file() else "missing")
                + f" (input of {look.folder}/run.json)"
            )


def _hold_pictures(look: Look) -> None:
    """The pictures of the qualitative grid are edits of the study, under their own phrases."""
    index, table = look.folder / "pictures/index.json", look.folder / "edits.parquet"
    if not index.is_file() or not table.is_file():
        return
    edits, count = storage.read_table(table), 0
    known = set(zip(edits["sha256"], edits["phrase"], strict=True))
    for row in storage.read_json(index)["grid"]:
        for key, cell in row["cells"].items():
            if key == "source":
                continue
            name, phrase = cell
            path = look.folder / "pictures" / name
            count += 1
            if path.is_file() and (
                (look.digest(path), phrase.removesuffix(" (rejected)")) not in known
            ):
                look.fault(f"{path}: no edit of the study with the phrase {phrase!r}")
    look.check.checked.append(f"{count} pictures against the table of edits")
