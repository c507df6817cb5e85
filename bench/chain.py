"""Editing with verification, one edit after another as the reference does it, beside our way.

    python -m bench.chain [--photographs 6] [--out results/chain.json]

One by one: a batch of one, every prompt encoded at every call, a prior drawn for each attempt, and
a reading of the picture for each question (docs/protocol.md, C1). Both ways ask our ten questions,
of which the reference has four. Ours: batches, prompts and priors once, questions that branch from
one reading, rejected edits pooled as on a GPU. Edits, settings and rejections are the same: every
fourth edit fails its first attempt. Offloading, which the reference needs, makes no pass: left out.

    passes   calls of a network, each of which a GPU must be fed with
    rows     pictures, or prompts, that go through it; of the verifier the tokens

The micro models paint; the verifier has LLaVA-1.6's classes and random weights, so that its answers
say nothing and its work counts. What is learnt: with guidance a denoising pass has two rows
whatever the batch, so batches spare passes, not rows; priors, prompts and readings spare both.
Least is spared of the autoencoder: diffusers encodes each picture that has noise of its own by
itself.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch

from microworld import render
from tests import tiny_vision_models
from varireal_utils.core import oom_retry, storage
from varireal_utils.core.config import load_config
from varireal_utils.core.config_sections import ModelRoles, VlmVerifierSettings
from varireal_utils.editing import guidance, passes, phases, pipeline, roles
from varireal_utils.editing.slices import EditStage
from varireal_utils.editing.sources import Source, editable_mask
from varireal_utils.models import loaders
from varireal_utils.models.residence import Residence
from varireal_utils.prompts import phrase_bank
from varireal_utils.verification import vlm_verifier
from varireal_utils.verification.vlm_asker import Experience, VlmAsker
from varireal_utils.workflow import run_record

ROOT = Path(__file__).resolve().parents[1]
ATTRIBUTES = ("background", "color")  # with a prior, and with a second stage
FAMILY, EDITS, LEAST = "cars", 4, 4.0  # edits of a photograph; how many times fewer passes
NETWORKS = {
    "UNet2DConditionModel": "UNet",
    "ControlNetModel": "ControlNet",
    "CLIPTextModel": "text encoder",
    "EncoderTiny": "autoencoder",
    "DecoderTiny": "autoencoder",
    "LlavaNextForConditionalGeneration": "verifier",
}
HEAVY = ("UNet", "ControlNet", "verifier")
CHANGES = {
    "device": "cpu",
    "precision": "float32",
    "edit.images_per_real": EDITS,
    "edit.batch_size": 8,  # as params/paper.yaml
}
QUESTIONS = VlmVerifierSettings(false_accept=0.1, false_identity=0.5, max_size=64)
THRESHOLDS = {"attribute_threshold": 0.1, "identity_threshold": 0.1}


class Everything(Residence):
    """All models in memory at once, as the reference has them: loading is no part of its way."""

    def release(self) -> None:
        """Nothing is released."""


@dataclass
class Counted:
    """passes, rows: by network."""

    passes: Counter
    rows: Counter


@contextlib.contextmanager
def counting() -> Iterator[Counted]:
    """Count the passes of every network, wherever it is loaded."""
    found = Counted(Counter(), Counter())

    def seen(module: Any, args: tuple, kwargs: dict, out: Any) -> None:
        name = NETWORKS.get(type(module).__name__)
        if name is None:
            return
        first = kwargs["input_ids"] if "input_ids" in kwargs else (*args, *kwargs.values())[0]
        found.passes[name] += 1
        found.rows[name] += first.numel() if name == "verifier" else len(first)

    handle = torch.nn.modules.module.register_module_forward_hook(seen, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()


@dataclass(frozen=True)
class Work:
    """What both ways do: the edits of one attribute."""

    settings: EditStage
    bank: phrase_bank.Bank
    rows: pd.DataFrame
    sources: dict[str, Source]
    judge: tuple[Any, Any]

    @property
    def side(self) -> int:
        """Pixels of a photograph."""
        return len(next(iter(self.sources.values())).image)

    def verify(self, experience: Callable[[], Experience]) -> phases.Verify:
        """Ask about edits; verdicts by the edit's name, since the model knows nothing."""
        tried: Counter = Counter()

        def answers(
            pictures: list[np.ndarray], rows: list[dict], sources: list[Source]
        ) -> pd.DataFrame:
            ask = VlmAsker(self.judge, QUESTIONS.max_size, known=experience())
            before, names = [s.image for s in sources], list(render.class_names(FAMILY))
            found = vlm_verifier.score(
                ask, pictures, before, rows, self.bank, names, QUESTIONS, THRESHOLDS
            )
            good = [int(tried[r["edit_id"]] > 0 or r["seed"] % 4 > 0) for r in rows]
            tried.update(r["edit_id"] for r in rows)
            return found.assign(accepted=np.array(good, bool), worst_margin=np.array(good, float))

        return answers


def work(attribute: str, photographs: int, judge: tuple[Any, Any], **changes: Any) -> Work:
    """Edits of rendered cars. judge: model and processor; changes: dotted keys with __ for dots."""
    own = CHANGES | {k.replace("__", "."): v for k, v in changes.items()}
    config = load_config(ROOT / "params/micro.yaml", own)
    settings = EditStage.of(config, attribute=attribute, feasibility="feasible")
    names = list(render.class_names(FAMILY))
    bank = phrase_bank.load_bank(ROOT / config.phrase_file, FAMILY, names)
    images, sources = [], {}
    for n in range(photographs):
        p, name = render.photograph(FAMILY, "val", n), f"{FAMILY}-{n}"
        label = n % len(names)
        images.append({"image_id": name, "label": label, "class_name": names[label]})
        lines = guidance.canny(p.image, p.mask)
        sources[name] = Source(p.image, p.mask, editable_mask(attribute, p.mask, p.paint), lines)
    rows = pipeline.plan(pd.DataFrame(images), bank, settings)
    return Work(settings, bank, rows, sources, judge)


