"""A local server that speaks the Jina API, a client and an encoder of it, and what they should give."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from es_latechunk.models.jina_api import (
    HostedModel,
    JinaApiClient,
    JinaApiEncoder,
    UnicodeTokenizer,
)
from es_latechunk.models.jina_api.requests import chunk_texts
from es_latechunk.types import ChunkedDocument, ChunkSpan, Document

KEY = "jina_0123456789abcdef_not_a_real_key"
NEIGHBOUR = 0.3
EMBEDDING_FIELDS = {"model", "input", "task", "dimensions", "late_chunking", "embedding_type", "truncate"}
RERANK_FIELDS = {"model", "query", "documents", "top_n", "return_documents"}
TASKS = {"retrieval.passage", "retrieval.query", "text-matching", "classification", "separation"}
MAX_INPUTS = 2048


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the next request whose texts hold `when`; status 0 means a wrong answer."""

    status: int = 0
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    spoil: str = ""  # reset, truncate, not_json, or a key of SPOILERS
    when: str = ""
    always: bool = False


SPOILERS: dict[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "reversed": lambda rows: rows[::-1],
    "missing": lambda rows: rows[:-1],
    "doubled": lambda rows: [*rows[:-1], rows[0]] if len(rows) > 1 else rows + rows,
    "nan": lambda rows: [{**row, "embedding": [float("nan")] * len(row["embedding"])} for row in rows],
    "zero": lambda rows: [{**row, "embedding": [0.0] * len(row["embedding"])} for row in rows],
    "short": lambda rows: [{**row, "embedding": row["embedding"][:-1]} for row in rows],
    "ragged": lambda rows: [{**rows[0], "embedding": rows[0]["embedding"][:-1]}, *rows[1:]],
    "words": lambda rows: [{**row, "embedding": "AAAA"} for row in rows],
}


class RefusedError(Exception):
    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


@dataclass
class JinaServer:
    """`requests` are the bodies that were answered with vectors, `refused` the statuses that were not."""

    url: str = ""
    dimensions: int = 32
    context: int = 8192
    tokens_per_word: int = 1
    cuts_silently: bool = False
    pause: float = 0.0
    held: threading.Event = field(default_factory=threading.Event)
    faults: list[Fault] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, *faults: Fault) -> None:
        self.faults.extend(faults)

    def take_fault(self, texts: list[str]) -> Fault | None:
        with self._lock:
            for position, fault in enumerate(self.faults):
                if any(fault.when in text for text in texts):
                    return fault if fault.always else self.faults.pop(position)
        return None

    @contextmanager
    def one_request(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def embed(self, body: dict[str, Any]) -> dict[str, Any]:
        _check_fields(body, EMBEDDING_FIELDS, {"model", "input"})
        texts = body["input"]
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(t, str) and t.strip() for t in texts)
        ):
            raise RefusedError(422, _complaint("input", "should be a list of texts that are not blank"))
        if len(texts) > MAX_INPUTS:
            raise RefusedError(
                422, {"detail": f"input length is larger than the largest allowed size {MAX_INPUTS}"}
            )
        if body.get("task", "text-matching") not in TASKS:
            raise RefusedError(422, _complaint("task", "is not a task"))
        late = body.get("late_chunking", False)
        if late and self.cuts_silently:
            texts = self._cut(texts)
        used = self._count(["".join(body["input"])] if late else texts)
        vectors = (
            late_vectors(texts, self.dimensions) if late else [own_vector(t, self.dimensions) for t in texts]
        )
        if "task" in body:
            vectors = [vector + 0.1 * word_vector(body["task"], self.dimensions) for vector in vectors]
        cut = [vector[: body.get("dimensions", self.dimensions)] for vector in vectors]
        rows = [
            {"object": "embedding", "index": i, "embedding": [float(x) for x in row]}
            for i, row in enumerate(cut)
        ]
        return {"object": "list", "model": body["model"], "data": rows, "usage": {"total_tokens": used}}

    def rerank(self, body: dict[str, Any]) -> dict[str, Any]:
        _check_fields(body, RERANK_FIELDS, {"model", "query", "documents"})
        wanted = set(words(body["query"]))
        scores = [len(wanted & set(words(text))) / len(wanted) for text in body["documents"]]
        best = sorted(range(len(scores)), key=lambda i: -scores[i])[: body.get("top_n", len(scores))]
        rows = [{"index": i, "relevance_score": scores[i]} for i in best]
        return {"model": body["model"], "results": rows, "usage": {"total_tokens": 1}}

    def _cut(self, texts: list[str]) -> list[str]:
        """The texts as a model sees them that takes `context` tokens and drops the rest."""
        left = self.context
        cut = []
        for text in texts:
            kept = words(text)[: left // self.tokens_per_word]
            left -= len(kept) * self.tokens_per_word
            cut.append(" ".join(kept))
        return cut

    def _count(self, texts: list[str]) -> int:
        counts = [self.tokens_per_word * len(words(text)) + 2 for text in texts]
        if max(counts) > self.context:
            if self.cuts_silently:
                return self.context
            detail = f"Single text cannot exceed {self.context} tokens. {max(counts)} tokens given."
            raise RefusedError(422, {"detail": detail})
        return sum(counts)


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.casefold())


