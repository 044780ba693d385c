"""How much one client, and all of them together, may ask for; and how a refusal is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """`inputs` bounds the texts, or chunks, of one request; tokens are counted without special tokens.

    `queue_tokens` bounds what waits or is being encoded, and so how long anyone waits: one request alone
    is always taken. `connections` may be open at once, fewer where the process may have few descriptors; each has
    `header_seconds` to say what it asks for.
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
    """503: as much waits already as may."""
    return RequestError(503, f"{what}; try again in a moment", retry_after=1)
