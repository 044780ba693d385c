"""Memory does not grow with the number of documents, and with one document's size no more than it must.

The full measure is benchmarks/memory.py by hand; here a tenth of it runs, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from es_latechunk.chunking import token_positions
from es_latechunk.types import Tokens

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "memory.py"


def measured(url: str, *options: str) -> dict[str, Any]:
    environment = {**os.environ, "ELASTICSEARCH_URL": url, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, SCRIPT, *options], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_memory_does_not_grow_with_the_number_of_documents(elasticsearch_url: str) -> None:
    """What the run needs beyond the loaded libraries, in the last tenth next to the second one."""
    facts = measured(elasticsearch_url, "--documents", "10000")
    assert facts["chunks"] == 10_000
    second, last = facts["tenths_mb"][1], facts["tenths_mb"][-1]
    assert second > 0
    assert last - second < 0.1 * second
    assert last - second < 10


def test_memory_for_one_long_document_is_a_small_multiple_of_it() -> None:
    """Windows stream: a document of 4 MB takes far less than its token vectors would."""
    facts = measured("", "--megabytes", "4", "--no-server")
    token_vectors = 4 * 64 * 900_000 / 2**20
    assert facts["chunks"] > 5_000
    assert facts["peak_mb"] - facts["before_mb"] < 40 * 4 < token_vectors


def test_kinds_of_cuts_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "One two.\nThree 東京都 e\u0301te\u0301 \U0001f469\u200d\U0001f4bb end\u2028of it" * 3
    offsets = np.array([(at, at + 1) for at in range(len(text))], dtype=np.int32)
    tokens = Tokens(np.zeros(len(text), dtype=np.int32), offsets)
    whole = token_positions.find_token_positions(text, tokens)
    assert set(whole.cut_kinds) == {0, *range(1, 6)}
    for block in (1, 2, 3, 7, len(whole) - 1, len(whole)):
        monkeypatch.setattr(token_positions, "_BLOCK", block)
        assert token_positions.find_token_positions(text, tokens).cut_kinds == whole.cut_kinds
