"""A vision-language model as the verifier: yes or no, read from the next token's logits.

symbols   p          P(yes) / (P(yes) + P(no)) of the next token, 0..1; every spelling of the two
                     words that is one token (yes, Yes, " yes", ...) is summed
          mass       P(yes) + P(no): how far the model answers with one of the two words at all
          asked, controls   the question of the edit, and the same question about phrases, or
                     classes, that were not asked for, drawn by a hash from those of both arms
          margin     p(asked) - mean of p(controls), -1..1

Rule "strict" (docs/protocol.md, C4.2 and C4.3): the model is never told the expected answer.
"The attribute is there" and "it is still a {class}" must each pass, and each passes where

    p(asked) >= verify.p_yes   and   margin >= threshold,

threshold being the larger of verify.margin and what real validation photographs ask for: there,
unedited, a random phrase passes in at most `false_accept` of cases, and a wrong class in at most
`false_identity`. A constant answer has margin 0 and cannot pass; nor can one that follows the
picture and not the question; one that follows the question and not the picture passes no more
phrases than `false_accept`. What the source photograph already showed (attribute_before) and
whether the sight is possible in the real world are asked, stored and not required: feasibility must
not decide what is kept.

Rule "faithful", for comparison, is the reference's: four questions, their answers told; the mean of
the right ones must reach one half. A model that always says yes, or always no, passes it in the
infeasible arm; a study under it keeps all edits, as the reference does after its last attempt.

No question depends on an answer, so the questions of a batch are gathered first and asked together
(`gathered`, vlm_asker.py).

Invariant (tests/unit/test_vlm.py): no answer depends on its neighbours in a batch, up to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from ..core import storage
from ..core.arms import side
from ..core.config_sections import VlmVerifierSettings
from ..core.seeds import numpy_rng
from ..prompts import phrase_bank
from .vlm_asker import Answer, Ask

LOT = 64  # photographs of a calibration that are asked about together
END = "Answer with one word, yes or no."

One = Callable[[np.ndarray, str], Answer]  # one picture, one question
T = TypeVar("T")


@dataclass(frozen=True)
class Calibration:
    """Unedited validation photographs, with the class name and image id of each."""

    pictures: list[np.ndarray]
    names: list[str]
    ids: list[str]


def gathered(ask: Ask, work: Callable[[One], T]) -> T:
    """What `work` makes of answers, all of which are asked for at once.

    Its questions must not depend on answers: it is run twice, to collect them and to read the
    answers to them.
    """
    asked: dict[int, tuple[np.ndarray, dict[str, Answer]]] = {}

    def collect(image: np.ndarray, question: str) -> Answer:
        unknown = Answer(question, 0.5, 1.0)
        asked.setdefault(id(image), (image, {}))[1][question] = unknown
        return unknown

    work(collect)
    pictures = [image for image, _ in asked.values()]
    questions = [list(own) for _, own in asked.values()]
    for (_, own), answers in zip(asked.values(), ask(pictures, questions), strict=True):
        own |= {answer.question: answer for answer in answers}
    return work(lambda image, question: asked[id(image)][1][question])


def attribute_question(bank: phrase_bank.Bank, attribute: str, phrase: str, class_name: str) -> str:
    """Is the asked attribute there? In the words of the bank's `verify` sentence."""
    return f"Is this {phrase_bank.verify_prompt(bank, attribute, phrase, class_name)}? {END}"


def class_question(class_name: str) -> str:
    """Is it still the same thing?"""
    return f"Is this a photo of a {class_name}? {END}"


def feasibility_question(
    bank: phrase_bank.Bank, attribute: str, phrase: str, class_name: str
) -> str:
    """Could that be? Recorded, never required."""
    scene = phrase_bank.verify_prompt(bank, attribute, phrase, class_name)
    return f"Could {scene} be taken in the real world? {END}"


def controls(options: list[str], asked: str, count: int, *seed: str | int) -> list[str]:
    """At most `count` other options, by a hash. Raises ValueError where there is no other."""
    others = [o for o in dict.fromkeys(options) if o != asked]
    if not others:
        raise ValueError(
            f"{asked!r} has no alternative, so a yes to it cannot be told from a yes "
            "to anything; add phrases or classes, or use models.verifier.kind: clip"
        )
    order = numpy_rng("verify", "controls", asked, *seed).permutation(len(others))
    return [others[i] for i in order[:count]]


def margin(asked: Answer, against: list[Answer]) -> float:
    """p of the asked question minus the mean p of its controls, -1..1."""
    return asked.p - float(np.mean([a.p for a in against]))


