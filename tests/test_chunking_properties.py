"""What holds for every text, tokenizer, chunker and chunk size."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_models import TOKENIZERS

from es_latechunk.chunking import CHUNKERS, make_chunker, token_owner
from es_latechunk.types import ChunkSpan, Tokens

FRAGMENTS = [
    *[
        "the",
        " fox",
        " dog",
        ". ",
        "! ",
        "?",
        "。",
        "」",
        "“",
        "”",
        "...",
        "3.6",
        "\n",
        "\n\n",
        "\r\n",
        " ",
        "  ",
    ],
    *[
        "- ",
        "1. ",
        "# ",
        "😀",
        "👩‍👩‍👧",
        "e\u0301",
        "\u200b",
        "\ufeff",
        "\x00",
        "\x1c",
        "\x85",
        "\u3000",
        "नमस्ते",
        "你好",
        "ไทย",
        "ﬁ",
    ],
]
texts = st.text(max_size=40) | st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join)
sizes = st.integers(1, 12) | st.just(1000)
chunkers = pytest.mark.parametrize("chunker", list(CHUNKERS))
families = pytest.mark.parametrize("family", list(TOKENIZERS))


def split(text: str, family: str, chunker: str, size: int) -> tuple[list[ChunkSpan], Tokens]:
    tokenizer = TOKENIZERS[family]
    tokens = tokenizer.tokenize(text)
    return make_chunker(chunker, tokenizer=tokenizer, max_tokens=size).split(text, tokens), tokens


def first_visible(text: str, tokens: Tokens) -> list[int | None]:
    """The position of each token's first visible character, None where it has none."""
    return [
        next((place for place in range(start, end) if not text[place].isspace()), None)
        for start, end in tokens.offsets.tolist()
    ]


@families
@chunkers
@given(text=texts, size=sizes)
def test_nothing_lost(family: str, chunker: str, text: str, size: int) -> None:
    spans, _ = split(text, family, chunker, size)
    covered = Counter(place for span in spans for place in range(span.start, span.end))
    assert all(covered[place] == 1 for place, sign in enumerate(text) if not sign.isspace())
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert spans == sorted(spans, key=lambda span: span.start)
    for span in spans:
        assert text[span.start : span.end] == text[span.start : span.end].strip()


@families
@chunkers
@given(text=texts, size=sizes)
def test_token_to_chunk(family: str, chunker: str, text: str, size: int) -> None:
    spans, tokens = split(text, family, chunker, size)
    if not spans:
        return
    owner = token_owner(spans, text, tokens).tolist()
    expected = 0
    for place, chunk in zip(first_visible(text, tokens), owner, strict=True):
        if place is not None:
            expected = next(n for n, span in enumerate(spans) if span.start <= place < span.end)
        assert chunk == expected
    visible = {n for n, place in zip(owner, first_visible(text, tokens), strict=True) if place is not None}
    assert visible == set(range(len(spans))) or len(spans) == 1


@families
@chunkers
@given(text=texts, size=sizes)
def test_no_chunk_is_longer_than_asked(family: str, chunker: str, text: str, size: int) -> None:
    spans, tokens = split(text, family, chunker, size)
    places = first_visible(text, tokens)
    for span in spans:
        own = [n for n, place in enumerate(places) if place is not None and span.start <= place < span.end]
        one_character = len({places[n] for n in own}) == 1
        assert not own or one_character or own[-1] - own[0] + 1 <= size


@families
@given(text=texts)
def test_one_chunk_that_covers_the_text_owns_every_token(family: str, text: str) -> None:
    tokens = TOKENIZERS[family].tokenize(text)
    if text.strip():
        assert not token_owner([ChunkSpan(0, len(text))], text, tokens).any()


@families
@given(words=st.lists(st.sampled_from(["fox", "the", "dog", "quick", "Berlin"]), min_size=1, max_size=40))
def test_words_stay_whole_where_they_fit(family: str, words: list[str]) -> None:
    text = " ".join(words)
    for chunker in CHUNKERS:
        spans, _ = split(text, family, chunker, 12)
        assert [word for span in spans for word in text[span.start : span.end].split()] == words


@chunkers
def test_a_large_budget_gives_one_chunk(chunker: str) -> None:
    text = "  One is here. Two.\nThree\n"
    spans, _ = split(text, "mini_lm", chunker, 100)
    assert spans == [ChunkSpan(2, len(text) - 1)]
