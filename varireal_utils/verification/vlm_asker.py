"""Asks a vision-language model many questions about many pictures: one prefill a picture.

    prefix    the turn up to the picture and what all its questions begin with; its keys and values
              are computed once, for a batch of pictures of one size
    branches  the rest of each question, all in one pass: each looks at the prefix and at itself

symbols   L   tokens of the prefix      T   tokens of all branches of a picture
          mask (B, 1, T, L + T)         0 where a token may look, else the type's lowest number

A question is answered as if it had been asked alone, up to rounding. The first picture is asked in
both ways; a model for which they differ, because it places tokens otherwise, is asked one question
at a time from then on, and a warning says so.

Invariant (tests/unit/test_vlm.py): branches answer as separate prefills do, for each kind of model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core import oom_retry, storage
from ..data import images

SPACES = " \t\n▁ĠĊ"  # as byte-level and SentencePiece vocabularies write them
PICTURES = 8  # of one prefill; fewer where memory runs out
TOLERANCE = 0.05  # of a probability, between a branch and a prefill of its own: bfloat16 rounds
REMEMBERED = 100_000  # answers


@dataclass(frozen=True)
class Answer:
    """What a model says to one question: p and mass, 0..1 each."""

    question: str
    p: float
    mass: float


# (pictures (H, W, 3) uint8, the questions about each) -> answers in the questions' order
Ask = Callable[[list[np.ndarray], list[list[str]]], list[list[Answer]]]


def word_ids(vocabulary: dict[str, int], word: str) -> list[int]:
    """Ids of the tokens that are this word and nothing else, whatever their case and space."""
    return sorted(i for token, i in vocabulary.items() if token.strip(SPACES).casefold() == word)


def yes_no(logits: torch.Tensor, yes: list[int], no: list[int]) -> tuple[float, float]:
    """(p, mass) of (V,) next-token logits. Raises ValueError for logits that are no numbers."""
    logits = logits.double()
    if torch.isnan(logits).any():
        raise ValueError(
            "the verifier's logits are no numbers (NaN); set models.verifier.dtype to "
            "bfloat16 or float32"
        )
    chances = logits.softmax(-1)
    up, down = chances[yes].sum(), chances[no].sum()
    mass = float(up + down)
    # from logits, so that two words of next to no probability can still be told apart
    p = torch.sigmoid(logits[yes].logsumexp(-1) - logits[no].logsumexp(-1))
    return float(p), mass


@dataclass(frozen=True)
class _Turn:
    """A picture with its questions, as the model reads them: inputs of the processor for the first
    question; ids: all tokens of each question's turn."""

    inputs: dict[str, torch.Tensor]
    ids: list[list[int]]
    questions: list[str]


@dataclass
class Experience:
    """What is known of a model, also after it was released and loaded again. fit: pictures of a
    prefill that fitted into memory; spliced: whether the tokens of a question can follow a picture
    that was prepared for another; branches: whether questions can branch, None before either was
    tried; answers: by picture and question."""

    fit: oom_retry.Fit = field(default_factory=lambda: oom_retry.Fit(PICTURES))
    spliced: bool | None = None
    branches: bool | None = None
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)


