"""Imports a library without the optional ones that it would pull in.

It stands alone because the command line and the models need it, each for a library that imports whatever it finds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden_imports(library: str, *optional: str) -> Iterator[None]:
    """Import `library` inside as if the optional modules were not installed; it must be able to do without them.

    They are hidden for this import only: whatever needs one later imports it as ever. If the library is imported
    already, or one of them is, nothing changes for it.
    """
    hidden = [] if library in sys.modules else [name for name in optional if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: the import system says "not found"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
