"""docs/screens.md: what the commands print at a terminal of 80 and of 120 columns, compared with what they print now.

`make screens` writes the page anew. Seconds are not on it, as they differ between runs; scores and the precision differ
between machines, so they are not compared.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import read_terminal
from elasticsearch import Elasticsearch

from es_latechunk import create_index, load_encoder
from es_latechunk.cli.output.progress import SourceProgress, progress_bar
from es_latechunk.report import IngestCounts

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "screens.md"
INTRODUCTION = """# What the commands print

At terminals of 80 and of 120 columns; colours are left out, and `#` stands for a number of seconds. In a pipe, hits
are lines with tabs between the columns, and `--json` prints JSON ([search.md](search.md#what-is-shown)). `make screens`
writes this page anew, and a test compares it with what the commands print.
"""
WIDTHS = (80, 120)
SEARCH = 'search "How many people live in the Norwegian capital?" --index notes'
COMMANDS = (
    "ingest notes/ --index notes",
    f"{SEARCH} -k 3",
    f"{SEARCH} -k 1 --full",
    "--help",
    "search --help",
    "ingest --help",
)
SEQUENCE = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])|([\r\n])")
SECONDS = re.compile(r"(?<= )\d+\.\d(?= s |,|$)", re.MULTILINE)
VARYING = re.compile(r"^\d\.\d{4}(?=  )|(?<=\()(?:bfloat16|float32) on \w+, \w+(?=\)$)", re.MULTILINE)


def shown(written: str) -> str:
    """What stands on a terminal after this was written: the progress bar moves up and erases its lines."""
    lines, row = [""], 0
    position = 0
    for found in [*SEQUENCE.finditer(written), None]:
        text = written[position : found.start() if found else len(written)]
        lines[row] += text
        if found is None:
            break
        position = found.end()
        count, command, move = found.groups()
        if move == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif move == "\r" and not written.startswith("\r\n", found.start()):
            pass  # what is written over a line erases it first
        elif command == "A":
            row -= int(count or 1)
        elif command == "K":
            lines[row] = ""
    return "\n".join(line.rstrip() for line in lines).rstrip()


def at_a_terminal(command: str, columns: int, url: str) -> str:
    master, terminal = pty.openpty()
    kept = {
        name: value for name, value in os.environ.items() if not re.match(r"ES_LATECHUNK|ELASTIC|LESS", name)
    }
    environment = {**kept, "TERM": "xterm", "COLUMNS": str(columns), "PAGER": "cat", "ELASTICSEARCH_URL": url}
    words = [sys.executable, "-m", "es_latechunk", *shlex.split(command)]
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        written = read_terminal(master)
        assert process.wait(120) == 0, written
    return shown(written.decode())


def bar(columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The bar after a minute of a load of 5,000 documents, of which 1,204 are written."""
    counts = IngestCounts(documents=1204, indexed=18911)
    counts.seen_documents = counts.planned_documents = 5000
    counts.planned_tokens, counts.encoded_tokens = 5_460_000, 1_314_600
    source = SourceProgress(documents=5000, ended=True)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    seconds = iter([0.0])
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("TERM", "xterm")
        patch.setattr(
            "es_latechunk.cli.output.progress.time", SimpleNamespace(monotonic=lambda: next(seconds, 60.0))
        )
        with progress_bar(source, counts, quiet=False):
            pass
    first, _, _ = terminal.getvalue().partition("\n")
    return shown(first)


@pytest.fixture
def notes(elasticsearch_url: str) -> Iterator[str]:
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        client.indices.delete(index="notes", ignore_unavailable=True)
        create_index("notes", encoder=load_encoder(), client=client)
        yield elasticsearch_url
        client.indices.delete(index="notes")


def screens(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield INTRODUCTION
    for columns in WIDTHS:
        yield f"## {columns} columns\n\nWhile `ingest` runs:\n\n```text\n{bar(columns, monkeypatch)}\n```\n"
        for command in COMMANDS:
            screen = at_a_terminal(command, columns, url)
            if command.startswith("ingest notes/"):
                screen = SECONDS.sub("#", screen)
            yield f"```text\n$ es-latechunk {command}\n{screen}\n```\n"


def test_the_page_has_the_screens_of_today(notes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = "\n".join(screens(notes, monkeypatch))
    if os.environ.get("WRITE_SCREENS"):
        PAGE.write_text(made, encoding="utf-8")
    page = PAGE.read_text("utf-8")
    assert VARYING.sub("#", made) == VARYING.sub("#", page), "make screens writes docs/screens.md anew"


@pytest.mark.parametrize("columns", WIDTHS)
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    """But for the commands themselves and the examples, which can be pasted."""
    _, _, part = PAGE.read_text("utf-8").partition(f"## {columns} columns")
    blocks = re.findall(r"```text\n(.*?)```", part.partition("\n## ")[0], re.DOTALL)
    assert blocks
    lines = [line for block in blocks for line in block.splitlines()]
    assert [line for line in lines if len(line) > columns and "es-latechunk" not in line] == []


def test_what_a_terminal_shows() -> None:
    assert shown("before\r\nbar 1\r\x1b[2Kbar 2\r\n\x1b[?25h\r\x1b[1A\x1b[2Kafter\r\n") == "before\nafter"
