"""How hits look: on a terminal of any width, in a pipe, and through a pager."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import read_terminal, run
from elasticsearch import Elasticsearch
from hypothesis import given
from hypothesis import strategies as st
from indices import LETTERS, WordEncoder, load, make_index
from rich.cells import cell_len
from rich.console import Console

from es_latechunk.cli.output.hits import screen_of
from es_latechunk.types import Hit, Passage

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
WORD, DIM = "\x1b[1;33m", "\x1b[2m"


def hit(content: str = "The city is old.", **fields: Any) -> Hit:
    start = fields.pop("start", 0)
    given = {"id": "a.md#0", "doc_id": "a.md", "ordinal": 0, "score": 0.81234, "title": "", "metadata": {}}
    return Hit(**{**given, "start": start, "end": start + len(content), "content": content, **fields})


def screen(*hits: Hit, width: int = 80, full: bool = False) -> str:
    terminal = Console(width=width, force_terminal=True, color_system="standard", highlight=False)
    return screen_of(hits, full=full, console=terminal)


def plain(text: str) -> str:
    return ESCAPES.sub("", text)


def test_a_hit_is_a_line_of_score_title_and_place_and_two_lines_of_text() -> None:
    words = [f"word{number}" for number in range(200)]
    text = " ".join(words)
    one = hit(
        text, title="Old cities", metadata={"page": 3}, highlight=text.replace("word150", "<em>word150</em>")
    )
    head, first, second, last = plain(screen(one)).splitlines()
    assert head == f"0.8123  Old cities  a.md#0, characters 0-{len(text)}, page 3"
    assert first.startswith("    … word1")
    assert second.rstrip().endswith(" …")
    assert last.strip() == ""
    assert f"{WORD}word150\x1b[0m" in screen(one)
    shown = f"{first} {second}".replace("…", "").split()
    assert words[words.index(shown[0]) :][: len(shown)] == shown, "the words in a row, none cut"
    before, after = shown.index("word150"), len(shown) - shown.index("word150")
    assert abs(before - after) <= 3, "the word of the query stands in the middle"


def test_full_is_all_of_the_text_in_its_own_lines() -> None:
    text = "| a | b |\n| 1 | 2 |\n\n" + "word " * 100
    shown = plain(screen(hit(text), full=True)).splitlines()
    assert [line.strip() for line in shown[1:3]] == ["| a | b |", "| 1 | 2 |"]
    assert " ".join(shown).split().count("word") == 100


def test_a_long_title_leaves_the_place_whole_on_a_line_of_its_own() -> None:
    head, place, *_ = plain(screen(hit(title="T" * 100))).splitlines()
    assert head.startswith("0.8123  TTT")
    assert head.endswith("…")
    assert cell_len(head) <= 80
    assert place.strip() == "a.md#0, characters 0-16"


def test_a_passage_is_shown_whole_and_the_hit_in_it_is_not_dim() -> None:
    """The text of the hit is in the passage twice, and the second one is the hit."""
    passage = Passage(0, 53, "It is old. The city is old.\n\nThe city is old. Trams climb.")
    one = hit(start=30, passage=passage, highlight="The <em>city</em> is old.")
    shown = screen(one)
    assert f"{DIM}It is old. The city is old.\x1b[0m" in shown
    assert f"The {WORD}city\x1b[0m is old.{DIM} Trams climb.\x1b[0m" in shown


def test_reranked_hits_show_both_scores() -> None:
    assert plain(screen(hit(rerank_score=3.5))).startswith("3.5000 (search 0.8123)  a.md#0")


def test_marks_of_the_text_s_own_are_text() -> None:
    one = hit("<em> is a mark of </em> HTML.", highlight="<em> is a <em>mark</em> of </em> HTML.")
    assert f"<em> is a {WORD}mark\x1b[0m of </em> HTML." in screen(one)


def test_no_hits_are_said() -> None:
    assert screen() == "no hits\n"


texts = st.text(st.sampled_from("ab   \n\t漢字é\u202e\x1b…<em>/"), min_size=1, max_size=300)


@given(
    text=texts,
    title=texts,
    width=st.integers(40, 130),
    marks=st.sets(st.integers(0, 299)),
    full=st.booleans(),
)
def test_any_text_fits_any_width(text: str, title: str, width: int, marks: set[int], full: bool) -> None:
    marked = "".join(f"<em>{c}</em>" if place in marks else c for place, c in enumerate(text))
    one = hit(text, title=title, highlight=marked)
    shown = plain(screen(one, width=width, full=full))
    lines = shown.splitlines()
    assert all(cell_len(line) <= width for line in lines), lines
    assert shown.replace("\n", "").isprintable()
    if full:
        pieces = re.sub(
            r"\s", "", "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in re.sub(r"\s", "", text))
        )
        assert pieces in re.sub(r"\s", "", shown)
    else:
        assert len(lines) <= 6


@pytest.fixture
def index(
    client: Elasticsearch, index_name: str, elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    encoder = make_index(client, index_name, WordEncoder())
    load(client, index_name, LETTERS, encoder)
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    return index_name


def test_in_a_pipe_a_hit_is_one_line_of_columns(index: str) -> None:
    command = ["search", "city", "--index", index, "--mode", "bm25", "-k", "1"]
    done = run(*command)
    assert (done.exit_code, done.stderr) == (0, "")
    score, *rest = done.stdout.rstrip("\n").split("\t")
    assert float(score) > 0
    assert rest == ["berlin#1", "26-42", "Berlin", "The city is old."]
    marked = run(*command, "--highlight", "--neighbours", "1").stdout
    assert marked.rstrip("\n").split("\t")[2:] == [
        "0-61", "Berlin", "Berlin lies on the Spree. The city is old. It has many lakes."
    ]  # fmt: skip
    many = run("search", "--from-file", "-", *command[2:], input="city\nDom\n").stdout
    assert [line.split("\t")[0] for line in many.splitlines()] == ["city", "Dom"]


def at_a_terminal(*arguments: str, columns: int = 80, **variables: str) -> str:
    """What a command writes to a terminal of its own."""
    master, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **variables}
    process = subprocess.Popen(
        [sys.executable, "-m", "es_latechunk", *arguments], stdin=terminal, stdout=terminal, env=environment
    )
    os.close(terminal)
    shown = read_terminal(master)
    assert process.wait(60) == 0
    return shown.decode()


def test_a_terminal_has_colours_a_pager_and_no_marks(index: str, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho PAGED\ncat\n")
    pager.chmod(0o755)
    search = ("search", "city", "--index", index, "--mode", "bm25", "-k", "1")
    shown = at_a_terminal(*search, PAGER=str(pager))
    assert shown.startswith("PAGED")
    assert "The \x1b[1;33mcity\x1b[0m is old." in shown
    assert "<em>" not in shown
    assert '"content": "The city is old."' in at_a_terminal(*search, "--json", PAGER=str(pager))
    assert "\x1b[1;33m" not in at_a_terminal(*search, PAGER="cat", NO_COLOR="1")
