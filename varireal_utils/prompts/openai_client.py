"""Asks an OpenAI-compatible endpoint: one POST to <url>/chat/completions for each answer.

Invariant (tests/unit/test_language.py): the key is read from its environment variable at each
request and leaves this module in that request's header alone. Whatever the server sends back is
searched for it first, so neither an answer nor an error can carry it into a record or a notebook.
Redirects are not followed: they would take the key to another host.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core.config_prompts import LOOPBACK, Endpoint
from ..data.transfer import retry_after

Message = dict[str, str]
AGAIN = (408, 429, 500, 502, 503, 504, 529)  # what a server may say in passing
PATIENCE = 600  # seconds that a Retry-After may ask for
GRACE = 0.5  # seconds in which a time-out of the socket itself comes first
MOST = 4_000_000  # bytes of an answer
BOUNDS = ("minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "x-pattern")
_pause = time.sleep


class LanguageError(RuntimeError):
    """A language model that gave no usable answer; says which, why, and what to do."""


@dataclass(frozen=True)
class Reply:
    """One answer. Tokens are None where nobody counted them; finish is "stop" or "length"."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish: str = "stop"
    seconds: float = 0.0
    tries: int = 1


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def ask(spec: Endpoint, messages: list[Message], schema: dict[str, Any]) -> Reply:
    """One answer to a dialogue, with patience for a busy server.

    schema: JSON Schema of the answer, sent as the
    `structured` of spec says; bounds on numbers and lengths stay here, for some servers refuse
    them. Raises LanguageError.
    """
    body: dict[str, Any] = {
        "model": spec.name,
        "messages": messages,
        spec.max_tokens_field: spec.max_tokens,
    }
    chosen = {"temperature": spec.temperature, "seed": spec.seed}
    body |= {k: v for k, v in chosen.items() if v is not None}
    kind = spec.structured
    if kind != "none":
        body["response_format"] = {"type": kind} | (
            {}
            if kind == "json_object"
            else {"json_schema": {"name": "answer", "strict": True, "schema": unbounded(schema)}}
        )
    began, problem, tries = time.monotonic(), "", spec.retries + 1
    for number in range(1, tries + 1):
        wait = 0.0
        try:
            answer = _within(spec.timeout, _post, spec, body)
            return _read(spec, answer, time.monotonic() - began, number)
        except urllib.error.HTTPError as error:
            wait, problem = retry_after(error.headers.get("Retry-After")), _told(spec, error)
            if error.code not in AGAIN or wait > PATIENCE:
                raise LanguageError(f"{problem}{_remedy(spec, error.code, wait)}") from None
        except (OSError, http.client.HTTPException) as error:  # URLError, time-outs, cut lines
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
            problem = f"{_address(spec)}: {_hide(spec, reason)[:300]}"
        if number < tries:
            _pause(max(wait, min(60.0, 2.0 ** (number - 1))))
    raise LanguageError(
        f"{problem}; given up after {tries} tries. Run again later: what was "
        "answered already is kept; or raise `retries` or `timeout` of the model"
    )


def unbounded(schema: Any) -> Any:
    """A JSON Schema without bounds on numbers and lengths."""
    if isinstance(schema, dict):
        return {k: unbounded(v) for k, v in schema.items() if k not in BOUNDS}
    return [unbounded(v) for v in schema] if isinstance(schema, list) else schema


def _address(spec: Endpoint) -> str:
    return f"{spec.url.rstrip('/')}/chat/completions"


def _key(spec: Endpoint) -> str:
    name = spec.api_key_env
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise LanguageError(
            f"the environment variable {name} (api_key_env) is not set; set it to "
            f"the key of {spec.url} before starting: export {name}=..."
        )
    if not re.fullmatch(r"[!-~]+", key):
        raise LanguageError(
            f"the environment variable {name} (api_key_env) holds characters that "
            "no key has (not shown); set it again"
        )
    return key


