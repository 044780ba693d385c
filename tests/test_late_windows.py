"""Windows: every token kept once, with context on both sides, at linear cost."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate

import pytest
from fakes import PositionEncoder
from hypothesis import given
from hypothesis import strategies as st

from es_latechunk.errors import UsageError
from es_latechunk.late import Windows, choose_windows, plan_windows, recorded_windows
from es_latechunk.late.windows import plan_batches, plan_evenly
from es_latechunk.types import TokenWindow

Plan = Callable[[int, int, int], Iterator[TokenWindow]]
PLANS = (plan_windows, plan_evenly)


@pytest.mark.parametrize("plan", PLANS)
def test_a_short_document_is_one_window(plan: Plan) -> None:
    assert list(plan(10, 10, 2)) == [TokenWindow(0, 10, 0, 10)]
    assert list(plan(0, 10, 2)) == []


def test_one_token_too_many_gives_two_windows() -> None:
    assert list(plan_windows(11, 10, 4)) == [TokenWindow(0, 7, 0, 5), TokenWindow(3, 11, 5, 11)]
    assert list(plan_evenly(11, 10, 4)) == [TokenWindow(0, 10, 0, 5), TokenWindow(1, 11, 5, 11)]


@pytest.mark.parametrize("plan", PLANS)
def test_an_overlap_as_long_as_the_window_is_refused(plan: Plan) -> None:
    with pytest.raises(ValueError, match="overlap must be between 0 and the window's size - 1 = 9"):
        list(plan(20, 10, 10))


def test_windows_meet_between_chunks() -> None:
    """Checked by hand: four chunks of 30 tokens, of which a window of 100 keeps two or three."""
    assert list(plan_windows(120, 100, 20, [0, 30, 60, 90])) == [
        TokenWindow(0, 70, 0, 60),
        TokenWindow(50, 120, 60, 120),
    ]


def test_a_chunk_that_no_window_can_keep_is_cut_in_about_equal_windows() -> None:
    windows = list(plan_windows(1_000, 100, 20, [0, 10, 990]))
    assert {w.end - w.start for w in windows} == {95, 96}
    assert len(windows) == 13  # 1000 tokens and 12 times 20 for the overlap, in windows of at most 100


sizes = st.integers(1, 60).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))
chunk_sizes = st.lists(st.one_of(st.integers(1, 20), st.integers(1, 150)), min_size=1, max_size=40)


def check_kept_once_with_context(windows: list[TokenWindow], tokens: int, size: int, overlap: int) -> None:
    assert [w.keep_start for w in windows] == [0, *(w.keep_end for w in windows[:-1])]
    assert windows[-1].keep_end == tokens
    for window in windows:
        assert 0 <= window.start <= window.keep_start < window.keep_end <= window.end <= tokens
        assert window.end - window.start <= size
        assert window.start == 0 or window.keep_start - window.start >= overlap // 2
        assert window.end == tokens or window.end - window.keep_end >= overlap // 2


@given(chunk_sizes, sizes)
def test_long_documents(chunks: list[int], size_and_overlap: tuple[int, int]) -> None:
    """Invariant 4: kept ranges cover the document once, each with overlap // 2 tokens of context, at linear cost.

    No chunk is torn that a window between two others can keep.
    """
    size, overlap = size_and_overlap
    starts = [0, *accumulate(chunks)]
    tokens = starts.pop()
    windows = list(plan_windows(tokens, size, overlap, starts))
    check_kept_once_with_context(windows, tokens, size, overlap)
    for window in windows[:-1]:
        torn = bisect_right(starts, window.keep_end) - 1
        assert window.keep_end == starts[torn] or chunks[torn] > size - overlap
    # Two neighbours never fit into one window, or there would be fewer windows.
    assert len(windows) <= 2 * tokens / (size - overlap) + 1
    read = sum(w.end - w.start for w in windows)
    assert read == (tokens if len(windows) == 1 else tokens + (len(windows) - 1) * overlap)


@given(st.integers(1, 700), sizes)
def test_windows_that_take_no_account_of_chunks(tokens: int, size_and_overlap: tuple[int, int]) -> None:
    """Invariant 4, for an index that records no overlap."""
    size, overlap = size_and_overlap
    windows = list(plan_evenly(tokens, size, overlap))
    check_kept_once_with_context(windows, tokens, size, overlap)
    assert {w.end - w.start for w in windows} == {min(size, tokens)}
    assert sum(w.end - w.start for w in windows) <= tokens * size / (size - overlap) + size


def test_an_index_that_records_no_overlap_keeps_its_windows() -> None:
    encoder = PositionEncoder(window=16)
    recorded = recorded_windows(encoder, None)
    assert recorded is not None
    assert list(recorded.plan(100, [0, 7])) == list(plan_evenly(100, 16, 4))
    assert recorded_windows(encoder, 3) == choose_windows(encoder, 3)


def test_the_overlap_is_none_or_what_is_asked_for_up_to_half_of_a_window() -> None:
    encoder = PositionEncoder(window=17)
    assert choose_windows(encoder) == Windows(17, 0)
    assert [choose_windows(encoder, overlap) for overlap in (0, 8)] == [Windows(17, 0), Windows(17, 8)]
    for overlap in (-1, 9):
        with pytest.raises(
            UsageError, match=rf"overlap {overlap}: choose 0 to 8 tokens, half of the 17 that"
        ):
            choose_windows(encoder, overlap)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
def test_batches_hold_each_window_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(plan_batches(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[index] for index in batch) * len(batch) <= budget
