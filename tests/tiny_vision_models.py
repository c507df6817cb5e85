"""Random checkpoints of the models that look: Grounding DINO, SAM 2 and vision-language models.

The real classes in the hub's own layout, as small as they go; what they see is noise.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPVisionConfig,
    GotOcr2ImageProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    InternVLVisionConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2ImageProcessor,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2Processor,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
    SwinConfig,
)

WORDS = (
    "a an is this photo of picture answer with one word or in the real world could be there "
    "yes Yes no No red blue car cat ? . , : USER ASSISTANT".split()
)
# A square of 64 pixels would leave one pixel at the coarsest of the four levels, whose group norm
# then refuses: 32 groups of 32 channels need more than one value each.
DETECTOR_SIZE = {"shortest_edge": 96, "longest_edge": 128}
TURN = (
    "{% for m in messages %}USER : {% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "IMAGE{% else %} {{ c['text'] }}{% endif %}{% endfor %} ASSISTANT : {% endfor %}"
)


def detector(folder: Path) -> Path:
    """Grounding DINO. Its text branch knows the ids of "." and "?" by number, as BERT has them."""
    torch.manual_seed(3)
    fixed = {
        0: "[PAD]",
        100: "[UNK]",
        101: "[CLS]",
        102: "[SEP]",
        103: "[MASK]",
        1012: ".",
        1029: "?",
    }
    words = iter(["a", "car", "cat", "pet", "16", "4", "f", "18", "/", "-", "conv"])
    vocabulary = {fixed.get(i) or next(words, f"[unused{i}]"): i for i in range(1030)}
    text = BertConfig(
        vocab_size=1030,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    sight = SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=4,
        out_indices=[2, 3, 4],
    )
    config = GroundingDinoConfig(
        backbone_config=sight,
        text_config=text,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=12,
        max_text_len=64,
        disable_custom_kernels=True,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    GroundingDinoProcessor(
        GroundingDinoImageProcessor(size=DETECTOR_SIZE),
        BertTokenizer(vocab=vocabulary),
    ).save_pretrained(folder)
    return folder


def segmenter(folder: Path) -> Path:
    """SAM 2 at 64 x 64 pixels."""
    torch.manual_seed(4)
    hiera = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[64, 64],
        blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 4],
        global_attention_blocks=[4],
        window_positional_embedding_background_size=[4, 4],
    )
    sight = Sam2VisionConfig(
        backbone_config=hiera,
        backbone_channel_list=[64, 32, 16, 8],
        fpn_hidden_size=16,
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
    )
    config = Sam2Config(
        vision_config=sight,
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=16, image_size=64, patch_size=16),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=16, mlp_dim=16, num_attention_heads=2, iou_head_hidden_dim=16
        ),
    )
    Sam2Model(config).save_pretrained(folder)
    Sam2Processor(
        Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16})
    ).save_pretrained(folder)
    return folder


def word_tokenizer(marks: list[str], **named: str) -> PreTrainedTokenizerFast:
    """Whole words; marks come behind the four special tokens, from id 4 on."""
    vocabulary = {w: i for i, w in enumerate(["<pad>", "<unk>", "<s>", "</s>", *marks, *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    more = {"extra_special_tokens": named} if named else {"additional_special_tokens": marks}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        **more,
    )


def llava(folder: Path) -> Path:
    """The classes of LLaVA-1.6: CLIP's eye and Mistral's language."""
    torch.manual_seed(5)
    tokenizer = word_tokenizer(["<image>"])
    eye = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    words = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
    )
    grid = [[32, 64], [64, 32], [64, 64]]
    config = LlavaNextConfig(
        vision_config=eye,
        text_config=words,
        image_token_index=4,
        image_grid_pinpoints=grid,
        image_seq_length=16,
    )
    LlavaNextForConditionalGeneration(config).save_pretrained(folder)
    looks = LlavaNextImageProcessor(
        size={"shortest_edge": 32}, image_grid_pinpoints=grid, crop_size={"height": 32, "width": 32}
    )
    LlavaNextProcessor(
        looks,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TURN.replace("IMAGE", "<image>"),
    ).save_pretrained(folder)
    return folder


def qwen(folder: Path) -> Path:
    """The classes of Qwen2.5-VL, whose words are bytes and pieces of words."""
    torch.manual_seed(6)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("e", "s"),
        ("y", "es"),
        ("Y", "es"),
        ("Ġ", "yes"),
        ("Ġ", "Yes"),
        ("n", "o"),
        ("N", "o"),
        ("Ġ", "no"),
        ("Ġ", "No"),
    ]
    marks = [
        "<|endoftext|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ]
    vocabulary = {w: i for i, w in enumerate([*letters, *("".join(m) for m in merges), *marks])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=merges, additional_special_tokens=marks[1:])
    eye = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "patch_size": 4,
        "window_size": 16,
        "out_hidden_size": 16,
        "fullatt_block_indexes": [1],
    }
    words = {
        "vocab_size": len(vocabulary),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "bos_token_id": vocabulary[marks[0]],
        "eos_token_id": vocabulary[marks[0]],
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [2, 1, 1],
        },
    }
    ids = {
        f"{name}_token_id": vocabulary[f"<|{name}{pad}|>"]
        for name, pad in (
            ("image", "_pad"),
            ("video", "_pad"),
            ("vision_start", ""),
            ("vision_end", ""),
        )
    }
    config = Qwen2_5_VLConfig(text_config=words, vision_config=eye, **ids)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    sizes = {"patch_size": 4, "min_pixels": 64, "max_pixels": 1024}
    Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**sizes),
        tokenizer,
        Qwen2VLVideoProcessor(**sizes),
        chat_template=TURN.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    ).save_pretrained(folder)
    return folder


def internvl(folder: Path) -> Path:
    """The classes of InternVL3's -hf checkpoints: pictures in tiles, Qwen2's language."""
    torch.manual_seed(7)
    marks = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = word_tokenizer(list(marks.values()), **marks)
    eye = InternVLVisionConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[32, 32],
        patch_size=[8, 8],
    )
    words = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
    )
    config = InternVLConfig(
        vision_config=eye,
        text_config=words,
        image_seq_length=4,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    InternVLForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    InternVLProcessor(
        GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=4),
        tokenizer,
        InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=TURN.replace("IMAGE", "<IMG_CONTEXT>"),
    ).save_pretrained(folder)
    return folder
