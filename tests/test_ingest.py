"""Ingesting on a real server: what is written, what is written again, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import count
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch
from hypothesis import given, settings
from hypothesis import strategies as st
from indices import LETTERS, StableTokenizer, WordEncoder, load, make_index, stored_chunks

from es_latechunk import (
    ChunkSpan,
    Document,
    DocumentResult,
    IngestProgress,
    IngestRun,
    embed_documents,
    ingest,
)
from es_latechunk.elastic.index import contents as state
from es_latechunk.errors import IndexMismatchError, IndexNotFoundError
from es_latechunk.types import FloatArray, IntArray, Tokens

pytestmark = pytest.mark.every_version
BERLIN, LISBON, KOELN = LETTERS
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)

target_module = import_module("es_latechunk.target")


def state_of(client: Elasticsearch, name: str) -> dict[str, Any]:
    index = client.indices.get(index=name)[name]
    stats = client.indices.stats(index=name, metric="indexing")["_all"]["primaries"]["indexing"]
    return {"index": index, "written": stats["index_total"], "deleted": stats["delete_total"]}


def test_same_input_same_index(client: Elasticsearch, index_name: str) -> None:
    """Invariant 6: a second run encodes nothing, writes nothing and changes nothing."""
    encoder = make_index(client, index_name)
    report, errors = load(client, index_name, LETTERS, encoder)
    assert (report.documents, report.chunks, report.indexed, report.unchanged) == (3, 8, 8, 0)
    assert (report.deleted, report.failed, errors) == (0, 0, [])
    assert report.tokens == encoder.tokens_encoded == 41
    assert client.count(index=index_name)["count"] == report.chunks
    before = state_of(client, index_name), stored_chunks(client, index_name)

    again, errors = load(client, index_name, LETTERS, encoder)
    assert (again.documents, again.chunks, again.indexed, again.unchanged) == (3, 8, 0, 8)
    assert (again.deleted, again.failed, again.tokens, errors) == (0, 0, 0, [])
    assert encoder.tokens_encoded == 41
    assert (state_of(client, index_name), stored_chunks(client, index_name)) == before


@pytest.mark.parametrize(
    ("changed", "indexed", "deleted"),
    [
        (replace(BERLIN, text="The Spree."), 1, 2),
        (replace(BERLIN, text=BERLIN.text + " It grows. And it grows still more."), 5, 0),
        (replace(BERLIN, text=BERLIN.text.replace("old", "new")), 3, 0),
        (replace(BERLIN, title="Berlin, Germany"), 3, 0),
        (replace(BERLIN, metadata={"lang": "de"}), 3, 0),
        (replace(BERLIN, metadata={}), 3, 0),
        (replace(BERLIN, spans=(ChunkSpan(0, len(BERLIN.text)),)), 1, 2),
    ],
)
def test_a_changed_document_is_replaced_and_nothing_else(
    client: Elasticsearch, index_name: str, changed: Document, indexed: int, deleted: int
) -> None:
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    source = [LISBON, changed, KOELN]
    report, errors = load(client, index_name, source, encoder)
    assert (report.indexed, report.deleted, report.unchanged, errors) == (indexed, deleted, 5, [])
    assert (report.documents, report.chunks) == (3, indexed + 5)
    assert client.count(index=index_name)["count"] == report.chunks

    clean = f"{index_name}-clean"
    make_index(client, clean)
    load(client, clean, source, encoder)
    assert stored_chunks(client, index_name) == stored_chunks(client, clean)


def test_every_field_of_a_chunk_is_stored(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    chunk = stored_chunks(client, index_name)["köln#1"]
    chunk.pop("content_embedding")
    assert len(chunk.pop("doc_hash")) == 32
    assert chunk == {
        "content": "Der Dom ist hoch.",
        "doc_id": "köln",
        "ordinal": 1,
        "chunk_count": 2,
        "start": 21,
        "end": 38,
        "title": "Köln am Rhein",
        "headings": [],
        "metadata": {"lang": "de", "tags": ["dom", "rhein"]},
    }


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("pooling", ["late", "naive"])
def test_stored_vectors_are_the_encoder_s(
    client: Elasticsearch, index_name: str, pooling: Any, packed: bool, server_version: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As lists on every server, and packed where the server reads that, to the last bit."""
    if packed:
        assert target_module.PACKED_VECTORS_SINCE == (9, 3)
    else:
        monkeypatch.setattr(target_module, "PACKED_VECTORS_SINCE", (99, 0))
    encoder = make_index(client, index_name, pooling=pooling)
    load(client, index_name, LETTERS, encoder)
    stored = stored_chunks(client, index_name)
    chunks = list(embed_documents(LETTERS, encoder=encoder, max_tokens=7, pooling=pooling))
    assert len(chunks) == len(stored) == 8
    for chunk in chunks:
        vector = np.array(stored[f"{chunk.doc_id}#{chunk.ordinal}"]["content_embedding"], dtype=np.float32)
        assert vector.tobytes() == chunk.vector.tobytes()