class VlmAsker:
    """An `Ask` by a loaded (model, processor).

    max_size: pixels that pictures are shrunk to; device: where it computes, None for where its
    weights are, which is elsewhere for an offloaded one; known: of this model, from before. Raises
    ValueError for a vocabulary without yes or no.
    """

    def __init__(
        self,
        loaded: tuple[Any, Any],
        max_size: int = 672,
        device: torch.device | None = None,
        known: Experience | None = None,
    ):
        self.model, self.processor = loaded
        self.max_size, self.device, self.known = max_size, device, known or Experience()
        vocabulary = self.processor.tokenizer.get_vocab()
        self.ids = [word_ids(vocabulary, word) for word in ("yes", "no")]
        if not all(self.ids):
            raise ValueError(
                f"{type(self.processor.tokenizer).__name__}: no single token says "
                f"{'no' if self.ids[0] else 'yes'}; name another model at models.verifier.path"
            )

    @torch.no_grad()
    def __call__(
        self, pictures: list[np.ndarray], questions: list[list[str]]
    ) -> list[list[Answer]]:
        """Answers to the questions about each picture. A question about the same pixels is asked
        once: photographs come again with each attempt at their edits."""
        known = self.known.answers
        if len(known) > REMEMBERED:
            known.clear()
        keys = [storage.sha256_bytes(p.tobytes()) + str(p.shape) for p in pictures]
        todo: dict[str, tuple[np.ndarray, list[str]]] = {}
        for key, picture, asked in zip(keys, pictures, questions):
            own = todo.setdefault(key, (picture, []))[1]
            own += [q for q in dict.fromkeys(asked) if (key, q) not in known and q not in own]
        left = {key: value for key, value in todo.items() if value[1]}
        found = self._answers(list(left.values()))
        for key, answers in zip(left, found):
            known |= {(key, a.question): a for a in answers}
        return [[known[key, q] for q in asked] for key, asked in zip(keys, questions)]

    def _answers(self, todo: list[tuple[np.ndarray, list[str]]]) -> list[list[Answer]]:
        turns = [self._turn(*one) for one in todo]
        groups: dict[tuple, list[int]] = {}
        for i, turn in enumerate(turns):
            groups.setdefault(_shape(turn), []).append(i)
        out: dict[int, list[Answer]] = {}
        for at in groups.values():
            own = [turns[i] for i in at]
            out |= dict(zip(at, oom_retry.retry_in_halves(self._asked, own, fit=self.known.fit)))
        return [out[i] for i in range(len(turns))]

    def _asked(self, turns: list[_Turn]) -> list[list[Answer]]:
        """Answers about pictures of one size."""
        if self.known.branches is None:
            self.known.branches = self._try(turns[0])
        if self.known.branches and any(len(turn.questions) > 1 for turn in turns):
            return self._branched(turns)
        return [self._apart(turn) for turn in turns]

    def _try(self, turn: _Turn) -> bool | None:
        """Whether branches answer as prefills of their own; None where one question shows nothing.
        Warns where they do not."""
        if len(turn.questions) < 2:
            return None
        try:
            (branched,) = self._branched([turn])
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        else:
            apart = self._apart(turn)
            gap = max(abs(a.p - b.p) for a, b in zip(branched, apart))
            if gap <= TOLERANCE:
                return True
            reason = f"probabilities differ by {gap:.2f}"
        warnings.warn(
            f"{type(self.model).__name__}: questions cannot branch from one reading of a picture "
            f"({reason}); each is asked with a reading of its own, which takes several times as "
            "long",
            stacklevel=2,
        )
        return False

    def _turn(self, image: np.ndarray, questions: list[str]) -> _Turn:
        picture = Image.fromarray(image)
        size = images.fitted_size(picture.size, self.max_size)
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        texts = [self._text(q) for q in questions]
        inputs = dict(self.processor(images=[picture], text=texts[:1], return_tensors="pt"))
        whole = inputs["input_ids"][0].tolist()
        short = [self.processor.tokenizer(text)["input_ids"] for text in texts]
        ids = [whole]
        for text, own in zip(texts[1:], short[1:]):
            same = _common([short[0], own])
            tail = len(short[0]) - same  # tokens behind the picture, in both
            ids.append([*whole[: len(whole) - tail], *own[same:]])
            if not self.known.spliced:  # the processor's own tokens, which take a picture each
                again = self.processor(images=[picture], text=[text], return_tensors="pt")
                right = again["input_ids"][0].tolist()
                self.known.spliced = self.known.spliced is None and ids[-1] == right
                ids[-1] = right
        return _Turn(inputs, ids, questions)

    def _text(self, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        turn = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)

    def _inputs(self, turns: list[_Turn], length: int) -> dict[str, torch.Tensor]:
        """The model's inputs for the first `length` tokens of each turn, with its picture."""
        first, out = turns[0].inputs, {}
        whole = first["input_ids"].shape[1]
        for name, value in first.items():
            parts = [turn.inputs[name] for turn in turns]
            if value.ndim == 2 and value.shape[1] == whole and not value.is_floating_point():
                parts = [_lengthened(part, length) for part in parts]
            out[name] = torch.cat(parts).to(self.device or self.model.device)
        ids = torch.tensor([turn.ids[0][:length] for turn in turns])
        out["input_ids"] = ids.to(self.device or self.model.device)
        out["pixel_values"] = out["pixel_values"].to(self.model.dtype)
        return out

    def _apart(self, turn: _Turn) -> list[Answer]:
        """Answers by one prefill a question."""
        out = []
        for question, ids in zip(turn.questions, turn.ids):
            one = _Turn(turn.inputs, [ids], [question])
            inputs = self._inputs([one], len(ids))
            logits = self.model(**inputs, logits_to_keep=1).logits[0, -1].float().cpu()
            out.append(Answer(question, *yes_no(logits, *self.ids)))
        return out

    def _branched(self, turns: list[_Turn]) -> list[list[Answer]]:
        """Answers by one prefill of all pictures and one pass of all their questions."""
        sequences = [ids for turn in turns for ids in turn.ids]
        start = min(_common(sequences), min(map(len, sequences)) - 1)
        done = self.model(**self._inputs(turns, start), use_cache=True, logits_to_keep=1)
        rests = [[ids[start:] for ids in turn.ids] for turn in turns]
        tokens, places, mask, ends = _laid_out(rests, start)
        device = self.device or self.model.device
        lowest = torch.finfo(self.model.dtype).min
        blocked = torch.where(mask, 0.0, lowest).to(device, self.model.dtype)
        kept = sorted({end for own in ends for end in own})
        logits = self.model(
            input_ids=tokens.to(device),
            attention_mask=blocked[:, None],
            position_ids=self._positions(places.to(device)),
            past_key_values=done.past_key_values,
            use_cache=True,
            logits_to_keep=torch.tensor(kept, device=device),
        ).logits
        return [
            [
                Answer(question, *yes_no(row[kept.index(end)].float().cpu(), *self.ids))
                for question, end in zip(turn.questions, own)
            ]
            for turn, own, row in zip(turns, ends, logits)
        ]

    def _positions(self, places: torch.Tensor) -> torch.Tensor:
        """Position ids (B, T) of places in the sequence; models that count a picture's tokens by
        rows and columns (Qwen-VL) are ahead or behind by a difference, on three axes."""
        base = getattr(self.model, "model", self.model)
        delta = getattr(base, "rope_deltas", None)
        if delta is None:
            return places
        return (places + delta.to(places.device).view(-1, 1)).expand(3, *places.shape)


