"""Files: reversible names, atomic writes, digests. The only module that touches a study's files.

Invariants: `unslug(slug(name)) == name` for every string; two names that differ, if only in case,
have slugs that differ in more than case; a file is either what it was or what it was to become,
never half of it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

_SAFE = set("abcdefghijklmnopqrstuvwxyz0123456789-_.()+,= ")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(10))}
_LIMIT = 200
NAMES = ("dataset", "class_name", "image_id", "phrase", "recipe")  # columns of text, in any table


def slug(name: str) -> str:
    """A file name for any string: lower-case ASCII, at most 200 bytes.

    Characters that are not safe become %xx of their UTF-8 bytes; capitals become ^ and the small
    letter; spaces become ~. A name too long keeps its beginning and a hash, and then `unslug`
    needs the table that the caller keeps; all others come back exactly.
    """
    out = []
    for i, c in enumerate(name):
        if c == " ":
            out.append("~")
        elif c in _SAFE and not (c == "." and (i == 0 or i == len(name) - 1)):
            out.append(c)
        elif "A" <= c <= "Z":
            out.append(f"^{c.lower()}")
        else:
            out += [f"%{b:02x}" for b in c.encode("utf-8", "surrogatepass")]
    text = "".join(out) or "%"
    if text.split(".")[0] in _RESERVED:
        text = f"%{ord(text[0]):02x}{text[1:]}"
    if len(text) > _LIMIT:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        text = f"{text[: _LIMIT - 26]}%%{digest}"
    return text


def unslug(text: str) -> str:
    """The name that a slug was made from. Raises ValueError for the slug of an overlong name."""
    if "%%" in text:
        raise ValueError(f"{text!r} is the shortened slug of an overlong name; its table knows it")
    if text == "%":
        return ""
    out, i = bytearray(), 0
    while i < len(text):
        if text[i] == "%":
            out.append(int(text[i + 1 : i + 3], 16))
            i += 3
        elif text[i] == "^":
            out += text[i + 1].upper().encode()
            i += 2
        else:
            out += b" " if text[i] == "~" else text[i].encode()
            i += 1
    return out.decode("utf-8", "surrogatepass")


def is_text(name: str) -> bool:
    """Whether a name is text in UTF-8; a file's name may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    """A name as text: bytes that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path`; renamed over it when the block ends well, else removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".draft-", suffix=path.suffix)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        with open(draft, "rb+") as file, _if_known():
            os.fsync(file.fileno())
        with _if_known(errno.EPERM):
            os.chmod(draft, 0o644)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _if_known(*more: int) -> Iterator[None]:
    """Pass over what a file system does not know: some have neither rights nor a call to flush."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, *more):
            raise


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(path) as draft:
        draft.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def to_json(value: Any) -> str:
    """Sorted keys, one space of indent; NaN and infinity are refused, numpy scalars are plain."""
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False, default=_plain) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"not a JSON value: {type(value).__name__} {value!r}")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, to_json(value))


def read_json(path: str | os.PathLike) -> Any:
    """Read JSON; a broken file is named in the error, a ValueError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, nested without end
        raise ValueError(
            f"{path}: not valid JSON ({error}); delete it and run its stage again"
        ) from error


def write_table(path: str | os.PathLike, table: pd.DataFrame) -> None:
    """Write .parquet or .csv atomically; equal tables give equal bytes."""
    path = Path(path)
    with atomic_path(path) as draft:
        if path.suffix == ".parquet":
            table.to_parquet(draft, index=False, compression="zstd")
        elif path.suffix == ".csv":
            table.to_csv(draft, index=False, lineterminator="\n")
        else:
            raise ValueError(f"{path}: a table ends in .parquet or .csv, not {path.suffix!r}")


def read_table(path: str | os.PathLike) -> pd.DataFrame:
    """Read .parquet or .csv; a missing table names the stage that makes it.

    Of a CSV, only an empty cell is missing, and NAMES are text: "NA" or "007" may name a class.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; run the stage that writes it first")
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(NAMES, str))


def png_bytes(image: np.ndarray | Image.Image) -> bytes:
    """PNG of (H, W, 3) or (H, W) uint8, without dates: equal pixels give equal bytes."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def write_image(path: str | os.PathLike, image: np.ndarray | Image.Image) -> str:
    """Write a PNG atomically; returns its sha256."""
    data = png_bytes(image)
    write_bytes(path, data)
    return sha256_bytes(data)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """One of the study's own pictures as (H, W, 3) uint8."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """One of the study's own pictures as it is stored, (H, W, 3) or (H, W) uint8."""
    with Image.open(path) as picture:
        return np.asarray(picture)


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """One of the study's own masks as (H, W) uint8 0 | 255."""
    with Image.open(path) as picture:
        return np.where(np.asarray(picture.convert("L")) >= 128, 255, 0).astype(np.uint8)


def sha256_bytes(data: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | os.PathLike) -> str:
    """Hex digest of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex digest of a JSON value, whatever the order of its keys."""
    return sha256_bytes(to_json(value).encode())


def notebook_cells(path: str | Path) -> list[dict[str, Any]]:
    """The cells of a notebook. Raises ValueError that says how to get a damaged one back."""
    try:
        cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
        return [{**cell, "source": "".join(cell["source"])} for cell in cells]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: no whole notebook ({type(error).__name__}: {error}); take it back: "
            f"git checkout -- {path}, or out of the archive that you unpacked"
        ) from error


def notebook_digest(path: str | Path) -> str:
    """sha256 of a notebook's cell types and sources; outputs and metadata do not count."""
    cells = notebook_cells(path)
    return sha256_json(
        [
            [
                c["cell_type"],
                c["source"],
                "parameters" in c.get("metadata", {}).get("tags", []),
            ]
            for c in cells
        ]
    )