def test_late_and_naive_vectors_differ(client: Elasticsearch, index_name: str) -> None:
    late, naive = (
        list(embed_documents(LETTERS, encoder=WordEncoder(), max_tokens=7, pooling=pooling))
        for pooling in ("late", "naive")
    )
    assert [chunk.content for chunk in late] == [chunk.content for chunk in naive]
    assert not any(np.allclose(a.vector, b.vector, atol=1e-3) for a, b in zip(late, naive, strict=True))


def test_an_id_that_comes_twice_is_named_and_the_first_one_stays(
    client: Elasticsearch, index_name: str
) -> None:
    encoder = make_index(client, index_name)
    twice = Document("berlin", "Quite another text.")
    report, errors = load(client, index_name, [*LETTERS, twice, twice], encoder)
    assert errors == ["berlin: its id was used before in this run; give it another id"] * 2
    assert (report.documents, report.failed, report.chunks) == (3, 2, 8)
    assert stored_chunks(client, index_name)["berlin#0"]["content"] == "Berlin lies on the Spree."


def test_an_id_that_comes_again_while_the_first_one_is_on_its_way(
    client: Elasticsearch, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "LOOK_UP_DOCUMENTS", 1)
    encoder = make_index(client, index_name)
    report, errors = load(client, index_name, [BERLIN, BERLIN, LISBON], encoder)
    assert (report.documents, report.failed, len(errors)) == (2, 1, 1)
    assert client.count(index=index_name)["count"] == report.chunks == 6


def test_bad_documents_among_good_ones_are_named_and_the_others_written(
    client: Elasticsearch, index_name: str
) -> None:
    deep: dict[str, Any] = {}
    for _ in range(30):
        deep = {"a": deep, "b": "x"}
    bad = [
        Document("empty", " \n"),
        Document("half", "a \ud800 b"),
        Document("nan", "Text.", metadata={"n": float("nan")}),
        Document("object", "Text.", metadata={"when": object()}),
        Document("deep", "Text.", metadata=deep),
        Document("gap", "One. Two.", spans=(ChunkSpan(0, 4),)),
        Document("l" * 511, "Text."),
    ]
    encoder = make_index(client, index_name)
    mixed = [document for pair in zip(bad, [*LETTERS] + [BERLIN] * 4, strict=True) for document in pair]
    report, errors = load(client, index_name, mixed[:6] + bad[3:], encoder)
    assert [error.split(":")[0][:9] for error in sorted(errors)] == sorted(
        ["empty", "half", "nan", "object", "deep", "gap", "lllllllll"]
    )
    assert all(error.isprintable() and len(error) < 600 for error in errors)
    assert (report.documents, report.failed, report.chunks) == (3, 7, 8)
    assert client.count(index=index_name)["count"] == 8


