"""`make bench`: the plain step of bench/plain.py beside ours, in one process, by turns.

    python -m bench.run [--parts training evaluation loading editing chain study]
                        [--classes 37 100 196] [--batch 16] [--repeats 3] [--out FILE]

ViT-B/16 at full size with random weights, captions of Pets (37 classes), Aircraft (100) and Cars
(196). Prints a table of medians and ratios, writes them as JSON, and ends with an error where a
floor is missed. Rows "by prefix" draw the text's dropout once for captions that begin alike
(`classify.noise`). `most` is the ratio that would be reached if our products were all that takes
time, at the speed at which this very processor multiplies: a floor above it is one that this
processor cannot meet.

What was learnt: half of the plain step's time goes into 77 tokens of which captions need a dozen
(attention is causal, so nothing behind the end token counts), and of those most stand in beginnings
that many captions share: 15,092 positions of Cars are 1,597 different ones. Recomputing the text
tower costs a third of its forward pass; encoding the text for every evaluation batch of 8 costs
more than the images. torch's fused CPU attention is slow backwards in bfloat16 over short rows.
Both towers are read off at one token, so their last block need not work out the others, which
spares a fourteenth. Four fifths of what is left are matrix products, in float32 by frozen weights
that torch lays out anew at every call: packed once (`models.packed_linear`) they are 1.3 times as
fast in float32 and 1.1 times in bfloat16 (a trial on an AMD processor, not kept).
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import open_clip
import torch
import yaml
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from varireal_utils.core import storage
from varireal_utils.core.config import load_config
from varireal_utils.core.device import precision_name
from varireal_utils.data.registry import DATA_SETS
from varireal_utils.models import clip_classifier, clip_lora, lora_io, packed_linear
from varireal_utils.workflow import run_record

from . import pipeline, plain

# not below (issue: speed, measured): ratio plain / ours
FLOORS = {
    ("float32", 37): 2.0,
    ("float32", 196): 4.3,
    ("bfloat16", 37): 4.5,
    ("bfloat16", 196): 10.0,
    "evaluation": 20.0,
}
PARTS = ("training", "evaluation", "loading", "editing", "chain", "study")
NAME = "ViT-B-16"
DATASETS = {d.classes: d.name for d in DATA_SETS.values() if d.paper}


def build(rank: int = 16) -> tuple:
    """(our adapted model, the plain one with the same weights, tokenizer)."""
    torch.manual_seed(0)
    model = open_clip.create_model(NAME).float()
    clip_lora.add_lora(model, rank, 2 * rank, 0.1, ["image", "text"], seed=0)
    for m in lora_io.adapters_of(model).values():  # zeros would hide half of the mathematics
        torch.nn.init.normal_(m.B_q, std=0.02)
        torch.nn.init.normal_(m.B_v, std=0.02)
    return model, plain.plain(copy.deepcopy(model)), open_clip.get_tokenizer(NAME)


def captions(count: int) -> list[str]:
    """The captions of the paper's data set with so many classes."""
    name = DATASETS[count]
    config = load_config(f"params/paper_{name}.yaml")
    bank = yaml.safe_load(Path(config.phrase_file).read_text(encoding="utf-8"))
    classes = list(bank["families"][name]["color"]["classes"])
    assert len(classes) == count
    return [config.classify.templates[0].replace("{class}", c) for c in classes]


def ours_step(model, optimiser, pixels, tokens, labels, dtype, noise: str = "caption") -> float:
    """One training step by our towers; noise: of classify.noise."""
    model.train()
    for attn in lora_io.adapters_of(model).values():
        attn.noise = noise
    with torch.autocast(pixels.device.type, dtype, enabled=dtype != torch.float32):
        text = clip_classifier.encode_classes(model, tokens[None])
        image = clip_lora.encode_image(model, pixels)
    logits = model.logit_scale.exp() * image @ text.T
    loss = F.cross_entropy(logits, labels)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return float(loss.detach())


