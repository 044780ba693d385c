"""Exact rankings in memory: equal to those of a real index, and to the fusion of a search."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from hypothesis import given, settings
from hypothesis import strategies as st
from indices import QUERIES, WordEncoder, load, made_up_documents, make_index
from test_evaluation import questions_of, write_rows

from es_latechunk import Document, search
from es_latechunk.elastic.search.fusion import Candidate, convex_sum
from es_latechunk.elastic.search.query import PLAIN_WEIGHTS, Mode
from es_latechunk.errors import UsageError
from es_latechunk.evaluation.questions.read import Question
from es_latechunk.evaluation.search.bm25 import ChunkText, ContextualBM25, analyse, stored_length
from es_latechunk.evaluation.search.ranking import Scores, best, by_document
from es_latechunk.evaluation.search.real_index import RealIndex, check_no_pseudo_queries
from es_latechunk.evaluation.vectors.cache import ArrayCache
from es_latechunk.evaluation.vectors.chunkings import Chunking, ChunkingVectors, Variant, cut_documents
from es_latechunk.evaluation.vectors.source import VectorSource
from es_latechunk.types import FloatArray, PoolingOptions

NOWHERE = Path("nowhere")  # a cache of no bytes writes nothing
TEXTS = [
    "The U.S. e-mail of O'Neil's cost 3,600.5 euro; foo_bar don’t __x__ a_b 1a2 and so on",
    "你好世界。カタカナとひらがな 한국어 ไทยภาษา x:y 12:30 user@example.com https://a.b/c?d=e",
    'Ünïcode Straße ÉCOLE İstanbul ΟΔΟΣ naïve cafe\u0301 \u200bzero\u00adsoft १२३ मराठी שלום ד"ר',
    f"{'long' * 70} to be or not to be 🎉 x₂ ½ №5 C++ C# .NET",
]


@pytest.fixture(scope="module", params=[None, 2], ids=["", "pieces"])
def pieces(request: pytest.FixtureRequest) -> int | None:
    """The tokens of a piece in the index, if its chunks have pieces."""
    size: int | None = request.param
    return size


@pytest.fixture(scope="module")
def filled(
    elasticsearch_url: str, pieces: int | None
) -> Iterator[tuple[Elasticsearch, WordEncoder, list[Document]]]:
    """An index of made-up documents, one of them long and one of a single chunk."""
    documents = [
        *made_up_documents(),
        Document("long", " ".join(document.text for document in made_up_documents(40))),
        Document("short", "Falcon."),
    ]
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        pooling = PoolingOptions("late", pieces=pieces)
        encoder = make_index(client, "exact", quantization="flat", pooling=pooling)
        load(client, "exact", documents, encoder)
        yield client, encoder, documents
        client.indices.delete(index="exact")


def exact(
    encoder: WordEncoder, documents: list[Document], queries: list[str], pieces: int | None
) -> tuple[Chunking, Scores]:
    [chunking], errors = cut_documents(
        documents, encoders=[encoder], chunkers=["sentences"], max_tokens=[7], on_progress=lambda *_: None
    )
    source = VectorSource(encoder, ArrayCache(NOWHERE, max_bytes=0))
    late = Variant(PoolingOptions("late", pieces=pieces), shared=False)
    vectors = ChunkingVectors([chunking], [late], source, on_progress=lambda *_: None)
    embedded = vectors.of(0, late)
    assert (errors, vectors.errors) == ([], [])
    cosines = embedded.cosines(source.embed_queries(queries))
    return chunking, Scores(cosines, ContextualBM25(chunking.contents()).scores(queries))


@pytest.mark.parametrize("mode", ["knn", "bm25", "hybrid"])
def test_the_ranking_is_that_of_the_index(
    filled: tuple[Elasticsearch, WordEncoder, list[Document]], pieces: int | None, mode: Mode
) -> None:
    client, encoder, documents = filled
    queries = [*QUERIES, "falcon falcon harbour", "the of and"]
    chunking, scores = exact(encoder, documents, queries, pieces)
    ids, k = chunking.ids(), 20
    ranked = scores.of(mode, k=k)
    for row, query in enumerate(queries):
        hits = search(query, index="exact", client=client, encoder=encoder, k=k, mode=mode)
        ours = dict(zip(ids, ranked[row].tolist(), strict=True))
        finite = sorted((score for score in ours.values() if np.isfinite(score)), reverse=True)[:k]
        assert len(hits) == len(finite)
        # Chunks with nearly equal scores may come in either order.
        scale = hits[0].score / finite[0] if mode == "bm25" and hits else 1.0
        shift = 1.0 if mode == "knn" else 0.0
        for hit, score in zip(hits, finite, strict=True):
            mine = (ours[hit.id] * scale + shift) / (1 + shift)
            assert mine == pytest.approx(hit.score, rel=2e-3, abs=2e-3)
            assert score == pytest.approx(ours[hit.id], rel=2e-3, abs=2e-3)


def test_bm25_without_neighbours_is_that_of_an_index_without_their_fields(elasticsearch_url: str) -> None:
    documents = [*made_up_documents(), Document("titled", "Bread market.", "Falcon harbour")]
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        encoder = make_index(client, "plain", context_fields=False)
        load(client, "plain", documents, encoder)
        [chunking], _ = cut_documents(
            documents,
            encoders=[encoder],
            chunkers=["sentences"],
            max_tokens=[7],
            on_progress=lambda *_: None,
        )
        words = ContextualBM25(chunking.contents(), field_weights=PLAIN_WEIGHTS, k1=1.2)
        ids = chunking.ids()
        for query, row in zip(QUERIES, words.scores(QUERIES), strict=True):
            ours = {name: score for name, score in zip(ids, row.tolist(), strict=True) if score}
            hits = search(query, index="plain", client=client, encoder=encoder, k=len(ids), mode="bm25")
            assert {hit.id for hit in hits} == set(ours)
            for hit in hits:
                assert ours[hit.id] / max(ours.values()) == pytest.approx(hit.score / hits[0].score, rel=2e-3)
        client.indices.delete(index="plain")


def test_the_index_itself_measures_the_same(
    filled: tuple[Elasticsearch, WordEncoder, list[Document]],
    pieces: int | None,
    elasticsearch_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, encoder, documents = filled
    monkeypatch.setattr("es_latechunk.cli.evaluate.load_encoder", lambda *_, **__: encoder)
    monkeypatch.setattr("es_latechunk.cli.evaluate.load_recorded", lambda *_, **__: encoder)
    rows = [{"id": one.id, "title": one.title, "text": one.text} for one in documents]
    write_rows(tmp_path / "documents.jsonl", rows)
    asked = [
        {
            "question": one.text,
            "doc_id": one.doc_id,
            "answers": [{"start": one.answers[0].start, "end": one.answers[0].end}],
        }
        for one in questions_of(made_up_documents())
    ]
    write_rows(tmp_path / "questions.jsonl", asked)
    given = ("evaluate", "--documents", tmp_path, "--max-tokens", "7", "--pooling", "late", "--exact-windows",
             "--cache-dir", tmp_path / "cache", "--index", "exact", "--json",
             *(["--pieces", str(pieces)] if pieces else []))  # fmt: skip
    result = run(*given, "--url", elasticsearch_url)
    assert (result.exit_code, result.stderr) == (0, "")
    *measured, advice = [json.loads(line) for line in result.stdout.splitlines()]
    in_memory = {
        row["mode"]: row for row in measured if row["index"] is None and row["pieces"] in (pieces, None)
    }
    in_index = {row["mode"]: row for row in measured if row["index"] == "exact"}
    assert list(in_index) == ["knn", "bm25", "hybrid"]
    for mode, row in in_index.items():
        for scope in ("in_corpus", "in_document"):
            for name in ("ndcg", "recall", "mrr"):
                assert row[scope][name] == pytest.approx(in_memory[mode][scope][name], abs=0.01)
        assert row["index_bytes"] > 0
    assert "index" not in advice["recommendation"].split()

    write_rows(tmp_path / "documents.jsonl", rows[1:])
    write_rows(tmp_path / "questions.jsonl", asked[2:])
    told = error_of(run(*given, "--url", elasticsearch_url), 2)
    assert "index exact: its chunk doc-00#" in told


def test_pseudo_queries_are_not_asked_of_an_index_that_has_their_words(
    filled: tuple[Elasticsearch, WordEncoder, list[Document]],
) -> None:
    client, encoder, _ = filled
    index = RealIndex.open(client, "exact", encoder)
    check_no_pseudo_queries(index, [Question("q", "?", "a")])
    with pytest.raises(UsageError, match="has the sentences that make_questions takes out"):
        check_no_pseudo_queries(index, [Question("q", "?", "a", pseudo=True)])


def test_a_connection_is_of_no_use_without_an_index(tmp_path: Path) -> None:
    told = error_of(run("evaluate", "--documents", tmp_path, "--url", "http://localhost:1"), 2)
    assert told == "--url is of no use without an index; add --index NAME"


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_those_of_the_index_template_s_analyzer(
    filled: tuple[Elasticsearch, WordEncoder, list[Document]], text: str
) -> None:
    answer = filled[0].indices.analyze(index="exact", field="content", text=text)
    assert analyse(text) == [token["token"] for token in answer["tokens"]]


def test_a_word_s_weight_by_hand() -> None:
    """Two chunks; "falcon" is in the first alone, and among the neighbours of the second."""
    scores = ContextualBM25([[ChunkText("Falcon harbour."), ChunkText("Bread market.")]]).scores(
        ["falcon", "nothing", ""]
    )
    # Lengths: 10 * 2 + 2 * 2 = 24 for both, which is also the average; found in 1 of 2 chunks, by either field.
    idf = np.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    assert scores[0] == pytest.approx([idf * 10 / (10 + 8), idf * 2 / (2 + 8)])
    assert not scores[1:].any()


def test_fields_and_words_can_be_others() -> None:
    chunks = [[ChunkText("Falcons.", "Harbour"), ChunkText("Bread.", "Harbour")]]
    plain = ContextualBM25(chunks, field_weights={"content": 10}, analyser=lambda text: [text.rstrip("s.")])
    assert (plain.scores(["Falcon", "Harbour"]) > 0).tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize(
    ("length", "kept"), [(0, 0), (23, 23), (24, 24), (39, 39), (40, 40), (41, 40), (100, 96)]
)
def test_lengths_are_kept_in_one_byte(length: int, kept: int) -> None:
    """As Lucene's SmallFloat does: exactly below 40, then with four significant bits above 24."""
    assert stored_length(length) == kept


