"""`python -m bench.gpu`: the same on a GPU, images a second and the share of the chip's peak.

    python -m bench.gpu [--parts training evaluation unet editing] [--batch 64] [--out FILE]

CLIP ViT-B/16 with LoRA at full size: the plain step of bench/plain.py, ours in float32 and in bf16,
with `torch.compile` on each block, and as one CUDA graph (training/captured_step.py). SDXL's
inpainting UNet at 1024 x 1024, which is most of a VariReal edit. Random weights throughout: speed
does not depend on their values. Operations are counted by torch's FlopCounterMode (a multiplication
and an addition are two); the peak is the data sheet's for dense bf16, beside what a large matrix
product reaches on the same card. bench/operations.py counts what a step launches, without a GPU.

What was learnt on an H200: at batch 64 a training step in bf16 reaches 6 to 8 % of the chip's peak,
because two towers of small products wait for their kernels to be launched; compiling the blocks one
by one changes that by a fifth at most, either way. SDXL's UNet, where VariReal's hours go, reaches
two fifths at 8 images, and half of that one by one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.counting import vit_b_16_step
from varireal_utils.core import storage
from varireal_utils.workflow import run_record
from varireal_utils.workflow.rates import peak_of

from . import plain
from .run import build, captions, check, ours_evaluate, ours_step, timed

PARTS = ("training", "evaluation", "unet", "editing")


def seconds_of(call: Callable, device: torch.device, repeats: int = 10, warmup: int = 3) -> float:
    """Median seconds of a call, by the host's clock, until the device is idle again."""

    def whole() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return timed({"": whole}, repeats, warmup)[""]


def tflop_of(call: Callable) -> float:
    """1e12 operations of a call, forwards and backwards."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e12


def ceiling(device: torch.device, side: int = 8192) -> float:
    """TFLOP/s of a large bf16 matrix product on this card."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device) / 1e12


def row(
    what: str,
    way: str,
    images: int,
    seconds: float,
    tflop: float | None = None,
    classes: int | None = None,
) -> dict:
    """One line of the table, printed as it comes."""
    rate = tflop / seconds if tflop else None
    print(
        f"{what:34s} {classes or '':>4}  {way:22s} {images / seconds:9.1f} images/s"
        + (f" {rate:7.1f} TFLOP/s" if rate else ""),
        flush=True,
    )
    return {
        "what": what,
        "classes": classes,
        "way": way,
        "batch": images,
        "seconds": seconds,
        "images_per_second": images / seconds,
        "tflop": tflop,
        "tflops": rate,
    }


def adapted(device: torch.device) -> tuple:
    """(ours, plain, tokenizer) of `run.build` on a device."""
    model, other, tokenizer = build()
    return model.to(device), other.to(device), tokenizer


def compiled(model: torch.nn.Module) -> torch.nn.Module:
    """Every block of the image tower compiled; they share one program."""
    torch._dynamo.reset()  # programs of an earlier model count against the limit of recompilations
    for block in model.visual.transformer.resblocks:
        block.compile()
    return model


def training(device: torch.device, batch: int, repeats: int) -> list[dict]:
    """Rows of the training step at 37, 100 and 196 classes."""
    rows = []
    for count in (37, 100, 196):
        model, other, tokenizer = adapted(device)
        pixels = torch.randn(batch, 3, 224, 224, device=device)
        tokens, labels = tokenizer(captions(count)), torch.arange(batch, device=device) % count
        there = tokens.to(device)
        check(model, other, pixels[:4], there)
        optimisers = [
            torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-5)
            for m in (model, other)
        ]
        ours = [
            partial(ours_step, model, optimisers[0], pixels, tokens, labels, d)
            for d in (torch.float32, torch.bfloat16)
        ]
        work = tflop_of(ours[1])
        ways = {
            "plain float32": partial(plain.step, other, optimisers[1], pixels, there, labels),
            "float32": ours[0],
            "bfloat16": ours[1],
        }
        for way, call in ways.items():
            own = None if way.startswith("plain") else work
            rows.append(
                row("training step", way, batch, seconds_of(call, device, repeats), own, count)
            )
        compiled(model)
        rows.append(
            row(
                "training step",
                "bfloat16, compiled",
                batch,
                seconds_of(ours[1], device, repeats),
                work,
                count,
            )
        )
        del model, other
        step, loaded, chosen = vit_b_16_step(device, count, batch)
        step.whole = device.type == "cuda"
        loaded = loaded.pin_memory() if device.type == "cuda" else loaded
        call = partial(step, 1, loaded, chosen)
        rows.append(
            row(
                "training step",
                "bfloat16, captured",
                batch,
                seconds_of(call, device, repeats),
                work,
                count,
            )
        )
    return rows


