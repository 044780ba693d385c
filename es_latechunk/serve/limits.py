"""The limits of one request and of all together, and the error of a request that is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a server. Tokens are counted without special tokens.

    `inputs` is the maximum number of texts or chunks of one request. `queue_tokens` limits the tokens that wait or are
    being encoded, and with them the waiting time; a request is always accepted if it is the only one. `connections` is
    the maximum number of open connections, or less if the process may have few file descriptors. A connection must
    send the header of a request within `header_seconds`.
    """

    body_bytes: int = 8 * 2**20
    inputs: int = 2048
    request_tokens: int = 100_000
    queue_tokens: int = 1_000_000
    requests: int = 512
    connections: int = 640
    header_seconds: float = 10.0


class RequestError(Exception):
    """A request that is not served: an HTTP status, and a message for the client."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


def busy(what: str) -> RequestError:
    """Return a RequestError 503, for a queue that is full."""
    return RequestError(503, f"{what}; try again in a moment", retry_after=1)
