"""A stage in a thread of its own: order, bounds, errors, and an end in every case."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_latechunk.background import Background


@given(st.lists(st.integers(0, 9)), st.integers(1, 20))
def test_items_come_in_order_whatever_the_budget(items: list[int], budget: int) -> None:
    assert list(Background(items, budget=budget, size=lambda item: item)) == items


def test_no_more_waits_than_the_budget_allows() -> None:
    made = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    stage = iter(Background(numbers(), budget=3))
    assert next(stage) == 0
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # time in which a thread without a bound would go on
    assert len(made) == 5, "one taken, three that wait, one in hand"
    assert list(stage) == list(range(1, 100))


def test_an_item_beyond_the_budget_fits_alone() -> None:
    assert list(Background(["large", "a", "larger"], budget=3, size=len)) == ["large", "a", "larger"]


def test_an_error_comes_where_it_stands_in_the_order() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    stage = iter(Background(failing(), budget=10))
    assert next(stage) == 1
    with pytest.raises(ValueError, match="broken"):
        next(stage)


@pytest.mark.parametrize("stop", ["close", "interrupt"])
def test_a_consumer_that_stops_ends_the_thread_and_closes_the_items(stop: str) -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    threads = threading.active_count()
    stage = iter(Background(endless(), budget=2))
    next(stage)
    if stop == "close":
        stage.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(KeyboardInterrupt):
            stage.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert closed.wait(5)
    assert threading.active_count() == threads


def test_the_time_of_each_side_is_told_apart() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.05)
            yield number

    stage = Background(slow(), budget=1)
    assert list(stage) == [0, 1, 2]
    assert stage.busy >= 0.15
    assert 0 < stage.waited <= stage.busy + 0.1
