"""The title's share of the vectors: which documents have it, how much of a title is read, and what an index records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch
from fakes import PositionEncoder
from indices import LETTERS, WordEncoder, load, make_index, stored_chunks
from jina_server import DIM, encoder_of, serve
from test_late_combine import UnitEncoder
from test_late_pooling import chunked, vectors_of, words

from es_latechunk import create_index, embed_documents, verify
from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.elastic.index.admin import describe_index
from es_latechunk.errors import IndexMismatchError, UsageError, raise_errors
from es_latechunk.evaluation.compare import compare
from es_latechunk.evaluation.evaluate import Axes, measure_combinations
from es_latechunk.evaluation.questions.read import Question
from es_latechunk.evaluation.vectors.cache import ArrayCache
from es_latechunk.late import EmbeddedChunks, TokenVectors, chunk_vectors, embed_chunks
from es_latechunk.late.title import MAX_TITLE_TOKENS, MAX_TOKENS, title_runs
from es_latechunk.types import ChunkedDocument, ChunkSpan, Document, FloatArray, PoolingOptions

TITLED = PoolingOptions("blend", "sif", 0.2, embed_title=0.1)


@pytest.mark.parametrize("title", ["", " \n "])
@pytest.mark.parametrize("pooling", ["late", "naive", "blend"])
def test_a_document_without_a_title_has_the_same_vectors_as_before(pooling: Any, title: str) -> None:
    """It is not read once more either."""
    encoder, plain = PositionEncoder(), PositionEncoder()
    document = chunked(words(30), [7, 9, 14], encoder.tokenizer, title=title)
    titled = vectors_of([document], encoder, PoolingOptions(pooling, "sif", 0.2, embed_title=0.3))
    before = vectors_of(
        [chunked(words(30), [7, 9, 14], plain.tokenizer)], plain, PoolingOptions(pooling, "sif", 0.2)
    )
    np.testing.assert_array_equal(titled["d"], before["d"])
    assert encoder.batches == plain.batches


def test_a_title_and_its_headings_by_hand() -> None:
    """A Markdown text's first heading is its title, which is read once; chunks below the same headings share a text."""
    encoder = WordEncoder()
    text = "# Berlin\n\nThe city is old.\n\n## Lakes\n\nIt has many lakes. They are deep."
    document = Document("d", text, "Berlin")
    plain, titled = (
        list(raise_errors(embed_documents([document], encoder=encoder, max_tokens=8, pooling=options)))
        for options in (PoolingOptions(), PoolingOptions(embed_title=0.25))
    )
    above = ["Berlin", "Berlin. Lakes", "Berlin. Lakes"]
    assert len(plain) == len(above)
    for chunk, other, title in zip(plain, titled, encoder.encode_queries(above), strict=True):
        mixed = 0.75 * chunk.vector + 0.25 * title
        np.testing.assert_allclose(other.vector, mixed / np.linalg.norm(mixed), atol=1e-6)
    [first, second] = title_runs(as_chunked(document, encoder, 8), encoder.tokenizer)
    assert (first.first, first.count, second.first, second.count) == (0, 1, 1, 2)


def as_chunked(document: Document, encoder: WordEncoder, max_tokens: int = 7) -> ChunkedDocument:
    chunker = make_chunker("sentences", tokenizer=encoder.tokenizer, max_tokens=max_tokens)
    return chunk_document(document, chunker=chunker, tokenizer=encoder.tokenizer)


def test_a_title_without_headings_and_headings_without_a_title() -> None:
    encoder = WordEncoder()
    for document, above in (
        (Document("d", "One. # Two.", "  The\ntitle  ", plain_text=True), ["The title"]),
        (Document("d", "It begins here now at once.\n\n# Parts\n\nIt ends there.", ""), ["Parts"]),
        (
            Document("d", "It begins here now at once.\n\n# Parts\n\nIt ends.", "Half \ud800"),
            ["Half", "Half. Parts"],
        ),
        (Document("d", "No title."), []),
    ):
        runs = list(title_runs(as_chunked(document, encoder), encoder.tokenizer))
        assert [run.text.document.text for run in runs] == above


