"""A hundred good documents among every kind of bad file: all good ones come out, each bad one is named once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from made_files import LIMIT, read, write_bad, write_good


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "source"


def assert_named_once(messages: list[str], expected: dict[str, str]) -> None:
    """Each bad file has one printable line that begins with its place and holds its reason."""
    assert [message for message in messages if not message.isprintable()] == []
    named = {place: [m for m in messages if m.startswith(f"{place}: ")] for place in expected}
    assert {place: found for place, found in named.items() if len(found) != 1} == {}
    assert {place: named[place] for place, cause in expected.items() if cause not in named[place][0]} == {}
    assert len(messages) == len(expected)


def test_all_good_documents_come_and_each_bad_file_is_named_once(folder: Path) -> None:
    good, bad = write_good(folder), write_bad(folder)
    assert len(good) == 100
    assert len(bad) >= 30
    encodings: Counter[str] = Counter()
    documents, errors = read(
        folder, max_document_bytes=LIMIT, on_encoding=lambda _, encoding: encodings.update([encoding])
    )
    assert sorted(document.id for document in documents) == good
    assert_named_once(errors, bad)
    assert encodings == {"cp1252": 1, "utf-16-le": 1}


def test_the_command_line_says_the_same_and_exits_with_1(folder: Path) -> None:
    good, bad = write_good(folder), write_bad(folder)
    command = [sys.executable, "-m", "es_latechunk", "chunk", folder, "--max-document-bytes", str(LIMIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert_named_once([line[7:] for line in lines if line.startswith("error: ")], bad)
    others = [line for line in lines if not line.startswith("error: ")]
    assert others == [
        "windows.txt: was read as cp1252, but that is a guess from few characters; give its encoding with --encoding",
        "read as cp1252: 1 file",
        "read as utf-16-le: 1 file",
        "warning: 33% of the tokens of 1 document are unknown to this model; choose one that knows their language, a "
        "multilingual one for instance (es-latechunk models lists some)",
    ]
    assert sorted({json.loads(line)["doc_id"] for line in done.stdout.splitlines()}) == good
