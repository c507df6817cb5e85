"""DataDream: a text-to-image model learns a few photographs by LoRA, then draws a data set.

After "DataDream: Few-shot Guided Dataset Generation" (arXiv 2407.10910); its settings are in
PROTOCOL.md, C3. `cls` trains one adapter for each class, `dset` one for all of them. Its baselines
adapt nothing: `untuned` draws `candidates` times as many pictures from the class names and keeps
those of which CLIP is surest (as IsSynth does), `img2img` starts from a photograph of the few shots
and its caption, where the table has a column of that name (as DISEF does).

symbols   shots    photographs of a class that may be learned from, drawn from the train split
          latents  (B, c, h, w) of the pipeline's autoencoder, times its scaling factor
          target   the noise, or the velocity, as the pipeline's own scheduler was trained

Invariants (tests/unit/test_datadream.py): every random number comes from (seed, adapter, step) or
(seed, variant, class, index), so a training or a drawing that was killed goes on to the same bytes;
adapters are stored in diffusers' own format, and what is drawn is drawn from the stored ones.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..core import checkpoints, oom_retry, storage
from ..core.params import compute, roles
from ..core.seeds import seed_for, torch_generator
from ..models import classifiers, loaders, preprocess
from ..training.recipes import ADAPTED, BASELINES, few_shot
from ..workflow.run_record import Run

VARIANTS = (*ADAPTED, *BASELINES)
UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj"]
WEIGHTS, CHECKPOINT = "pytorch_lora_weights.safetensors", "checkpoint.safetensors"
ALL = "all classes"


def load(params: dict) -> Any:
    """The text-to-image pipeline of role "datadream", else of "prior"."""
    models = roles(params)
    return loaders.load_pipeline(
        models, "datadream" if models.datadream else "prior", compute(params)[0]
    )


@contextlib.contextmanager
def adapters(pipe: Any, cfg: dict, seed: int) -> Iterator[dict[str, torch.nn.Parameter]]:
    """New LoRA layers on UNet and, where asked, text encoder, the only weights that may change;
    they are gone again after the block. Yields {name: float32 parameter}."""
    from peft import LoraConfig

    parts = {"unet": (pipe.unet, UNET_LAYERS)}
    if cfg["text_encoder"]:
        parts["text_encoder"] = (pipe.text_encoder, TEXT_LAYERS)
    for module in (pipe.unet, pipe.text_encoder, pipe.vae):
        module.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "init"))
        for module, layers in parts.values():
            module.add_adapter(
                LoraConfig(
                    r=cfg["rank"],
                    lora_alpha=cfg["rank"],
                    init_lora_weights="gaussian",
                    target_modules=layers,
                )
            )
    weights = {
        f"{part}.{name}": p
        for part, (module, _) in parts.items()
        for name, p in module.named_parameters()
        if p.requires_grad
    }
    for parameter in weights.values():
        parameter.data = parameter.data.float()
    try:
        yield weights
    finally:
        pipe.unload_lora_weights()


def crop(picture: np.ndarray, size: int, rng: torch.Generator) -> torch.Tensor:
    """(H, W, 3) uint8 -> (3, size, size) in -1..1: shorter side to `size`, a random square."""
    from torchvision.transforms.v2 import functional as tvf

    image = torch.from_numpy(picture.copy()).permute(2, 0, 1)
    if min(image.shape[1:]) != size:
        image = tvf.resize(image, [size], antialias=True)
    y, x = (int(torch.randint(n - size + 1, (1,), generator=rng)) for n in image.shape[1:])
    return image[:, y : y + size, x : x + size].float() / 127.5 - 1


def learning_rate(step: int, steps: int, lr: float, warmup: int) -> float:
    """Linear over `warmup` steps, then half a cosine to zero."""
    if step < warmup:
        return lr * (step + 1) / warmup
    return lr * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def loss_of(
    pipe: Any, scheduler: Any, pixels: torch.Tensor, states: torch.Tensor, rng: torch.Generator
) -> torch.Tensor:
    """Mean squared error of the UNet's prediction for random noise and times."""
    device = pixels.device
    with torch.no_grad():
        encoded = pipe.vae.encode(pixels)
        latents = (
            encoded.latents
            if hasattr(encoded, "latents")
            else encoded.latent_dist.mean
            + encoded.latent_dist.std
            * torch.randn(encoded.latent_dist.mean.shape, generator=rng).to(device)
        )
        latents = (latents * pipe.vae.config.scaling_factor).float()
    noise = torch.randn(latents.shape, generator=rng).to(device)
    times = scheduler.config.num_train_timesteps
    t = torch.randint(times, (len(latents),), generator=rng).to(device)
    noisy = scheduler.add_noise(latents, noise, t)
    kind = scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"the scheduler's prediction_type is {kind!r}; epsilon and v_prediction can be trained"
        )
    target = noise if kind == "epsilon" else scheduler.get_velocity(latents, noise, t)
    return F.mse_loss(pipe.unet(noisy, t, states).sample.float(), target)


