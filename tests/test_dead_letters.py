"""The dead-letter file: what Elasticsearch refuses, kept so that `ingest` can read it again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from faults import encoder
from hypothesis import given
from hypothesis import strategies as st
from indices import LETTERS, make_index, stored_chunks

from es_latechunk import ChunkSpan, Document
from es_latechunk.documents import printable, read_documents
from es_latechunk.documents.dead_letter import DeadLetters
from es_latechunk.errors import DocumentError

pytestmark = pytest.mark.every_version

VISIBLE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | VISIBLE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(VISIBLE, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.builds(
    Document,
    id=VISIBLE,
    text=VISIBLE.map(lambda text: f"{text}x"),
    title=VISIBLE | st.just(""),
    metadata=st.dictionaries(VISIBLE, JSON, max_size=4),
    spans=st.none()
    | st.lists(st.builds(ChunkSpan, st.integers(0, 99), st.integers(0, 99)), max_size=4).map(tuple),
    pages=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    plain_text=st.booleans(),
)


@given(documents=st.lists(DOCUMENTS, min_size=1, max_size=3))
def test_what_is_read_again_is_what_was_refused(
    tmp_path_factory: pytest.TempPathFactory, documents: list[Document]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.ndjson"
    with DeadLetters(path) as letters:
        for document in documents:
            letters.add(document, DocumentError(document.id, "a\ncause"))
    assert list(read_documents([path], format="jsonl")) == documents
    assert [json.loads(line)["_cause"] for line in path.read_text().splitlines()] == ["a\ncause"] * len(
        documents
    )


def test_it_is_its_owner_s_alone_and_of_this_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "dead.ndjson"
    path.write_text("of an earlier run\n")
    path.chmod(0o644)
    with DeadLetters(path) as letters:
        assert path.stat().st_mode & 0o777 == 0o600
        letters.add(LETTERS[0], DocumentError("berlin", "why"))
        [line] = path.read_text().splitlines()
    assert json.loads(line)["id"] == "berlin", "it is there at once, so that a kill loses nothing"


def test_a_device_keeps_its_mode() -> None:
    before = os.stat(os.devnull).st_mode  # noqa: PTH116
    with DeadLetters(Path(os.devnull)):
        assert os.stat(os.devnull).st_mode == before  # noqa: PTH116


@pytest.fixture(autouse=True)
def words(elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: encoder())
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_what_the_mapping_refuses_is_kept_counted_and_repaired(
    client: Elasticsearch, index_name: str, tmp_path: Path
) -> None:
    make_index(client, index_name, encoder(), max_tokens=7)
    text = "One is here. Two is here now. Three is there."
    chunks = [[0, 12], [13, len(text)]]
    good = {"id": "good", "text": "All is well."}
    bad = {"id": "bad", "text": text, "title": "T", "chunks": chunks, "lang": {"a\u0000b": 1, "also": [1]}}
    source = write(tmp_path / "source.jsonl", good, bad)
    dead = tmp_path / "dead.jsonl"
    done = run("ingest", source, "--index", index_name, "--dead-letter", dead, "--json")
    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: bad: Elasticsearch refuses chunk bad#0 (")
    report = json.loads(done.stdout)
    assert (report["documents"], report["failed"], report["indexed"]) == (1, 1, 1)
    assert set(stored_chunks(client, index_name)) == {"good#0"}

    [original] = list(read_documents([source]))[1:]
    [kept] = read_documents([dead])
    assert kept == original
    row = json.loads(dead.read_text())
    assert line == printable(f"error: bad: {row['_cause']}")

    again = run("ingest", dead, "--index", index_name, "--dead-letter", tmp_path / "more.jsonl")
    assert again.exit_code == 1, "it is not mended by itself"
    row["metadata"]["lang"] = "en"
    done = run("ingest", write(dead, row), "--index", index_name, "--json")
    assert done.exit_code == 0, done.stderr
    stored = stored_chunks(client, index_name)
    assert [(stored[key]["start"], stored[key]["end"]) for key in ("bad#0", "bad#1")] == [
        (0, 12),
        (13, len(text)),
    ]
    assert stored["bad#0"]["metadata"] == {"lang": "en"}


@pytest.mark.parametrize("place", ["docs/dead.jsonl", "docs/deeper/dead.jsonl", "docs/../docs/dead.jsonl"])
def test_a_file_among_the_sources_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "docs" / "deeper").mkdir(parents=True)
    told = error_of(run("ingest", tmp_path / "docs", "--index", "i", "--dead-letter", tmp_path / place), 2)
    assert "is one of the sources; write to a file outside of them" in told
    assert not (tmp_path / place).exists()


def test_a_run_that_cannot_begin_keeps_the_file_of_the_one_before(tmp_path: Path) -> None:
    source = write(tmp_path / "source.jsonl", {"id": "good", "text": "All is well."})
    dead = write(tmp_path / "dead.jsonl", {"id": "kept", "text": "Of the run before."})
    error_of(run("ingest", source, "--index", "test-missing", "--dead-letter", dead), 2)
    assert json.loads(dead.read_text())["id"] == "kept"