def test_chunks_before_the_first_heading_stay_as_they_are() -> None:
    encoder = WordEncoder()
    document = Document("d", "It begins here now at once.\n\n# Parts\n\nIt ends there.")
    plain, titled = (
        list(raise_errors(embed_documents([document], encoder=encoder, max_tokens=7, pooling=options)))
        for options in (replace(TITLED, embed_title=0.0), TITLED)
    )
    same = [np.array_equal(one.vector, other.vector) for one, other in zip(plain, titled, strict=True)]
    assert same == [True, False]


def test_a_long_title_is_cut_and_takes_nothing_from_the_windows() -> None:
    """The document's windows are those that it has without a title."""
    encoder = PositionEncoder(window=100, batch_tokens=1)
    document = chunked(words(150, first=500), [70, 80], encoder.tokenizer, title=words(5_000))
    cut = chunked(words(150, first=500), [70, 80], encoder.tokenizer, title=words(MAX_TITLE_TOKENS))
    options = PoolingOptions("late", embed_title=0.5)
    found = vectors_of([document], encoder, options)["d"]
    assert sorted(length for batch in encoder.batches for length in batch) == [MAX_TITLE_TOKENS, 70, 80]
    np.testing.assert_array_equal(found, vectors_of([cut], encoder, options)["d"])
    headings = tuple((words(30, first=100), words(30, first=200), f"w{number}") for number in range(2))
    runs = list(title_runs(replace(document, headings=headings), encoder.tokenizer))
    assert [len(run.text.tokens) for run in runs] == [MAX_TOKENS, MAX_TOKENS]


def test_only_titles_of_chunks_that_wait_are_kept() -> None:
    """The first chunks of an endless document come while it is still read, and so do its headings."""
    encoder = UnitEncoder(window=8, batch_tokens=8)
    document = chunked(words(8000), [4] * 2000, encoder.tokenizer)
    document = replace(document, headings=tuple((f"w{number}",) for number in range(2000)))
    blocks = embed_chunks(
        [document], encoder=encoder, pooling=PoolingOptions("blend", "none", 0.3, embed_title=0.1)
    )
    first = next(blocks)
    assert first.first == 0  # type: ignore[union-attr]
    assert sum(sum(batch) for batch in encoder.batches) < 200
    rest = [block for block in blocks if isinstance(block, EmbeddedChunks)]
    assert sum(len(block.vectors) for block in rest) + len(first.vectors) == 2000  # type: ignore[union-attr]


def test_token_vectors_without_the_titles_are_refused() -> None:
    tokens = TokenVectors(np.ones((1, 2), dtype=np.float32), np.zeros(1, np.int32), np.zeros(1, np.int32))
    with pytest.raises(ValueError, match="needs vectors of the titles"):
        chunk_vectors(PoolingOptions(embed_title=0.1), late=tokens)


def test_a_hosted_model_is_refused() -> None:
    with serve(dimensions=DIM) as server:
        message = "embed_title 0.2: jina-api:jina-embeddings-v3 is hosted, and would need one more request"
        with pytest.raises(UsageError, match=message):
            embed_documents([], encoder=encoder_of(server), pooling=PoolingOptions(embed_title=0.2))
        assert server.requests == []


# What is measured


def test_compare_with_a_share_of_the_title() -> None:
    """The other side stays plain naive pooling."""
    documents = [Document("d", "The city is old. It has many lakes.", "Berlin")]
    encoder = WordEncoder()
    plain, titled = (
        compare(
            documents,
            "Berlin",
            encoder=encoder,
            max_tokens=7,
            pooling=PoolingOptions("naive", embed_title=share),
        )
        for share in (0.0, 0.4)
    )
    for row, other in zip(raise_errors(plain), raise_errors(titled), strict=True):
        assert row.late == pytest.approx(row.naive)
        assert other.late > other.naive == pytest.approx(row.naive)


