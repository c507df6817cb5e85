"""Holds dialogues with a language model, each ended by a checked answer and kept in a file.

    open_model   the model that a parameter block names: an endpoint, or local weights
    converse     asks, checks, says what was wrong and asks again; an accepted answer is kept
    usage        dialogues as a table: refused answers, tokens, cost

A dialogue's file is named by the digest of what decides its answer: model, messages, schema. It is
the cache too: accepted once, a question is never paid for again. A dialogue without an accepted
answer keeps its exchanges, and the next run asks anew.

Invariant: what `converse` returns has passed schema and check in this run, cached or not.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..core import storage
from ..core.config_base import content
from ..core.config_prompts import Endpoint, LocalModel
from ..core.json_schema import jsonschema
from . import openai_client
from .openai_client import LanguageError, Message, Reply


@dataclass(frozen=True)
class Model:
    """A model to talk to. about: what decides its answers; prices: per million tokens, or None."""

    name: str
    about: dict[str, Any]
    reply: Callable[[list[Message], dict[str, Any]], Reply]
    prices: tuple[float, float] | None = None


def open_model(spec: Endpoint | LocalModel, seed: int, device: torch.device) -> Model:
    """The model that answers, by its settings; seed and device: of a local one.

    Local weights are loaded when the first question is not answered by a kept dialogue.
    """
    about = _about(spec)
    if isinstance(spec, Endpoint):
        prices = (spec.price_input, spec.price_output)
        return Model(
            spec.name,
            about,
            lambda m, s: openai_client.ask(spec, m, s),
            None if prices[0] is None or prices[1] is None else (prices[0], prices[1]),
        )
    loaded: list[Any] = []

    def reply(messages: list[Message], schema: dict[str, Any]) -> Reply:
        from . import local_llm

        if not loaded:
            loaded.append(local_llm.load(spec, device))
        return local_llm.ask(spec, loaded[0], messages, schema, seed)

    return Model(spec.path, about, reply, (0.0, 0.0))


def _about(spec: Endpoint | LocalModel) -> dict[str, Any]:
    """What decides a model's answers, without defaults, whole numbers as int: a kept dialogue is
    found again however the parameter file writes them."""
    given = {"kind": spec.kind} | spec.model_dump(exclude_defaults=True)
    whole = {k: int(v) for k, v in given.items() if isinstance(v, float) and v.is_integer()}
    return {k: v for k, v in (given | whole).items() if k in content(spec)}


def converse(
    model: Model,
    task: str,
    messages: list[Message],
    schema: dict[str, Any],
    check: Callable[[Any], list[str]],
    folder: Path,
    attempts: int = 3,
) -> tuple[Any, dict[str, Any]]:
    """An answer that fits the schema and passes the check, and the row of its dialogue.

    check: what is wrong with an answer that fits the schema, one sentence each. Refused answers
    are answered with what was wrong, up to `attempts` in all. The row is one of `usage`.
    Raises LanguageError that names the dialogue's file.
    """
    request = {"model": model.about, "messages": messages, "schema": schema}
    path = folder / f"{storage.sha256_json(request)[:32]}.json"
    kept = _kept(path)
    if "answer" in kept and not faults(kept["answer"], schema, check):
        return kept["answer"], _row(model, task, kept, path, 0)
    dialogue = {"task": task, **request, "exchanges": kept.get("exchanges", [])}
    said, before = list(messages), len(dialogue["exchanges"])
    for attempt in range(1, attempts + 1):
        exchange: dict[str, Any] = {
            "attempt": attempt,
            "asked": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        dialogue["exchanges"].append(exchange)
        try:
            reply = model.reply(said, schema)
        except LanguageError as error:
            exchange["error"] = str(error)
            storage.write_json(path, dialogue)
            raise LanguageError(f"{task}: {error}. The dialogue is in {path}") from None
        answer, wrong = _judged(reply, schema, check)
        exchange |= asdict(reply) | {"faults": wrong}
        if not wrong:
            dialogue["answer"] = answer
        else:
            said += [
                {"role": "assistant", "content": reply.text},
                {"role": "user", "content": _correction(wrong)},
            ]
            exchange["correction"] = said[-1]["content"]
        storage.write_json(path, dialogue)
        if not wrong:
            return answer, _row(model, task, dialogue, path, len(dialogue["exchanges"]) - before)
    raise LanguageError(
        f"{task}: {model.name} gave no usable answer in {attempts} attempts; the "
        f"last was refused because {'; '.join(wrong[:3])}. The whole dialogue is "
        f"in {path}. Run again to ask anew, raise prompts.attempts, ask for fewer "
        "phrases, or name a stronger model"
    )


def faults(answer: Any, schema: dict[str, Any], check: Callable[[Any], list[str]]) -> list[str]:
    """What is wrong with an answer: first its form, then, if that is good, its content."""
    wrong = []
    for error in jsonschema.Draft202012Validator(schema).iter_errors(answer):
        where = error.json_path.removeprefix("$").lstrip(".") or "the answer"
        if error.validator in ("minItems", "maxItems"):
            wrong.append(f"{where}: {len(error.instance)} items, wanted {error.validator_value}")
        else:
            wrong.append(f"{where}: {ascii(error.message)[1:-1][:160]}")
    return wrong or check(answer)


def _judged(
    reply: Reply, schema: dict[str, Any], check: Callable[[Any], list[str]]
) -> tuple[Any, list[str]]:
    if reply.finish == "length":
        return None, ["the answer was cut off at max_tokens; raise max_tokens of the model"]
    try:
        answer = parse(reply.text)
    except ValueError as error:
        return None, [f"not one JSON object ({error}): {ascii(reply.text[:60])}"]
    return answer, faults(answer, schema, check)


def parse(text: str) -> Any:
    """The JSON value of an answer, without the thoughts before it or the fence around it.

    Raises ValueError, also for keys given twice and for NaN.
    """
    text = text.rpartition("</think>")[2].strip()
    fence = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", text, re.DOTALL)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({k for k, _ in pairs}) < len(pairs):
            raise ValueError("a key is given twice")
        return dict(pairs)

    def number(word: str) -> None:
        raise ValueError(f"{word} is no number")

    try:
        return json.loads(
            fence[1] if fence else text, object_pairs_hook=once, parse_constant=number
        )
    except RecursionError:
        raise ValueError("nested too deep") from None


def _correction(wrong: list[str]) -> str:
    listed = "\n".join(f"- {w}" for w in wrong[:12])
    return f"This answer cannot be used:\n{listed}\nGive the whole JSON object again, corrected."


def _kept(path: Path) -> dict[str, Any]:
    """A dialogue of an earlier run; {} where there is none. Raises ValueError for a broken file."""
    kept = storage.read_json(path) if path.is_file() else {}
    if not isinstance(kept, dict) or not isinstance(kept.get("exchanges", []), list):
        raise ValueError(f"{path}: not a dialogue; delete it and run its stage again")
    return kept


def _row(model: Model, task: str, dialogue: dict[str, Any], path: Path, new: int) -> dict[str, Any]:
    exchanges = dialogue["exchanges"]
    answered = [e for e in exchanges if "error" not in e]
    tokens = [[e.get(k) for e in answered] for k in ("prompt_tokens", "completion_tokens")]
    known = [sum(v for v in column if v is not None) for column in tokens]
    uncounted = sum(None in pair for pair in zip(*tokens))
    cost = (
        None
        if model.prices is None or uncounted
        else sum(n * price / 1e6 for n, price in zip(known, model.prices))
    )
    return {
        "task": task,
        "model": model.name,
        "answers": len(answered),
        "asked_now": new,
        "refused": sum(bool(e.get("faults")) for e in answered),
        "prompt_tokens": known[0],
        "completion_tokens": known[1],
        "uncounted": uncounted,
        "cost": cost,
        "seconds": round(sum(e.get("seconds", 0.0) for e in answered), 2),
        "file": path.name,
    }


COLUMNS = [
    "task",
    "model",
    "answers",
    "asked_now",
    "refused",
    "prompt_tokens",
    "completion_tokens",
    "uncounted",
    "cost",
    "seconds",
    "file",
]


def usage(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Dialogues as a table. Tokens, cost and seconds are of all answers kept, of earlier runs too.

    asked_now: answers asked for in this run, 0 where a kept one served; uncounted: answers whose
    tokens the endpoint did not count; cost: in the currency of the prices, None where unknown.
    """
    return pd.DataFrame(rows, columns=COLUMNS)
