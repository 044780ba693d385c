"""The HTTP application: routes, authorisation, limits, and error responses."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import anyio
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from es_latechunk.errors import IndexMismatchError, IndexNotFoundError, LateChunkError, ServerError
from es_latechunk.serve.batcher import Batcher, Job
from es_latechunk.serve.comparison import Comparison
from es_latechunk.serve.jobs import JobBuilder
from es_latechunk.serve.limits import Limits, RequestError, busy
from es_latechunk.serve.metrics import Measured, Metrics
from es_latechunk.serve.page import FILES, page_routes
from es_latechunk.serve.schemas import (
    GETS,
    OPEN,
    POSTS,
    EmbeddingsRequest,
    FeatureExtractionRequest,
    InputType,
    LateChunkRequest,
    describe,
    error_answer,
    hugging_face_answer,
    late_chunk_answer,
    openai_answer,
    validation_message,
)
from es_latechunk.serve.server import KnownHosts
from es_latechunk.types import FloatArray, TokenEncoder

if TYPE_CHECKING:
    from es_latechunk.serve.index import Index

BODY_SECONDS = 60.0
CLIENT_GONE = 499  # the status that nginx uses for it; nobody receives it, but the metrics count it

Answer = Callable[[FloatArray], bytes]
Work = Callable[[bytes], Awaitable[bytes]]
Read = Callable[["Service", bytes, InputType], tuple[Job, Answer]]


class Service:
    """The state that all routes share: one encoder with its batches, the limits, and the metrics."""

    def __init__(self, encoder: TokenEncoder, limits: Limits, index: Index | None) -> None:
        self.job_builder = JobBuilder(encoder, limits)
        self.limits = limits
        self.metrics = Metrics()
        self.batcher = Batcher(
            encoder, queue_tokens=limits.queue_tokens, on_round=self.metrics.rounds.observe
        )
        self.metrics.waiting.set_function(lambda: self.batcher.tokens)
        self.comparison = Comparison(self.job_builder, self.embed, index)
        self.requests = 0

    async def embed(self, job: Job) -> FloatArray:
        """Return the vectors of a job; it waits in the queue of the encoder."""
        vectors = await self.batcher.embed(job)
        self.metrics.tokens.inc(job.tokens)
        return vectors

    async def vectors(self, read: Read, body: bytes, input_type: InputType) -> bytes:
        """Parse a body, encode its texts, and return the response; only the encoding waits in the queue."""
        job, write = await run_in_threadpool(read, self, body, input_type)
        return await run_in_threadpool(write, await self.embed(job))

    async def answer(self, request: Request, work: Work) -> Response:
        """Respond with the result of `work` on the request's body; RequestError 503 if too many requests are open."""
        if self.requests >= self.limits.requests:
            raise busy(f"{self.requests} requests are under way already")
        # Each open request holds its body in memory, so it is counted before the body is read.
        self.requests += 1
        try:
            body = await _read_body(request, self.limits.body_bytes)
            content = await _while_connected(request, work(body))
        finally:
            self.requests -= 1
        return Response(content, media_type="application/json")


def create_app(
    encoder: TokenEncoder,
    *,
    token: str | None = None,
    limits: Limits | None = None,
    index: Index | None = None,
    hosts: Sequence[str] = (),
) -> Starlette:
    """Create the application for one encoder, and optionally for an index of its vectors.

    If a token is given, every route requires it except /health and the page, which contains no data. Without a
    token, `hosts` are the DNS names that the `Host` header of a request may contain.
    """
    service = Service(encoder, limits or Limits(), index)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with service.batcher.running():
            yield

    return Starlette(
        routes=[*page_routes(), *_posts(service, token), *_gets(service, token, index)],
        middleware=[
            Middleware(Measured, service.metrics, frozenset({*POSTS, *GETS, *FILES})),
            *([Middleware(KnownHosts, hosts)] if token is None else []),
        ],
        exception_handlers={
            RequestError: _refuse,
            LateChunkError: _refuse,
            ValidationError: _refuse,
            HTTPException: _refuse,
        },
        lifespan=lifespan,
    )


