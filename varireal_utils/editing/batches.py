"""Batches of an arm's edits: their files, their shards, and what is reused.

Batches are fixed by the order of the edits and written whole, so an arm that was interrupted goes
on where it stopped and ends with the bytes of one that was not. A shard, "3/16", makes every 16th
batch, from the 3rd on; the run without a shard makes what no shard has made, and collects them all.
Under edit.processes, several processes first share out the batches in the same way.

Invariant (tests/unit/test_arms.py): finished batches are reused only under the same settings,
models, thresholds, phrases, photographs and masks, all of which `stamp` digests.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import storage
from ..prompts import phrase_bank


@dataclass(frozen=True)
class Batches:
    """The batches that one process makes. arm_dir: folder of the arm; batch_dir: of its finished
    batches; size: edits of a batch; batch_ids: numbers of the batches to make."""

    arm_dir: Path
    batch_dir: Path
    size: int
    batch_ids: list[int]

    def file(self, number: int) -> Path:
        """The table of one batch."""
        return self.batch_dir / f"batch{number:05d}.parquet"

    def distances(self, number: int) -> Path:
        """The distances of one batch's edits from their photographs, kept on an accelerator."""
        return self.batch_dir / f"distances{number:05d}.json"

    def finished(self, number: int) -> bool:
        """Whether a batch is made."""
        return self.file(number).exists()

    def spent(self, most: int) -> dict[int, list[int] | None]:
        """Attempts that each edit of a finished batch took, by number of the batch; None for those
        that are to be made. most: attempts at an edit that is not accepted."""
        return {n: self._attempts(n, most) if self.finished(n) else None for n in self.batch_ids}

    def _attempts(self, number: int, most: int) -> list[int]:
        rows = storage.read_table(self.file(number))
        return [n + 1 if good else most for good, n in zip(rows["accepted"], rows["attempt"])]

    def phrases(self, rows: pd.DataFrame, finished: bool) -> list[str]:
        """The phrases of the batches that are finished, or of those that are not."""
        return [
            phrase
            for i in self.batch_ids
            if self.finished(i) == finished
            for phrase in rows["phrase"].iloc[i * self.size : (i + 1) * self.size]
        ]

    def remove_others(self) -> None:
        """Remove the arm's batches of other settings."""
        for old in (self.arm_dir / "parts").glob("*"):
            if old != self.batch_dir:
                shutil.rmtree(old, ignore_errors=True)

    def remove_damaged(self, study: Path, variants: int) -> int:
        """Remove those finished batches that are not as they were left, so that they are made
        again: a table that cannot be read, an image or a prior that is gone, empty or changed.

        variants: priors of a phrase, 0 where the arm generates none. Returns how many.
        """
        removed = 0
        for number in self.batch_ids:
            if self.finished(number) and not self._is_whole(number, study, variants):
                self.file(number).unlink()
                removed += 1
        return removed

    def _is_whole(self, number: int, study: Path, variants: int) -> bool:
        try:
            rows = storage.read_table(self.file(number))
            priors = {
                self.arm_dir / prior_file(p, v) for p in rows["phrase"] for v in range(variants)
            }
            for prior in priors:
                storage.read_image(prior)
            return all(
                storage.sha256_file(study / str(path)) == digest
                for path, digest in zip(rows["path"], rows["sha256"], strict=True)
            )
        except (OSError, ValueError, KeyError):
            return False

    def stored_priors(
        self, phrases: Iterable[str], variants: int
    ) -> dict[tuple[str, int], np.ndarray]:
        """The priors of finished batches, of those that are there."""
        keys = [(p, v) for p in phrases for v in range(variants)]
        return {
            key: storage.read_image(self.arm_dir / prior_file(*key))
            for key in keys
            if (self.arm_dir / prior_file(*key)).exists()
        }


