"""One arm of a study, from files to files: what 04_edit calls (pipeline.py has arrays alone).

Batches are fixed by the order of the edits and written whole, so an arm that was interrupted goes
on where it stopped and ends with the bytes of one that was not. A shard, "3/16", makes every 16th
batch, from the 3rd on; the run without a shard makes what no shard has made, and collects them all.
With edit.processes, as many processes (`distributed`) first share out the batches in the same way.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from ..core import storage
from ..core.config_sections import ModelSpec
from ..core.params import compute, editing, loaded_parts, roles
from ..core.seeds import seed_for
from ..models import clip_lora, distributed, loaders, preprocess
from ..prompts import phrase_bank
from ..verification import clip_verifier, vlm_verifier
from ..workflow.run_record import Run
from . import compositing, pipeline


@dataclass(frozen=True)
class Job:
    """An arm that is ready to run: rows to edit, loaded pipelines, priors, verifier.

    home: the arm's folder; parts: where its finished batches are; mine: the batches to make.
    """

    home: Path
    parts: Path
    mine: list[int]
    rows: pd.DataFrame
    bank: phrase_bank.Bank
    pipes: pipeline.Pipes
    priors: dict[tuple[str, int], np.ndarray]
    thresholds: dict[str, float]
    source_of: Callable[[str], pipeline.Source]
    verify: Callable


def input_files(study: Path, dataset: str) -> list[Path]:
    """The tables that an arm rests on; their rows name the pictures with their digests."""
    name = storage.slug(dataset)
    return [
        study / f"data/{name}/images.parquet",
        study / f"guidance/{name}/guidance.parquet",
        study / f"attributes/{name}/bank.json",
    ]


def inputs(study: Path, dataset: str) -> pd.DataFrame:
    """Images with their guidance, indexed by image_id."""
    data, maps, _ = input_files(study, dataset)
    table, guide = storage.read_table(data), storage.read_table(maps)
    columns = ["image_id", "mask_path", "canny_path"]
    return (
        table.drop(columns="mask_path", errors="ignore")
        .merge(guide[columns], on="image_id", how="left")
        .set_index("image_id", drop=False)
    )


def clip_role(params: dict) -> dict:
    """The CLIP that verifies: models.verifier where it is one, else the one it names, else clip."""
    role = params["models"].get("verifier", {})
    return role if role.get("name") else params["models"][role.get("role", "clip")]


def embedder(params: dict) -> tuple[Callable, Callable]:
    """The verifier's CLIP: images -> (N, D) unit features, sentences -> (N, D) unit features."""
    device, _ = compute(params)
    clip, tokenizer, settings = loaders.load_clip(
        ModelSpec.model_validate(clip_role(params)), device
    )

    @torch.no_grad()
    def of_images(pictures: list[np.ndarray]) -> np.ndarray:
        out = []
        for i in range(0, len(pictures), 64):
            pixels = preprocess.network_input(pictures[i : i + 64], settings, device)
            out.append(clip_lora.encode_image(clip, pixels).cpu())
        return torch.cat(out).numpy()

    @torch.no_grad()
    def of_texts(sentences: list[str]) -> np.ndarray:
        return clip_lora.encode_text(clip, tokenizer(sentences)).cpu().numpy()

    return of_images, of_texts


def folder(dataset: str, attribute: str, feasibility: str, shard: str = "") -> str:
    """Where an arm, or one shard of it, keeps its record, below the study's folder."""
    home = f"edits/{storage.slug(dataset)}/{attribute}/{feasibility}"
    if not shard:
        return home
    number, count = shard_of(shard)
    return f"{home}/shards/{number}of{count}"