def _laid_out(
    rests: list[list[list[int]]], start: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[list[int]]]:
    """(tokens (B, T), places (B, T), mask (B, T, start + T) of bool, ends): each picture's branches
    one after another, padded; ends: of each branch, in 0..T - 1."""
    most = max(sum(map(len, own)) for own in rests)
    tokens, places = (torch.zeros(len(rests), most, dtype=torch.long) for _ in "tp")
    mask = torch.zeros(len(rests), most, start + most, dtype=torch.bool)
    mask[:, :, :start] = True
    ends: list[list[int]] = []
    for i, own in enumerate(rests):
        at, last = 0, []
        for rest in own:
            there = slice(at, at + len(rest))
            tokens[i, there] = torch.tensor(rest)
            places[i, there] = torch.arange(start, start + len(rest))
            mask[i, there, start + at : start + there.stop] = torch.ones(
                len(rest), len(rest), dtype=torch.bool
            ).tril()
            at = there.stop
            last.append(at - 1)
        ends.append(last)
    return tokens, places, mask, ends


def _shape(turn: _Turn) -> tuple:
    """Pictures with equal shapes go through the model together."""
    return tuple(
        (name, tuple(value.shape[1:]), value.shape[0], tuple(map(int, value.flatten())))
        if name in ("image_sizes", "image_grid_thw")
        else (name, tuple(value.shape))
        for name, value in sorted(turn.inputs.items())
        if name not in ("input_ids", "attention_mask")
        and value.dtype != torch.long
        or name in ("image_sizes", "image_grid_thw")
    )


def _common(sequences: list[list[int]]) -> int:
    """Length of the beginning that all sequences share."""
    first, last = min(sequences), max(sequences)
    same = [a == b for a, b in zip(first, last)]
    return same.index(False) if False in same else len(same)


def _lengthened(rows: torch.Tensor, length: int) -> torch.Tensor:
    """Rows (1, n) of marks cut to `length` tokens, or continued by their last, a mark of text."""
    more = max(0, length - rows.shape[1])
    return torch.cat([rows, rows[:, -1:].expand(-1, more)], 1)[:, :length]