def lists(count: int) -> st.SearchStrategy[list[float]]:
    few = st.sampled_from([0.0, 0.25, 0.5, 1.0])  # so that there are ties
    return st.lists(few | st.floats(0, 1, width=32), min_size=count, max_size=count)


@given(st.data(), st.integers(1, 12), st.sampled_from([0.0, 0.25, 0.6, 1.0]))
def test_hybrid_scores_are_those_of_the_search_s_fusion(
    data: st.DataObject, count: int, weight: float
) -> None:
    bm25, knn = data.draw(lists(count)), data.draw(lists(count))
    words = [Candidate("x", str(number), score) for number, score in enumerate(bm25) if score > 0]
    near = [Candidate("x", str(number), score) for number, score in enumerate(knn)]
    limit = 500 if count < 6 else count  # of the candidates of a list, which cuts it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("es_latechunk.elastic.search.query.SearchOptions.candidates", lambda self: limit)
        scores = Scores(row(knn), row(bm25)).of("hybrid", k=10, bm25_weight=weight)[0]
    near = [Candidate("x", one.id, (1 + one.score) / 2) for one in near]
    fused = {int(one.id): one.score for one in convex_sum(words, near, bm25_weight=weight, limit=limit)}
    assert {number: pytest.approx(float(score), abs=1e-6) for number, score in enumerate(scores)} == fused