def evaluation(device: torch.device, batch: int, repeats: int) -> list[dict]:
    """Rows of the evaluation at 196 classes; the plain way takes 8 images at a time."""
    model, other, tokenizer = adapted(device)
    tokens = tokenizer(captions(196))
    pixels = torch.randn(4 * batch, 3, 224, 224, device=device)
    call = partial(ours_evaluate, model, [pixels], tokens, torch.bfloat16)
    work = tflop_of(call)
    one = partial(plain.evaluate, other, [pixels[:8]], tokens.to(device))
    rows = [
        row("evaluation", "plain float32", 8, seconds_of(one, device, repeats), None, 196),
        row("evaluation", "bfloat16", 4 * batch, seconds_of(call, device, repeats), work, 196),
    ]
    compiled(model)
    return [
        *rows,
        row(
            "evaluation",
            "bfloat16, compiled",
            4 * batch,
            seconds_of(call, device, repeats),
            work,
            196,
        ),
    ]


def unet(device: torch.device, batch: int, repeats: int, side: int = 1024) -> list[dict]:
    """Rows of one denoising step of SDXL's inpainting UNet, with guidance (two rows an image)."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        net = UNet2DConditionModel(
            sample_size=128,
            in_channels=9,
            out_channels=4,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    net = net.to(torch.bfloat16).to_empty(device=device).eval().requires_grad_(False)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    rows, cells = [], side // 8
    for images in (1, batch // 8):
        given = {
            "sample": torch.randn(2 * images, 9, cells, cells),
            "encoder_hidden_states": torch.randn(2 * images, 77, 2048),
        }
        given = {k: v.to(device, torch.bfloat16) for k, v in given.items()}
        given |= {
            "timestep": torch.full((2 * images,), 500, device=device),
            "added_cond_kwargs": {
                "text_embeds": torch.randn(2 * images, 1280).to(device, torch.bfloat16),
                "time_ids": torch.zeros(2 * images, 6, device=device),
            },
        }
        call = torch.no_grad()(partial(net, **given))
        rows.append(
            row(
                "a step of SDXL inpainting, 1024 px",
                "bfloat16",
                images,
                seconds_of(call, device, repeats),
                tflop_of(call),
            )
        )
    return rows


def editing(device: torch.device, batch: int, repeats: int) -> list[dict]:
    """A row of colour edits with the micro models."""
    from . import pipeline

    times = pipeline.editing(
        lambda ways, n: {"ours": seconds_of(ways["ours"], device, n, 1)}, 3, 2 * batch, str(device)
    )
    return [row("colour edits, micro models", "bfloat16", 2 * batch, 2 * batch * times["ours"])]


def main(words: list[str] | None = None) -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("results/bench_gpu.json"))
    args = parser.parse_args(words)
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = False  # float32 is float32
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    peak = peak_of(name)
    found = {
        "card": name,
        "peak_tflops": peak,
        "matrix_tflops": ceiling(device, 8192 if device.type == "cuda" else 512),
        "torch": torch.__version__,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **run_record.git_state(),
    }
    print(
        f"{name}: a large bf16 matrix product {found['matrix_tflops']:.0f} TFLOP/s, "
        f"data sheet {peak}",
        flush=True,
    )
    rows = []
    for part in (training, evaluation, unet, editing):
        if part.__name__ in args.parts:
            rows += part(device, args.batch, args.repeats)
            for line in rows:
                line["share_of_peak"] = line["tflops"] / peak if peak and line["tflops"] else None
            storage.write_json(args.out, found | {"rows": rows})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
