"""Registry of the editors to compare VariReal with, by `edit.editor`.

Each but `world` paints the whole picture from a prompt alone, without prior, mask or refinement:
they show what minimal editing is worth (docs/protocol.md, A8). `world` is the rendered world's own
edit, of the arms whose name ends with -perfect. Under `edit.compose: true` their result is laid in
only where it may change. An editor is one file with an `EDITOR` (editor.py) and one line in
`EDITORS` of core/config_editing.py, which names the file without importing it.

Invariant (tests/unit/test_editors.py): with `edit.compose: true` no pixel outside the editable
region changes.
"""

from __future__ import annotations

from importlib import import_module

import pandas as pd

from ..core import config_editing
from .editor import Editor

DEFAULT = config_editing.VARIREAL
EDITORS: dict[str, Editor] = {
    name: import_module(f".{module}", __package__).EDITOR
    for name, module in config_editing.EDITORS.items()
}


def facts(name: str, images: pd.DataFrame) -> tuple[str, ...]:
    """Columns of a photograph's row that an editor draws from. Raises ValueError where the data set
    has not got them."""
    wanted = EDITORS[name].facts if name in EDITORS else ()
    if missing := [c for c in wanted if c not in images]:
        raise ValueError(
            f"editor {name} edits what the rendered world drew; this data set has no {missing}: "
            "take its arms out of the recipes (perfect(...)), or use source: world"
        )
    return wanted


def prompt_kind(name: str) -> str:
    """The kind of prompt that an editor reads: edit or instruct."""
    return EDITORS[name].prompt if name in EDITORS else "edit"