def row(scores: list[float]) -> FloatArray:
    return np.array([scores], dtype=np.float32)


def test_each_list_of_a_hybrid_search_has_so_many_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two candidates, the third of a list counts as if it had not been found, however near it is."""
    monkeypatch.setattr("es_latechunk.elastic.search.query.SearchOptions.candidates", lambda self: 2)
    scores = Scores(row([0.9, 0.8, 0.7, 0.1]), row([0.0, 0.0, 1.0, 3.0])).of("hybrid", k=2, bm25_weight=0.6)
    assert scores[0].tolist() == pytest.approx([0.4, 0.0, 0.0, 0.6])


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, -np.inf]), max_size=100), st.integers(1, 15))
def test_the_best_items_come_in_order_and_ties_by_number(values: list[float], k: int) -> None:
    found = best(row(values), k)
    order = sorted((i for i, v in enumerate(values) if np.isfinite(v)), key=lambda i: (-values[i], i))[:k]
    assert [item for item in found.items[0].tolist() if item >= 0] == order
    falling = found.falling()[0][: len(order)]
    assert all(after < before for before, after in pairwise(falling))


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=4), min_size=1, max_size=5))
def test_a_document_has_the_score_of_its_best_chunk(documents: list[list[float]]) -> None:
    starts = np.cumsum([0, *(len(chunks) for chunks in documents)])
    scores = by_document(row([score for chunks in documents for score in chunks]), starts[:-1])
    assert scores[0].tolist() == [max(chunks) for chunks in documents]
