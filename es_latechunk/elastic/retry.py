"""Riding out what passes (a lost connection, a full queue, a node that restarts), and interrupts in between."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from elastic_transport import ConnectionError as TransportConnectionError
from elastic_transport import ConnectionTimeout, SerializationError, TlsError, TransportError
from elasticsearch import ApiError
from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from es_latechunk.elastic.connection import is_blocked, reason
from es_latechunk.errors import ServerError, WriteError

PASSING = (429, 502, 503, 504)
LONGEST_WAIT = 30.0
TELL_SECONDS = 5.0  # of attempts that fail
DEFAULT_RETRY_FOR = 120.0
log = logging.getLogger(__name__)

T = TypeVar("T")


class PassingError(Exception):
    """An attempt failed in a way that may pass; the message says how."""


def passing_cause(error: Exception) -> str | None:
    """Why an exception of the client may pass if the request is sent again; None where it will not."""
    if isinstance(error, TlsError):
        return None
    if isinstance(error, ConnectionTimeout):
        return "no answer in time"
    if isinstance(error, TransportConnectionError):
        return f"no connection: {error.message}"
    if isinstance(error, SerializationError):
        return "an answer that is cut off or no JSON"
    if isinstance(error, ApiError) and error.meta.status in PASSING and not is_blocked(error):
        return f"{error.meta.status}: {reason(error)}"
    return None


def persist(attempt: Callable[[], T], *, retry_for: float, what: str) -> T:
    """Call `attempt` until it neither raises PassingError nor a passing error of the client.

    Waits grow up to half a minute and are random, so that many clients do not come back together. After
    `retry_for` seconds a WriteError says `what` did not work and why; other exceptions pass through.
    """

    def once() -> T:
        try:
            return attempt()
        except (ApiError, TransportError) as error:
            cause = passing_cause(error)
            if cause is None:
                raise
            raise PassingError(cause) from error

    try:
        return _attempts(retry_for, what)(once)
    except RetryError as error:
        last = error.last_attempt.exception()
        raise WriteError(
            f"{what} within {retry_for:g} s ({last}); when the cluster is well again, run the same command again"
        ) from last


def ride_out(attempt: Callable[[], T], *, retry_for: float, opening: bool = True) -> T:
    """Call `attempt`, whose errors are LateChunkErrors already, until its ServerError does not come from what passes.

    For the requests that open a run, only what a live server answers counts (429, 502, 503, 504): that it cannot be
    reached is told at once, as at the start that is a wrong address more often than a fault that passes. After
    `retry_for` seconds the last ServerError is raised.
    """

    def once() -> T:
        try:
            return attempt()
        except ServerError as error:
            cause = error.__cause__
            if isinstance(cause, ApiError if opening else (ApiError, TransportError)) and passing_cause(
                cause
            ):
                raise PassingError(passing_cause(cause)) from error
            raise

    try:
        return _attempts(retry_for, "the server could not be asked")(once)
    except RetryError as error:
        last = error.last_attempt.exception()
        raise (last.__cause__ if last and last.__cause__ else error) from None


def _attempts(retry_for: float, what: str) -> Retrying:
    """Attempts that say, once, that they go on: a cause that looks as if it passed may be one that does not."""
    told = False

    def tell(state: RetryCallState) -> None:
        nonlocal told
        if not told and state.seconds_since_start is not None and state.seconds_since_start >= TELL_SECONDS:
            told = True
            cause = state.outcome and state.outcome.exception()
            log.info("%s so far (%s); trying for %g s in all", what, cause, retry_for)

    return Retrying(
        before_sleep=tell,
        retry=retry_if_exception_type(PassingError),
        wait=wait_random_exponential(multiplier=0.5, max=LONGEST_WAIT),
        stop=stop_after_delay(retry_for),
    )


PATIENCE = 5.0  # seconds that an interrupted request still has
WAKE_SECONDS = 0.5


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
