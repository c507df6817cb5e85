"""Exports a study: images in the formats of other libraries, adapters with a card.

    imagefolder   <target>/<split>/<arm>/<class>/<image>.png and metadata.jsonl in each split:
                  `datasets.load_dataset("imagefolder", data_dir=<target>)`, which refuses columns
                  whose type differs between splits: all but the label are text, "" where unknown
    webdataset    <target>/<split>-000000.tar ...: <key>.png, <key>.cls, <key>.json;
                  `datasets.load_dataset("webdataset", data_dir=<target>)` takes the columns of all
                  rows from the first ones, so that each row has every key, of one type: as above
    adapters      <target>/<dataset>/<recipe>/seed<k>/: PEFT's files and its README.md

The split `train` holds photographs, edits of both arms and generated images, told apart by the
column `kind`; `validation` and `test` hold photographs alone. What an attribute, a recipe or a data
set left behind that the configuration does not name any more is not exported (`wanted`).

Invariant (tests/unit/test_export.py): every image that the study's tables name is there once, with
the bytes that the table's sha256 says; names from data are file names, never paths; equal studies
give equal bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ..core import storage
from ..core.study_paths import StudyPaths

SPLITS = {"train": "train", "val": "validation", "test": "test"}
FACTS = (
    "kind",
    "dataset",
    "label",
    "class_name",
    "attribute",
    "feasibility",
    "phrase",
    "prompt",
    "accepted",
    "attribute_score",
    "identity",
    "image_id",
    "source_image",
    "seed",
    "sha256",
)
SHARD = 1 << 28  # bytes of a WebDataset shard
SCORES = ("attribute_score", "identity")  # of edits alone: not in metadata.jsonl
FORMATS = ("imagefolder", "webdataset", "adapters")


class ExportError(ValueError):
    """An export that cannot be made; the message names the file."""


def export(study: Path, kind: str, target: Path, wanted: Container[str] | None = None) -> int:
    """Write an export into a folder that does not exist yet; returns the number of its items.

    kind: one of FORMATS; wanted: folders below the study's that count (expected.folders), None for
    all. The folder appears whole or not at all. Raises ExportError.
    """
    paths, target = StudyPaths(Path(study)), Path(target)
    if kind not in FORMATS:
        raise ExportError(f"{kind!r} is no format; there are {', '.join(FORMATS)}")
    if target.exists():
        raise ExportError(f"{target} exists already; name another folder")
    if not paths.images_tables():
        raise ExportError(f"{study}: no data/ in it; run the study first")
    with _whole(target) as draft:
        write = {"imagefolder": _imagefolder, "webdataset": _webdataset, "adapters": _adapters}
        return write[kind](paths, draft, wanted)


def _counts(file: Path, paths: StudyPaths, wanted: Container[str] | None) -> bool:
    """Whether the folder of a file is wanted."""
    return wanted is None or file.parent.relative_to(paths.root).as_posix() in wanted


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".draft-"))
    try:
        yield draft
        os.chmod(draft, 0o755)  # noqa: S103 - a folder like any other
        os.replace(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def items(paths: StudyPaths, wanted: Container[str] | None = None) -> pd.DataFrame:
    """Every image of a study: columns path, split (Hugging Face's names) and FACTS, in order."""
    parts = []

    def named(found: list[Path]) -> list[Path]:
        return [path for path in found if _counts(path, paths, wanted)]

    for path in named(paths.images_tables()):
        table = storage.read_table(path)
        parts.append(
            table.assign(
                kind="photograph",
                split=table["split"].map(SPLITS),
                dataset=paths.dataset_of(path),
                source_image="",
            )
        )
    for path in named(paths.edits_tables()):
        table = storage.read_table(path).assign(
            kind="edit", split="train", dataset=paths.dataset_of(path)
        )
        parts.append(table.assign(source_image=table["image_id"], image_id=table["edit_id"]))
    for path in named(paths.samples_tables()):
        parts.append(
            storage.read_table(path).assign(
                kind="generated", split="train", dataset=paths.dataset_of(path), source_image=""
            )
        )
    if not parts:
        raise ExportError(f"{paths.root}: no table of images in it; run the study first")
    for table in parts:
        for column in ("seed", "accepted"):  # else a column of gaps makes floats of all integers
            if column in table:
                table[column] = table[column].astype(object)
    return pd.concat(parts, ignore_index=True).reindex(columns=["path", "split", *FACTS])


def _read(study: Path, row: dict[str, Any]) -> bytes:
    """An image's bytes, as the table's sha256 says. Raises ExportError."""
    file = study / str(row["path"])
    if not file.resolve().is_relative_to(study.resolve()) or not file.is_file():
        raise ExportError(f"{file}: named by a table, but not there; run its stage again")
    data = file.read_bytes()
    if storage.sha256_bytes(data) != row["sha256"]:
        raise ExportError(f"{file}: not the image that its table names; run `verify` for details")
    return data


def _facts(row: dict[str, Any], columns: tuple[str, ...] = FACTS) -> dict[str, Any]:
    """What is known of an image: the label a number, all else text, "" where it is unknown."""
    known = {k: v for k, v in row.items() if v is not None and v == v}
    return {k: str(known.get(k, "")) for k in columns} | {"label": int(known["label"])}


def _name(row: dict[str, Any]) -> str:
    """A file name of an image that no other image of the study has."""
    return storage.slug(f"{row['dataset']} {row['kind']} {row['image_id']}").replace(".", "%2e")


def _arm(row: dict[str, Any]) -> str:
    return f"{row['attribute']}-{row['feasibility']}" if row["kind"] == "edit" else str(row["kind"])


def _imagefolder(paths: StudyPaths, folder: Path, wanted: Container[str] | None) -> int:
    table = items(paths, wanted)
    columns = tuple(k for k in FACTS if k not in SCORES)
    for split, rows in table.groupby("split", sort=True):
        lines = []
        for row in rows.to_dict("records"):
            name = (
                f"{storage.slug(row['dataset'])}/{storage.slug(_arm(row))}/"
                f"{storage.slug(str(row['class_name']))}/{_name(row)}.png"
            )
            place = folder / str(split) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(_read(paths.root, row))
            lines.append(json.dumps({"file_name": name, **_facts(row, columns)}))
        storage.write_text(folder / str(split) / "metadata.jsonl", "\n".join(lines) + "\n")
    return len(table)


def _webdataset(paths: StudyPaths, folder: Path, wanted: Container[str] | None) -> int:
    table = items(paths, wanted)
    for split, rows in table.groupby("split", sort=True):
        number, size, shard = 0, 0, None
        for row in rows.to_dict("records"):
            data = _read(paths.root, row)
            if shard is None or size + len(data) > SHARD:
                if shard is not None:
                    shard.close()
                shard = tarfile.open(
                    folder / f"{split}-{number:06d}.tar",
                    "w",  # noqa: SIM115
                    format=tarfile.PAX_FORMAT,
                )
                number, size = number + 1, 0
            size += len(data)
            for ending, content in (
                ("png", data),
                ("cls", str(row["label"]).encode()),
                ("json", json.dumps(_facts(row), sort_keys=True).encode()),
            ):
                entry = tarfile.TarInfo(f"{_name(row)}.{ending}")
                entry.size = len(content)
                shard.addfile(entry, io.BytesIO(content))
        if shard is not None:
            shard.close()
    return len(table)


def _adapters(paths: StudyPaths, folder: Path, wanted: Container[str] | None) -> int:
    found = [path for path in paths.adapters() if _counts(path, paths, wanted)]
    if not found:
        raise ExportError(f"{paths.root}: no adapter in it; run 06_classify first")
    for config in found:
        inner = config.parent.relative_to(paths.trainings)
        place = folder / inner
        place.mkdir(parents=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(config.parent / name, place / name)
        storage.write_text(place / "README.md", _adapter_card(config.parent, *inner.parts))
    return len(found)


def _adapter_card(folder: Path, dataset: str, recipe: str, seed: str) -> str:
    """Markdown with the front matter that PEFT writes, and what was measured."""
    settings = storage.read_json(folder / "adapter_config.json")
    measured = storage.read_json(folder / "metrics.json")
    base = str(settings.get("base_model_name_or_path") or "").removeprefix("hf-hub:")
    of_the_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not Path(base).exists()
    val = measured.get("val_top1")
    return "\n".join(
        [
            "---",
            *([f"base_model: {base}"] if of_the_hub else []),  # the hub takes an id, or none
            "library_name: peft",
            "tags: [lora, clip]",
            "---",
            "",
            f"# LoRA adapter of CLIP: {_plain(dataset)}, {_plain(recipe)}, {seed}",
            "",
            "| | |",
            "|---|---|",
            f"| rank, alpha, dropout | {settings.get('r')}, {settings.get('lora_alpha')}, "
            f"{settings.get('lora_dropout')} (PEFT's fused form: twice the stated values) |",
            f"| top-1 on {measured.get('n_test')} test photographs | {measured['top1']:.4f} |",
            f"| top-1 on validation | {'not measured' if val is None else f'{val:.4f}'} |",
            f"| step taken, by validation | {measured.get('selected_step')} |",
            "",
            f"Of {base if of_the_hub else 'the CLIP that the study names under models.clip'}. "
            "Unmerged; `peft.PeftModel.from_pretrained(model, folder)` reads it. Trained by "
            "`notebooks/06_classify.ipynb`; the recipe says on which images.",
            "",
        ]
    )


def _plain(slug: str) -> str:
    try:
        return storage.unslug(slug)
    except ValueError:
        return slug
