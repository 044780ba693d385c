"""The hosted Jina API against a local server: protocol, splitting, order, retries, refusals, secrecy."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jina_server import KEY, Fault, JinaServer, late_vectors, own_vector, serve, word_vector

from es_latechunk.errors import DocumentError, ModelError, PreconditionError, UsageError
from es_latechunk.models.jina_api import (
    HOSTED_MODELS,
    HostedModel,
    JinaApiClient,
    JinaApiEncoder,
    JinaApiError,
    UnicodeTokenizer,
)
from es_latechunk.models.jina_api.answers import read_retry_after
from es_latechunk.models.jina_api.requests import chunk_texts, merge, plan_requests, segment
from es_latechunk.models.jina_api.tokenizer import estimate_tokens
from es_latechunk.types import ChunkedDocument, ChunkEncoder, ChunkSpan, Document, Tokenizer

DIM = 32
SMALL = HostedModel(
    "jina-embeddings-v3",
    context=120,
    window=120,
    dimensions=DIM,
    matryoshka=(16, DIM),
    tasks=("retrieval.passage", "retrieval.query", "text-matching"),
    late_chunking=True,
)
NO_TASKS = replace(SMALL, tasks=())


@pytest.fixture
def server() -> Iterator[JinaServer]:
    with serve(dimensions=DIM, context=SMALL.context) as running:
        yield running


def client_of(server: JinaServer, key: str = KEY, **options: Any) -> JinaApiClient:
    settings = {"timeout": 10.0, "retry_for": 20.0, "backoff": 0.01, **options}
    return JinaApiClient(key, base_url=server.url, **settings)


def encoder_of(
    server: JinaServer, *, concurrency: int = 4, model: HostedModel = SMALL, **options: Any
) -> Any:
    return JinaApiEncoder(model, client_of(server, concurrency=concurrency), **options)


def chunked(text: str, doc_id: str = "doc") -> ChunkedDocument:
    """A document with one chunk a sentence; the space between two sentences is in no chunk."""
    spans = tuple(ChunkSpan(*match.span()) for match in re.finditer(r"\S[^.]*\.?", text))
    return ChunkedDocument(Document(doc_id, text), spans, UnicodeTokenizer().tokenize(text))


def story(sentences: int, name: str = "river") -> ChunkedDocument:
    text = "  ".join(f"The {name} number {i} met the {name} of year {i * 7}." for i in range(sentences))
    return chunked(text, name)


def unit(vectors: Any) -> Any:
    return np.asarray(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)


def expected(document: ChunkedDocument, task: str = "retrieval.passage") -> Any:
    """What one request with the whole document would give."""
    vectors = late_vectors(chunk_texts(document), DIM)
    return unit([vector + 0.1 * word_vector(task, DIM) for vector in vectors])


# The encoder


def test_it_is_a_chunk_encoder_and_says_what_it_is(server: JinaServer) -> None:
    encoder = encoder_of(server, dimensions=16, query_task="text-matching")
    assert isinstance(encoder, ChunkEncoder)
    assert encoder.dim == 16
    identity = encoder.identity
    assert (identity.model, identity.weights, identity.window) == ("jina-api:jina-embeddings-v3", None, 120)
    assert (identity.document_task, identity.query_task) == ("retrieval.passage", "text-matching")


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


# Errors of one document, and errors of all


def test_one_refused_document_leaves_the_others(server: JinaServer) -> None:
    server.fail(
        Fault(422, {"detail": [{"loc": ["body", "input"], "msg": "no castles"}]}, when="castle", always=True)
    )
    documents = [story(3, name) for name in ("river", "castle", "engine")]
    first, second, third = encoder_of(server).encode_many(documents, "late")
    assert isinstance(second, DocumentError)
    assert str(second) == f"castle: refused by {server.url} (HTTP 422: body.input: no castles)"
    np.testing.assert_allclose(first, expected(documents[0]), atol=1e-5)
    np.testing.assert_allclose(third, expected(documents[2]), atol=1e-5)
    assert server.refused == [422]


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        ("missing", "has 2 entries that do not match 3"),
        ("doubled", "do not match 3"),
        ("nan", "zero or not finite"),
        ("zero", "zero or not finite"),
        ("short", "31 dimensions, not 32"),
        ("ragged", "not lists of numbers"),
        ("words", "not lists of numbers"),
        ("not_json", "not JSON"),
    ],
)
def test_a_wrong_answer_is_the_documents_error(server: JinaServer, spoil: str, cause: str) -> None:
    server.fail(Fault(spoil=spoil))
    with pytest.raises(DocumentError, match=f"^river: .*{cause}"):
        encoder_of(server).encode_chunks(story(3), "late")


def test_an_answer_out_of_order_is_put_in_order(server: JinaServer) -> None:
    server.fail(Fault(spoil="reversed"))
    document = story(3)
    np.testing.assert_allclose(
        encoder_of(server).encode_chunks(document, "late"), expected(document), atol=1e-5
    )


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault(402, {"detail": "Payment required"}), PreconditionError, "no credit left .*top up"),
        (Fault(403, {"code": "AUTHZ_INSUFFICIENT_BALANCE", "detail": "Low"}), PreconditionError, "no credit"),
        (Fault(403, {"message": "Not your plan"}), UsageError, "not accepted .*Not your plan.*JINA_API_KEY"),
        (Fault(400, {"code": "INPUT_MODEL_NOT_FOUND", "detail": "Model 'x'"}), ModelError, "no such model"),
    ],
)
def test_what_concerns_all_documents_ends_the_work(
    server: JinaServer, fault: Fault, kind: type[Exception], words: str
) -> None:
    server.fail(fault)
    with pytest.raises(kind, match=words):
        list(encoder_of(server).encode_many([story(2)], "late"))
    assert server.refused == [fault.status]


# Repeats


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, {"detail": "Slow down"}, {"Retry-After": "0"}),
        Fault(429, {"detail": "Slow down"}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        Fault(429, "not json", {"Retry-After": "soon"}),
        Fault(500, {"detail": "Oops"}),
        Fault(503, {"detail": "Busy"}),
        Fault(spoil="reset"),
        Fault(spoil="truncate"),
    ],
    ids=["429-seconds", "429-date", "429-nonsense", "500", "503", "reset", "truncated"],
)
def test_a_passing_failure_is_tried_again(server: JinaServer, fault: Fault) -> None:
    server.fail(fault, fault)
    document = story(3)
    np.testing.assert_allclose(
        encoder_of(server).encode_chunks(document, "late"), expected(document), atol=1e-5
    )
    assert not server.faults


def test_a_slow_answer_is_asked_for_again(server: JinaServer) -> None:
    server.fail(Fault(spoil="hold"))
    with client_of(server, timeout=0.2) as client:
        assert len(client.embed(["river"], model="m").vectors) == 1


def test_the_repeats_end(server: JinaServer) -> None:
    server.fail(Fault(503, {"detail": "Busy"}, always=True))
    with (
        client_of(server, retry_for=0.2) as client,
        pytest.raises(PreconditionError, match=r"within 0\.2 s .*503: Busy"),
    ):
        client.embed(["river"], model="m")


def test_a_retry_after_beyond_the_limit_is_not_waited_for(server: JinaServer) -> None:
    server.fail(Fault(429, {"detail": "Slow down"}, {"Retry-After": "86400"}))
    with client_of(server) as client, pytest.raises(PreconditionError, match="asks to wait 86400 s"):
        client.embed(["river"], model="m")
    assert server.refused == [429]


def test_a_document_that_the_service_always_stumbles_over_leaves_the_others(server: JinaServer) -> None:
    server.fail(Fault(500, {"detail": "Oops"}, when="castle", always=True))
    encoder = JinaApiEncoder(SMALL, client_of(server, retry_for=0.2))
    first, second = encoder.encode_many([story(2, "castle"), story(2, "river")], "late")
    assert isinstance(first, DocumentError)
    assert isinstance(second, np.ndarray)


def test_no_server_at_all_is_a_precondition() -> None:
    with serve() as gone:
        pass
    with client_of(gone, retry_for=0.1) as client, pytest.raises(PreconditionError, match="ConnectError"):
        client.embed(["river"], model="m")


def test_retry_after_is_read_as_seconds_or_date() -> None:
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    assert read_retry_after(httpx.Headers({"Retry-After": "7"})) == 7
    assert read_retry_after(
        httpx.Headers({"Retry-After": format_datetime(later, usegmt=True)})
    ) == pytest.approx(3600, abs=60)
    assert read_retry_after(httpx.Headers()) is None


# The key


def test_the_key_is_never_shown(server: JinaServer, caplog: pytest.LogCaptureFixture) -> None:
    wrong = "jina_this_is_a_secret"
    caplog.set_level("DEBUG")
    client = client_of(server, wrong)
    server.fail(Fault(503, {"detail": f"{wrong} is busy"}))
    with pytest.raises(UsageError, match=r"not accepted .*JINA_API_KEY") as caught:
        client.embed(["river"], model="m")
    frames = [repr(entry.frame.f_locals) for entry in caught.traceback if "test_jina" not in str(entry.path)]
    assert frames
    assert "503" in caplog.text
    for text in (repr(client), str(client), str(caught.value), repr(caught.value.args), caplog.text, *frames):
        assert wrong not in text


def test_the_key_is_in_no_chained_cause(caplog: pytest.LogCaptureFixture) -> None:
    with serve() as gone:
        pass
    with pytest.raises(PreconditionError) as caught:
        client_of(gone, retry_for=0.1).embed(["river"], model="m")
    assert caught.value.__cause__ is None
    assert KEY not in "".join(traceback.format_exception(caught.value)) + caplog.text


@pytest.mark.parametrize("key", ["", "with space", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_unseen(key: str) -> None:
    with pytest.raises(UsageError, match="JINA_API_KEY") as caught:
        JinaApiClient(key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("url", ["api.jina.ai/v1", "ftp://api.jina.ai", "https://user:pass@api.jina.ai/v1"])
def test_a_base_url_must_be_plain_http(url: str) -> None:
    with pytest.raises(UsageError, match="base URL") as caught:
        JinaApiClient(KEY, base_url=url)
    assert "pass@" not in str(caught.value)


def test_key_and_address_come_from_the_environment(
    server: JinaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    with pytest.raises(UsageError, match="JINA_API_KEY is not set"):
        JinaApiEncoder.from_environment("jina-api:jina-embeddings-v3")
    monkeypatch.setenv("JINA_API_KEY", KEY + "\n")
    monkeypatch.setenv("JINA_API_BASE_URL", server.url + "/")
    server.dimensions = 1024
    assert JinaApiEncoder.from_environment("jina-api:jina-embeddings-v3").encode_queries(["x"]).shape == (
        1,
        1024,
    )


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


# Reranking


def test_rerank_gives_indices_and_scores_best_first(server: JinaServer) -> None:
    texts = ["a castle", "the old river flows", "river"]
    with client_of(server) as client:
        ranked = client.rerank("old river", texts, model="jina-reranker-v2-base-multilingual")
        assert ranked == [(1, 1.0), (2, 0.5), (0, 0.0)]
        assert client.rerank("old river", texts, model="m", top_n=2) == ranked[:2]
        assert client.rerank("old river", [], model="m") == []
        server.fail(Fault(spoil="missing"))
        with pytest.raises(JinaApiError, match="do not match"):
            client.rerank("old river", texts, model="m")


# Planning, without a server


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(10, 80))
def test_requests_cover_every_segment_once_with_context(tokens: list[int], size: int) -> None:
    context = size // 8
    windows = plan_requests(tokens, size, context=context)
    assert [i for w in windows for i in range(w.keep_start, w.keep_end)] == list(range(len(tokens)))
    for window in windows:
        assert window.start <= window.keep_start < window.keep_end <= window.end
        assert sum(tokens[window.start : window.end]) <= size or window.end - window.start == 1
    if tokens and max(tokens) <= size // 8:
        for window in windows:
            assert window.start == 0 or sum(tokens[window.start : window.keep_start]) >= context
            assert window.end == len(tokens) or sum(tokens[window.keep_end : window.end]) >= context


def test_a_request_has_at_most_2048_inputs() -> None:
    windows = plan_requests([1] * 5000, 100_000, context=100)
    assert max(window.end - window.start for window in windows) == 2048
    assert windows[-1].keep_end == 5000


@given(st.lists(st.text(min_size=1, max_size=80), max_size=8), st.integers(1, 30))
def test_segments_are_the_texts_cut(texts: list[str], limit: int) -> None:
    parts = segment(texts, limit)
    for index, text in enumerate(texts):
        assert "".join(part.text for part in parts if part.chunk == index) == text
        own = [part for part in parts if part.chunk == index]
        assert len(own) == 1 or all(part.text.strip() for part in own)


def test_a_cut_chunk_is_the_weighted_mean_of_its_parts() -> None:
    parts = segment(["aaa " * 8, "b"], 10)
    vectors = np.eye(len(parts), 4, dtype=np.float32)
    merged = merge(parts, vectors, 2)
    weights = np.array([part.tokens for part in parts if part.chunk == 0], dtype=np.float64)
    np.testing.assert_allclose(merged[0, : len(weights)], weights / np.linalg.norm(weights), atol=1e-6)
    np.testing.assert_allclose(merged[1], vectors[-1])


def test_what_is_sent_is_the_document_with_its_whitespace() -> None:
    document = chunked("One.\n\n  Two. Three.\n")
    assert chunk_texts(document) == ["One.\n\n  ", "Two. ", "Three."]


# The tokenizer


def test_tokens_are_word_pieces_marks_and_single_characters() -> None:
    text = "Internationally, e\u0301tude 東京 ไทย don't_ 3.14!"
    tokens = UnicodeTokenizer().tokenize(text)
    assert [text[a:b] for a, b in tokens.offsets] == [
        *("Intern", "ationa", "lly", ",", "e\u0301tude", "東", "京", "ไ", "ท", "ย"),
        *("don", "'", "t", "_", "3", ".", "14", "!"),
    ]


def test_a_combining_mark_stays_with_its_character() -> None:
    text = "abcdefe\u0301 กำ नमस्ते"
    pieces = [text[a:b] for a, b in UnicodeTokenizer().tokenize(text).offsets]
    assert pieces == ["abcdef", "e\u0301", "ก", "ำ", "नमस्ते"]


def test_marks_are_known_by_their_id() -> None:
    tokenizer: Tokenizer = UnicodeTokenizer()
    text = "End. 終わり。 Really?!"
    tokens = tokenizer.tokenize(text)
    found = [tokenizer.pieces[i] for i in tokens.ids.tolist() if i in tokenizer.pieces]
    assert found == [".", "。", "?", "!"]


@given(st.text(max_size=200))
def test_every_character_but_space_is_in_one_token(text: str) -> None:
    tokens = UnicodeTokenizer().tokenize(text)
    covered = [i for start, end in tokens.offsets.tolist() for i in range(start, end)]
    assert covered == sorted(set(covered))
    assert {i for i, character in enumerate(text) if not character.isspace()} <= set(covered)
    assert estimate_tokens(text) >= len(tokens)
    np.testing.assert_array_equal(tokens.ids, UnicodeTokenizer().tokenize(text).ids)