def adapt(
    pipe: Any,
    rows: pd.DataFrame,
    read: Callable[[str], np.ndarray],
    cfg: dict,
    out: Path,
    seed: int,
    params: dict,
    stop_after: int | None = None,
) -> list[float]:
    """Train LoRA layers on photographs and write them to `out`; returns the loss of every step.

    rows: path and class_name; read: path -> (H, W, 3) uint8. cfg: params["datadream"].
    A checkpoint in `out` is gone on from. stop_after: stop there, as if killed (for tests).
    """
    from diffusers import DDPMScheduler

    device, size = pipe.unet.device, pipe.unet.config.sample_size * pipe.vae_scale_factor
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    per_epoch = -(-len(rows) // cfg["batch_size"])
    steps, losses = per_epoch * cfg["epochs"], []
    pictures = [read(p) for p in rows["path"]]
    texts = [cfg["template"].replace("{class}", c) for c in rows["class_name"]]
    with adapters(pipe, cfg, seed) as weights:
        optimiser = torch.optim.AdamW(
            weights.values(), lr=cfg["lr"], weight_decay=cfg["weight_decay"]
        )
        if (out / CHECKPOINT).exists():
            saved = checkpoints.read(out / CHECKPOINT, device)
            for name, value in saved["weights"].items():
                weights[name].data.copy_(value)
            optimiser.load_state_dict(saved["optimiser"])
            losses = saved["losses"]
        for step in tqdm(
            range(len(losses), steps),
            initial=len(losses),
            total=steps,
            desc=out.name,
            mininterval=5,
        ):
            epoch, batch = divmod(step, per_epoch)
            order = torch.randperm(len(rows), generator=torch_generator(seed, "order", epoch))
            chosen = order[batch * cfg["batch_size"] :][: cfg["batch_size"]].tolist()
            rng = torch_generator(seed, "step", step)
            pixels = torch.stack([crop(pictures[i], size, rng) for i in chosen]).to(device)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps, cfg["lr"], cfg["warmup_steps"])
            with (
                oom_retry.named("lower datadream.batch_size or datadream.rank"),
                loaders.short_attention(device, pipe.unet.config.sample_size),
            ):
                with loaders.autocast(*compute(params)):
                    with contextlib.nullcontext() if cfg["text_encoder"] else torch.no_grad():
                        states, _ = pipe.encode_prompt([texts[i] for i in chosen], device, 1, False)
                    loss = loss_of(pipe, scheduler, pixels, states, rng)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimiser.step()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise ValueError(
                    f"{out.name}: the loss is {losses[-1]} at step {step + 1}; lower "
                    f"datadream.lr ({cfg['lr']}) or set precision to float32"
                )
            if len(losses) % cfg["checkpoint_every"] == 0:
                _checkpoint(out / CHECKPOINT, weights, optimiser, losses)
            if len(losses) == stop_after:
                return losses
        _save(pipe, out, cfg)
    storage.write_json(out / "losses.json", losses)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return losses


def _checkpoint(path: Path, weights: dict, optimiser: Any, losses: list[float]) -> None:
    checkpoints.write(
        path, {"weights": dict(weights), "optimiser": optimiser.state_dict(), "losses": losses}
    )