@torch.inference_mode()
def ours_evaluate(model, batches, tokens, dtype) -> torch.Tensor:
    """Logits of all batches; the text is encoded once."""
    model.eval()
    with torch.autocast(batches[0].device.type, dtype, enabled=dtype != torch.float32):
        text = clip_classifier.encode_classes(model, tokens[None])
        image = torch.cat([clip_lora.encode_image(model, b) for b in batches])
    return model.logit_scale.exp() * image @ text.T


def check(model, other, pixels, tokens) -> float:
    """Largest relative difference of the two ways' logits, without dropout. Raises if not equal."""
    model.eval(), other.eval()
    with torch.no_grad():
        a = plain.logits(other, pixels, tokens)
        b = ours_evaluate(model, [pixels], tokens, torch.float32)
    gap = float((a - b).abs().max() / a.abs().max())
    if gap > 1e-5:
        raise SystemExit(f"the two ways differ by {gap:.1e} relative: nothing is timed")
    return gap


def timed(ways: dict, repeats: int, warmup: int = 1) -> dict[str, float]:
    """Median seconds of each way, taken by turns after `warmup` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warmup + repeats):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}


def products(call: Callable) -> float:
    """1e12 operations of a call's linear maps and convolutions, forwards and backwards; on a CPU
    attention is not counted."""
    with (
        mock.patch.object(packed_linear, "supported", lambda: False),
        FlopCounterMode(display=False) as counter,
    ):  # oneDNN's own operators are not counted
        call()
    return counter.get_total_flops() / 1e12


@torch.no_grad()
def speed(dtype: torch.dtype, rows: int = 3152, d: int = 768, repeats: int = 15) -> float:
    """TFLOP/s of the product that ViT-B/16 takes most of, on packed weights: (rows, d) to 4 d."""
    layer = packed_linear.Linear(torch.nn.Linear(d, 4 * d).requires_grad_(False).to(dtype))
    x = torch.randn(rows, d, dtype=dtype)
    return 2 * rows * d * 4 * d / timed({"": partial(layer, x)}, repeats, 3)[""] / 1e12


def training(args: argparse.Namespace, speeds: dict[str, float]) -> list[dict]:
    """Rows of the training step, for each number of classes; each starts from equal weights.

    speeds: TFLOP/s of each precision that is timed.
    """
    rows = []
    for count in args.classes:
        model, other, tokenizer = build()
        optimisers = [
            torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-5)
            for m in (model, other)
        ]
        pixels, tokens = torch.randn(args.batch, 3, 224, 224), tokenizer(captions(count))
        labels = torch.arange(args.batch) % count
        gap = check(model, other, pixels[:4], tokens)
        ways = {"plain": partial(plain.step, other, optimisers[1], pixels, tokens, labels)}
        ways |= {
            d + how: partial(
                ours_step, model, optimisers[0], pixels, tokens, labels, getattr(torch, d), noise
            )
            for d in speeds
            for how, noise in (("", "caption"), (" by prefix", "prefix"))
        }
        rows += report(
            "training step",
            timed(ways, args.repeats),
            count,
            gap,
            {
                name: products(call) / speeds[name.split()[0]]
                for name, call in ways.items()
                if name != "plain"
            },
        )
    return rows


def evaluation(args: argparse.Namespace, speeds: dict[str, float]) -> list[dict]:
    """Rows of the evaluation, an image; the reference takes 8 images at a time."""
    (model, other, tokenizer), count, size = build(), max(args.classes), 8
    tokens, batches = tokenizer(captions(count)), [torch.randn(size, 3, 224, 224)] * 8
    gap = check(model, other, batches[0][:4], tokens)
    ways = {"plain": partial(plain.evaluate, other, batches[:1], tokens)}
    ways |= {
        d: partial(ours_evaluate, model, [torch.cat(batches)], tokens, getattr(torch, d))
        for d in speeds
    }
    seconds = timed(ways, args.repeats)
    return report(
        "evaluation, an image",
        {n: s / (size if n == "plain" else 8 * size) for n, s in seconds.items()},
        count,
        gap,
        {d: products(ways[d]) / speeds[d] / (8 * size) for d in speeds},
    )


def main(words: list[str] | None = None) -> int:
    """Run, print, write; 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--classes", type=int, nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/bench.json"))
    args = parser.parse_args(words)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    native = precision_name("auto") == "bfloat16"
    speeds = {d: speed(getattr(torch, d)) for d in ["float32"] + ["bfloat16"] * native}
    rows = []
    for name, part in (("training", training), ("evaluation", evaluation)):
        rows += part(args, speeds) if name in args.parts else []
    if "loading" in args.parts:
        rows += report("loading, an image", pipeline.loading(timed, args.repeats))
    if "editing" in args.parts:
        rows += report("editing, an image", pipeline.editing(timed, args.repeats))
    if "study" in args.parts:
        rows += report("make study", {"ours": pipeline.whole_study()})
    from . import chain, operations  # one imports this module

    if "training" in args.parts:
        operations.write(args.out.with_name("operations.json"))
    missed = judge(rows) + starved(rows, args.batch)
    missed += chain.write(args.out.with_name("chain.json")) if "chain" in args.parts else []
    storage.write_json(
        args.out,
        {
            "model": NAME,
            "batch": args.batch,
            "rows": rows,
            "threads": torch.get_num_threads(),
            "bfloat16": native,
            "tflops": speeds,
            "missed": missed,
            "started": started,
            "repeats": args.repeats,
            "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
            "torch": torch.__version__,
            **run_record.git_state(),
        },
    )
    print("\n".join(["", *missed]) if missed else "\nevery floor is met")
    return 1 if missed else 0


