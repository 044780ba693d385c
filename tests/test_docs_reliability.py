"""docs/reliability.md names tests: each of them must be there."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_every_test_that_the_tables_name_exists() -> None:
    rows = [row for row in (DOCS / "reliability.md").read_text("utf-8").splitlines() if "| `test_" in row]
    named = [name for row in rows for name in re.findall(r"`(test_\w+)`", row)]
    code = "\n".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    written = set(re.findall(r"^def (test_\w+)\(", code, re.MULTILINE))
    assert len(rows) >= 20
    assert [name for name in named if name not in written] == []
