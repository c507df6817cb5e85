"""`python -m bench.memory`: GPU memory of each network at the paper's sizes, without a GPU.

    python -m bench.memory [--only NAME ...] [--out varireal_utils/workflow/memory.json]

Networks are built from architectures.yaml on torch's meta device (trainings: as fake tensors, with
a GPU's autocast) and run once; a dispatch mode adds up the storages that are alive. No weights, no
network, no GPU. Two batches give a line: bytes = fixed + image x images. `plan` reads the table.

    working   bytes beside the weights, at the worst moment of a pass
    kinds     denoise   one denoising pass of so many rows (guidance: two rows an image)
              control   the same with a ControlNet's pass before it
              decode    the autoencoder's decoder
              prefill   a vision-language model reads a picture and a question
              find      a detector's, or a segmenter's, pass
              adapt     DataDream's training step; train: CLIP's

Fused attention is taken for granted (no matrix of all pairs), as on any card since Turing. Not
counted: the CUDA context, cuDNN's work space, gaps of the allocator; `plan` allows for them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from varireal_utils.core import storage
from varireal_utils.workflow import memory

META = torch.device("meta")
SIZES = (512, 768, 1024)
TOKENS, TILES = 2_400, 5  # of LLaVA-1.6: a square picture of 672 pixels, and its thumbnail


class Live(TorchDispatchMode):
    """Context that adds up the bytes of storages that are alive: .now, .peak."""

    def __init__(self, *known: torch.nn.Module):
        """known: networks whose weights are not counted."""
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        for net in known:
            for tensor in (*net.parameters(), *net.buffers()):
                self._seen[tensor.untyped_storage()] = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it makes."""
        fused = func.overloadpacket.__name__.startswith("_fused_adam")  # in place, no fake kind
        out = None if fused and isinstance(args[0][0], FakeTensor) else func(*args, **kwargs or {})
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, held: Any) -> None:
        if held in self._seen:
            return
        size = -(-held.nbytes() // 512) * 512  # the allocator's blocks
        self._seen[held] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(held, self._freed, size)

    def _freed(self, size: int) -> None:
        self.now -= size


def _fused(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> torch.Tensor:
    """Attention as a fused kernel makes it: its output alone."""
    shape = (*query.shape[:-1], value.shape[-1])
    return torch.empty(shape, device=query.device, dtype=query.dtype)


def _fused_with_gradients(
    query: Any, key: Any, value: Any, *_: Any, is_causal: bool = False, **__: Any
) -> torch.Tensor:
    """The fused kernel that autograd knows; it keeps inputs, output and a number a row."""
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    return kernel(query, key, value, None, True, 0.0, is_causal)[0]


@contextlib.contextmanager
def building(dtype: torch.dtype, device: torch.device = META) -> Iterator[None]:
    """Build networks of a type on a device that holds nothing."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def network(name: str, dtype: torch.dtype = torch.float16) -> torch.nn.Module:
    """A network of architectures.yaml, on the meta device."""
    spec = memory.architectures()["networks"][name]
    library, _, kind = spec["class"].partition(".")
    made = getattr(importlib.import_module(library), kind)
    with building(dtype):
        if library == "transformers":
            net = made(made.config_class(**spec["config"]))
        else:
            net = made.from_config(spec["config"])
    return net.eval().requires_grad_(False).to(dtype)


def peak(call: Callable[[], Any], *known: torch.nn.Module) -> int:
    """Bytes of a call beside the weights of the networks `known`, without gradients."""
    with (
        mock.patch.object(F, "scaled_dot_product_attention", _fused),
        torch.no_grad(),
        Live(*known) as live,
        META,
    ):
        call()
    return live.peak


def _latents(net: Any, rows: int, size: int) -> dict[str, torch.Tensor]:
    """The inputs of a UNet, or of a ControlNet, for so many rows of pictures of `size` pixels."""
    own, dtype = net.config, net.dtype
    given = {
        "sample": torch.empty(rows, own.in_channels, size // 8, size // 8, dtype=dtype),
        "timestep": torch.empty(rows, dtype=torch.long),
        "encoder_hidden_states": torch.empty(rows, 77, own.cross_attention_dim, dtype=dtype),
    }
    if own.addition_embed_type:
        texts = torch.empty(rows, 1280, dtype=dtype)
        given["added_cond_kwargs"] = {"text_embeds": texts, "time_ids": texts[:, :6]}
    return given


def denoise(name: str, rows: int, size: int) -> int:
    """One pass of a denoiser."""
    net = network(name, torch.bfloat16 if name.startswith("flux") else torch.float16)
    if name.startswith("flux"):
        return peak(lambda: net(**_packed(rows, size)), net)
    return peak(lambda: net(**_latents(net, rows, size)), net)


def _packed(rows: int, size: int) -> dict[str, torch.Tensor]:
    """The inputs of FLUX.1 Fill."""
    cells, kind = (size // 16) ** 2, torch.bfloat16
    return {
        "hidden_states": torch.empty(rows, cells, 384, dtype=kind),
        "encoder_hidden_states": torch.empty(rows, 512, 4096, dtype=kind),
        "pooled_projections": torch.empty(rows, 768, dtype=kind),
        "timestep": torch.empty(rows, dtype=kind),
        "guidance": torch.empty(rows, dtype=kind),
        "img_ids": torch.empty(cells, 3, dtype=kind),
        "txt_ids": torch.empty(512, 3, dtype=kind),
    }


def control(name: str, rows: int, size: int) -> int:
    """A ControlNet's pass, and the UNet's that takes its outputs."""
    control_net, net = network("sdxl_controlnet"), network(name)

    def both() -> None:
        given = _latents(control_net, rows, size)
        lines = torch.empty(rows, 3, size, size, dtype=net.dtype)
        down, mid = control_net(**given, controlnet_cond=lines, return_dict=False)
        more = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        net(**_latents(net, rows, size), **more)

    return peak(both, control_net, net)


def decode(name: str, rows: int, size: int) -> int:
    """The decoder of an autoencoder."""
    net = network(name)
    channels = net.config.latent_channels
    shape = (rows, channels, size // 8, size // 8)
    return peak(lambda: net.decode(torch.empty(shape, dtype=net.dtype)), net)


def prefill(name: str, rows: int, size: int) -> int:
    """A language model over a picture's tokens and a question; the picture's tiles before it."""
    language, sight = network(name, torch.bfloat16), network("llava_vision", torch.bfloat16)
    width, kind = language.config.hidden_size, torch.bfloat16

    def both() -> None:
        tiles = torch.empty(rows * TILES, 3, 336, 336, dtype=kind)
        sight(tiles, output_hidden_states=True)
        given = torch.empty(rows, TOKENS, width, dtype=kind)
        places = torch.empty(rows, TOKENS, dtype=torch.long)
        language(inputs_embeds=given, position_ids=places, logits_to_keep=1)

    def without_mask(*_: Any, **__: Any) -> None:
        return None  # fused attention is causal by itself

    module = importlib.import_module(type(language).__module__)
    with mock.patch.object(module, "create_causal_mask", without_mask):
        return peak(both, language, sight)


def adapt(name: str, rows: int, size: int) -> int:
    """DataDream's training step: LoRA of rank 16 on UNet and text encoder, float32 weights under
    bfloat16 autocast, gradients and AdamW's memory."""
    from varireal_utils.datadream.adapters import TEXT_LAYERS, UNET_LAYERS

    specs = memory.architectures()["networks"]
    with FakeTensorMode(), fused_training():
        import diffusers
        import transformers

        net = diffusers.UNet2DConditionModel.from_config(specs[name]["config"])
        made = transformers.CLIPTextModel
        text = made(made.config_class(**specs["clip_h_text"]["config"]))
        for module, layers in ((net, UNET_LAYERS), (text, TEXT_LAYERS)):
            module.requires_grad_(False)
            _adapted(module, layers)
        weights = [p for m in (net, text) for p in m.parameters() if p.requires_grad]
        with Live(net, text) as live:
            of_adamw = [torch.empty_like(p) for p in weights for _ in range(2)]
            with torch.autocast("cpu", torch.bfloat16), gpu_norms():
                states = text(torch.zeros(rows, 77, dtype=torch.long)).last_hidden_state
                latents = torch.empty(rows, 4, size // 8, size // 8)
                times = torch.zeros(rows, dtype=torch.long)
                out = net(latents, times, states).sample
                loss = F.mse_loss(out.float(), torch.empty_like(latents))
            loss.backward()
        assert of_adamw
    return live.peak


class _Adapted(torch.nn.Module):
    """A frozen product with LoRA beside it, as peft computes it."""

    def __init__(self, base: torch.nn.Linear, rank: int = 16):
        super().__init__()
        self.base = base
        self.down = torch.nn.Linear(base.in_features, rank, bias=False)
        self.up = torch.nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """base(x) + scale * up(down(x))."""
        out = self.base(x)
        return out + self.up(self.down(x)) * 1.0


def _adapted(net: torch.nn.Module, layers: list[str]) -> None:
    """Put LoRA beside the layers whose names end so."""
    for name, module in list(net.named_modules()):
        if isinstance(module, torch.nn.Linear) and name.endswith(tuple(layers)):
            above, _, last = name.rpartition(".")
            setattr(net.get_submodule(above), last, _Adapted(module))


@contextlib.contextmanager
def gpu_norms() -> Iterator[None]:
    """Normalisations in float32, as autocast of a GPU has them and that of a CPU has not."""

    def full(norm: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda x, *args, **more: norm(x.float(), *args, **more)

    with (
        mock.patch.object(F, "group_norm", full(F.group_norm)),
        mock.patch.object(F, "layer_norm", full(F.layer_norm)),
    ):
        yield


def fused_training() -> contextlib.AbstractContextManager:
    """Fused attention with gradients."""
    return mock.patch.object(F, "scaled_dot_product_attention", _fused_with_gradients)


def train(classes: int, rows: int) -> int:
    """CLIP ViT-B/16's captured training step, weights and all."""
    from bench.counting import vit_b_16_step
    from varireal_utils.models import preprocess

    with FakeTensorMode(allow_non_fake_inputs=True), Live() as live:
        step, pixels, chosen = vit_b_16_step(torch.device("cuda"), classes, rows)
        step(0, pixels, chosen)
        step(1, pixels, chosen)
    preprocess._channels.cache_clear()  # it holds fake tensors
    return live.peak


def find(name: str, rows: int, size: int) -> int:
    """The backbone of a detector or segmenter, in float32; what follows it works on few tokens."""
    net: Any = network(name, torch.float32)
    backbone = net.vision_encoder if hasattr(net, "vision_encoder") else net.model.backbone
    pixels = (rows, 3, size, size)
    if hasattr(net, "vision_encoder"):
        return peak(lambda: backbone(torch.empty(pixels)), net)
    mask = (rows, size, size)
    return peak(lambda: backbone(torch.empty(pixels), torch.empty(mask)), net)


def rows() -> Iterator[tuple[str, str, int, Callable[[int], int]]]:
    """(kind, network, size in pixels, bytes of a batch) of the table."""

    def of(kind: Callable[[str, int, int], int], name: str, size: int) -> Callable[[int], int]:
        return lambda count: kind(name, count, size)

    for size in SIZES:
        for name in ("sdxl_inpaint_unet", "sdxl_unet", "sd21_unet"):
            yield "denoise", name, size, of(denoise, name, size)
        for name in ("sdxl_inpaint_unet", "sdxl_unet"):
            yield "control", name, size, of(control, name, size)
        yield "decode", "autoencoder", size, of(decode, "autoencoder", size)
    yield "denoise", "instruct_unet", 512, of(denoise, "instruct_unet", 512)
    yield "denoise", "flux_transformer", 1024, of(denoise, "flux_transformer", 1024)
    yield "decode", "flux_autoencoder", 1024, of(decode, "flux_autoencoder", 1024)
    yield "prefill", "llava_language", 672, of(prefill, "llava_language", 672)
    yield "adapt", "sd21_unet", 512, of(adapt, "sd21_unet", 512)
    yield "find", "grounding_dino", 1333, of(find, "grounding_dino", 1333)
    yield "find", "sam2", 1024, of(find, "sam2", 1024)
    for classes in (37, 196):
        yield "train", "clip_b16", classes, lambda count, c=classes: train(c, count)


def parameters() -> dict[str, dict[str, float]]:
    """Network -> millions of parameters, and of those that bitsandbytes quantises."""
    out = {}
    for name in memory.architectures()["networks"]:
        net = network(name)
        linear = [m for n, m in net.named_modules() if _quantised(n, m)]
        out[name] = {
            "millions": sum(p.numel() for p in net.parameters()) / 1e6,
            "linear_millions": sum(m.weight.numel() for m in linear) / 1e6,
        }
    return out


def _quantised(name: str, module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear) and name != "lm_head"


def line(count: Callable[[int], int], batches: tuple[int, int]) -> dict[str, float]:
    """Fixed and image, in GB (1e9 bytes), through two batches."""
    one, two = (count(b) / 1e9 for b in batches)
    slope = (two - one) / (batches[1] - batches[0])
    return {"fixed_gb": round(one - slope * batches[0], 4), "image_gb": round(slope, 5)}


def main(words: list[str] | None = None) -> int:
    """Compute and write the table; --only keeps the other rows as they are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="kinds or networks")
    parser.add_argument("--out", type=Path, default=memory.TABLE)
    args = parser.parse_args(words)
    known = storage.read_json(args.out) if args.out.is_file() else {"rows": []}
    made = {(r["kind"], r["network"], r["size"]): r for r in known["rows"]}
    for kind, name, size, count in rows():
        if args.only and not {kind, name} & set(args.only):
            continue
        batches = (32, 64) if kind == "train" else (2, 4)
        row = {"kind": kind, "network": name, "size": size, **line(count, batches)}
        made[kind, name, size] = row
        print(row, flush=True)
        found = {"torch": torch.__version__, "networks": known.get("networks", {})}
        storage.write_json(args.out, found | {"rows": [made[k] for k in sorted(made)]})
    if not args.only or "parameters" in args.only:
        known = storage.read_json(args.out)
        storage.write_json(args.out, known | {"networks": parameters()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
