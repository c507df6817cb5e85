"""Settings of `prompts` as a mapping: a language model writes the phrases.

    model   writes them: `kind: endpoint` (an OpenAI-compatible interface) or `kind: local`
    judge   says which arm each phrase belongs to; without it nobody does

No message shows what stands under api_key_env: it may be a key put there by mistake.
"""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from .config_base import (
    EXECUTION,
    PATH,
    SOURCE_FILE,
    WEIGHTS,
    Count,
    Settings,
    Whole,
    folder_files,
    wanted,
)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
Dtype = Literal["float32", "bfloat16", "float16"]
Temperature = Annotated[float, Field(ge=0, le=2), wanted("a number from 0 to 2")]
Seconds = Annotated[float, Field(ge=0.1, allow_inf_nan=False), wanted("at least 0.1")]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False), wanted("at least 0")]
_BASE = "the base address of the interface, e.g. http://localhost:8000/v1"


class Endpoint(Settings):
    """An OpenAI-compatible chat interface. Prices: per million tokens, in the bill's currency."""

    kind: Literal["endpoint"]
    url: str
    name: str
    api_key_env: Annotated[str, EXECUTION] = ""  # environment variable with the key
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    max_tokens: Count = 2000
    temperature: Temperature | None = None  # None: the server's own
    seed: Whole | None = None
    timeout: Annotated[Seconds, EXECUTION] = 300.0
    retries: Annotated[Whole, EXECUTION] = 5
    price_input: Annotated[Price | None, EXECUTION] = None
    price_output: Annotated[Price | None, EXECUTION] = None

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str) -> str:
        if not re.fullmatch(r"([A-Z][A-Z0-9_]{0,63})?", value):
            raise PydanticCustomError(
                "wanted",
                "{wanted}",
                {
                    "wanted": "the name of an environment variable in capitals such as "
                    "LLM_API_KEY. The key itself belongs in that variable, never in a file"
                },
            )
        return value

    @model_validator(mode="after")
    def _address(self) -> Endpoint:
        try:
            url = urllib.parse.urlsplit(self.url)
            host, extra = url.hostname, url.username or url.password or url.query or url.fragment
            _ = url.port  # raises ValueError where it is no number
        except ValueError:
            url, host, extra = urllib.parse.urlsplit(""), None, None
        if extra:
            raise _bad_url(
                "wanted an address without user, password, ? or # (not shown); the key "
                "belongs in api_key_env's variable"
            )
        if url.scheme not in ("http", "https") or not host:
            raise _bad_url(f"got {self.url!r}, wanted {_BASE}")
        if url.scheme == "http" and self.api_key_env and host not in LOOPBACK:
            raise _bad_url(
                f"{self.url!r} would send the key in clear text; use https, or leave "
                "api_key_env out"
            )
        return self


def _bad_url(text: str) -> PydanticCustomError:
    return PydanticCustomError("said_of", "{text}", {"key": "url", "text": text})


class LocalModel(Settings):
    """An instruct model as safetensors: a folder or a hub id."""

    kind: Literal["local"]
    path: Annotated[str, WEIGHTS]
    revision: str = "main"
    dtype: Dtype = "float32"
    structured: Literal["constrained", "none"] = "constrained"
    max_tokens: Count = 2000
    temperature: Temperature = 0.0
    seed: Whole | None = None  # None: the study's

    def source_files(self) -> list[Path]:
        """The model's files where it is a folder; a hub's model is named by its revision."""
        return sorted(folder_files(Path(self.path)))


def _kind(block: Any) -> str:
    return f"<{block.get('kind') if isinstance(block, dict) else getattr(block, 'kind', None)}>"


LanguageModel = Annotated[
    Annotated[Endpoint, Tag("<endpoint>")] | Annotated[LocalModel, Tag("<local>")],
    Discriminator(_kind),
]


class LlmPrompts(Settings):
    """What is asked of a language model. base: the phrase file with sentences and colours;
    counts: phrases of each arm, by attribute; attempts: answers before the stage gives up;
    disagreements: what becomes of phrases that the judge puts into the other arm."""

    source: Literal["llm"]
    base: Annotated[str, SOURCE_FILE, PATH]
    subject: str
    counts: dict[str, Count]
    model: LanguageModel
    judge: LanguageModel | None = None
    per_class: bool = False
    attempts: Count = 3
    disagreements: Literal["keep", "drop"] = "keep"