def shard_of(text: str) -> tuple[int, int]:
    """ "3/16" -> (3, 16); "" is (1, 1). Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d+)/(\d+)", text) if text else None
    number, count = map(int, found.groups()) if found else (1, 1)
    if (text and not found) or not 1 <= number <= count:
        raise ValueError(f"shard: got {text!r}, wanted number/count, 1/16 to 16/16, or nothing")
    return number, count


def prepare(
    run: Run,
    table: pd.DataFrame,
    dataset: str,
    attribute: str,
    feasibility: str,
    shard: str = "",
    part: tuple[int, int] | None = None,
) -> Job:
    """Load models, plan the edits, draw the priors, set the verifier's thresholds.

    part: (1, 4) makes this process the second of 4 that share the arm or shard between them;
    without it, edit.processes of them make the batches before this process loads a model.
    """
    if part is None and run.params["edit"].get("processes", 1) > 1:
        count = run.params["edit"]["processes"]
        distributed.launch(_share, count, compute(run.params)[0], run)
    bank = storage.read_json(input_files(run.study, dataset)[2])
    train = table[table["split"] == "train"]
    rows = pipeline.plan(train, bank, attribute, feasibility, run.params)
    pipes = pipeline.load(run.params, attribute)
    source_of = reader(run.study, table, attribute)
    size = max(source_of(train["image_id"].iloc[0]).image.shape[:2])
    thresholds, answer = _judge(run, table, bank, attribute)
    home = run.study / folder(dataset, attribute, feasibility)
    stamp = _stamp(run, train, rows, bank, thresholds, attribute, feasibility)[:16]
    parts = home / "parts" / stamp
    borrow(run, parts)
    step, (number, count) = run.params["edit"]["batch_size"], shard_of(shard)
    batches = -(-len(rows) // step)
    mine = list(range(number - 1, batches, count))
    rank, processes = part or (0, 1)
    mine, whole = mine[rank::processes], mine
    if not whole:
        raise ValueError(
            f"shard {shard}: this arm has {batches} batches of edit.batch_size "
            f"{step}; no more shards than that"
        )
    shown = [p for i in mine for p in rows["phrase"].iloc[i * step : (i + 1) * step]]
    todo = [
        p
        for i in mine
        if not _part(parts, i).exists()
        for p in rows["phrase"].iloc[i * step : (i + 1) * step]
    ]
    priors = _drawn(home, set(shown) - set(todo), run.params["edit"]["prior_variants"])
    priors |= pipeline.prior_bank(pipes, bank, attribute, todo, run.params, size)
    return Job(
        home,
        parts,
        mine,
        rows,
        bank,
        pipes,
        dict(sorted(priors.items())),
        thresholds,
        source_of,
        answer,
    )


def _share(accelerator: Accelerator, run: Run) -> None:
    """Make the batches of one of several processes that share an arm, or its shard."""
    part = (accelerator.process_index, accelerator.num_processes)
    fill(run, prepare(run, inputs(run.study, run.own["dataset"]), **run.own, part=part))


def _stamp(
    run: Run,
    train: pd.DataFrame,
    rows: pd.DataFrame,
    bank: phrase_bank.Bank,
    thresholds: dict,
    attribute: str,
    feasibility: str,
) -> str:
    """Digest of all that an arm's finished batches rest on: its own settings, not another's."""
    params = run.params
    settings = {
        k: v
        for k, v in params["edit"].items()
        if k not in ("shards", "processes", "reuse") and not isinstance(v, dict)
    }
    files = [
        storage.sha256_file(run.study / p) for p in (*train["mask_path"], *train["canny_path"])
    ]
    return storage.sha256_json(
        {
            "edit": settings | pipeline.settings_of(params, attribute, feasibility),
            "models": editing(loaded_parts(params["models"])),
            "seed": params["seed"],
            "verify": _verified_by(params, thresholds),
            "bank": bank,
            "guidance": files,
            "photographs": train["sha256"].tolist(),
            "rows": rows["edit_id"].tolist(),
        }
    )


def borrow(run: Run, parts: Path) -> int:
    """Copy an arm's finished batches, with their images and priors, from the study that
    `edit.reuse` names, where that study has made them with the very same settings, models,
    thresholds, phrases, photographs and masks. Returns how many batches were copied.

    Without that study here, a line says so and the arm is made anew: its bytes are the same.
    Raises ValueError for an image that is not what its row says or lies outside the arm's folder.
    """
    other = run.params["edit"].get("reuse", "")
    if not other or parts.exists():
        return 0
    if not Path(other).is_dir():
        print(
            f"edit.reuse: {other!r} is no folder here; nothing is copied from it, and this arm "
            "is made anew"
        )
        return 0
    home = parts.parent.parent
    theirs = Path(other) / home.relative_to(run.study)
    found = sorted((theirs / "parts" / parts.name).glob("batch*.parquet"))
    for path in found:
        for row in storage.read_table(path).itertuples():
            if not (run.study / row.path).resolve().is_relative_to(home.resolve()):
                raise ValueError(
                    f"edit.reuse: {path} names {row.path!r}, which is no file of this "
                    "arm; run 04_edit of that study again"
                )
            data = (Path(other) / row.path).read_bytes()
            if storage.sha256_bytes(data) != row.sha256:
                raise ValueError(
                    f"edit.reuse: {Path(other) / row.path} is not the image that "
                    f"{path} recorded; run 04_edit of that study again"
                )
            storage.write_bytes(run.study / row.path, data)
    for path in sorted((theirs / "priors").glob("*.png")) if found else []:
        storage.write_bytes(home / "priors" / path.name, path.read_bytes())
    for path in found:  # last, as they say that the images are there
        storage.write_bytes(parts / path.name, path.read_bytes())
    return len(found)


def _part(parts: Path, number: int) -> Path:
    return parts / f"batch{number:05d}.parquet"


def _drawn(home: Path, phrases: set[str], variants: int) -> dict[tuple[str, int], np.ndarray]:
    """The priors of finished batches, which lie there already."""
    keys = [(p, v) for p in phrases for v in range(variants)]
    return {
        key: storage.read_image(home / prior_file(*key))
        for key in keys
        if (home / prior_file(*key)).exists()
    }


def reader(study: Path, table: pd.DataFrame, attribute: str) -> Callable[[str], pipeline.Source]:
    """image_id -> photograph with its guidance, for edits of an attribute; table: of `inputs`."""
    paints = table.get("paint_mask_path", pd.Series(None, index=table.index))

    def read(image_id: str) -> pipeline.Source:
        row, paint = table.loc[image_id], paints[image_id]
        mask = storage.read_mask(study / row["mask_path"])
        own = storage.read_mask(study / paint) if isinstance(paint, str) and paint else None
        return pipeline.Source(
            storage.read_image(study / row["path"]),
            mask,
            pipeline.editable_mask(attribute, mask, own),
            storage.read_mask(study / row["canny_path"]),
        )

    return read


def _judge(
    run: Run, table: pd.DataFrame, bank: phrase_bank.Bank, attribute: str
) -> tuple[dict[str, float], Callable]:
    """The thresholds and the verifier of an arm, by the kind that models.verifier names."""
    if run.params["models"].get("verifier", {}).get("kind", "clip") == "vlm":
        return _vlm_judge(run, table, bank, attribute)
    of_images, of_texts = embedder(run.params)
    thresholds = _thresholds(run, table, bank, attribute, of_images, of_texts)
    return thresholds, _verifier(bank, attribute, of_images, of_texts, thresholds)


def _vlm_judge(
    run: Run, table: pd.DataFrame, bank: phrase_bank.Bank, attribute: str
) -> tuple[dict[str, float], Callable]:
    settings, names = vlm_verifier.settings_of(run.params), sorted(table["class_name"].unique())
    vlm = loaders.load_vlm(roles(run.params), compute(run.params)[0])
    ask = vlm_verifier.asker(vlm, settings["max_size"])
    val = table[table["split"] == "val"]
    lot = sorted(val["image_id"], key=lambda i: seed_for("verify", i))[: settings["calibration"]]
    val = val.loc[lot]
    pictures = [storage.read_image(run.study / p) for p in val["path"]]
    thresholds = vlm_verifier.calibrate(
        ask,
        pictures,
        list(val["class_name"]),
        list(val["image_id"]),
        bank,
        attribute,
        names,
        settings,
        run.params["seed"],
    )

    def answer(
        pictures: list[np.ndarray], rows: list[dict], sources: list[pipeline.Source]
    ) -> pd.DataFrame:
        return vlm_verifier.score(
            ask, pictures, [s.image for s in sources], rows, bank, names, settings, thresholds
        )

    return thresholds, answer


def _sentences(bank: phrase_bank.Bank, attribute: str, class_name: str) -> list[str]:
    return [
        phrase_bank.verify_prompt(bank, attribute, p, class_name)
        for p in phrase_bank.alternatives(bank, attribute, class_name)
    ]


def _thresholds(
    run: Run,
    table: pd.DataFrame,
    bank: phrase_bank.Bank,
    attribute: str,
    of_images: Callable,
    of_texts: Callable,
) -> dict[str, float]:
    """From validation photographs; sentences of their own classes, averaged over classes."""
    val = table[table["split"] == "val"]
    phrases = {c: of_texts(_sentences(bank, attribute, c)) for c in val["class_name"].unique()}
    photographs = (
        (storage.read_image(run.study / p), storage.read_mask(run.study / m))
        for p, m in zip(val["path"], val["mask_path"])
    )
    return clip_verifier.calibrate(
        photographs,
        val["label"].to_numpy(),
        [phrases[c] for c in val["class_name"]],
        of_images,
        run.params["verify"],
        run.params["seed"],
    )


def _verifier(
    bank: phrase_bank.Bank,
    attribute: str,
    of_images: Callable,
    of_texts: Callable,
    thresholds: dict,
) -> Callable:
    known: dict[str, np.ndarray] = {}

    def answer(
        pictures: list[np.ndarray], rows: list[dict], sources: list[pipeline.Source]
    ) -> pd.DataFrame:
        for name in {r["class_name"] for r in rows}:
            if name not in known:
                known[name] = of_texts(_sentences(bank, attribute, name))
        asked = [
            phrase_bank.alternatives(bank, attribute, r["class_name"]).index(r["phrase"])
            for r in rows
        ]
        return clip_verifier.score(
            pictures,
            [s.image for s in sources],
            [s.mask for s in sources],
            asked,
            [known[r["class_name"]] for r in rows],
            of_images,
            thresholds,
        )

    return answer


def make(run: Run, job: Job) -> pd.DataFrame:
    """Run the arm, its shard, or what is left of it, and write edits.parquet. Returns its rows."""
    fill(run, job)
    edits = pd.concat(
        [storage.read_table(_part(job.parts, i)) for i in job.mine], ignore_index=True
    )
    storage.write_table(run.out / "edits.parquet", edits)
    return edits


def fill(run: Run, job: Job) -> None:
    """Make those of a job's batches that are not there yet."""
    for old in (job.home / "parts").glob("*"):
        if old != job.parts:  # of other parameters
            shutil.rmtree(old, ignore_errors=True)
    for (phrase, variant), picture in job.priors.items():
        storage.write_image(job.home / prior_file(phrase, variant), picture)
    images = job.home.relative_to(run.study) / "images"
    names = loaders.describe(roles(run.params))
    bar = tqdm(
        total=len(job.mine),
        desc="batches",
        initial=sum(_part(job.parts, i).exists() for i in job.mine),
    )

    def skip(number: int) -> bool:
        return number not in job.mine or _part(job.parts, number).exists()

    for number, pictures, rows in pipeline.run(
        job.pipes, job.rows, job.source_of, job.priors, job.bank, run.params, job.verify, skip
    ):
        paths = [images / f"{storage.slug(i)}.png" for i in rows["edit_id"]]
        digests = [
            storage.write_image(run.study / p, picture) for p, picture in zip(paths, pictures)
        ]
        rows = rows.assign(
            path=[p.as_posix() for p in paths], sha256=digests, models=storage.to_json(names)
        )
        storage.write_table(_part(job.parts, number), rows)
        bar.update(1)
    bar.close()


