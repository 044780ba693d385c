"""The hosted Jina API against a local server: what is sent, what comes back, and which models there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jina_server import (
    DIM,
    KEY,
    NO_TASKS,
    SMALL,
    Fault,
    JinaServer,
    chunked,
    client_of,
    encoder_of,
    expected,
    own_vector,
    serve,
    story,
    unit,
    word_vector,
)

from es_latechunk import embed_documents
from es_latechunk.errors import DocumentError, ModelError, UsageError
from es_latechunk.late import EmbeddedChunks, embed_chunks
from es_latechunk.late.combine import mix_neighbours
from es_latechunk.models.jina_api import (
    HOSTED_MODELS,
    HostedModel,
    JinaApiEncoder,
    JinaApiError,
)
from es_latechunk.models.jina_api.requests import chunk_texts
from es_latechunk.types import ChunkedDocument, ChunkEncoder, PoolingOptions


@pytest.fixture
def server() -> Iterator[JinaServer]:
    with serve(dimensions=DIM, context=SMALL.context) as running:
        yield running


# The encoder


def test_it_is_a_chunk_encoder_and_says_what_it_is(server: JinaServer) -> None:
    encoder = encoder_of(server, dimensions=16, query_task="text-matching")
    assert isinstance(encoder, ChunkEncoder)
    assert encoder.dim == 16
    identity = encoder.identity
    assert (identity.model, identity.weights, identity.window) == ("jina-api:jina-embeddings-v3", None, 120)
    assert (identity.document_task, identity.query_task) == ("retrieval.passage", "text-matching")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (PoolingOptions("blend"), "pooling blend"),
        (PoolingOptions(token_weights="sif"), "token_weights sif"),
        (PoolingOptions(late_window=64), "late_window 64"),
        (PoolingOptions(pieces=32), "pieces 32"),
    ],
)
def test_what_needs_token_vectors_is_refused(server: JinaServer, options: PoolingOptions, named: str) -> None:
    with pytest.raises(UsageError, match=f"{named}: jina-api:jina-embeddings-v3 is hosted"):
        embed_documents([], encoder=encoder_of(server), pooling=options)
    assert server.requests == []


def test_a_hosted_model_can_have_a_share_of_the_neighbours(server: JinaServer) -> None:
    document, encoder = story(4), encoder_of(server)
    plain = encoder.encode_chunks(document, "late")
    options = PoolingOptions(neighbour_share=0.3)
    [block] = embed_chunks([document], encoder=encoder, pooling=options)
    assert isinstance(block, EmbeddedChunks)
    np.testing.assert_allclose(block.vectors, mix_neighbours(plain, 0.3), atol=1e-6)


def test_one_request_holds_one_whole_document(server: JinaServer) -> None:
    document = story(4)
    vectors = encoder_of(server).encode_chunks(document, "late")
    [request] = server.requests
    assert "".join(request["input"]) == document.document.text
    assert request == {
        "model": "jina-embeddings-v3",
        "input": chunk_texts(document),
        "embedding_type": "float",
        "task": "retrieval.passage",
        "dimensions": DIM,
        "late_chunking": True,
    }
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected(document), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_documents_never_share_a_request(server: JinaServer) -> None:
    documents = [
        story(3, name) for name in ("river", "castle", "engine", "garden", "harbour", "island", "judge")
    ]
    answers = list(encoder_of(server, concurrency=3).encode_many(iter(documents), "late"))
    for document, vectors in zip(documents, answers, strict=True):
        np.testing.assert_allclose(vectors, expected(document), atol=1e-5)
    assert sorted("".join(r["input"]) for r in server.requests) == sorted(d.document.text for d in documents)
    assert server.most_at_once <= 3


def test_no_more_requests_at_once_than_the_client_allows(server: JinaServer) -> None:
    server.pause = 0.03
    with client_of(server, concurrency=2) as client, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda text: client.embed([text], model="m"), ["river"] * 12))
    assert server.most_at_once == 2


def test_the_stream_reads_only_a_little_ahead(server: JinaServer) -> None:
    read: list[int] = []

    def documents() -> Iterator[ChunkedDocument]:
        for number in range(1000):
            read.append(number)
            yield story(2, f"river{number}")

    answers = iter(encoder_of(server, concurrency=2).encode_many(documents(), "late"))
    next(answers)
    assert len(read) <= 6
    answers.close()
    assert len(server.requests) <= len(read)


def test_a_long_document_is_split_and_every_chunk_keeps_its_neighbours(server: JinaServer) -> None:
    document = story(60)
    vectors = encoder_of(server).encode_chunks(document, "late")
    assert len(server.requests) > 3
    assert not server.refused
    np.testing.assert_allclose(vectors, expected(document), atol=1e-5)


def test_a_window_can_be_smaller_than_the_context(server: JinaServer) -> None:
    document = story(8)
    vectors = encoder_of(server, window=60).encode_chunks(document, "late")
    assert len(server.requests) > 1
    np.testing.assert_allclose(vectors, expected(document), atol=1e-5)


def test_too_long_for_the_server_is_halved_and_sent_again(server: JinaServer) -> None:
    server.tokens_per_word = 3
    document = story(30)
    vectors = encoder_of(server).encode_chunks(document, "late")
    assert 422 in server.refused
    assert len(server.refused) <= 3
    np.testing.assert_allclose(vectors, expected(document), atol=1e-5)


def test_a_silent_cut_is_noticed_by_the_token_count(server: JinaServer) -> None:
    server.tokens_per_word, server.cuts_silently = 3, True
    document = story(30)
    vectors = encoder_of(server).encode_chunks(document, "late")
    np.testing.assert_allclose(vectors, expected(document), atol=1e-5)


def test_halving_ends(server: JinaServer) -> None:
    server.tokens_per_word = 1000
    with pytest.raises(DocumentError, match=r"^river: refused by .* cannot exceed 120 tokens"):
        encoder_of(server).encode_chunks(story(30), "late")
    assert server.refused == [422] * 4


def test_a_chunk_longer_than_a_request_is_sent_in_parts(server: JinaServer) -> None:
    text = "Alpha beta. " + " ".join(f"word{i}" for i in range(300)) + ". Omega."
    vectors = encoder_of(server, model=NO_TASKS).encode_chunks(chunked(text), "late")
    assert vectors.shape == (3, DIM)
    assert vectors[1] @ unit([own_vector(text[12:-7], DIM)])[0] > 0.95


def test_naive_pooling_sends_chunks_alone_in_batches(server: JinaServer) -> None:
    document = story(40)
    vectors = encoder_of(server).encode_chunks(document, "naive")
    assert all("late_chunking" not in request for request in server.requests)
    texts = [document.document.text[span.start : span.end] for span in document.spans]
    assert [text for request in server.requests for text in request["input"]] == texts
    task = 0.1 * word_vector("retrieval.passage", DIM)
    np.testing.assert_allclose(vectors, unit([own_vector(text, DIM) + task for text in texts]), atol=1e-5)


def test_queries_and_documents_take_their_own_task(server: JinaServer) -> None:
    encoder = encoder_of(server)
    texts = ["the river", "the castle"]
    documents, queries = encoder.encode_documents(texts), encoder.encode_queries(texts)
    assert [request["task"] for request in server.requests] == ["retrieval.passage", "retrieval.query"]
    for vectors, task in ((documents, "retrieval.passage"), (queries, "retrieval.query")):
        wanted = unit([own_vector(text, DIM) + 0.1 * word_vector(task, DIM) for text in texts])
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)


def test_a_long_text_keeps_its_place_among_short_ones(server: JinaServer) -> None:
    texts = ["short one", " ".join(f"word{i}" for i in range(300)), "short two"]
    vectors = encoder_of(server, model=NO_TASKS).encode_documents(texts)
    cosines = np.sum(vectors * unit([own_vector(text, DIM) for text in texts]), axis=1)
    np.testing.assert_allclose(cosines, [1, 1, 1], atol=0.05)
    assert [request.get("late_chunking", False) for request in server.requests[:2]] == [False, True]


def test_nothing_to_encode_asks_nothing(server: JinaServer) -> None:
    encoder = encoder_of(server)
    assert encoder.encode_queries([]).shape == (0, DIM)
    assert encoder.encode_documents([]).shape == (0, DIM)
    assert encoder.encode_chunks(chunked(""), "late").shape == (0, DIM)
    assert list(encoder.encode_many([], "late")) == []
    assert not server.requests


def test_dimensions_are_asked_for_and_cut_by_the_server(server: JinaServer) -> None:
    vectors = encoder_of(server, dimensions=16).encode_queries(["river"])
    assert server.requests[0]["dimensions"] == 16
    assert vectors.shape == (1, 16)


def test_a_model_without_tasks_and_sizes_is_sent_neither(server: JinaServer) -> None:
    plain = HostedModel("jina-embeddings-v2-base-en", context=120, window=120, dimensions=DIM)
    encoder_of(server, model=plain).encode_documents(["river"])
    assert server.requests[0].keys() == {"model", "input", "embedding_type"}


def test_lone_surrogates_do_not_stop_a_document(server: JinaServer) -> None:
    encoder_of(server).encode_chunks(chunked("Half \ud83d a pair. Whole \U0001f600 one."), "late")
    assert server.requests[0]["input"] == ["Half � a pair. ", "Whole \U0001f600 one."]


# The models


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("jina-embeddings-v9", {}, "not known here; use one of jina-embeddings-v3"),
        ("jina-embeddings-v3", {"dimensions": 100}, "not trained for 100; use one of 32, 64"),
        ("jina-embeddings-v2-base-en", {"dimensions": 256}, "not trained for 256; use one of 768"),
        ("jina-embeddings-v2-base-en", {"query_task": "retrieval.query"}, "knows no tasks"),
        ("jina-embeddings-v4", {"document_task": "separation"}, "not one of jina-embeddings-v4's"),
        ("jina-embeddings-v3", {"window": 9000}, "9000 tokens do not fit"),
    ],
)
def test_what_a_model_does_not_accept_is_refused(
    name: str, options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JINA_API_KEY", KEY)
    with pytest.raises(UsageError, match=words):
        JinaApiEncoder.from_environment(f"jina-api:{name}", **options)


def test_a_model_that_the_api_does_not_chunk_late_is_refused_before_a_request(server: JinaServer) -> None:
    encoder = encoder_of(server, model=HOSTED_MODELS["jina-embeddings-v2-base-en"])
    with pytest.raises(ModelError, match="late only with v3 and v4"):
        list(encoder.encode_many([story(2)], "late"))
    assert not server.requests


# Reranking and the docs


def test_the_examples_of_the_docs_run(server: JinaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", KEY)
    monkeypatch.setenv("JINA_API_BASE_URL", server.url)
    server.dimensions = 1024
    page = Path(__file__).parents[1] / "docs" / "jina-api.md"
    encoding, reranking = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    exec(encoding, {})  # noqa: S102 - our own page
    names: dict[str, Any] = {}
    exec(reranking.replace('"jina_..."', f'"{KEY}", base_url="{server.url}"'), names)  # noqa: S102
    assert names["best"] == [(1, 1.0), (0, 0.0)]


@pytest.mark.parametrize("model", HOSTED_MODELS.values(), ids=list(HOSTED_MODELS))
def test_the_docs_table_says_what_the_code_says(model: HostedModel) -> None:
    page = (Path(__file__).parents[1] / "docs" / "jina-api.md").read_text("utf-8")
    name = re.sub(r"-(en|de|es|zh|code)$", "-{en,de,es,zh,code}", model.name)
    shorter = ", ".join(map(str, model.matryoshka[:-1])) or "no"
    yes = {True: "yes", False: "no"}
    cells = [f"`{name}`", model.context, model.window, model.dimensions, shorter]
    row = " | ".join(map(str, [*cells, yes[bool(model.tasks)], yes[model.late_chunking]]))
    assert f"| {row} |" in page


def test_rerank_gives_indices_and_scores_best_first(server: JinaServer) -> None:
    texts = ["a castle", "the old river flows", "river"]
    with client_of(server) as client:
        ranked = client.rerank("old river", texts, model="jina-reranker-v2-base-multilingual")
        assert ranked == [(1, 1.0), (2, 0.5), (0, 0.0)]
        assert client.rerank("old river", [], model="m") == []
        server.fail(Fault(spoil="missing"))
        with pytest.raises(JinaApiError, match="do not match"):
            client.rerank("old river", texts, model="m")
