"""Runs a stage of the ingest in a thread of its own, with a bounded queue to the stage after it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

WAKE_SECONDS = 0.5
PATIENCE = 5.0  # seconds that the thread may still run after the consumer has stopped

T = TypeVar("T")


class Background(Generic[T]):
    """Yields the items of `items` in the same order, while a thread prepares the next ones.

    The thread starts with the iteration, and pauses when the total size (by `size`) of the items that wait for the
    consumer reaches `budget`; one item always fits. An exception of `items` is raised after the items before it. If
    the consumer stops early, the thread stops after its current item, and closes `items` if that is a generator.

    `busy` is the time (seconds) that the thread spent inside `items`, `waited` the time that the consumer waited for
    it: the consumer's own work took the rest of its time.
    """

    def __init__(self, items: Iterable[T], *, budget: int, size: Callable[[T], int] = lambda _: 1) -> None:
        self._items = items
        self._budget = budget
        self._size = size
        self._changed = threading.Condition()
        self._waiting: deque[tuple[T, int]] = deque()
        self._held = 0
        self._error: BaseException | None = None
        self._ended = False  # the thread yields nothing more
        self._stopped = False  # the consumer takes nothing more
        self.busy = 0.0
        self.waited = 0.0

    def __iter__(self) -> Iterator[T]:
        thread = threading.Thread(target=self._work, daemon=True)
        try:
            thread.start()
            while self._has_next():
                yield self._take()
            if self._error is not None:
                raise self._error
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            if thread.ident is not None:
                thread.join(PATIENCE)

    def _has_next(self) -> bool:
        began = time.monotonic()
        with self._changed:
            while not self._waiting and not self._ended:
                # A wait without a limit would never end: if another thread receives a signal, Python
                # delivers it to this one only when it wakes up.
                self._changed.wait(WAKE_SECONDS)
            self.waited += time.monotonic() - began
            return bool(self._waiting)

    def _take(self) -> T:
        with self._changed:
            item, size = self._waiting.popleft()
            self._held -= size
            self._changed.notify_all()
            return item

    def _work(self) -> None:
        try:
            iterator = iter(self._items)
            while not self._stopped:
                began = time.monotonic()
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                finally:
                    self.busy += time.monotonic() - began
                self._put(item)
            if isinstance(self._items, Generator):
                self._items.close()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that consumes
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: T) -> None:
        size = self._size(item)
        with self._changed:
            while self._waiting and self._held + size > self._budget and not self._stopped:
                self._changed.wait()
            self._waiting.append((item, size))
            self._held += size
            self._changed.notify_all()