def _hide(spec: Endpoint, text: str) -> str:
    """The text without the key, in the forms in which JSON may write it."""
    key = os.environ.get(spec.api_key_env, "").strip()
    for form in {key, json.dumps(key)[1:-1], key.replace("/", "\\/")} - {""}:
        text = text.replace(form, "[key]")
    return text


def _within(seconds: float, work: Callable[..., str], *given: Any) -> str:
    """The answer of `work`, given up after so many seconds: a socket's own limit begins anew with
    each byte, so a server that drips its headers would hold it for ever. Raises TimeoutError."""
    answers: queue.Queue[tuple[str, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            answers.put((work(*given), None))
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            answers.put(("", error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds + GRACE)
    except queue.Empty:
        raise TimeoutError(f"the answer took longer than {seconds:g} seconds") from None
    if error is not None:
        raise error
    return answer


def _post(spec: Endpoint, body: dict[str, Any]) -> str:
    """The body of the server's answer. `timeout` is for the whole of it, in seconds."""
    limit = spec.timeout
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    key = _key(spec)
    if key:
        headers["Authorization"] = f"Bearer {key}"
    handlers: list[Any] = [_Stay()]
    if urllib.parse.urlsplit(spec.url).hostname in LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(_address(spec), json.dumps(body).encode(), headers)
    until, pieces, size = time.monotonic() + limit, [], 0
    with urllib.request.build_opener(*handlers).open(request, timeout=limit) as response:
        while piece := response.read1(1 << 16):
            pieces.append(piece)
            size += len(piece)
            if time.monotonic() > until:
                raise TimeoutError(f"the answer took longer than {limit:g} seconds")
            if size > MOST:
                raise LanguageError(
                    f"{_address(spec)}: sent more than {MOST:,} bytes, which is "
                    "no answer; check `url`"
                )
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
    return b"".join(pieces).decode("utf-8", "replace")


def _read(spec: Endpoint, answer: str, seconds: float, tries: int) -> Reply:
    try:
        data = json.loads(answer)
        choice = data["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text = message.get("content")
        usage = data.get("usage") or {}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise LanguageError(
            f"{_address(spec)}: answered, but not as chat completions do: "
            f"{ascii(_hide(spec, answer)[:200])}; check `url`, which ends where "
            "/chat/completions begins"
        ) from None
    refused = message.get("refusal")
    if not isinstance(text, str):
        text, finish = f"(no text) {refused or ''}".strip(), finish or "empty"

    def count(name: str) -> int | None:
        value = usage.get(name) if isinstance(usage, dict) else None
        return value if type(value) is int and value >= 0 else None

    return Reply(
        _hide(spec, text),
        count("prompt_tokens"),
        count("completion_tokens"),
        str(finish or "stop")[:40],
        round(seconds, 3),
        tries,
    )


def _told(spec: Endpoint, error: urllib.error.HTTPError) -> str:
    """What the server said about an error, without the key, in one line."""
    try:
        said = error.read(2000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        said = ""
    finally:
        error.close()
    said = " ".join(_hide(spec, said).split())[:300]
    return f"{_address(spec)}: HTTP {error.code}" + (f": {ascii(said)}" if said else "")


def _remedy(spec: Endpoint, code: int, wait: float) -> str:
    if wait > PATIENCE:
        return f"; it asks to wait {wait:,.0f} seconds: run again then"
    if 300 <= code < 400:
        return "; redirects are not followed: put the final address into `url`"
    if code in (401, 403):
        name = spec.api_key_env
        return (
            f"; the key in the environment variable {name} is not accepted"
            if name
            else "; it wants a key: name its environment variable under api_key_env"
        )
    if code == 404:
        return f"; check `url` and the model's `name` ({spec.name})"
    return (
        "; if it does not know response_format, set structured: json_object or none; if it "
        "does not know max_tokens, set max_tokens_field: max_completion_tokens"
    )