def put(
    ask: One,
    image: np.ndarray,
    wanted: str,
    options: list[str],
    question: Callable,
    count: int,
    *seed: str | int,
) -> tuple[Answer, list[Answer]]:
    """The question about what is wanted, and the same one about its controls."""
    others = controls(options, wanted, count, *seed)
    return ask(image, question(wanted)), [ask(image, question(o)) for o in others]


def strict(
    ask: One,
    image: np.ndarray,
    source: np.ndarray,
    row: dict,
    bank: phrase_bank.Bank,
    class_names: list[str],
    settings: VlmVerifierSettings,
    thresholds: dict,
) -> dict[str, Any]:
    """Answers and verdict on one edit of a source by the strict rule; keys as in `score`.

    row: phrase, class_name, attribute, image_id, k. Its feasibility is not looked at.
    """
    attribute, name = row["attribute"], row["class_name"]
    seed = (row["image_id"], row["k"])
    there, not_there = put(
        ask,
        image,
        row["phrase"],
        phrase_bank.alternatives(bank, attribute, name),
        lambda p: attribute_question(bank, attribute, p, name),
        settings.controls,
        *seed,
    )
    same, not_same = put(ask, image, name, class_names, class_question, settings.controls, *seed)
    possible = ask(image, feasibility_question(bank, attribute, row["phrase"], name))
    before = ask(source, there.question)
    margins = margin(there, not_there), margin(same, not_same)
    room = [
        min(answer.p - settings.p_yes, gap - thresholds[f"{key}_threshold"])
        for answer, gap, key in zip((there, same), margins, ("attribute", "identity"))
    ]
    answers = [there, *not_there, same, *not_same, possible]
    return {
        "attribute_score": there.p,
        "attribute_margin": margins[0],
        "attribute_before": before.p,
        "identity": same.p,
        "identity_margin": margins[1],
        "feasibility_yes": possible.p,
        "answer_mass": min(a.mass for a in answers),
        "worst_margin": min(room),
        "attribute_passed": room[0] >= 0,
        "identity_passed": room[1] >= 0,
        "accepted": min(room) >= 0,
        "answers": told(answers, before),
    }


def told(answers: list[Answer], before: Answer | None = None) -> str:
    """Every question with its p and mass, as JSON, for edits.parquet."""
    rows = [["edit", a.question, round(a.p, 6), round(a.mass, 6)] for a in answers]
    if before is not None:
        rows.append(["source", before.question, round(before.p, 6), round(before.mass, 6)])
    return storage.to_json(rows)


def faithful(ask: One, image: np.ndarray, row: dict, bank: phrase_bank.Bank) -> dict[str, Any]:
    """The reference's rule on one edit: four questions with their answers told, mean >= 1/2.

    Its expected answers are yes, yes, and for both of feasibility yes in the feasible arm and no in
    the other. What is asked is the text of a record that holds the answer, as the reference has it;
    the questions' words are ours. Identity is not asked and counts as passed.
    """
    attribute, phrase, name = row["attribute"], row["phrase"], row["class_name"]
    scene = phrase_bank.verify_prompt(bank, attribute, phrase, name)
    possible = "yes" if side(row["feasibility"]) == "feasible" else "no"
    asked = [
        (f"Is this {scene}?", "yes"),
        (f"Does the picture show {phrase}?", "yes"),
        (f"Is {scene} feasible?", possible),
        (f"Can {scene} exist in the real world?", possible),
    ]
    answers = [
        ask(image, str({"question": q, "choices": ["yes", "no"], "answer": truth}))
        for q, truth in asked
    ]
    right = [(a.p >= 0.5) == (truth == "yes") for a, (_, truth) in zip(answers, asked)]
    score = float(np.mean(right))
    there = float(np.mean([a.p for a in answers[:2]]))
    return {
        "attribute_score": there,
        "attribute_margin": there - 0.5,
        "attribute_before": np.nan,
        "identity": np.nan,
        "identity_margin": np.nan,
        "feasibility_yes": float(np.mean([a.p for a in answers[2:]])),
        "answer_mass": min(a.mass for a in answers),
        "worst_margin": score - 0.5,
        "attribute_passed": all(right[:2]),
        "identity_passed": True,
        "accepted": score >= 0.5,
        "answers": told(answers),
    }