def shard_of(text: str) -> tuple[int, int]:
    """ "3/16" -> (3, 16); "" is (1, 1). Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d+)/(\d+)", text) if text else None
    number, count = map(int, found.groups()) if found else (1, 1)
    if (text and not found) or not 1 <= number <= count:
        raise ValueError(f"shard: got {text!r}, wanted number/count, 1/16 to 16/16, or nothing")
    return number, count


def batch_ids(edits: int, size: int, shard: str = "", part: tuple[int, int] = (0, 1)) -> list[int]:
    """Numbers of the batches that a process makes of an arm or its shard.

    part: (1, 4) for the second of 4 processes. Raises ValueError for a shard without a batch.
    """
    number, count = shard_of(shard)
    batches, (rank, processes) = -(-edits // size), part
    whole = list(range(number - 1, batches, count))
    if not whole:
        raise ValueError(
            f"shard {shard}: this arm has {batches} batches of edit.batch_size "
            f"{size}; no more shards than that"
        )
    return whole[rank::processes]


def stamp(
    rests_on: dict[str, Any],
    thresholds: dict[str, float],
    bank: phrase_bank.Bank,
    train: pd.DataFrame,
    rows: pd.DataFrame,
    study: Path,
) -> str:
    """Digest of all that an arm's finished batches rest on, 16 hexadecimal digits.

    rests_on: settings, weights, precision and device of the run (Run.rests_on); train: photographs
    that are edited, with their guidance; rows: the planned edits.
    """
    guidance = [storage.sha256_file(study / p) for p in (*train["mask_path"], *train["canny_path"])]
    return storage.sha256_json(
        {
            **rests_on,
            "thresholds": thresholds,
            "bank": bank,
            "guidance": guidance,
            "photographs": train["sha256"].tolist(),
            "rows": rows["edit_id"].tolist(),
        }
    )[:16]


def prior_file(phrase: str, variant: int) -> Path:
    """Where an arm keeps a generated prior, below its own folder."""
    return Path("priors") / f"{storage.slug(phrase)}-{variant}.png"


def reuse_batches(reuse: str, study: Path, batch_dir: Path) -> int:
    """Copy an arm's finished batches, with their images and priors, from the study `reuse`, where
    that study has made them under the same stamp. Returns how many batches were copied.

    Without that study here, a line says so and the arm is made anew: its bytes are the same.
    Raises ValueError for an image that is not what its row says or lies outside the arm's folder.
    """
    if not reuse or batch_dir.exists():
        return 0
    if not Path(reuse).is_dir():
        print(
            f"edit.reuse: {reuse!r} is no folder here; nothing is copied from it, and this arm "
            "is made anew"
        )
        return 0
    arm_dir = batch_dir.parent.parent
    theirs = Path(reuse) / arm_dir.relative_to(study)
    found = sorted((theirs / "parts" / batch_dir.name).glob("batch*.parquet"))
    for path in found:
        for row in storage.read_table(path).itertuples():
            _copy_image(str(row.path), str(row.sha256), path, Path(reuse), study, arm_dir)
    for path in sorted((theirs / "priors").glob("*.png")) if found else []:
        storage.write_bytes(arm_dir / "priors" / path.name, path.read_bytes())
    for path in found:  # last, as they say that the images are there
        storage.write_bytes(batch_dir / path.name, path.read_bytes())
    return len(found)


def _copy_image(
    name: str, sha256: str, table: Path, other: Path, study: Path, arm_dir: Path
) -> None:
    """Copy an image that a table of another study names, once it is checked."""
    if not (study / name).resolve().is_relative_to(arm_dir.resolve()):
        raise ValueError(
            f"edit.reuse: {table} names {name!r}, which is no file of this "
            "arm; run 04_edit of that study again"
        )
    data = (other / name).read_bytes()
    if storage.sha256_bytes(data) != sha256:
        raise ValueError(
            f"edit.reuse: {other / name} is not the image that "
            f"{table} recorded; run 04_edit of that study again"
        )
    storage.write_bytes(study / name, data)
