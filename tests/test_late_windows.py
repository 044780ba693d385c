"""Windows: every token kept once, with context on both sides, at linear cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_latechunk.late import plan_windows
from es_latechunk.late.windows import plan_batches
from es_latechunk.types import TokenWindow


def test_a_short_document_is_one_window() -> None:
    assert list(plan_windows(10, 10)) == [TokenWindow(0, 10, 0, 10)]


def test_no_tokens_no_windows() -> None:
    assert list(plan_windows(0, 10)) == []


def test_one_token_too_many_gives_two_windows_of_full_length() -> None:
    assert list(plan_windows(11, 10, 4)) == [TokenWindow(0, 10, 0, 5), TokenWindow(1, 11, 5, 11)]


def test_an_overlap_as_long_as_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap must be between 0 and the window's size - 1 = 9"):
        list(plan_windows(20, 10, 10))


sizes = st.integers(1, 60).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


@given(st.integers(1, 700), sizes)
def test_long_documents(tokens: int, size_and_overlap: tuple[int, int]) -> None:
    """Invariant 4: kept ranges cover the document once, each with overlap // 2 tokens of context."""
    size, overlap = size_and_overlap
    windows = list(plan_windows(tokens, size, overlap))
    assert [w.keep_start for w in windows] == [0, *(w.keep_end for w in windows[:-1])]
    assert windows[-1].keep_end == tokens
    for window in windows:
        assert 0 <= window.start <= window.keep_start < window.keep_end <= window.end <= tokens
        assert window.end - window.start == min(size, tokens)
        assert window.start == 0 or window.keep_start - window.start >= overlap // 2
        assert window.end == tokens or window.end - window.keep_end >= overlap // 2
    assert sum(w.end - w.start for w in windows) <= tokens * size / (size - overlap) + size


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
def test_batches_hold_each_window_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(plan_batches(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[index] for index in batch) * len(batch) <= budget
