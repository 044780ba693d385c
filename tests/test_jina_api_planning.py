"""Requests and estimated tokens for the hosted Jina API, without a server."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from jina_server import chunked

from es_latechunk.models.jina_api import UnicodeTokenizer
from es_latechunk.models.jina_api.requests import chunk_texts, merge, plan_requests, segment
from es_latechunk.models.jina_api.tokenizer import estimate_tokens
from es_latechunk.types import Tokenizer

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
