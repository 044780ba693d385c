"""Threads for requests, of which the end of the program waits for none.

It stands alone because it knows nothing of the service. A ThreadPoolExecutor is no choice: Python joins its threads
at exit, so that Ctrl-C would take as long as a service that is away is asked again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Workers(Generic[T]):
    """`count` threads that run steps in the order in which they are submitted."""

    def __init__(self, count: int) -> None:
        self._steps: SimpleQueue[tuple[Future[T], Callable[[], T]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"jina-api-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, step: Callable[[], T]) -> Future[T]:
        """The step's result, or what it raises, when a thread has run it."""
        future: Future[T] = Future()
        self._steps.put((future, step))
        return future

    def end(self) -> None:
        """Drop the steps that have not begun; the threads end after those that they run now."""
        try:
            while True:
                self._steps.get_nowait()
        except Empty:
            for _ in self._threads:
                self._steps.put(None)

    def _run(self) -> None:
        while (item := self._steps.get()) is not None:
            future, step = item
            try:
                future.set_result(step())
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that asks for the result
                future.set_exception(error)