def judge(rows: list[dict]) -> list[str]:
    """A line for each row below its floor; writes the floor into every row."""
    for row in rows:
        row["floor"] = floor_of(row)
    return [below(r) for r in rows if r["floor"] and r["ratio"] < r["floor"]]


def below(row: dict) -> str:
    """The line of a row that is below its floor."""
    most = row.get("most")
    return (
        f"{row['what']}, {row['classes']:.0f} classes, {row['way']}: {row['ratio']:.1f}x, "
        f"floor {row['floor']:g}x" + (f", its products alone {most:.1f}x" if most else "")
    )


def starved(rows: list[dict], batch: int) -> list[str]:
    """A line where pictures come slower than the fastest training step takes them."""
    steps_ = [r["seconds"] / batch for r in rows if r["what"] == "training step"]
    loads = [r["seconds"] for r in rows if r["what"].startswith("loading") and r["way"] == "ours"]
    if not steps_ or not loads or loads[0] < min(steps_):
        return []
    return [
        f"loading takes {1e3 * loads[0]:.1f} ms an image, the fastest training step "
        f"{1e3 * min(steps_):.1f} ms: the loader is the bottleneck"
    ]


def floor_of(row: dict) -> float | None:
    """The ratio that a row must reach; for evaluation, in the fastest precision there is."""
    if row["what"] == "training step":
        return FLOORS.get((row["way"], row["classes"]))
    return FLOORS["evaluation"] if row["way"] == "bfloat16" else None


def report(
    what: str,
    seconds: dict[str, float],
    classes: int | None = None,
    gap: float | None = None,
    least: dict[str, float] | None = None,
) -> list[dict]:
    """Rows of the table, printed as they come. ratio: plain / this way, None without a plain;
    least: seconds that a way's products take alone, most: plain / those."""
    base, least = seconds.get("plain"), least or {}
    rows = [
        {
            "what": what,
            "classes": classes,
            "way": name,
            "seconds": value,
            "ratio": base / value if base else None,
            "gap": gap,
            "products": least.get(name),
            "most": base / least[name] if base and name in least else None,
        }
        for name, value in seconds.items()
    ]
    for row in rows:
        count = "" if classes is None else f"{classes} classes"
        ratio = "" if base is None else f"{row['ratio']:5.1f}x"
        ratio += f" of at most {row['most']:.1f}x" if row["most"] else ""
        print(
            f"{what:22s} {count:>12s}  {row['way']:9s} {row['seconds']:9.4f} s  {ratio}", flush=True
        )
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
