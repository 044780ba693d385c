"""Ctrl-C and SIGTERM while a request is in flight: its answer is still read, unless that takes too long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 5.0  # seconds that an interrupted request still has
WAKE_SECONDS = 0.5

T = TypeVar("T")


def finish(step: Callable[[], T], *, patience: float = PATIENCE) -> T:
    """Run `step` to its end, also where a KeyboardInterrupt comes meanwhile: it is raised after the step.

    The step runs in a thread of its own, and no signal handler changes. A step that has not ended `patience`
    seconds after the first interrupt is left behind, and a second interrupt is raised at once: a server that
    hangs holds nobody up.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            results.append(step())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            errors.append(error)
        finally:
            ended.set()

    try:
        # The start belongs to what may be interrupted: the step can be on its way before start() has returned.
        threading.Thread(target=run, daemon=True).start()
        # Not without a limit: a signal that another thread has taken waits for this one to wake up.
        while not ended.wait(WAKE_SECONDS):
            pass
    except KeyboardInterrupt:
        ended.wait(patience)
        raise
    if errors:
        raise errors[0]
    return results[0]
