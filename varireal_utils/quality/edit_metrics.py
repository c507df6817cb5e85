"""Is an edit minimal, and is one arm less well edited than the other? (A difference between the
arms could come from the editor then, and not from feasibility.)

symbols   source, edit  (H, W, 3) uint8 RGB      editable  (H, W) uint8 > 0 where an edit may change
          inside, outside   of `editable`; SSIM and patches look some pixels across its border
          features          (N, D) float32 unit vectors of the CLIP that the parameters name

Per image: change (mean absolute difference, 0..255) and SSIM inside and outside; feature distance
inside and outside: one minus the cosine of the last patch tokens of CLIP, in the way of LPIPS but
without its learnt weights; similarity of phrase and edit, and its gain over the source; similarity
of the object before and after (all else grey). Per set: kernel distance to the photographs of the
train split (KID's unbiased estimate, Binkowski et al. 2018, in CLIP features, so not comparable
with KID of Inception), diversity (mean distance of two images of the set), nearest photograph other
than the edit's own source (1: a copy), and the share whose class zero-shot CLIP still names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats as sps

from ..core import storage
from ..core.study_paths import StudyPaths
from ..verification.clip_verifier import object_only

METRICS = [
    "change_inside",
    "change_outside",
    "ssim_inside",
    "ssim_outside",
    "feature_distance_inside",
    "feature_distance_outside",
    "phrase_similarity",
    "phrase_gain",
    "identity",
]
KEPT = ("edit_id", "image_id", "attribute", "feasibility", "k", "class_name", "accepted")


def changes(source: np.ndarray, edit: np.ndarray, editable: np.ndarray) -> dict[str, float]:
    """change_* (0..255), largest_outside (0..255, exact) and ssim_* of one edit; NaN for a part
    that has no pixels."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    gap = np.abs(edit.astype(np.int16) - source).mean(axis=2)
    a, b = (torch.tensor(x).permute(2, 0, 1)[None].float() / 255 for x in (source, edit))
    similar = ssim(b, a, data_range=1.0, return_full_image=True)[1][0].mean(0).numpy()
    out, inside = {}, editable > 0
    for name, where in (("inside", inside), ("outside", ~inside)):
        out[f"change_{name}"] = float(gap[where].mean()) if where.any() else np.nan
        out[f"ssim_{name}"] = float(similar[where].mean()) if where.any() else np.nan
    out["largest_outside"] = float(gap[~inside].max()) if (~inside).any() else 0.0
    return out


