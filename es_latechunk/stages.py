"""The seconds that each stage of an ingest is busy.

It stands alone because late/ and elastic/ measure their own parts of it, and know nothing of the report that shows it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Stage = Literal["read", "chunk", "encode", "write"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """How long each stage of an ingest was busy, in seconds. Stages overlap, so the sum may exceed the whole time.

    `read`: documents are read, hashed and compared with the index. `chunk`: they are tokenized, cut into chunks and
    planned into windows. `encode`: the model runs, or the hosted service is waited for, and token vectors are pooled.
    `write`: bulk requests are made and answered; the waits between two attempts do not count.
    """

    read: float = 0.0
    chunk: float = 0.0
    encode: float = 0.0
    write: float = 0.0


class StageClock:
    """Adds up the busy seconds of each stage, in any number of threads.

    Within a thread, a stage that asks another one for its next item is not busy while that one works.
    """

    def __init__(self) -> None:
        self._seconds: dict[Stage, float] = {"read": 0.0, "chunk": 0.0, "encode": 0.0, "write": 0.0}
        self._lock = threading.Lock()
        self._inner = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return _clock_at, (self.seconds(),)

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Count the time of the block for the stage, without the blocks of other stages inside of it."""
        outside: float = getattr(self._inner, "seconds", 0.0)
        self._inner.seconds = 0.0
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            with self._lock:
                self._seconds[stage] += seconds - self._inner.seconds
            self._inner.seconds = outside + seconds

    def timed(self, stage: Stage, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; the time that each of them takes counts for the stage."""
        iterator = iter(items)
        while True:
            with self.measure(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def add(self, other: StageSeconds) -> None:
        """Add the seconds of another process."""
        with self._lock:
            for stage in self._seconds:
                self._seconds[stage] += getattr(other, stage)

    def seconds(self) -> StageSeconds:
        """The seconds so far; a block that has not ended is not counted."""
        with self._lock:
            return StageSeconds(**{stage: round(seconds, 3) for stage, seconds in self._seconds.items()})


def _clock_at(seconds: StageSeconds) -> StageClock:
    clock = StageClock()
    clock.add(seconds)
    return clock