def test_content_is_the_text_between_start_and_end(client: Elasticsearch, index_name: str) -> None:
    """Invariant 1 behind the server: nothing lost, nothing changed, for any text."""
    encoder = make_index(client, index_name)
    runs = count()

    @given(st.lists(TEXTS, min_size=1, max_size=40))
    @settings(max_examples=8, deadline=None, derandomize=True, database=None)
    def check(texts: list[str]) -> None:
        run = next(runs)
        documents = {
            f"{run}/{number}": Document(f"{run}/{number}", text) for number, text in enumerate(texts)
        }
        report, _ = load(client, index_name, documents.values(), encoder)
        assert report.documents + report.failed == len(texts)
        rest = {doc_id: list(document.text) for doc_id, document in documents.items()}
        for chunk in stored_chunks(client, index_name, {"prefix": {"doc_id": f"{run}/"}}).values():
            text, start, end = documents[chunk["doc_id"]].text, chunk["start"], chunk["end"]
            assert chunk["content"] == text[start:end]
            rest[chunk["doc_id"]][start:end] = " " * (end - start)
        lost = {doc_id for doc_id, left in rest.items() if not "".join(left).isspace()}
        without_token = {
            doc_id for doc_id in lost if not len(encoder.tokenizer.tokenize(documents[doc_id].text))
        }
        assert lost == without_token
        assert len(lost) <= report.failed

    check()


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            WordEncoder(model="b/c", weights="sha256:other"),
            r"fake/words \(sha256:words\), .* b/c \(sha256:other\)",
        ),
        (WordEncoder(window=32), "window 64, the given setting is 32"),
        (WordEncoder(document_prefix="x"), "document_prefix '', the given setting is 'x'"),
        (WordEncoder(dim=8), "dimensions 16, the given setting is 8"),
        (WordEncoder(query_task="t"), "query_task '', the given setting is 't'"),
    ],
)
def test_one_model_per_index(
    client: Elasticsearch, index_name: str, encoder: WordEncoder, message: str
) -> None:
    """Invariant 7: any other encoder is refused before anything is read, encoded or written."""
    load(client, index_name, LETTERS, make_index(client, index_name))
    before = state_of(client, index_name)

    def untouched() -> Any:
        raise AssertionError("the source was read")
        yield

    with pytest.raises(IndexMismatchError, match=message):
        ingest(untouched(), index=index_name, client=client, encoder=encoder)
    assert state_of(client, index_name) == before
    assert encoder.tokens_encoded == 0


def test_an_index_that_is_missing_is_named_with_the_next_step(client: Elasticsearch) -> None:
    with pytest.raises(IndexNotFoundError, match=r"index test-none does not exist .* index create test-none"):
        ingest(LETTERS, index="test-none", client=client, encoder=WordEncoder())
    assert not client.indices.exists(index="test-none")


def test_an_alias_of_one_index_is_as_good_as_its_name(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    client.indices.put_alias(index=index_name, name=f"{index_name}-alias")
    report, _ = load(client, f"{index_name}-alias", LETTERS, encoder)
    again, _ = load(client, index_name, LETTERS, encoder)
    assert (report.indexed, again.indexed, again.unchanged) == (8, 0, 8)


def test_an_alias_of_two_indices_is_refused_for_writing(client: Elasticsearch, index_name: str) -> None:
    names = [f"{index_name}-1", f"{index_name}-2"]
    for name in names:
        encoder = make_index(client, name)
        client.indices.put_alias(index=name, name=index_name)
    with pytest.raises(IndexMismatchError, match=f"stands for 2 indices \\({', '.join(names)}\\)"):
        ingest(LETTERS, index=index_name, client=client, encoder=encoder)
    assert client.count(index=index_name)["count"] == 0


def test_progress_is_told_and_the_source_is_read_as_needed(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    read = 0
    seen: list[tuple[int, int]] = []

    def many() -> Any:
        nonlocal read
        for number in range(600):
            read += 1
            yield Document(
                f"d{number}", f"Document number {number} has a few words. And a second sentence here."
            )

    run = IngestRun(many(), index=index_name, client=client, encoder=encoder)
    for result in run:
        assert isinstance(result, DocumentResult)
        seen.append((read, run.report.documents))
    assert seen[0][0] < 600
    assert seen[-1][1] <= 600
    progress: IngestProgress = run.progress
    assert (progress.seen_documents, progress.planned_documents, progress.indexed) == (600, 600, 1800)
    assert progress.encoded_tokens == pytest.approx(progress.planned_tokens)
    assert client.count(index=index_name)["count"] == 1800


class SlowTokenizer(StableTokenizer):
    def tokenize(self, text: str) -> Tokens:
        time.sleep(0.03)
        return super().tokenize(text)


class SlowEncoder(WordEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = SlowTokenizer()

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        time.sleep(0.05)
        return super().encode_windows(windows)


def test_the_report_tells_how_long_each_stage_was_busy(client: Elasticsearch, index_name: str) -> None:
    def slowly() -> Iterator[Document]:
        time.sleep(0.02)
        yield from LETTERS

    encoder = make_index(client, index_name, SlowEncoder())
    stages = load(client, index_name, slowly(), encoder)[0].stages
    assert stages.read >= 0.02
    assert stages.chunk >= 0.03 * len(LETTERS)
    assert stages.encode >= 0.05
    assert stages.write > 0
    again = load(client, index_name, LETTERS, encoder)[0].stages
    assert again.read > 0
    assert (again.encode, again.write) == (0, 0)