def word_vector(word: str, dimensions: int) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(word.encode())).standard_normal(dimensions)


def own_vector(text: str, dimensions: int) -> np.ndarray:
    return np.mean([word_vector(word, dimensions) for word in words(text)] or [np.ones(dimensions)], axis=0)


def late_vectors(texts: list[str], dimensions: int) -> list[np.ndarray]:
    own = [np.zeros(dimensions), *(own_vector(text, dimensions) for text in texts), np.zeros(dimensions)]
    return [own[i] + NEIGHBOUR * (own[i - 1] + own[i + 1]) for i in range(1, len(own) - 1)]


def _complaint(name: str, message: str) -> dict[str, Any]:
    return {"detail": [{"loc": ["body", name], "msg": message, "type": "value_error"}]}


def _check_fields(body: dict[str, Any], known: set[str], needed: set[str]) -> None:
    for name in body.keys() - known:
        raise RefusedError(422, _complaint(name, "Extra inputs are not permitted"))
    for name in needed - body.keys():
        raise RefusedError(422, _complaint(name, "Field required"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    jina: JinaServer

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.jina.one_request():
            time.sleep(self.jina.pause)
            try:
                self._answer(body)
            except RefusedError as refusal:
                self.jina.refused.append(refusal.status)
                self._send(refusal.status, json.dumps(refusal.body).encode(), refusal.headers)

    def _answer(self, body: dict[str, Any]) -> None:
        fault = self.jina.take_fault([str(text) for text in body.get("input", body.get("documents", []))])
        if fault and fault.spoil == "hold":
            self.jina.held.wait(30)
        elif fault and fault.spoil == "reset":
            self.jina.refused.append(0)
            return self._reset()
        if fault and fault.status:
            raise RefusedError(fault.status, fault.body, fault.headers)
        if self.headers["Authorization"] != f"Bearer {KEY}":
            given = self.headers["Authorization"]
            raise RefusedError(401, {"detail": f"Invalid API key: {given}", "code": "AUTH_INVALID_API_KEY"})
        routes = {"/v1/embeddings": self.jina.embed, "/v1/rerank": self.jina.rerank}
        if self.path not in routes:
            raise RefusedError(404, {"detail": "Not Found"})
        answer = routes[self.path](body)
        self.jina.requests.append(body)
        if fault and fault.spoil in SPOILERS:
            name = "data" if "data" in answer else "results"
            answer[name] = SPOILERS[fault.spoil](answer[name])
        payload = (
            b"<html>hello</html>" if fault and fault.spoil == "not_json" else json.dumps(answer).encode()
        )
        return self._send(200, payload, {}, promised=len(payload) + 100 * (fault == Fault(spoil="truncate")))

    def _send(
        self, status: int, payload: bytes, headers: dict[str, str], promised: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload) if promised is None else promised))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)
        self.close_connection = promised not in (None, len(payload))

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
        self.wfile = self.rfile = open("/dev/null", "r+b")  # noqa: SIM115, PTH123 - the handler still flushes it


@contextmanager
def serve(**settings: Any) -> Iterator[JinaServer]:
    """A running server on a free port of this machine."""
    jina = JinaServer(**settings)
    handler = type("Handler", (_Handler,), {"jina": jina})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    jina.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield jina
    finally:
        jina.held.set()
        server.shutdown()
        server.server_close()
        thread.join()


DIM = 32
SMALL = HostedModel(
    "jina-embeddings-v3",
    context=120,
    window=120,
    dimensions=DIM,
    matryoshka=(16, DIM),
    tasks=("retrieval.passage", "retrieval.query", "text-matching"),
    late_chunking=True,
)
NO_TASKS = replace(SMALL, tasks=())


def client_of(server: JinaServer, key: str = KEY, **options: Any) -> JinaApiClient:
    settings = {"timeout": 10.0, "retry_for": 20.0, "backoff": 0.01, **options}
    return JinaApiClient(key, base_url=server.url, **settings)


def encoder_of(
    server: JinaServer, *, concurrency: int = 4, model: HostedModel = SMALL, **options: Any
) -> Any:
    return JinaApiEncoder(model, client_of(server, concurrency=concurrency), **options)


def chunked(text: str, doc_id: str = "doc") -> ChunkedDocument:
    """A document with one chunk a sentence; the space between two sentences is in no chunk."""
    spans = tuple(ChunkSpan(*match.span()) for match in re.finditer(r"\S[^.]*\.?", text))
    return ChunkedDocument(Document(doc_id, text), spans, UnicodeTokenizer().tokenize(text))


def story(sentences: int, name: str = "river") -> ChunkedDocument:
    text = "  ".join(f"The {name} number {i} met the {name} of year {i * 7}." for i in range(sentences))
    return chunked(text, name)


def unit(vectors: Any) -> Any:
    return np.asarray(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)


def expected(document: ChunkedDocument, task: str = "retrieval.passage") -> Any:
    """What one request with the whole document would give."""
    vectors = late_vectors(chunk_texts(document), DIM)
    return unit([vector + 0.1 * word_vector(task, DIM) for vector in vectors])
