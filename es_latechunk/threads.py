"""Calls in threads that the end of the program does not wait for, and that can be interrupted as by Ctrl-C.

It stands alone because late/, models/ and elastic/ all run calls beside the main thread. An executor is no choice:
Python joins its threads at exit, so that Ctrl-C would take as long as a server that hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

WAKE_SECONDS = 0.5

T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """Ends the work of a thread other than the main one; what handles Ctrl-C handles it too."""


class Interrupt:
    """Ends what another thread does, as Ctrl-C ends what the main thread does.

    Python raises a KeyboardInterrupt in the main thread alone. Any other thread has to look for it: where it waits
    (`result_of`, `pause`), and before it reads the next document (`check_interrupt`). It is raised there once, so that
    what cleans up afterwards can wait.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Let Interrupted be raised in the thread, the next time that it looks."""
        self._asked.set()

    def run(self, function: Callable[[], T]) -> T:
        """Run `function` in this thread, which looks for this interrupt meanwhile."""
        _this_thread.interrupt = self
        try:
            return function()
        finally:
            _this_thread.interrupt = None

    def wait(self, seconds: float) -> None:
        """Wait for so many seconds at most, and raise Interrupted as soon as it is asked for."""
        if self._asked.wait(seconds):
            self._asked.clear()
            raise Interrupted


_this_thread = threading.local()


def check_interrupt() -> None:
    """Raise Interrupted if this thread is to end."""
    if interrupt := _own_interrupt():
        interrupt.wait(0)


def pause(seconds: float) -> None:
    """Sleep; raise Interrupted as soon as this thread is to end."""
    if interrupt := _own_interrupt():
        interrupt.wait(seconds)
    else:
        time.sleep(seconds)


def _own_interrupt() -> Interrupt | None:
    return getattr(_this_thread, "interrupt", None)


def result_of(future: Future[T]) -> T:
    """Wait until the future is done; return its result, or raise its exception.

    A wait without a limit would never end: if another thread receives a signal, Python runs the handler in this one
    only when it wakes up.
    """
    check_interrupt()
    while not wait([future], WAKE_SECONDS).done:
        check_interrupt()
    return future.result()


class Call(Generic[T]):
    """A call that another thread runs. If its future is cancelled before it has begun, it is not run."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self.future: Future[T] = Future()

    def start(self) -> None:
        """Run it in a thread of its own."""
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        """Run it in this thread."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._function())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asks for the result
            self.future.set_exception(error)

    def has_ended(self, *, within: float) -> bool:
        """Wait until it has ended, for at most so many seconds."""
        return bool(wait([self.future], within).done)

    def result(self) -> T:
        """Wait until it has ended; return its result, or raise what it raised."""
        return result_of(self.future)


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
            del call  # a thread that has nothing to do shall keep nothing alive
