"""Reads mirrors on the Hugging Face hub: hf://owner/name[/folder][@revision], a data set's id.

    data/train-00000-of-00002.parquet, default/test/0000.parquet, ...   one row per image
    column image            {"bytes": ..., "path": ...}
    columns label, ...      class names, or numbers whose names the file's own metadata tell

Invariant (tests/unit/test_downloads.py): equal revisions give equal files, in a folder of their
own under the hub's cache, whole or not at all. Columns: official.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from ..core import storage
from .image_record import SPLIT_NAMES, DownloadError
from .official import MIRROR

_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)(?:@([\w./-]+))?")


def snapshot(address: str) -> tuple[Path, Path]:
    """A mirror's files on this machine, and the folder for what is made of them.

    Files that the hub's cache holds already are not fetched again. Raises DownloadError.
    """
    import huggingface_hub

    parts = _ADDRESS.fullmatch(address)
    if not parts:
        raise DownloadError(
            f"{address}: wanted hf://owner/name of a data set on the hub, with "
            "/folder or @revision behind it where needed"
        )
    repo, inner, revision = parts[1], parts[2].strip("/"), parts[3]
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                repo,
                repo_type="dataset",
                revision=revision,
                allow_patterns=[f"{inner}/**"] if inner else None,
            )
        )
    except Exception as error:  # the hub's own errors, httpx's and the operating system's
        raise DownloadError(
            f"{address}: not fetched from the hub: {type(error).__name__}: "
            f"{str(error).strip().splitlines()[0] if str(error) else ''}; check "
            "the id and the network, or name a local folder as root"
        ) from error
    cache = Path(huggingface_hub.constants.HF_HOME) / "varireal" / storage.slug(repo) / folder.name
    return folder / inner, cache / storage.slug(inner) if inner else cache


def tables(folder: Path) -> dict[Path, str]:
    """The parquet files of a mirror and the split of each, "" where its name says none.

    The split is the word before "-00000-of-", else that of a folder. Files of other words, such as
    a mirror's own variants, are left out with a warning.
    """
    found, others = {}, set()
    for path in sorted(folder.rglob("*.parquet")):
        inner = PurePosixPath(path.relative_to(folder).as_posix())
        numbered = re.fullmatch(r"(.+?)-\d+-of-\d+(-\w+)?", inner.stem)
        word = numbered[1] if numbered else inner.stem
        words = [word, *reversed(inner.parts[:-1])]
        split = next((SPLIT_NAMES[w.lower()] for w in words if w.lower() in SPLIT_NAMES), "")
        if numbered and not split:
            others.add(word)
        else:
            found[path] = split
    if others:
        warnings.warn(
            f"{folder}: {sorted(others)} are none of train, val, test; left out", stacklevel=2
        )
    return found


def unpack(address: str, folder: Path, place: Path) -> Path:
    """Write the images of a mirror's parquet files and their table, `official.MIRROR`.

    Returns `place`, made whole or not at all; one that is there is left alone. The table has the
    columns path, split, name (the official one where the mirror keeps it) and the mirror's own.
    Raises DownloadError for files without images, or of several configurations at once.
    """
    if (place / MIRROR).is_file():
        return place
    files = tables(folder)
    homes = {p.parent.parent if p.parent.name.lower() in SPLIT_NAMES else p.parent for p in files}
    if len(homes) > 1:
        names = sorted(p.relative_to(folder).as_posix() for p in homes)
        raise DownloadError(
            f"{address}: holds {len(homes)} tables, in {names}; name one: "
            f"{address.partition('@')[0]}/{names[-1]}"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".unpack-", dir=place.parent))
    try:
        (draft / "images").mkdir()
        rows = [row for path, split in files.items() for row in _rows(address, path, split, draft)]
        if not rows:
            raise DownloadError(f"{address}: its parquet files hold no image; name another mirror")
        table = pd.DataFrame(rows)
        if not table["name"].all() or table["name"].duplicated().any():
            table["name"] = [PurePosixPath(p).stem for p in table["path"]]
        table.to_csv(draft / MIRROR, index=False, lineterminator="\n")
        shutil.rmtree(place, ignore_errors=True)
        os.rename(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place


def _rows(address: str, path: Path, split: str, draft: Path) -> Iterator[dict[str, Any]]:
    """Write the images of one parquet file; their rows, numbers turned into class names."""
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except Exception as error:  # pyarrow's own errors and the operating system's
        raise DownloadError(
            f"{path}: not a parquet file: {error}; remove it and run again"
        ) from error
    names = _class_names(file.schema_arrow.metadata or {})
    number = len(list((draft / "images").glob(f"{split or 'all'}-*")))
    for batch in file.iter_batches(64):
        for record in batch.to_pylist():
            column = next(
                (c for c, v in record.items() if isinstance(v, dict) and v.get("bytes")), None
            )
            if column is None:
                raise DownloadError(
                    f"{address}: {path.name} has the columns {list(record)}, none "
                    "of them images with bytes; name another mirror"
                )
            image = record.pop(column)
            given = str(record.get("image_id") or image.get("path") or "")
            name = f"images/{split or 'all'}-{number:05d}{PurePosixPath(given).suffix or '.img'}"
            (draft / name).write_bytes(image["bytes"])
            number += 1
            plain = {c: v for c, v in record.items() if isinstance(v, str | int | None)}
            told = {c: _told(names[c], v) if c in names else v for c, v in plain.items()}
            yield told | {"path": name, "split": split, "name": PurePosixPath(given).stem}


def _told(names: list[str], number: object) -> object:
    """The class name of a number; "" for -1 and other numbers that have none."""
    if not isinstance(number, int):
        return number
    return names[number] if 0 <= number < len(names) else ""


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Class names by column, as `datasets` writes them into a parquet file."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {c: f["names"] for c, f in features.items() if isinstance(f, dict) and "names" in f}
    except (KeyError, ValueError, TypeError):
        return {}
