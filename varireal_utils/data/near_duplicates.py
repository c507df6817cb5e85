"""Finds near duplicates across splits: a test image that was trained on is no test.

Equal pixels are found by the digest of the stored file, near copies by a 64-bit difference hash
(dHash: in a 9 x 8 grey thumbnail, is each pixel brighter than its right neighbour?) together with
a look at larger thumbnails, for flat pictures have hashes alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ..core import storage

COLUMNS = [
    "image_id",
    "split",
    "class_name",
    "other_id",
    "other_split",
    "other_class",
    "bits",
    "difference",
    "kind",
]
_EDGE = 16  # side of the thumbnails that are compared
_ONES = np.array([bin(i).count("1") for i in range(2**16)], np.uint8)  # set bits of 16


def dhash(image: np.ndarray) -> np.uint64:
    """64-bit difference hash of (H, W, 3) uint8."""
    grey = np.asarray(Image.fromarray(image).convert("L").resize((9, 8), Image.Resampling.BOX))
    bits = grey[:, :-1] > grey[:, 1:]
    return np.packbits(bits.ravel()).view(">u8")[0].astype(np.uint64)


def leaks(table: pd.DataFrame, study: Path, bits: int = 4, difference: float = 8.0) -> pd.DataFrame:
    """Pairs of images in two different splits that look alike.

    table: images.parquet. A pair's hashes differ in at most `bits` bits and its 16 x 16 thumbnails
    by at most `difference` grey levels (0..255) on average; kind is "same" for equal pixels, else
    "near". Returns one row a pair, worst first; no rows is good news.
    """
    hashes = np.zeros(len(table), np.uint64)
    thumbs = np.zeros((len(table), _EDGE, _EDGE, 3), np.float32)
    for i, path in enumerate(table["path"]):  # one at a time: a data set may not fit into memory
        picture = storage.read_image(Path(study) / path)
        hashes[i], thumbs[i] = dhash(picture), _thumb(picture)
    splits, digests = table["split"].to_numpy(), table["sha256"].to_numpy()
    names, classes = table["image_id"].to_numpy(), table["class_name"].to_numpy()
    rows = []
    for i in range(len(table)):
        apart = _bits_apart(hashes[i], hashes[i + 1 :])
        near = i + 1 + np.flatnonzero((apart <= bits) & (splits[i + 1 :] != splits[i]))
        gaps = np.abs(thumbs[near] - thumbs[i]).mean(axis=(1, 2, 3))
        for j, gap in zip(near[gaps <= difference], gaps[gaps <= difference]):
            rows.append(
                [
                    names[i],
                    splits[i],
                    classes[i],
                    names[j],
                    splits[j],
                    classes[j],
                    int(apart[j - i - 1]),
                    round(float(gap), 2),
                    "same" if digests[i] == digests[j] else "near",
                ]
            )
    found = pd.DataFrame(rows, columns=COLUMNS)
    return found.sort_values(
        ["kind", "difference", "image_id", "other_id"],
        ascending=[False, True, True, True],
        ignore_index=True,
    )


def _bits_apart(one: np.uint64, others: np.ndarray) -> np.ndarray:
    """Number of differing bits, (n,) 0..64; numpy before 2 counts no bits itself."""
    return _ONES[(one ^ others).view(np.uint16).reshape(-1, 4)].sum(axis=1, dtype=np.int64)


def _thumb(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image).resize((_EDGE, _EDGE), Image.Resampling.BOX)
    return np.asarray(small).astype(np.float32)
