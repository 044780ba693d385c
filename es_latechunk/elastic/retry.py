"""Retrying requests after transient faults (a lost connection, a full queue, a node that restarts), and interrupts.

The client's own retries are switched off (`connection.py`): they know neither a time limit nor a bulk item.
"""

from __future__ import annotations

import logging
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
from es_latechunk.threads import Call, pause

TRANSIENT_STATUSES = (429, 502, 503, 504)
LONGEST_WAIT = 30.0  # seconds between two attempts
LOG_AFTER = 5.0  # seconds of failing attempts
log = logging.getLogger(__name__)

T = TypeVar("T")


class TransientError(Exception):
    """An attempt failed in a way that another attempt may not; the message is the reason."""


def transient_reason(error: BaseException | None) -> str | None:
    """The reason of an exception of the client if the same request may succeed later; None if it will not."""
    if isinstance(error, TlsError):
        return None
    if isinstance(error, ConnectionTimeout):
        return "no answer in time"
    if isinstance(error, TransportConnectionError):
        return f"no connection: {error.message}"
    if isinstance(error, SerializationError):
        return "an answer that is cut off or not JSON"
    if isinstance(error, ApiError) and error.meta.status in TRANSIENT_STATUSES and not is_blocked(error):
        return f"{error.meta.status}: {reason(error)}"
    return None


def retry_transient(
    attempt: Callable[[], T],
    *,
    retry_for: float,
    what: str = "the server could not be asked",
    retry_unreachable: bool = True,
) -> T:
    """Call `attempt` until it raises neither a TransientError nor a transient error of the client.

    A ServerError is judged by the client's error that caused it. Other exceptions pass through. After `retry_for`
    seconds the last ServerError is raised, or else a WriteError, which says that `what` failed, and why.

    `retry_unreachable=False` is for the requests that open a run: only the answers of a live server (429, 502, 503,
    504) are retried then. A server that cannot be reached at the start is more often a wrong address than a fault
    that passes, so the user should hear of it at once.
    """

    def attempt_once() -> T:
        try:
            return attempt()
        except (ApiError, TransportError, ServerError) as error:
            cause = error.__cause__ if isinstance(error, ServerError) else error
            transient = transient_reason(cause)
            if transient is None or not (retry_unreachable or isinstance(cause, ApiError)):
                raise
            raise TransientError(transient) from error

    try:
        return _retrying(retry_for, what)(attempt_once)
    except RetryError as error:
        last = error.last_attempt.exception()
        server_error = last.__cause__ if last else None
        if isinstance(server_error, ServerError):
            raise server_error from server_error.__cause__
        raise WriteError(
            f"{what} within {retry_for:g} s ({last}); when the cluster works again, run the same command again"
        ) from last


def _retrying(retry_for: float, what: str) -> Retrying:
    """Attempts that log, once, that they go on: a fault that looks transient may be one that lasts.

    The waits are random, so that many clients do not come back at the same moment.
    """
    logged = False

    def log_once(state: RetryCallState) -> None:
        nonlocal logged
        if not logged and state.seconds_since_start is not None and state.seconds_since_start >= LOG_AFTER:
            logged = True
            cause = state.outcome and state.outcome.exception()
            log.info("%s so far (%s); trying for %g s in all", what, cause, retry_for)

    return Retrying(
        sleep=pause,
        before_sleep=log_once,
        retry=retry_if_exception_type(TransientError),
        wait=wait_random_exponential(multiplier=0.5, max=LONGEST_WAIT),
        stop=stop_after_delay(retry_for),
    )


PATIENCE = 5.0  # seconds that a request may still take after an interrupt


def defer_interrupt(step: Callable[[], T], *, patience: float = PATIENCE) -> T:
    """Run `step` to its end; a KeyboardInterrupt that comes meanwhile is raised after it.

    The step runs in a thread of its own, so that no signal handler has to change. A step that has not ended
    `patience` seconds after the first interrupt is abandoned, and a second interrupt is raised at once: nobody has to
    wait for a server that hangs.
    """
    call = Call(step)
    try:
        # The start is inside the try: the step can be running before start() has returned.
        call.start()
        return call.result()
    except KeyboardInterrupt:
        call.has_ended(within=patience)
        raise