def _verified_by(params: dict, thresholds: dict) -> dict:
    """What a verdict rests on: the thresholds, and for a model that is asked how it is asked."""
    kind = params["models"].get("verifier", {}).get("kind", "clip")
    return thresholds if kind == "clip" else {"thresholds": thresholds, **params["verify"]}


def acceptance(run: Run, dataset: str, attribute: str) -> pd.DataFrame:
    """verify.by_arm over the arms of an attribute that there are so far: does the filter treat
    them alike? Whichever arm is run second sees both."""
    home = run.study / "edits" / storage.slug(dataset) / attribute
    files = [home / arm / "edits.parquet" for arm in phrase_bank.ARMS]
    files = [f for f in files if f.exists()] or [run.out / "edits.parquet"]  # a first shard's own
    return clip_verifier.by_arm(
        pd.concat([storage.read_table(f) for f in files], ignore_index=True)
    )


def prior_file(phrase: str, variant: int) -> Path:
    """Where an arm keeps a generated prior, below its own folder."""
    return Path("priors") / f"{storage.slug(phrase)}-{variant}.png"


def strip(run: Run, job: Job, row: pd.Series) -> dict[str, np.ndarray]:
    """Every step of one edit again, for the pipeline figure; written to strip/."""
    steps = pipeline.strip(
        job.pipes, job.source_of(row["image_id"]), dict(row), job.priors, job.bank, run.params
    )
    for number, (name, picture) in enumerate(steps.items()):
        storage.write_image(run.out / "strip" / f"{number}_{name}.png", picture)
    storage.write_json(
        run.out / "strip" / "about.json",
        {
            k: row[k]
            for k in ("edit_id", "phrase", "prompt", "attribute", "feasibility", "class_name")
        },
    )
    return steps


def changed_outside(run: Run, table: pd.DataFrame, edits: pd.DataFrame, attribute: str) -> int:
    """Pixels, over all edits, that differ from the source where nothing may change."""
    read = reader(run.study, table, attribute)
    total = 0
    for row in edits.itertuples():
        source = read(row.image_id)
        total += compositing.changed_outside(
            source.image, storage.read_image(run.study / row.path), source.editable
        )
    return total


def of_study(study: Path) -> dict[str, Any]:
    """All edits of a study with their sources' paths, for figures and `explore`."""
    frames = [
        storage.read_table(p).assign(dataset=storage.unslug(p.parts[-4]))
        for p in sorted(study.glob("edits/*/*/*/edits.parquet"))
    ]
    names = [storage.unslug(p.parent.name) for p in sorted(study.glob("data/*/images.parquet"))]
    tables = {name: inputs(study, name) for name in names}
    return {
        "edits": pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
        "images": tables,
    }
