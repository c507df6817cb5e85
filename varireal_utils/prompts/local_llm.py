"""Asks an instruct model on this machine, with generation held to the answer's form.

`structured: constrained` (the default) lets only tokens through that keep the answer a beginning of
what its JSON Schema allows, by a logits processor of transformers' own `generate`: the likeliest
token that fits stays, and of the next `FURTHER` those that fit too, `KEEP` at most. Form is then
certain, sense is not. `none` generates freely.

Invariant: the same weights, dialogue and seed give the same answer; the global generators are left
as they were.
"""

from __future__ import annotations

import time
from typing import Any

import regex
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from ..core.config_prompts import LocalModel
from ..core.seeds import seed_for
from ..models import loaders
from .openai_client import LanguageError, Message, Reply

KEEP, FURTHER = 8, 64
_GAP = "[ \n]?"


def load(spec: LocalModel, device: torch.device) -> tuple[Any, Any]:
    """(model, tokenizer) of kind local. Raises LanguageError if it cannot chat."""
    model, tokenizer = loaders.load_language(spec.path, device, spec.revision, spec.dtype)
    if not tokenizer.chat_template:
        raise LanguageError(
            f"{spec.path}: its tokenizer has no chat template, so it is no "
            "instruct model; name one that is"
        )
    return model, tokenizer


@torch.inference_mode()
def ask(
    spec: LocalModel,
    loaded: tuple[Any, Any],
    messages: list[Message],
    schema: dict[str, Any],
    seed: int,
) -> Reply:
    """One answer to a dialogue; greedy where spec has no temperature. Raises LanguageError."""
    model, tokenizer = loaded
    began = time.monotonic()
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # the template's own errors: jinja2's and what it raises on purpose
        raise LanguageError(
            f"{spec.path}: its chat template refuses this dialogue: {ascii(str(error)[:200])}"
        ) from None
    given = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
    length, room = given["input_ids"].shape[1], spec.max_tokens
    most = getattr(model.config, "max_position_embeddings", None)
    if most and length + room > most:
        raise LanguageError(
            f"{spec.path}: the dialogue has {length} tokens and max_tokens asks "
            f"for {room} more, but the model reads {most}; lower max_tokens or "
            "prompts.counts, or name a model that reads more"
        )
    hot = spec.temperature
    how: dict[str, Any] = (
        {"do_sample": True, "temperature": float(hot), "top_p": 1.0, "top_k": 0}
        if hot
        else {"do_sample": False}
    )
    if spec.structured == "constrained":
        how["logits_processor"] = LogitsProcessorList([Fitting(schema, tokenizer, length)])
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed_for("language", seed if spec.seed is None else spec.seed, text))
        out = model.generate(
            **given,
            max_new_tokens=room,
            pad_token_id=_pad(tokenizer),
            eos_token_id=sorted(_ends(model, tokenizer)),
            **how,
        )
    made = out[0, length:]
    ended = bool(len(made)) and int(made[-1]) in _ends(model, tokenizer)
    answer = tokenizer.decode(made, skip_special_tokens=True)
    return Reply(
        answer, length, len(made), "stop" if ended else "length", round(time.monotonic() - began, 3)
    )


def _ends(model: Any, tokenizer: Any) -> set[int]:
    found = model.generation_config.eos_token_id
    return {*(found if isinstance(found, list) else [found]), tokenizer.eos_token_id} - {None}


def _pad(tokenizer: Any) -> int:
    pad = tokenizer.pad_token_id
    return tokenizer.eos_token_id if pad is None else pad


class Fitting(LogitsProcessor):
    """Keeps the likeliest tokens after which the answer can still become one of its schema.

    A class because `generate` takes one. Works on one dialogue at a time, batch 1.
    """

    def __init__(self, schema: dict[str, Any], tokenizer: Any, start: int) -> None:
        self.pattern = regex.compile(pattern(schema))
        self.tokenizer, self.start = tokenizer, start
        anchor = tokenizer.encode("{", add_special_tokens=False)[-1]  # keeps a leading space
        alone, special = len(tokenizer.decode([anchor])), set(tokenizer.all_special_ids)
        self.pieces = [
            "" if t in special else tokenizer.decode([anchor, t])[alone:]
            for t in range(len(tokenizer))
        ]
        self.firsts = sorted({p[0] for p in self.pieces if p and ord(p[0]) < 256})

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """input_ids (1, T) int64, scores (1, V): scores with all others at minus infinity."""
        text = self.tokenizer.decode(input_ids[0, self.start :].tolist())
        out = torch.full_like(scores, -float("inf"))
        firsts = {c for c in self.firsts if self.pattern.fullmatch(text + c, partial=True)}
        found = tried = 0
        for token in torch.argsort(scores[0], descending=True).tolist() if firsts else ():
            tried += bool(found)
            piece = self.pieces[token] if token < len(self.pieces) else ""
            if (
                piece
                and piece[0] in firsts
                and (len(piece) == 1 or self.pattern.fullmatch(text + piece, partial=True))
            ):
                out[0, token] = scores[0, token]
                found += 1
            if found == KEEP or tried == FURTHER:
                break
        if not found:  # complete, or no token goes on: the check says what is missing
            out[0, self.tokenizer.eos_token_id] = 0.0
        return out


def pattern(schema: dict[str, Any]) -> str:
    """A regular expression of the JSON texts of a schema, keys in its order.

    Knows what our schemas use: objects whose keys are all required, arrays with minItems and
    maxItems, strings with enum or "x-pattern", integers with minimum and maximum.
    """
    if "enum" in schema:
        return "(?:" + "|".join(f'"{regex.escape(v)}"' for v in schema["enum"]) + ")"
    kind = schema["type"]
    if kind == "object":
        keys = [
            f'{_GAP}"{regex.escape(k)}":{_GAP}{pattern(v)}' for k, v in schema["properties"].items()
        ]
        return r"\{" + ",".join(keys) + _GAP + r"\}"
    if kind == "array":
        item, low, high = pattern(schema["items"]), schema["minItems"], schema["maxItems"]
        return rf"\[{_GAP}{item}(?:,{_GAP}{item}){{{low - 1},{high - 1}}}{_GAP}\]"
    if kind == "integer":
        return "(?:" + "|".join(map(str, range(schema["minimum"], schema["maximum"] + 1))) + ")"
    return f'"{schema["x-pattern"]}"'
