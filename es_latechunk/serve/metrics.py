"""The metrics that Prometheus reads at /metrics."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """All metrics, in a registry of their own, so that several applications can run in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "es_latechunk_requests", "Requests by path and status", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "es_latechunk_request_seconds", "From a request to its answer", ["path"], registry=self.registry
        )
        self.tokens = Counter("es_latechunk_tokens", "Tokens encoded", registry=self.registry)
        self.waiting = Gauge(
            "es_latechunk_waiting_tokens", "Tokens that wait or are encoded", registry=self.registry
        )
        self.rounds = Histogram(
            "es_latechunk_round_requests", "Requests encoded together", buckets=SIZES, registry=self.registry
        )


class Measured:
    """ASGI middleware that counts and times requests; unknown paths count as "other"."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        status, begun = 500, time.perf_counter()

        async def listen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, listen)
        finally:
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - begun)
