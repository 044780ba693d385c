"""The seconds of each stage, by a clock that the test sets."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from es_latechunk.stages import StageClock, StageSeconds


class Time:
    """A clock that stands still unless it is told how much time has passed."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr("es_latechunk.stages.time.perf_counter", time)
    return time


def test_a_stage_is_not_busy_while_it_waits_for_the_one_before_it(time: Time) -> None:
    clock = StageClock()

    def read() -> Iterator[int]:
        for number in range(3):
            time.passes(1)
            yield number

    def chunk() -> Iterator[int]:
        for number in clock.timed("read", read()):
            time.passes(10)
            yield number
        time.passes(100)

    for _ in clock.timed("chunk", chunk()):
        time.passes(1_000)  # the consumer's own time is that of no stage
        with clock.measure("write"):
            time.passes(10_000)
    assert clock.seconds() == StageSeconds(read=3, chunk=130, write=30_000)


def test_a_block_that_fails_counts_and_so_does_what_follows(time: Time) -> None:
    clock = StageClock()

    def fail() -> None:
        with clock.measure("chunk"), clock.measure("encode"):
            time.passes(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with clock.measure("write"):
        time.passes(4)
    assert clock.seconds() == StageSeconds(encode=2, write=4)


def test_threads_do_not_pause_each_other(time: Time) -> None:
    clock = StageClock()

    def encode() -> None:
        with clock.measure("encode"):
            time.passes(5)

    with clock.measure("write"):
        thread = threading.Thread(target=encode)
        thread.start()
        thread.join()
        time.passes(1)
    assert clock.seconds() == StageSeconds(encode=5, write=6)
