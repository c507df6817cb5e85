"""DataDream: the untuned model draws pictures, and an adapter's loss falls over a few steps.

The loss is compared on the same noise and times before and after, as its noise from step to step is
larger than what so few steps gain.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ...core import storage
from ...core.config import StudyConfig
from ...core.config_sections import ADAPTED, DataDreamSettings
from ...core.seeds import seed_for
from ...datadream import adapters, sampling
from ...models import loaders, precision
from ...models.pictures import BlackPicture
from ...training import recipes
from ..check import Check, Finding, judged
from ..watch import lost, watch
from ..workspace import Workspace
from .edits import BLACK

STEPS, WARMUP, DRAWS, DRAWN = 20, 2, 2, 4  # of training; batches of the fixed loss; pictures


def run(bench: Workspace) -> Iterator[Finding]:
    """Findings of the untuned pictures and of the adapter."""
    own, variants = bench.config.datadream, recipes.generators(bench.config.classify.recipes)
    if own is None or not variants:
        yield Finding("datadream", "recipes", "skip", "none asks for datadream", "-")
        return
    pipe = sampling.load(bench.config.models, bench.device)
    rows = bench.sample().split("train").head(own.batch_size)
    yield from _untuned(bench, pipe, own, list(rows["class_name"])[:DRAWN])
    if set(variants) & set(ADAPTED):
        shots = adapters.Shots.of(rows, storage.read_image, own.template)
        yield _learns(bench, pipe, own, shots)


def _untuned(
    bench: Workspace, pipe: Any, own: DataDreamSettings, names: list[str]
) -> Iterator[Finding]:
    prompts = [own.template.replace("{class}", n) for n in names]
    seeds = [seed_for(bench.config.seed, "preflight", i) for i in range(len(names))]
    started = time.perf_counter()
    fault = ""
    with watch() as seen:
        try:
            pictures = sampling.draw(pipe, prompts, seeds, own, bench.dtype)
        except BlackPicture as error:  # at which the stage would stop
            pictures, fault = [], str(error)
    rate = len(pictures) / (time.perf_counter() - started)
    for variant in recipes.generators(bench.config.classify.recipes) if pictures else []:
        bench.rates["05_datadream", f"{bench.dataset} {variant}"] = rate
    for prompt, picture in zip(prompts, pictures):
        bench.show("datadream, untuned", prompt, picture)
    bad = lost(seen)
    yield judged(
        "datadream",
        "untuned pictures, finite numbers",
        not bad,
        f"not finite: {'; '.join(bad)}" if bad else f"{len(pictures)} pictures, all finite",
        "latents and pictures that are finite",
        "set models.datadream.dtype or precision to bfloat16 or float32",
    )
    flat = sum(int(p.max()) <= BLACK or float(p.std()) < 1 for p in pictures)
    yield judged(
        "datadream",
        "untuned pictures, not black",
        not flat and not fault,
        fault or f"{flat} of {len(pictures)} are black or of one colour",
        "none",
        "see scheduler and precision of the text-to-image model; take its safety checker out",
    )


def _learns(bench: Workspace, pipe: Any, own: DataDreamSettings, shots: adapters.Shots) -> Finding:
    """Train STEPS steps on one batch and compare the loss on fixed noise."""
    short = own.model_copy(
        update={
            "epochs": STEPS,
            "warmup_steps": min(own.warmup_steps, WARMUP),
            "checkpoint_every": 10 * STEPS,
        }
    )
    out, seed = bench.folder / "adapter", seed_for(bench.config.seed, "preflight", "adapter")
    before = fixed_loss(bench, pipe, shots)
    try:
        curve = adapters.adapt(pipe, shots, short, out, seed, bench.dtype)
        pipe.load_lora_weights(str(out), weight_name=adapters.WEIGHTS)
        after = fixed_loss(bench, pipe, shots)
        pipe.unload_lora_weights()
        seen = f"{before:.4f} before, {after:.4f} after {len(curve)} steps"
    except ValueError as error:  # what the trainer itself stops at: a loss that is not finite
        after, seen = math.inf, str(error)
    still = math.isclose(before, after, rel_tol=1e-6)
    return judged(
        "datadream",
        f"loss over {STEPS} steps",
        after < before and not still,
        f"{seen}: the adapter changes nothing" if still else seen,
        "a lower loss on the same photographs, noise and times",
        f"{'raise' if still else 'lower'} datadream.lr ({own.lr:g}); train in float32 weights, "
        "as role datadream (dtype: float32)",
    )


@torch.no_grad()
def fixed_loss(bench: Workspace, pipe: Any, shots: adapters.Shots) -> float:
    """Mean loss over DRAWS batches of fixed noise and times."""
    from diffusers import DDPMScheduler

    side = pipe.unet.config.sample_size
    size, rng = side * pipe.vae_scale_factor, torch.Generator().manual_seed(0)
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    pixels = torch.stack([adapters.crop(i, size, rng) for i in shots.images]).to(bench.device)
    found = []
    with precision.autocast(bench.device, bench.dtype), loaders.short_attention(bench.device, side):
        states, _ = pipe.encode_prompt(shots.texts, bench.device, 1, False)
        for _ in range(DRAWS):
            found.append(float(adapters.loss_of(pipe, scheduler, pixels, states, rng)))
    return float(np.mean(found))


def roles(config: StudyConfig) -> tuple[str, ...]:
    """The text-to-image model, where recipes ask for it."""
    asked = bool(recipes.generators(config.classify.recipes)) and config.datadream is not None
    role = config.models.generator_role()
    return (role,) if asked and config.models.get(role) else ()


CHECK = Check(
    "datadream",
    "Does DataDream's model draw, and its adapter learn?",
    run,
    "out of memory: lower datadream.batch_size or datadream.rank",
    roles,
)
