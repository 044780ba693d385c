"""Which names a server may be called by: the guard against pages of the web that let their own name point here.

A browser lets a page ask the address that the page came from. A page of evil.example whose name is made to point to
127.0.0.1 afterwards (DNS rebinding) could so read all that a server without a token answers. The header `Host` still
says evil.example. An address in numbers cannot be rebound, and neither can a name without a dot, which no public DNS
has.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from es_latechunk.serve.protocols import error_answer

MISDIRECTED = 421


class KnownHosts:
    """Refuses requests (421) whose `Host` is a name of the DNS other than `names` (ASGI middleware)."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        app = self._app
        if scope["type"] == "http" and not is_known(Headers(scope=scope).get("host", ""), self._names):
            cause = (
                "this server is not known by the name in Host; add it with --allow-host NAME, or set a token"
            )
            app = JSONResponse(error_answer(scope["path"], MISDIRECTED, cause), MISDIRECTED)
        await app(scope, receive, send)


def is_known(host: str, names: frozenset[str]) -> bool:
    """Whether a `Host` header is an address, a name without a dot, or one of `names` (in lower case)."""
    name = host.lower().rpartition("]")[0].removeprefix("[") or host.lower().partition(":")[0]
    name = name.removesuffix(".")
    if "." not in name.removesuffix(".localhost") and ":" not in name:
        return True
    try:
        ip_address(name)
    except ValueError:
        return name in names
    return True
