"""Checks which text of a language model may be a phrase: words, and nothing that acts.

Invariant: a phrase is words of Latin letters and digits between single spaces, hyphens, apostrophes
or after a comma, at most `MOST` characters: no path, markup, placeholder, prompt weight or control
character.
"""

from __future__ import annotations

import re
import unicodedata

MOST = 80  # characters of a phrase
_WORD = "[0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff]"
_PHRASE = re.compile(rf"{_WORD}+(?:(?:, |[ '\u2019-]){_WORD}+)*")
SHORT = rf"{_WORD}{{1,12}}(?:[ '-]{_WORD}{{1,12}}){{0,5}}"  # for constrained generation


def fault(phrase: str) -> str:
    """Why a text cannot be a phrase, naming the character; "" if it can."""
    for char in phrase:
        kind, code = unicodedata.category(char), f"U+{ord(char):04X}"
        if char in "\r\n\v\f" or kind in ("Zl", "Zp"):
            return f"holds a line break ({code})"
        if kind in ("Cc", "Cf", "Cs", "Co", "Cn"):
            return f"holds an invisible character ({code})"
        if unicodedata.bidirectional(char) in ("R", "AL", "AN"):
            return f"holds a right-to-left character ({code})"
        for chars, name in (
            ("/\\", "path separator"),
            ("<>&", "character of markup"),
            ("{}", "brace of a placeholder"),
        ):
            if char in chars:
                return f"holds a {name} ({code})"
    if len(phrase) > MOST:
        return f"has {len(phrase)} characters, at most {MOST} are wanted"
    strange = [c for c in phrase if not re.fullmatch(rf"{_WORD}|[ ,'\u2019-]", c)]
    if strange:
        return f"holds U+{ord(strange[0]):04X}, which is no Latin letter, digit, comma or hyphen"
    if not _PHRASE.fullmatch(phrase):
        return "is not words with single spaces, hyphens or apostrophes between them"
    return ""


def plain(text: str) -> str:
    """A text without spaces and a full stop at its ends, composed (NFC)."""
    return unicodedata.normalize("NFC", text).strip(" ").removesuffix(".")


def one_line(text: str) -> str:
    """A reason as one line of at most 200 characters that no table program takes for a formula."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split()).lstrip("=+-@")[:200]
