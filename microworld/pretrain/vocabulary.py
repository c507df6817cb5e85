"""A word-level `CLIPTokenizer`, so that the micro text encoders load like any other.

Each word's missing merges are appended after all earlier ones. Byte-pair encoding applies the
oldest merge that fits, so a later word cannot change how an earlier one is split.
"""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 24  # tokens of the longest caption, start and end included, with room to spare


def build_tokenizer(words: list[str], folder: Path) -> CLIPTokenizer:
    """One token per word, saved to `folder`. END has the highest id, as CLIP needs."""
    letters = sorted({c for word in words for c in word} | set("abcdefghijklmnopqrstuvwxyz"))
    base = letters + [f"{c}</w>" for c in letters]
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = _split(word, merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = _split(word, merges)
    tokens = base + [a + b for a, b in merges]
    tokens = list(dict.fromkeys(tokens)) + [START, END]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = CLIPTokenizer(
        vocab=vocab,
        merges=merges,
        model_max_length=MAX_LENGTH,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
    )
    for word in words:
        got = tokenizer(word)["input_ids"]
        if len(got) != 3:
            raise RuntimeError(f"tokenizer splits {word!r} into {tokenizer.tokenize(word)}")
    tokenizer.save_pretrained(folder)
    return tokenizer


def _split(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Plain byte-pair encoding of one word by the merges in order of age."""
    pieces = list(word[:-1]) + [word[-1] + "</w>"]
    rank = {pair: i for i, pair in enumerate(merges)}
    while True:
        pairs = [(rank[p], i) for i, p in enumerate(zip(pieces, pieces[1:])) if p in rank]
        if not pairs:
            return pieces
        _, i = min(pairs)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