def feature_distances(
    before: np.ndarray, after: np.ndarray, editable: np.ndarray
) -> tuple[float, float]:
    """Mean of 1 - cosine of patch tokens (C, h, w), inside and outside `editable`: patches weigh
    by the share of their pixels that lies there."""
    unit = [x / np.maximum(np.linalg.norm(x, axis=0, keepdims=True), 1e-8) for x in (before, after)]
    far = 1 - (unit[0] * unit[1]).sum(axis=0)
    share = torch.nn.functional.adaptive_avg_pool2d(
        torch.tensor((editable > 0).astype(np.float32))[None, None], far.shape
    )[0, 0].numpy()
    inside, outside = (
        float((far * w).sum() / w.sum()) if w.sum() > 0 else np.nan for w in (share, 1 - share)
    )
    return inside, outside


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of features (N, D), (M, D), by KID's kernel
    (x.y / D + 1)^3, over all pairs: no subsets, so no randomness. May be below 0."""

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    a, b = a.astype(np.float64), b.astype(np.float64)
    n, m = len(a), len(b)
    if min(n, m) < 2:
        return np.nan
    aa, bb = kernel(a, a), kernel(b, b)
    return float(
        (aa.sum() - np.trace(aa)) / (n * (n - 1))
        + (bb.sum() - np.trace(bb)) / (m * (m - 1))
        - 2 * kernel(a, b).mean()
    )


def of_set(features: np.ndarray, photographs: np.ndarray, own: np.ndarray) -> dict[str, float]:
    """Of one set of images: kernel_distance (times 1000), diversity, nearest, and numbers.

    own: (N,) row of `photographs` that an image was made from, -1 for none.
    """
    alike = features @ photographs.T
    alike[np.arange(len(own))[own >= 0], own[own >= 0]] = -1.0
    among, n = features @ features.T, len(features)
    scale = np.sqrt(features.shape[1])  # KID expects features of about unit variance
    return {
        "images": n,
        "photographs": len(photographs),
        "kernel_distance_x1000": 1000 * kernel_distance(scale * features, scale * photographs),
        "diversity": float(1 - (among.sum() - n) / (n * (n - 1))) if n > 1 else np.nan,
        "nearest_mean": float(alike.max(axis=1).mean()),
        "nearest_max": float(alike.max()),
    }


def recognised(features: np.ndarray, labels: np.ndarray, captions: np.ndarray) -> float:
    """Share, 0..1, of images that zero-shot CLIP names rightly: is the class still to be seen?

    features (N, D); labels (N,) int; captions (classes, D) unit features, in the order of labels.
    """
    return float(((features @ captions.T).argmax(axis=1) == labels).mean())


def balance(images: pd.DataFrame, metrics: list[str] | None = None) -> pd.DataFrame:
    """Feasible minus infeasible, paired by photograph and k, of every metric and attribute.

    Columns: attribute, metric, feasible, infeasible (means), difference, low, high (95 %, by t over
    photographs, whose edits are averaged first), effect (difference by its standard deviation over
    photographs), pairs, p_holm (Holm's correction over all rows), uneven (p_holm below 0.05).
    """
    from statsmodels.stats.multitest import multipletests

    rows = []
    for attribute, here in images.groupby("attribute", sort=True):
        for metric in metrics or [m for m in METRICS if m in images]:
            wide = here.pivot_table(index=["image_id", "k"], columns="feasibility", values=metric)
            if not {"feasible", "infeasible"} <= set(wide):
                continue
            wide = wide.dropna().groupby("image_id").mean()
            gap = wide["feasible"] - wide["infeasible"]
            if len(gap) < 3:
                continue
            mean, sd = gap.mean(), gap.std(ddof=1)
            se = sd / np.sqrt(len(gap))
            half = sps.t.ppf(0.975, len(gap) - 1) * se
            p = 2 * sps.t.sf(abs(mean) / se, len(gap) - 1) if se > 0 else float(mean == 0)
            rows.append(
                {
                    "attribute": attribute,
                    "metric": metric,
                    "feasible": wide["feasible"].mean(),
                    "infeasible": wide["infeasible"].mean(),
                    "difference": mean,
                    "low": mean - half,
                    "high": mean + half,
                    "effect": mean / sd if sd > 0 else 0.0,
                    "pairs": len(gap),
                    "p": p,
                }
            )
    table = pd.DataFrame(
        rows,
        columns=[
            "attribute",
            "metric",
            "feasible",
            "infeasible",
            "difference",
            "low",
            "high",
            "effect",
            "pairs",
            "p",
        ],
    )
    table["p_holm"] = multipletests(table["p"], method="holm")[1] if len(table) else []
    return table.assign(uneven=table["p_holm"] < 0.05)


def projection(groups: dict[str, np.ndarray], common: str = "real") -> pd.DataFrame:
    """Principal components of features, fitted on the group `common`, applied to all: a map that no
    edited image has shaped. Columns: group, row, x, y."""
    centre = groups[common].mean(axis=0)
    axes = np.linalg.svd(groups[common] - centre, full_matrices=False)[2][:2]
    axes *= np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]  # one sign for all
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "group": name,
                    "row": np.arange(len(x)),
                    "x": (x - centre) @ axes[0],
                    "y": (x - centre) @ axes[1],
                }
            )
            for name, x in groups.items()
        ],
        ignore_index=True,
    )


@dataclass(frozen=True)
class Look:
    """How images are looked at. embed_images, embed_texts: -> unit features (N, D); patch_features:
    images -> (unit features, list of patch tokens (C, h, w))."""

    embed_images: Callable[[list[np.ndarray]], np.ndarray]
    embed_texts: Callable[[list[str]], np.ndarray]
    patch_features: Callable[[list[np.ndarray]], tuple[np.ndarray, list[np.ndarray]]]


def measure(
    edits: pd.DataFrame, read: Callable, sentence: Callable, look: Look, size: int = 64
) -> tuple[pd.DataFrame, np.ndarray]:
    """METRICS of every edit, and its features (N, D). The table has `edits`' id columns and order.

    read(row) -> (source, edit, mask of the object, editable); sentence(row) -> what the phrase
    says. Edits of one photograph are taken together, so that it is looked at once for all of them.
    """
    known: dict[str, np.ndarray] = {}
    turn = np.argsort(edits["image_id"].to_numpy(), kind="stable")
    out: list[dict] = []
    features = []
    for start in range(0, len(edits), size):
        rows = list(edits.iloc[turn[start : start + size]].itertuples())
        loaded = [read(row) for row in rows]
        photographs = {row.image_id: x for row, x in zip(rows, loaded, strict=True)}
        at = {image_id: n for n, image_id in enumerate(photographs)}
        before, maps_before = look.patch_features([x[0] for x in photographs.values()])
        objects_before = look.embed_images([object_only(x[0], x[2]) for x in photographs.values()])
        seen, maps = look.patch_features([x[1] for x in loaded])
        features.append(seen)
        objects = look.embed_images([object_only(x[1], x[2]) for x in loaded])
        for i, row in enumerate(rows):
            text, own = sentence(row), at[row.image_id]
            if text not in known:
                known[text] = look.embed_texts([text])[0]
            source, edit, _, editable = loaded[i]
            inside, outside = feature_distances(maps_before[own], maps[i], editable)
            out.append(
                {
                    **{c: getattr(row, c) for c in KEPT},
                    **changes(source, edit, editable),
                    "feature_distance_inside": inside,
                    "feature_distance_outside": outside,
                    "phrase_similarity": float(seen[i] @ known[text]),
                    "phrase_gain": float((seen[i] - before[own]) @ known[text]),
                    "identity": float(objects_before[own] @ objects[i]),
                }
            )
    back = np.argsort(turn)
    return pd.DataFrame(out).iloc[back].reset_index(drop=True), np.concatenate(features)[back]


def empty() -> pd.DataFrame:
    """The table of `measure` without a row."""
    numbers = dict.fromkeys([*METRICS, "largest_outside"], float)
    return pd.DataFrame(columns=[*KEPT, *numbers]).astype(numbers)


def collected(paths: StudyPaths, datasets: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Read quality_sets, quality_balance and embedding of these data sets, with a column dataset;
    empty where 07_quality has not run. Photographs alone are no embedding: nothing to compare."""
    out = {}
    for name in ("sets", "balance", "embedding"):
        found = {d: paths.quality(d) / f"{name}.csv" for d in datasets}
        parts = [
            storage.read_table(p).assign(dataset=d) for d, p in sorted(found.items()) if p.is_file()
        ]
        key = name if name == "embedding" else f"quality_{name}"
        if not parts:
            continue
        table = pd.concat(parts, ignore_index=True)
        if name != "embedding" or (table["group"] != "real").any():
            out[key] = table
    return out
