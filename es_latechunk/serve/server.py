"""The server: limits on connections and on the time of a header, and a check of the `Host` header."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterable
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from es_latechunk.serve.limits import Limits
from es_latechunk.serve.schemas import error_answer

if TYPE_CHECKING:
    from starlette.applications import Starlette


MISDIRECTED = 421


class KnownHosts:
    """ASGI middleware that refuses requests (421) whose `Host` is a DNS name other than `names`.

    A web page could let its own DNS name point to this machine, and read the responses (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        app = self._app
        if scope["type"] == "http" and not is_known(Headers(scope=scope).get("host", ""), self._names):
            cause = (
                "the name in the Host header is not allowed; allow it with --allow-host NAME, or set a token"
            )
            app = JSONResponse(error_answer(scope["path"], MISDIRECTED, cause), MISDIRECTED)
        await app(scope, receive, send)


def is_known(host: str, names: frozenset[str]) -> bool:
    """Return whether a `Host` header is an IP address, a name without a dot, or one of `names` (in lower case)."""
    name = host.lower().rpartition("]")[0].removeprefix("[") or host.lower().partition(":")[0]
    name = name.removesuffix(".")
    if "." not in name.removesuffix(".localhost") and ":" not in name:
        return True
    try:
        ip_address(name)
    except ValueError:
        return name in names
    return True


SHUTDOWN_SECONDS = 120
ACCEPTED_AT_ONCE = 64
# The event loop may accept several backlogs of connections before it closes the first one that is too many.
RESERVED_DESCRIPTORS = 5 * ACCEPTED_AT_ONCE
REFUSED = b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: 0\r\n%b\r\n"
TOO_SLOW = REFUSED % (b"408 Request Timeout", b"")
TOO_MANY = REFUSED % (b"503 Service Unavailable", b"Retry-After: 1\r\n")


def make_server(application: Starlette, limits: Limits) -> uvicorn.Server:
    """Return a server for the application, which runs on sockets that are already listening."""
    config = uvicorn.Config(
        application,
        http=partial(BoundedProtocol, Waiting(limits)),  # type: ignore[arg-type]
        ws="none",
        backlog=ACCEPTED_AT_ONCE,
        log_config=None,
        log_level="error",  # a warning for each request that is no HTTP would fill the log
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


class Waiting:
    """The connections that are waiting for their next request, the longest waiting first."""

    def __init__(self, limits: Limits) -> None:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if descriptors == resource.RLIM_INFINITY:
            descriptors = limits.connections + RESERVED_DESCRIPTORS
        self.most = max(1, min(limits.connections, descriptors - RESERVED_DESCRIPTORS))
        self.seconds = limits.header_seconds
        self.connections: dict[BoundedProtocol, asyncio.TimerHandle] = {}

    def add(self, connection: BoundedProtocol) -> None:
        self.remove(connection)
        timer = connection.loop.call_later(self.seconds, connection.refuse, TOO_SLOW)
        self.connections[connection] = timer

    def remove(self, connection: BoundedProtocol) -> None:
        timer = self.connections.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def make_room(self) -> bool:
        """Close the connection that has waited longest; return False if none is waiting."""
        for connection in self.connections:
            self.remove(connection)
            connection.transport.abort()
            return True
        return False


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol (one object per connection) with the limits of `Waiting`."""

    def __init__(self, waiting: Waiting, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.waiting = waiting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        open_now = sum(not one.transport.is_closing() for one in self.connections)
        if open_now > self.waiting.most and not self.waiting.make_room():
            self.refuse(TOO_MANY)
        else:
            self.waiting.add(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self.waiting.remove(self)

    def on_response_complete(self) -> None:
        """Wait for the next request; the rest of this one's body is discarded as it arrives."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self.waiting.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.waiting.remove(self)
        super().connection_lost(exc)

    def refuse(self, answer: bytes) -> None:
        """Send an answer without having read a request, and close the connection."""
        self.waiting.remove(self)
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
