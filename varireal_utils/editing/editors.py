"""Registry of the editors to compare VariReal with, by `edit.editor`.

Each paints the whole picture from a prompt alone, without prior, mask or refinement: they show what
minimal editing is worth (docs/protocol.md, A8). Under `edit.compose: true` their result is laid in
only where it may change. An editor is one file with an `EDITOR` (editor.py) and one line in
`EDITORS` of core/config_editing.py, which names the file without importing it.

Invariant (tests/unit/test_editors.py): with `edit.compose: true` no pixel outside the editable
region changes.
"""

from __future__ import annotations

from importlib import import_module

from ..core import config_editing
from .editor import Editor

DEFAULT = config_editing.VARIREAL
EDITORS: dict[str, Editor] = {
    name: import_module(f".{module}", __package__).EDITOR
    for name, module in config_editing.EDITORS.items()
}


def prompt_kind(name: str) -> str:
    """The kind of prompt that an editor reads: edit or instruct."""
    return EDITORS[name].prompt if name in EDITORS else "edit"