def score(
    ask: Ask,
    pictures: list[np.ndarray],
    sources: list[np.ndarray],
    rows: list[dict],
    bank: phrase_bank.Bank,
    class_names: list[str],
    settings: VlmVerifierSettings,
    thresholds: dict,
) -> pd.DataFrame:
    """The verdict on each edit, a row each.

    attribute_score, identity: p of the two questions; *_margin: against their controls;
    attribute_before: p of the source; feasibility_yes: p, for the record; answer_mass: the least of
    all answers; *_passed, accepted; worst_margin: how far the worse of both is from its threshold;
    answers: JSON of [picture, question, p, mass].
    """

    def judged(one: One) -> list[dict[str, Any]]:
        if settings.rule == "faithful":
            return [faithful(one, p, r, bank) for p, r in zip(pictures, rows)]
        return [
            strict(one, p, s, r, bank, class_names, settings, thresholds)
            for p, s, r in zip(pictures, sources, rows)
        ]

    return pd.DataFrame(gathered(ask, judged))


def calibrate(
    ask: Ask,
    photographs: Calibration,
    bank: phrase_bank.Bank,
    attribute: str,
    class_names: list[str],
    settings: VlmVerifierSettings,
    seed: int,
) -> dict[str, float]:
    """Thresholds of both margins from unedited validation photographs.

    Returns attribute_threshold and identity_threshold; n_calibration; identity_kept: the share of
    these photographs, all good ones, that pass as their own class; answer_mass: median. Rule
    faithful has none but n_calibration 0.
    """
    if settings.rule == "faithful":
        return {"n_calibration": 0}
    wrong: list[float] = []
    other: list[float] = []
    own: list[tuple[float, float]] = []
    masses: list[float] = []
    whole = list(zip(photographs.pictures, photographs.names, photographs.ids))
    for start in range(0, len(whole), LOT):
        part = whole[start : start + LOT]

        def answered(one: One, part: list = part) -> list[_Answered]:
            return [_photograph(one, p, bank, attribute, class_names, settings, seed) for p in part]

        for strange, foreign, same, found in gathered(ask, answered):
            wrong.append(strange)
            other.append(foreign)
            own.append(same)
            masses += found
    if not wrong:
        raise ValueError(
            "no validation photograph to calibrate the verifier on; give the data set "
            "a val split (val_fraction or val_per_class)"
        )
    limits = {
        "attribute": _least(wrong, settings.false_accept, settings.margin),
        "identity": _least(other, settings.false_identity, settings.margin),
    }
    kept = np.mean([p >= settings.p_yes and gap >= limits["identity"] for p, gap in own])
    _warn_of_other_words(float(np.median(masses)))
    return {
        **{f"{k}_threshold": v for k, v in limits.items()},
        "n_calibration": len(wrong),
        "identity_kept": float(kept),
        "answer_mass": float(np.median(masses)),
    }


# margins of a strange phrase and a strange class; p and margin of its own class; masses
_Answered = tuple[float, float, tuple[float, float], list[float]]


def _photograph(
    ask: One,
    photograph: tuple[np.ndarray, str, str],
    bank: phrase_bank.Bank,
    attribute: str,
    class_names: list[str],
    settings: VlmVerifierSettings,
    seed: int,
) -> _Answered:
    """What an unedited photograph is asked: a random phrase, a wrong class, its own class.

    photograph: picture, class name, image id.
    """
    picture, name, key = photograph
    options, count = phrase_bank.alternatives(bank, attribute, name), settings.controls
    rng = numpy_rng(seed, "verify", "calibrate", attribute, key)
    phrase = options[int(rng.integers(len(options)))]
    answers = put(
        ask,
        picture,
        phrase,
        options,
        lambda p: attribute_question(bank, attribute, p, name),
        count,
        key,
    )
    others = controls(class_names, name, len(class_names), key)
    strange = others[int(rng.integers(len(others)))]
    known = others if len(others) > 1 else class_names
    foreign = margin(*put(ask, picture, strange, known, class_question, count, key))
    same, not_same = put(ask, picture, name, class_names, class_question, count, key)
    mine = (same.p, margin(same, not_same))
    return margin(*answers), foreign, mine, [answers[0].mass, same.mass]


def _warn_of_other_words(mass: float) -> None:
    """Warn where a model does not answer with yes or no. mass: the median."""
    if mass < 0.5:
        warnings.warn(
            f"the verifier puts {mass:.0%} of its probability on yes and no (median): it does not "
            "answer the question; name an instruction-tuned model at models.verifier.path",
            stacklevel=3,
        )


def _least(margins: list[float], allowed: float, floor: float) -> float:
    """The smallest threshold >= floor that at most `allowed` of the margins reach."""
    reach = np.sort(np.asarray(margins))[::-1]
    most = int(np.floor(allowed * len(reach) + 1e-9))
    if most >= len(reach):
        return float(floor)
    return float(max(floor, np.nextafter(reach[most], np.inf)))
