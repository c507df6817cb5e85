"""jsonschema without a grammar of web addresses, which it would compile for a second at its import.

Nothing here checks the form of an address. papermill and nbformat import jsonschema too: whoever
imports this module before them spares every process that second.
"""

import sys

_GRAMMAR = "rfc3987_syntax"

if _GRAMMAR in sys.modules:
    import jsonschema
else:
    sys.modules[_GRAMMAR] = None  # type: ignore[assignment]  # jsonschema does without it
    try:
        import jsonschema
    finally:
        del sys.modules[_GRAMMAR]

__all__ = ["jsonschema"]
