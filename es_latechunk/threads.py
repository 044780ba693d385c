"""Calls in threads that the end of the program does not wait for.

It stands alone because late/, models/ and elastic/ all run calls beside the main thread. An executor is no choice:
Python joins its threads at exit, so that Ctrl-C would take as long as a server that hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

WAKE_SECONDS = 0.5

T = TypeVar("T")


class Call(Generic[T]):
    """A call that another thread runs."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._future: Future[T] = Future()

    def start(self) -> None:
        """Run it in a thread of its own."""
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        """Run it in this thread."""
        try:
            self._future.set_result(self._function())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asks for the result
            self._future.set_exception(error)

    def has_ended(self, *, within: float) -> bool:
        """Wait until it has ended, for at most so many seconds."""
        return bool(wait([self._future], within).done)

    def result(self) -> T:
        """Wait until it has ended; return its result, or raise what it raised.

        A wait without a limit would never end: if another thread receives a signal, Python runs the handler in this one
        only when it wakes up.
        """
        while not self.has_ended(within=WAKE_SECONDS):
            pass
        return self._future.result()


class Workers(Generic[T]):
    """`count` threads that run calls in the order in which they are submitted."""

    def __init__(self, count: int) -> None:
        self._calls: SimpleQueue[Call[T] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[[], T]) -> Call[T]:
        """Return the call, which runs as soon as a thread is free."""
        call = Call(function)
        self._calls.put(call)
        return call

    def end(self) -> None:
        """Drop the calls that have not begun; the threads end after those that they run now."""
        try:
            while True:
                self._calls.get_nowait()
        except Empty:
            for _ in self._threads:
                self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
