"""Random checkpoints of the paper's classes, as small as they go, in the hub's own layout.

They prove that loaders and stages work with those classes; what they paint is noise.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxTransformer2DModel,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

TOKENIZER = Path(__file__).resolve().parents[1] / "models/micro/text2image/tokenizer"
SMALL = {
    "sample_size": 8,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "block_out_channels": (8, 16),
    "attention_head_dim": 4,
    "use_linear_projection": True,
}
XL = {
    "cross_attention_dim": 32,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 16 + 6 * 8,
}


def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(TOKENIZER)


def text_encoder(kind=CLIPTextModel) -> CLIPTextModel:
    words = tokenizer()
    return kind(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            projection_dim=16,
            max_position_embeddings=words.model_max_length,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    ).eval()


def autoencoder() -> AutoencoderKL:
    """Downsamples by 2 only, so that 8 x 8 latents are 16 x 16 pixels."""
    return AutoencoderKL(
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )


def unet(channels: int = 4, **more) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        in_channels=channels,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **SMALL,
        **({"cross_attention_dim": 16} | more),
    )


def sd21(folder: Path) -> Path:
    """The classes of Stable Diffusion 2.1: the prior's model, and DataDream's."""
    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=unet(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def instruct(folder: Path) -> Path:
    """The classes of InstructPix2Pix, with eight input channels."""
    torch.manual_seed(3)
    StableDiffusionInstructPix2PixPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=unet(8),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def flux_fill(folder: Path) -> Path:
    """The classes of FLUX.1 Fill: a transformer over packed latents, T5 beside CLIP."""
    torch.manual_seed(4)
    letters = [(c, -6.0) for c in "abcdefghijklmnopqrstuvwxyz-,()'"]
    words = T5TokenizerFast(
        extra_ids=0,
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -3.0), *letters],
    )
    vae = autoencoder()  # factor 2, 4 channels: 4 x 4 packed latents, twice, and 4 x 4 of the mask
    vae.register_to_config(shift_factor=0.0)
    FluxFillPipeline(
        vae=vae,
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        tokenizer_2=words,
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        ),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=48,
            out_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def _xl_parts(channels: int) -> dict:
    return {
        "vae": autoencoder(),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
        "text_encoder_2": text_encoder(CLIPTextModelWithProjection),
        "tokenizer_2": tokenizer(),
        "unet": unet(channels, **XL),
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
    }


def sdxl_inpaint(folder: Path) -> Path:
    """The classes of SDXL inpainting 0.1, with nine input channels."""
    torch.manual_seed(1)
    StableDiffusionXLInpaintPipeline(**_xl_parts(9)).save_pretrained(
        folder, safe_serialization=True
    )
    return folder


def sdxl_refiner(folder: Path) -> tuple[Path, Path, Path]:
    """(base like RealVisXL, its canny ControlNet, an IP-Adapter with its image encoder)."""
    torch.manual_seed(2)
    parts = _xl_parts(4)
    net = ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(8, 8))
    heard = (*net.controlnet_down_blocks, net.controlnet_cond_embedding.conv_out)
    for layer in heard:  # zeros would hide whether it is heard, and whether it hears its lines
        torch.nn.init.normal_(layer.weight, std=0.1)
    net.save_pretrained(folder / "controlnet", safe_serialization=True)
    pipe = StableDiffusionXLControlNetInpaintPipeline(**parts, controlnet=net)
    pipe.save_pretrained(folder / "base", safe_serialization=True)
    index = folder / "base/model_index.json"  # hub's repositories of a base know no ControlNet
    index.write_text(
        index.read_text().replace(
            "StableDiffusionXLControlNetInpaintPipeline", "StableDiffusionXLPipeline"
        )
    )
    vision = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
            projection_dim=12,
        )
    )
    home = folder / "ip_adapter"
    vision.save_pretrained(home / "image_encoder", safe_serialization=True)
    CLIPImageProcessor(size=16, crop_size=16).save_pretrained(home / "image_encoder")
    state = {
        "image_proj.proj.weight": torch.randn(4 * 32, 12) / 4,
        "image_proj.proj.bias": torch.zeros(4 * 32),
        "image_proj.norm.weight": torch.ones(32),
        "image_proj.norm.bias": torch.zeros(32),
    }
    cross = [n for n in parts["unet"].attn_processors if n.endswith("attn2.processor")]
    for number, name in enumerate(cross):
        layer = parts["unet"].get_submodule(name.removesuffix(".processor"))
        for which in ("to_k", "to_v"):
            shape = getattr(layer, which).weight.shape
            state[f"ip_adapter.{2 * number + 1}.{which}_ip.weight"] = torch.randn(shape) / 4
    save_file(state, home / "adapter.safetensors")
    return folder / "base", folder / "controlnet", home


def lora(base: Path, folder: Path) -> Path:
    """A LoRA of an SDXL UNet's attention, as diffusers stores one."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    net = UNet2DConditionModel.from_pretrained(base / "unet")
    torch.manual_seed(5)
    layers = ["to_q", "to_k", "to_v", "to_out.0"]
    net.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=layers, init_lora_weights=False))
    StableDiffusionXLInpaintPipeline.save_lora_weights(
        folder, unet_lora_layers=get_peft_model_state_dict(net), safe_serialization=True
    )
    return folder
