"""The progress bar: what it says is left, and that it is gone before the report."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import read_terminal
from elasticsearch import Elasticsearch
from fakes import WordTokenizer

from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.cli.output.progress import SourceProgress, describe, estimate_tokens
from es_latechunk.report import IngestCounts
from es_latechunk.types import ChunkedDocument, Document


def chunked(text: str) -> ChunkedDocument:
    tokenizer = WordTokenizer()
    cut = make_chunker("sentences", tokenizer=tokenizer, max_tokens=8)
    return chunk_document(Document("d", text), chunker=cut, tokenizer=tokenizer)


ONE = chunked("Ten words are here, and then a full stop.")


def run_of(
    documents: int, *, read: int, planned: int, unchanged: int = 0
) -> tuple[SourceProgress, IngestCounts]:
    """A source of equal documents, of which some are read, planned or unchanged."""
    size = len(ONE.document.text)
    source = SourceProgress(size * documents, bytes=size * read)
    list(source.counted([ONE.document] * read))
    source.ended = read == documents
    counts = IngestCounts(seen_documents=planned + unchanged)
    for _ in range(planned):
        counts.plan(ONE)
    return source, counts


TOKENS = len(ONE.tokens)


@pytest.mark.parametrize(
    ("source_and_counts", "tokens"),
    [
        (run_of(1000, read=0, planned=0), None),
        (run_of(1000, read=256, planned=0), None),
        (run_of(1000, read=256, planned=1), 1000 * TOKENS),
        (run_of(1000, read=1000, planned=10), 1000 * TOKENS),
        (run_of(1000, read=1000, planned=1000), 1000 * TOKENS),
        (run_of(1000, read=500, planned=50, unchanged=50), 500 * TOKENS),
        (run_of(1000, read=1000, planned=1, unchanged=999), TOKENS),
        (run_of(1000, read=1000, planned=0, unchanged=1000), 0),
    ],
)
def test_the_estimate_is_of_the_tokens_that_have_to_be_encoded(
    source_and_counts: tuple[SourceProgress, IngestCounts], tokens: int | None
) -> None:
    found = estimate_tokens(*source_and_counts)
    assert found == (tokens if tokens is None else pytest.approx(tokens, rel=0.01))


def test_nothing_is_estimated_of_a_source_without_a_size_before_its_end() -> None:
    source, counts = run_of(10, read=5, planned=5)
    source.total_bytes = None
    source.ended = False
    counts.seen_documents = 4
    assert estimate_tokens(source, counts) is None
    source.ended = True
    assert estimate_tokens(source, counts) == pytest.approx(5 * TOKENS, rel=0.3)


def test_the_text_beside_the_bar() -> None:
    counts = IngestCounts(documents=2, indexed=7, unchanged=1)
    assert describe(counts, None, 0.5) == "2 documents  8 chunks  0 tokens/s  ? left"
    counts.encode(ONE, len(ONE.spans))
    counts.encoded_tokens *= 1000
    assert describe(counts, 61 * counts.encoded_tokens, 1).endswith(
        f"8 chunks  {1000 * TOKENS:,} tokens/s  0:01:00 left"
    )


def at_a_terminal(*arguments: str, stdout: Path, **variables: str) -> str:
    """What a command writes on stderr, which is a terminal; stdout is a file."""
    master, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", **variables}
    command = [sys.executable, "-m", "es_latechunk", *arguments]
    with (
        stdout.open("w") as file,
        subprocess.Popen(command, stdin=terminal, stdout=file, stderr=terminal, env=environment) as process,
    ):
        os.close(terminal)
        shown = read_terminal(master)
        assert process.wait(120) == 0, shown
    return shown.decode()


def test_a_terminal_sees_the_bar_and_after_it_the_report(
    client: Elasticsearch, index_name: str, elasticsearch_url: str, tmp_path: Path
) -> None:
    from es_latechunk import create_index, load_encoder

    create_index(index_name, encoder=load_encoder(), client=client)
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(20):
        (notes / f"{number}.txt").write_text(f"Note {number} is here. It has a few words. " * 20)
    ingest = ("ingest", str(notes), "--index", index_name, "--url", elasticsearch_url)
    shown = at_a_terminal(*ingest, stdout=tmp_path / "out")
    assert re.search(r"\d+ documents  \d+ chunks  [\d,]+ tokens/s", shown)
    _, _, report = shown.rpartition("tokens/s")
    assert re.search(r"20 documents, \d+ chunks: \d+ indexed", report)
    assert (tmp_path / "out").read_text() == ""
    embedded = at_a_terminal("embed", str(notes), stdout=tmp_path / "vectors")
    assert "tokens/s" in embedded
    rows = (tmp_path / "vectors").read_text().splitlines()
    assert len(rows) >= 20
    assert all(row.startswith('{"doc_id": ') for row in rows)
