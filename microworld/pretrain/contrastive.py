"""The micro CLIP: a plain open_clip ViT and text tower, small, with a vocabulary of its own.

Pretraining captions name the kind (car, dog), the attributes, the scene and parts of the shape; the
fine class by its name only seldom and often wrongly, as on the web. So the features know the shapes
while the names do not yet: the head-room that fine-tuning on real photographs is there to use.

Auxiliary linear heads on the pooled image features (the
attributes, the shape phrases, the shape's number) and on the tokens (where the object is, and what
its surface is: through the pooled features alone, textures stay at chance) speed up a ViT that
starts from nothing; they are thrown away, and no head ever sees a word: what a class is called, the
text tower learns from captions alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from .. import captions
from ..feasibility import FAMILIES
from ..render import Spec, class_names
from .data import ATTRIBUTES, labels
from .trainer import FitSettings, fit, half, on
from .vocabulary import END, MAX_LENGTH, START, build_tokenizer

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
COVERED = 0.6  # share of a token's pixels on the object, from which it is asked for its texture
WEIGHTS = "open_clip_model.safetensors"


def config(vocab_size: int) -> dict:
    """The open_clip model configuration: ViT with 16-pixel patches on 128 pixels, 64 tokens."""
    return {
        "embed_dim": 128,
        "quick_gelu": False,
        "vision_cfg": {
            "image_size": 128,
            "layers": 4,
            "width": 160,
            "patch_size": 16,
            "head_width": 32,
            "mlp_ratio": 3.0,
            "pool_type": "avg",
        },
        "text_cfg": {
            "context_length": MAX_LENGTH,
            "vocab_size": vocab_size,
            "width": 128,
            "heads": 4,
            "layers": 2,
            "hf_tokenizer_name": "tokenizer",
        },
    }


def prepare(folder: Path) -> dict:
    """Write tokenizer and configuration to `folder` for open_clip; return the vocabulary."""
    tokenizer = build_tokenizer(captions.vocabulary(), folder)
    wrapped = {
        "model_cfg": config(len(tokenizer)),
        "preprocess_cfg": {
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(wrapped, indent=1))
    return tokenizer.get_vocab()


def tokens(texts: list[str], vocab: dict[str, int]) -> torch.Tensor:
    """(B, MAX_LENGTH) int64 token ids, padded with END; ids as the saved tokenizer gives them."""
    rows = [[vocab[START], *(vocab[f"{w}</w>"] for w in t.split()), vocab[END]] for t in texts]
    return torch.tensor([(r + [vocab[END]] * MAX_LENGTH)[:MAX_LENGTH] for r in rows])


class Heads(nn.Module):
    """Auxiliary tasks of pretraining: attribute classes, shape phrases, object mask per token."""

    def __init__(self, width: int, tokens_width: int, phrases: int, taught: int):
        super().__init__()
        keys = ("family", "background", "texture", "color", "class_name")
        self.classes = nn.ModuleDict({k: nn.Linear(width, len(ATTRIBUTES[k])) for k in keys})
        self.phrases = nn.Linear(width, phrases)
        self.where = nn.Linear(tokens_width, 16)
        self.surface = nn.Linear(tokens_width, len(ATTRIBUTES["texture"]))
        self.taught = nn.Linear(tokens_width, taught)


def phrase_table() -> tuple[list[str], np.ndarray]:
    """All shape phrases, and (24, P) 0/1: which fine class has which, rows as ATTRIBUTES."""
    pairs = [(f, n) for f in FAMILIES for n in class_names(f)]
    words = sorted({(f, p) for f, n in pairs for p in captions.shape_phrases(f, n)})
    table = np.array(
        [[g == f and p in captions.shape_phrases(f, n) for g, p in words] for f, n in pairs],
        np.float32,
    )
    return [p for _, p in words], table


@dataclass(frozen=True)
class Naming:
    """Shares of captions that name the fine class: rightly, or another one of the same kind."""

    right: float = 0.03
    wrong: float = 0.06


def caption(spec: Spec, rng: np.random.Generator, naming: Naming) -> str:
    """A caption of a picture as the web has them."""
    if rng.random() < naming.wrong:  # somebody took it for another one of its kind
        others = [
            n
            for n in class_names(spec.family)
            if captions.kind(spec.family, n) == captions.kind(spec.family, spec.class_name)
        ]
        spec = Spec(
            spec.family,
            str(rng.choice(others)),
            spec.color,
            spec.texture,
            spec.background,
            spec.seed,
        )
        if naming.right < 1:
            return captions.describe(spec, rng, 1.0, 0.3, 0.3, 0.0)
    return captions.describe(spec, rng, naming.right, 0.45, 0.45, 0.5)


def train(
    pixels: np.ndarray,
    specs: list[Spec],
    folder: Path,
    settings: FitSettings,
    naming: Naming = Naming(),
    device: str = "cpu",
    teacher: nn.Module | None = None,
) -> tuple[nn.Module, dict]:
    """pixels (N, 128, 128, 4) uint8 with mask bits; writes open_clip files to `folder` at the end,
    and continues from weights that lie there.

    teacher: a convolutional network whose `maps` the tokens imitate: convolutions see edges at
    once, which attention would have to learn.
    """
    vocab = prepare(folder)
    shipped = folder / WEIGHTS
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}", load_weights=False)
    if shipped.exists():
        open_clip.load_checkpoint(model, str(shipped))
    model.float().visual.output_tokens = True
    cfg, phrases = config(len(vocab)), len(phrase_table()[0])
    taught = teacher.width if teacher else 1
    heads = Heads(cfg["embed_dim"], cfg["vision_cfg"]["width"], phrases, taught).to(device)
    model = model.to(device)
    sample = _sampler(pixels, specs, vocab, settings.batch, naming)
    loss_of = _loss_function(model, heads, teacher)
    report = fit({"clip": model, "heads": heads}, sample, loss_of, settings)
    model.visual.output_tokens = False
    save(model, folder)
    return model, report


def _sampler(
    pixels: np.ndarray, specs: list[Spec], vocab: dict[str, int], batch: int, naming: Naming
) -> Callable[[int, np.random.Generator], dict]:
    """(step, rng) -> a batch: pixels and their moves, captions, labels."""
    truth, (_, table) = labels(specs), phrase_table()

    def sample(step: int, rng: np.random.Generator) -> dict:
        rows = np.sort(rng.integers(len(pixels), size=batch))
        moved = moves(batch, rng)
        texts = [caption(specs[i], rng, naming) for i in rows]
        return moved | {
            "pixels": pixels[rows],
            "tokens": tokens(texts, vocab),
            "caption": np.unique(texts, return_inverse=True)[1],
            "phrases": table[truth["class_name"][rows]],
            **{k: v[rows] for k, v in truth.items()},
        }

    return sample


def _loss_function(
    model: nn.Module, heads: Heads, teacher: nn.Module | None
) -> Callable[[int, dict], tuple[torch.Tensor, dict]]:
    """(step, batch) -> loss, and its parts to log."""

    def loss_of(step: int, given: dict) -> tuple[torch.Tensor, dict]:
        images, where = augment(given["pixels"], given)
        with half(images.device):
            pooled, patches = model.visual(images)
            written = model.encode_text(given["tokens"])
            scores = {k: head(pooled) for k, head in heads.classes.items()}
            shapes, cover = heads.phrases(pooled), heads.where(patches)
            surface, copied = heads.surface(patches), heads.taught(patches)
            with torch.no_grad():
                goal = teacher.maps(images, where) if teacher else torch.zeros_like(copied)
        each = {k: F.cross_entropy(v.float(), given[k]) for k, v in scores.items()}
        parts = {
            "contrast": contrast(pooled, written, model.logit_scale, given["caption"]),
            "taught": F.mse_loss(copied.float(), goal.float()),
            "shape": F.binary_cross_entropy_with_logits(shapes.float(), given["phrases"]),
            "surface": _surface_loss(surface, given["texture"], where),
            "mask": F.binary_cross_entropy_with_logits(cover.float(), where),
        }
        heads_loss = sum(each.values()) / len(each) + each["class_name"]
        loss = (
            parts["contrast"]
            + 0.5 * heads_loss
            + 2 * parts["shape"]
            + parts["mask"]
            + 2 * parts["taught"]
            + parts["surface"]
        )
        return loss, parts | each

    return loss_of


def contrast(
    pooled: torch.Tensor, written: torch.Tensor, scale: torch.Tensor, caption: torch.Tensor
) -> torch.Tensor:
    """CLIP's loss, in which equal captions are positives of each other."""
    a, b = F.normalize(pooled.float(), dim=-1), F.normalize(written.float(), dim=-1)
    logits = scale.clamp(max=4.0).exp() * a @ b.T
    same = (caption[:, None] == caption).float()
    same = same / same.sum(1, keepdim=True)
    return (
        -(same * logits.log_softmax(1)).sum(1).mean() / 2
        - (same * logits.T.log_softmax(1)).sum(1).mean() / 2
    )