def _save(pipe: Any, out: Path, cfg: dict) -> None:
    """One safetensors file, as `pipe.load_lora_weights` reads it."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save

    state = {
        f"unet.{k}": v
        for k, v in convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet)).items()
    }
    if cfg["text_encoder"]:
        text = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.text_encoder))
        state |= {f"text_encoder.{k}": v for k, v in text.items()}
    tensors = {k: state[k].detach().cpu().contiguous() for k in sorted(state)}
    storage.write_bytes(out / WEIGHTS, save(tensors, {"format": "pt"}))


@torch.no_grad()
def draw(
    pipe: Any,
    prompts: list[str],
    seeds: list[int],
    cfg: dict,
    params: dict,
    starts: list[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """One picture for each prompt and seed, (H, W, 3) uint8; a picture knows its own seed alone.

    starts: pictures to start from, for a pipeline of image to image.
    """
    states, _ = pipe.encode_prompt(prompts, pipe.unet.device, 1, False)
    empty, _ = pipe.encode_prompt("", pipe.unet.device, 1, False)
    more = {}
    if starts is not None:
        side = pipe.unet.config.sample_size * pipe.vae_scale_factor
        more = {
            "image": [
                Image.fromarray(s).resize((side, side), Image.Resampling.LANCZOS) for s in starts
            ],
            "strength": cfg.get("img2img_strength", 0.7),
        }
    generators = [torch.Generator("cpu").manual_seed(s) for s in seeds]
    with loaders.autocast(*compute(params)):
        made = pipe(
            prompt_embeds=states,
            negative_prompt_embeds=empty.repeat(len(seeds), 1, 1),
            num_inference_steps=cfg["steps"],
            guidance_scale=cfg["guidance_scale"],
            generator=generators,
            **more,
        ).images
    return [np.asarray(picture.convert("RGB")) for picture in made]


def make(run: Run, table: pd.DataFrame, variant: str) -> tuple[pd.DataFrame, dict[str, list]]:
    """Adapt, then draw: files to files, for 05_datadream. Returns samples.parquet's rows and the
    losses of each adapter. What was finished before a kill is kept."""
    if variant not in VARIANTS:
        raise ValueError(f"variant is {variant!r}, wanted one of {VARIANTS}")
    cfg, seed = run.params["datadream"], run.params["seed"]
    shots = few_shot(table, cfg["shots"], seed)
    _forget_other_settings(run, shots, variant)
    storage.write_table(run.out / "few_shot.csv", shots[["image_id", "class_name", "sha256"]])
    pipe = load(run.params)
    names = shots.drop_duplicates("label").set_index("class_name")["label"]
    if variant in BASELINES:
        samples = _baseline(run, pipe, variant, shots)
        storage.write_table(run.out / "samples.parquet", samples)
        return samples, {}
    groups = {ALL: shots} if variant == "dset" else dict(tuple(shots.groupby("class_name")))
    losses, rows = {}, []
    for group, members in groups.items():
        home = run.out / "adapters" / storage.slug(group)
        if not (home / "losses.json").exists():
            adapt(
                pipe,
                members,
                lambda p: storage.read_image(run.study / p),
                cfg,
                home,
                seed_for(seed, "datadream", variant, group),
                run.params,
            )
        losses[group] = storage.read_json(home / "losses.json")
    for group, home in ((g, run.out / "adapters" / storage.slug(g)) for g in groups):
        pipe.load_lora_weights(str(home), weight_name=WEIGHTS)
        for name in names.index if variant == "dset" else [group]:
            rows += _draw_class(
                run,
                pipe,
                variant,
                name,
                int(names[name]),
                storage.sha256_file(home / WEIGHTS),
                cfg["images_per_class"],
            )
        pipe.unload_lora_weights()
    samples = pd.DataFrame(rows)
    storage.write_table(run.out / "samples.parquet", samples)
    return samples, losses


def _forget_other_settings(run: Run, shots: pd.DataFrame, variant: str) -> None:
    """Adapters and pictures of other settings, photographs or models go."""
    stamp = storage.sha256_json(
        [
            run.params["datadream"],
            run.params["seed"],
            variant,
            loaders.describe(roles(run.params)),
            shots["sha256"].tolist(),
        ]
    )
    path = run.out / "stamp.json"
    if path.exists() and storage.read_json(path) == stamp:
        return
    for old in [*run.out.glob("adapters/*/*"), *run.out.glob("images/*.png")]:
        old.unlink()
    storage.write_json(path, stamp)


def _baseline(run: Run, pipe: Any, variant: str, shots: pd.DataFrame) -> pd.DataFrame:
    """The pictures of a model that learned nothing."""
    cfg, rows = run.params["datadream"], []
    if variant == "img2img":
        from diffusers import AutoPipelineForImage2Image

        pipe = AutoPipelineForImage2Image.from_pipe(pipe)
        pipe.set_progress_bar_config(disable=True)
    count = cfg["images_per_class"] * (cfg.get("candidates", 2) if variant == "untuned" else 1)
    for (label, name), members in shots.groupby(["label", "class_name"]):
        rows += _draw_class(
            run,
            pipe,
            variant,
            name,
            int(label),
            "",
            count,
            members if variant == "img2img" else None,
        )
    samples = pd.DataFrame(rows)
    if variant == "untuned":
        samples = samples.assign(probability=_probability(run, samples))
        best = samples.groupby("label")["probability"].rank(method="first", ascending=False)
        samples = samples[best <= cfg["images_per_class"]].reset_index(drop=True)
    return samples


@torch.no_grad()
def _probability(run: Run, samples: pd.DataFrame) -> np.ndarray:
    """(N,) CLIP's zero-shot probability, 0..1, that a picture is of the class it was drawn for."""
    names = samples.drop_duplicates("label").sort_values("label")["class_name"].tolist()
    net = classifiers.ClipNetwork(
        run.params["models"]["clip"],
        names,
        [run.params["datadream"]["template"]],
        compute(run.params)[0],
    )
    place = samples["class_name"].map({n: i for i, n in enumerate(names)}).to_numpy()
    context, out = net.context(), []
    for i in range(0, len(samples), 64):
        pictures = [storage.read_image(run.study / p) for p in samples["path"].iloc[i : i + 64]]
        pixels = preprocess.network_input(pictures, net.preprocess, net.device)
        shares = net.logits(pixels, context).softmax(1).cpu().numpy()
        out.append(shares[np.arange(len(shares)), place[i : i + 64]])
    return np.concatenate(out)