def _posts(service: Service, token: str | None) -> list[Route]:
    reads: dict[str, Read] = {
        "/v1/embeddings": _embeddings,
        "/": _feature_extraction,
        "/embed": _feature_extraction,
        "/late_chunk": _late_chunk,
    }

    def embedding(path: str, read: Read) -> Route:
        async def endpoint(request: Request) -> Response:
            input_type = _input_type(request)
            return await service.answer(request, lambda body: service.vectors(read, body, input_type))

        return Route(path, _guarded(endpoint, token), methods=["POST"])

    def comparing(path: str, work: Work) -> Route:
        async def endpoint(request: Request) -> Response:
            return await service.answer(request, work)

        return Route(path, _guarded(endpoint, token), methods=["POST"])

    return [
        *(embedding(path, read) for path, read in reads.items()),
        comparing("/compare", service.comparison.in_text),
        comparing("/search", service.comparison.in_index),
    ]


def _gets(service: Service, token: str | None, index: Index | None) -> list[Route]:
    model = service.job_builder.model
    description = describe(secured=token is not None, searching=index is not None)
    facts: dict[str, Any] = {
        "/health": {"status": "ok", "model": model},
        "/v1/models": {
            "object": "list",
            "data": [{"id": model, "object": "model", "owned_by": "es-latechunk"}],
        },
        "/about": {"model": model, "index": index and index.name},
        "/openapi.json": description,
    }

    def route(path: str, fact: Any) -> Route:
        async def endpoint(request: Request) -> Response:
            return JSONResponse(fact)

        return Route(path, endpoint if path in OPEN else _guarded(endpoint, token))

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def examples(request: Request) -> Response:
        return JSONResponse(await service.comparison.examples())

    return [
        *(route(path, fact) for path, fact in facts.items()),
        Route("/metrics", _guarded(metrics, token)),
        Route("/examples", _guarded(examples, token)),
    ]


Endpoint = Callable[[Request], Awaitable[Response]]


def _guarded(endpoint: Endpoint, token: str | None) -> Endpoint:
    if token is None:
        return endpoint
    expected = f"Bearer {token}".encode()

    async def guarded(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode("latin-1")
        # In constant time, so that the time of a refusal tells nothing about the token.
        if not hmac.compare_digest(given, expected):
            raise RequestError(401, "the bearer token is missing or wrong; send Authorization: Bearer TOKEN")
        return await endpoint(request)

    return guarded


def _embeddings(service: Service, body: bytes, input_type: InputType) -> tuple[Job, Answer]:
    request = EmbeddingsRequest.model_validate_json(body)
    job = service.job_builder.embeddings(request, input_type)
    return job, lambda vectors: openai_answer(request, job, vectors, service.job_builder.model)


def _feature_extraction(service: Service, body: bytes, input_type: InputType) -> tuple[Job, Answer]:
    job = service.job_builder.feature_extraction(
        FeatureExtractionRequest.model_validate_json(body), input_type
    )
    return job, hugging_face_answer


def _late_chunk(service: Service, body: bytes, input_type: InputType) -> tuple[Job, Answer]:
    job = service.job_builder.late_chunk(LateChunkRequest.model_validate_json(body))
    return job, lambda vectors: late_chunk_answer(job, vectors)


def _input_type(request: Request) -> InputType:
    given = request.query_params.get("input_type", "document")
    if given not in ("document", "query"):
        raise RequestError(422, "input_type: should be document or query")
    return cast(InputType, given)


async def _read_body(request: Request, limit: int) -> bytes:
    body = bytearray()
    too_large = RequestError(413, f"the body has more than {limit} bytes; send less at once")
    announced = request.headers.get("content-length", "")
    # Only 20 digits are read, because a number of thousands of digits would take long to convert.
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise too_large
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise RequestError(408, f"the body did not come within {BODY_SECONDS:.0f} s") from None
    except ClientDisconnect:
        raise RequestError(CLIENT_GONE, "the client has disconnected") from None
    return bytes(body)


async def _while_connected(request: Request, work: Awaitable[bytes]) -> bytes:
    """Return the result of the work, but cancel it if the client disconnects first."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not working.done():
        working.cancel()
        raise RequestError(CLIENT_GONE, "the client has disconnected")
    return working.result()


async def _refuse(request: Request, error: Exception) -> Response:
    headers: dict[str, str] = {}
    if isinstance(error, RequestError):
        status, message = error.status, error.message
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, HTTPException):
        status, message, headers = error.status_code, error.detail, dict(error.headers or {})
    elif isinstance(error, ValidationError):
        status, message = 422, validation_message(error)
    else:
        status, message = _status(error), str(error)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_answer(request.url.path, status, message), status, headers)


def _status(error: Exception) -> int:
    if isinstance(error, ServerError):
        return 502
    return 409 if isinstance(error, IndexMismatchError | IndexNotFoundError) else 422