def _surface_loss(
    surface: torch.Tensor, texture: torch.Tensor, where: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of the texture, of the tokens that lie on the object."""
    inside = where.mean(2) > COVERED  # (B, 64)
    each = F.cross_entropy(
        surface.float().flatten(0, 1),
        texture.repeat_interleave(inside.shape[1]),
        reduction="none",
    )
    return (each * inside.flatten()).sum() / inside.sum().clamp_min(1)


def save(model: nn.Module, folder: Path) -> None:
    """Weights in float16 safetensors beside the configuration."""
    state = {k: v.cpu().half().contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / WEIGHTS)


def coverage(cells: torch.Tensor) -> torch.Tensor:
    """Token targets (B, 64, 16) of `augment` -> coverage (B, 1, 32, 32) in 0..1."""
    count = len(cells)
    return cells.view(count, 8, 8, 4, 4).permute(0, 1, 3, 2, 4).reshape(count, 1, 32, 32)


def moves(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What `augment` does to each of `count` pictures: shift, scale and flip as "theta" (count, 2,
    3), brightness as "gain" (count, 1, 1, 1), float32."""
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 1, 1] = rng.uniform(0.75, 1.1, count)
    theta[:, 0, 0] = theta[:, 1, 1] * rng.choice([-1.0, 1.0], count)
    theta[:, :, 2] = rng.uniform(-0.12, 0.12, (count, 2))
    return {"theta": theta, "gain": rng.uniform(0.9, 1.1, (count, 1, 1, 1)).astype(np.float32)}