def one_by_one(todo: Work) -> pd.DataFrame:
    """The reference's way; the finished rows."""
    edit = todo.settings.edit.model_copy(update={"batch_size": 1, "prior_variants": 1})
    settings = todo.settings.model_copy(update={"edit": edit})
    pipes = roles.load(settings, torch.device("cpu"), torch.float32, Everything())
    verify = todo.verify(lambda: Experience(fit=oom_retry.Fit(1), branches=False))
    done = []
    for row in todo.rows.to_dict("records"):
        source = todo.sources[row["image_id"]]
        for attempt in range(edit.max_attempts):
            pipes.states.clear()
            drawn = passes.prior_bank(pipes, todo.bank, [row["phrase"]], settings, todo.side)
            made = pipeline.edit_batch(pipes, [source], [row], drawn, todo.bank, settings, attempt)
            answer = verify(made, [row], [source]).iloc[0].to_dict()
            if answer["accepted"]:
                break
        done.append(row | answer | {"attempt": attempt})
    return pd.DataFrame(done)


def ours(todo: Work) -> pd.DataFrame:
    """The stage's way on a GPU; the finished rows."""
    pipes = roles.load(todo.settings, torch.device("cpu"), torch.float32)
    known = Experience()
    phrases = list(todo.rows["phrase"])
    drawn = passes.prior_bank(pipes, todo.bank, phrases, todo.settings, todo.side)
    batches = -(-len(todo.rows) // todo.settings.edit.batch_size)
    with mock.patch.object(phases, "pooled", lambda pipes: True):
        made = phases.run(
            pipes,
            todo.rows,
            todo.sources.__getitem__,
            drawn,
            todo.bank,
            todo.settings,
            todo.verify(lambda: known),
            dict.fromkeys(range(batches)),
        )
        parts = {number: rows for number, _, rows in made}
    return pd.concat([parts[n] for n in sorted(parts)], ignore_index=True)


def measure(photographs: int, folder: Path, **changes: Any) -> list[dict[str, Any]]:
    """A row for each way and attribute: edits, attempts, seconds, passes and rows by network."""
    path = tiny_vision_models.llava(folder)
    roles = ModelRoles.model_validate({"verifier": {"kind": "vlm", "path": str(path)}})
    judge = loaders.load_vlm(roles, torch.device("cpu"))
    out = []
    for attribute in ATTRIBUTES:
        todo = work(attribute, photographs, judge, **changes)
        for name, way in (("one by one", one_by_one), ("ours", ours)):
            with counting() as found:
                began = time.perf_counter()
                done = way(todo)
                seconds = time.perf_counter() - began
            row = {"attribute": attribute, "way": name, "edits": len(done), "seconds": seconds}
            row |= {"attempts": int((done["attempt"] + 1).sum())}
            out.append(row | {"passes": dict(found.passes), "rows": dict(found.rows)})
    return out


def summed(rows: list[dict[str, Any]], way: str, what: str) -> Counter:
    """Passes or rows of a way, by network, over all attributes."""
    total: Counter = Counter()
    for row in rows:
        if row["way"] == way:
            total.update(row[what])
    return total


def missed(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each heavy network, and for all of them, with more than a LEASTth of the passes.

    Text encoders and autoencoders count in the sum alone: a prompt that is new is encoded by
    itself, and so does diffusers encode each picture that has noise of its own.
    """
    before, now = (summed(rows, way, "passes") for way in ("one by one", "ours"))
    pairs = {name: (before[name], now[name]) for name in HEAVY}
    pairs["all networks"] = before.total(), now.total()
    return [
        f"{name}: {after} passes, one by one {first}; wanted {LEAST:g} times fewer"
        for name, (first, after) in pairs.items()
        if first < LEAST * after
    ]


def report(rows: list[dict[str, Any]]) -> None:
    """Print passes and rows of both ways, and edits an hour."""
    for what in ("passes", "rows"):
        before, now = (summed(rows, way, what) for way in ("one by one", "ours"))
        before["all networks"], now["all networks"] = before.total(), now.total()
        for name in before:
            if (what, name) == ("rows", "all networks"):
                continue
            unit = "tokens" if (what, name) == ("rows", "verifier") else what
            print(
                f"editing, {name + ', ' + unit:27s} one by one {before[name]:7,d}  ours "
                f"{now[name]:7,d}  {before[name] / now[name]:5.1f}x",
                flush=True,
            )
    for way in ("one by one", "ours"):
        own = [r for r in rows if r["way"] == way]
        hour = 3600 * sum(r["edits"] for r in own) / sum(r["seconds"] for r in own)
        print(f"editing with verification, {way}: {hour:,.0f} edits an hour", flush=True)


def write(out: Path, photographs: int = 6) -> list[str]:
    """Measure, print and write; a line for each network that misses."""
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as home:
        rows = measure(photographs, Path(home))
    report(rows)
    facts = {
        "rows": rows,
        "photographs": photographs,
        "least": LEAST,
        "missed": missed(rows),
        "started": started,
        "load": load,
        "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        **run_record.git_state(),
    }
    storage.write_json(out, facts)
    return facts["missed"]


def main(words: list[str] | None = None) -> int:
    """1 where a network makes too many passes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("results/chain.json"))
    args = parser.parse_args(words)
    found = write(args.out, args.photographs)
    print("\n".join(found) or f"at least {LEAST:g} times fewer passes")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