def _draw_class(
    run: Run,
    pipe: Any,
    variant: str,
    name: str,
    label: int,
    adapter: str,
    count: int,
    starts: pd.DataFrame | None = None,
) -> list[dict]:
    """`count` pictures of a class; starts: photographs to start from, by turns."""
    cfg, rows = run.params["datadream"], []
    folder = run.out.relative_to(run.study) / "images"
    for index in range(count):
        source = None if starts is None else starts.iloc[index % len(starts)]
        caption = None if source is None else source.get("caption")
        prompt = (
            caption
            if isinstance(caption, str) and caption.strip()
            else cfg["template"].replace("{class}", name)
        )
        sample = f"{name}-{variant}-{index:05d}"
        rows.append(
            {
                "image_id": sample,
                "path": (folder / f"{storage.slug(sample)}.png").as_posix(),
                "label": label,
                "class_name": name,
                "variant": variant,
                "k": index,
                "prompt": prompt,
                "adapter": adapter,
                "source": "" if source is None else source["path"],
                "seed": seed_for(run.params["seed"], "draw", variant, name, index),
                "models": storage.to_json(loaders.describe(roles(run.params))),
            }
        )

    def drawn(part: list[dict]) -> list[np.ndarray]:
        begin = [storage.read_image(run.study / r["source"]) for r in part if r["source"]]
        return draw(
            pipe,
            [r["prompt"] for r in part],
            [r["seed"] for r in part],
            cfg,
            run.params,
            begin or None,
        )

    for i in range(0, len(rows), cfg["batch_size"]):  # batches are fixed, and redone whole
        part = rows[i : i + cfg["batch_size"]]
        if all((run.study / r["path"]).exists() for r in part):
            continue
        made = oom_retry.in_parts(drawn, part)
        for row, picture in zip(part, made, strict=True):
            storage.write_image(run.study / row["path"], picture)
    return [r | {"sha256": storage.sha256_file(run.study / r["path"])} for r in rows]