def augment(raw: torch.Tensor, move: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (B, 128, 128, 4) uint8 as `moves` says -> images (B, 3, 128, 128), masks (B, 64, 16).

    The mask target of a token is the object's coverage in its 4 x 4 cells of 4 x 4 pixels.
    """
    image = raw[..., :3].permute(0, 3, 1, 2).float() / 127.5 - 1
    mask = (raw[..., 3:] & 1).permute(0, 3, 1, 2).float()
    count = len(raw)
    grid = F.affine_grid(move["theta"], [count, 1, 128, 128], align_corners=False)
    moved = F.grid_sample(
        torch.cat([image, mask], 1), grid, padding_mode="reflection", align_corners=False
    )
    cells = F.avg_pool2d(moved[:, 3:], 4)  # (B, 1, 32, 32)
    cells = cells.reshape(count, 8, 4, 8, 4).permute(0, 1, 3, 2, 4).reshape(count, 64, 16)
    return (moved[:, :3] * move["gain"]).clamp(-1, 1), cells


@torch.no_grad()
def image_features(model: nn.Module, pixels: np.ndarray, batch: int = 100) -> torch.Tensor:
    """(N, 128, 128, 3) uint8 -> (N, D) unit vectors."""
    out = []
    for i in range(0, len(pixels), batch):
        x = torch.from_numpy(np.ascontiguousarray(pixels[i : i + batch, ..., :3]))
        x = x.to(on(model)).permute(0, 3, 1, 2).float() / 127.5 - 1
        out.append(F.normalize(model.encode_image(x).float(), dim=-1).cpu())
    return torch.cat(out)


@torch.no_grad()
def text_features(model: nn.Module, vocab: dict, sentences: list[str]) -> torch.Tensor:
    """(N, D) unit vectors of N sentences."""
    written = model.encode_text(tokens(sentences, vocab).to(on(model))).float().cpu()
    return F.normalize(written, dim=-1)


@torch.no_grad()
def zero_shot(
    model: nn.Module, vocab: dict, pixels: np.ndarray, sentences: list[str], truth: np.ndarray
) -> float:
    """Accuracy 0..1 of choosing the right sentence for each picture."""
    guess = (image_features(model, pixels) @ text_features(model, vocab, sentences).T).argmax(1)
    guess = guess.numpy()
    return float((guess == truth).mean())