def test_a_second_run_with_titles_needs_no_model(tmp_path: Path) -> None:
    questions = [Question("1", "Berlin city", "berlin", (ChunkSpan(0, 10),), {"berlin": 1})]

    def read(**axes: Any) -> tuple[int, list[float]]:
        encoder = WordEncoder()
        results = measure_combinations(
            LETTERS,
            questions,
            encoders=[encoder],
            cache=ArrayCache(tmp_path / "cache", max_bytes=10**8),
            axes=Axes(max_tokens=(7, 14), poolings=("blend",), modes=("knn",), **axes),
        ).results
        return encoder.tokens_encoded, [one.combination.embed_title for one in results]

    assert read()[0] > 0
    tokens, shares = read(embed_titles=(0.0, 0.1, 0.3))
    titles = sum(len(WordEncoder().tokenizer.tokenize(one.title)) for one in LETTERS)
    assert (tokens, shares) == (titles, [0.0, 0.1, 0.3] * 2), "the titles alone, once for all chunkings"
    assert read(embed_titles=(0.0, 0.1, 0.3))[0] == 0


# On a server


def by_hand(
    documents: list[Document], encoder: WordEncoder, pooling: PoolingOptions
) -> dict[str, FloatArray]:
    embedded = embed_documents(documents, encoder=encoder, max_tokens=7, pooling=pooling)
    return {f"{chunk.doc_id}#{chunk.ordinal}": chunk.vector for chunk in raise_errors(embedded)}


@pytest.mark.every_version
def test_an_index_records_the_share_and_a_new_title_gives_new_vectors(
    client: Elasticsearch, index_name: str
) -> None:
    encoder = make_index(client, index_name, pooling=TITLED)
    documents = [*LETTERS, Document("no title", "Nothing stands above. It is a text.")]
    for title in ("Berlin", "The capital"):
        documents[0] = replace(documents[0], title=title)
        report, _ = load(client, index_name, documents, encoder)
        expected_vectors = by_hand(documents, encoder, TITLED)
        stored = stored_chunks(client, index_name)
        assert stored.keys() == expected_vectors.keys()
        for name, vector in expected_vectors.items():
            np.testing.assert_allclose(stored[name]["content_embedding"], vector, atol=1e-6)
    changed = sum(name.startswith("berlin#") for name in stored)
    assert (report.indexed, report.unchanged) == (changed, len(stored) - changed)
    plain = by_hand(documents, encoder, replace(TITLED, embed_title=0.0))
    assert {name for name in plain if np.array_equal(plain[name], expected_vectors[name])} == {
        name for name in plain if name.startswith("no title#")
    }
    assert describe_index(client, index_name)["embed_title"] == 0.1
    checked = verify(index_name, client=client, encoder=encoder, queries=["old city"], documents=documents)
    assert checked.problem_count == 0
    assert checked.lowest_cosine == pytest.approx(1, abs=1e-5)
    for other in (replace(TITLED, embed_title=0.0), replace(TITLED, embed_title=0.3)):
        with pytest.raises(IndexMismatchError, match=r"embed_title 0\.1, the given setting is 0\.[03]"):
            create_index(index_name, encoder=encoder, client=client, max_tokens=7, pooling=other)


def test_an_index_without_a_share_of_the_title_keeps_its_record_and_its_hashes(
    client: Elasticsearch, index_name: str
) -> None:
    encoder = make_index(client, index_name, pooling="late")
    [recorded] = client.indices.get_mapping(index=index_name).values()
    assert "embed_title" not in recorded["mappings"]["_meta"]["es_latechunk"]
    load(client, index_name, LETTERS, encoder)
    report, _ = load(client, index_name, LETTERS, encoder)
    assert report.indexed == 0
    assert describe_index(client, index_name)["embed_title"] == 0.0
