"""A proxy with faults, a source in two versions, and the index's whole state.

As a program it is the ingester that gets killed: `python faults.py URL INDEX`, or `python faults.py WORD...` for
a command of the command line, with the encoder of words in the place of every model.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from elasticsearch import Elasticsearch
from indices import WordEncoder, load, make_index, stored_chunks

from es_latechunk import Document, IngestReport, connect
from es_latechunk.elastic import retry
from es_latechunk.elastic.index import contents as state
from es_latechunk.elastic.write import bulk

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "accept-encoding", "host"}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    length: int | None = None  # of what a GET would answer, if this answers a HEAD


@dataclass(frozen=True, slots=True)
class Request:
    """What the client sent."""

    method: str
    path: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Status:
    """Answers with this status in the server's place, as Elasticsearch words it."""

    status: int
    kind: str = "es_rejected_execution_exception"
    reason: str = "the proxy says no"
    headers: tuple[tuple[str, str], ...] = (("X-Elastic-Product", "Elasticsearch"),)


@dataclass(frozen=True, slots=True)
class Reset:
    """Resets the connection instead of passing the request on."""


@dataclass(frozen=True, slots=True)
class LostAnswer:
    """Passes the request on, then resets the connection instead of answering."""


@dataclass(frozen=True, slots=True)
class CutAnswer:
    """Passes the request on, and answers with the first `share` of the body.

    With `announced` the length is that of the whole body, so that the client waits for more; without it,
    the answer looks complete.
    """

    share: float = 0.5
    announced: bool = True


@dataclass(frozen=True, slots=True)
class Delay:
    """Waits for so many seconds before it passes the request on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hang:
    """Does not answer, and passes nothing on, until it is released; then the connection is reset."""

    released: threading.Event


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Passes the request on, and lets `change` edit the JSON of the answer in place."""

    change: Callable[[Any], None]

    def __str__(self) -> str:
        return f"Rewrite({self.change.__qualname__})"


Fault = Status | Reset | LostAnswer | CutAnswer | Delay | Hang | Rewrite


@dataclass(slots=True)
class _Plan:
    fault: Fault
    times: int
    method: str
    path: str

    def fits(self, request: Request) -> bool:
        return self.times > 0 and self.path in request.path and self.method in ("", request.method)


class FaultProxy:
    """Listens on 127.0.0.1; passes everything on to `target` but what a plan says."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._plans: list[_Plan] = []
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(self, fault: Fault, *, times: int = 1, path: str = "", method: str = "") -> None:
        """The next `times` requests whose path holds `path` meet `fault`; plans are used in their order."""
        with self._lock:
            self._plans.append(_Plan(fault, times, method, path))

    def heal(self) -> None:
        """Forget all faults that have not happened."""
        with self._lock:
            self._plans.clear()

    def seen(self, path: str) -> list[Request]:
        """The requests so far whose path holds `path`."""
        return [request for request in self.requests if path in request.path]

    def _fault_for(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for plan in self._plans:
                if plan.fits(request):
                    plan.times -= 1
                    return plan.fault
        return None

    def _pass_on(self, request: Request, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=60)
        try:
            connection.request(request.method, request.path, request.body or None, headers)
            answer = connection.getresponse()
            kept = [pair for pair in answer.getheaders() if pair[0].lower() not in HOP_BY_HOP]
            length = int(answer.getheader("Content-Length", "0")) if request.method == "HEAD" else None
            return Answer(answer.status, kept, answer.read(), length)
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - the class inside is counted
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.meet(Request(self.command, self.path, body))

            def meet(self, request: Request) -> None:
                fault = proxy._fault_for(request)
                if isinstance(fault, Hang):
                    fault.released.wait()
                if isinstance(fault, (Reset, Hang)):
                    self.reset()
                elif isinstance(fault, Status):
                    cause = {"type": fault.kind, "reason": fault.reason}
                    body = json.dumps({"error": {**cause, "root_cause": [cause]}, "status": fault.status})
                    headers = [("Content-Type", "application/json"), *fault.headers]
                    self.send(Answer(fault.status, headers, body.encode()))
                else:
                    if isinstance(fault, Delay):
                        time.sleep(fault.seconds)
                    kept = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
                    self.finish_with(proxy._pass_on(request, kept), fault)

            def finish_with(self, answer: Answer, fault: Fault | None) -> None:
                if isinstance(fault, LostAnswer):
                    self.reset()
                elif isinstance(fault, CutAnswer):
                    part = answer.body[: int(len(answer.body) * fault.share)]
                    length = len(answer.body if fault.announced else part)
                    self.send(Answer(answer.status, answer.headers, part), length=length)
                    self.close_connection = True
                elif isinstance(fault, Rewrite):
                    value = json.loads(answer.body)
                    fault.change(value)
                    self.send(Answer(answer.status, answer.headers, json.dumps(value).encode()))
                else:
                    self.send(answer, length=answer.length)

            def send(self, answer: Answer, *, length: int | None = None) -> None:
                self.send_response_only(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body) if length is None else length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            def reset(self) -> None:
                """Close with RST, not FIN: what a crash or a firewall does."""
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing on stderr, which belongs to the command under test."""

            def finish(self) -> None:
                if not self.connection._closed:  # type: ignore[attr-defined]
                    super().finish()

        return Handler


SEED = 20_240_607
KEPT, CHANGED, REMOVED, ADDED = range(0, 12), range(12, 28), range(28, 34), range(34, 42)


def _document(number: int, version: int) -> Document:
    sentences = (number * 31 + version * 17) % 6 + 1
    text = " ".join(f"Number {number} says {version} for the {n}th time here." for n in range(sentences))
    return Document(f"d{number:02d}", text, f"Title {number}", {"version": version, "even": number % 2 == 0})


OLD = [_document(number, 1) for number in (*KEPT, *CHANGED, *REMOVED)]
NEW = [
    *(_document(number, 1) for number in KEPT),
    *(_document(number, 2) for number in CHANGED),
    *(_document(number, 1) for number in ADDED),
]


def use_small_requests(setattr: Callable[[Any, str, Any], object]) -> None:
    """So that a small source makes many requests, and waits are short."""
    setattr(bulk, "BATCH_ACTIONS", 3)
    setattr(state, "LOOK_UP_DOCUMENTS", 8)
    setattr(retry, "LONGEST_WAIT", 0.05)


def encoder() -> WordEncoder:
    """Small batches: what is looked ahead does not hold the whole source."""
    words = WordEncoder(query_prefix="")
    words.batch_tokens = 16
    return words


def make_old(client: Elasticsearch, name: str) -> None:
    """An index that holds the old version."""
    make_index(client, name, encoder(), max_tokens=12)
    load(client, name, OLD, encoder())


def make_new(client: Elasticsearch, name: str) -> None:
    """An index that holds the new version, and never held anything else."""
    make_index(client, name, encoder(), max_tokens=12)
    load_new(client, name)


def load_new(client: Elasticsearch, name: str, **options: Any) -> IngestReport:
    """The new version over what is there, without what the source has lost."""
    report, errors = load(client, name, NEW, encoder(), prune=True, **options)
    assert errors == []
    return report


def whole_state(client: Elasticsearch, name: str) -> dict[str, Any]:
    """All that an index holds: each chunk, `_meta`, mapping, settings; not what is each index's own."""
    index = client.indices.get(index=name)[name]
    settings = index["settings"]["index"]
    own = {
        key: value for key, value in settings.items() if key not in ("uuid", "provided_name", "creation_date")
    }
    return {"chunks": stored_chunks(client, name), "mappings": index["mappings"], "settings": own}


def assert_same(found: dict[str, Any], clean: dict[str, Any]) -> None:
    """Ids, fields, vectors (float32), mapping, `_meta` and settings are those of the clean run."""
    assert (found["mappings"], found["settings"]) == (clean["mappings"], clean["settings"])
    assert set(found["chunks"]) == set(clean["chunks"])
    for key, row in clean["chunks"].items():
        other = dict(found["chunks"][key])
        np.testing.assert_allclose(
            other.pop("content_embedding"), row["content_embedding"], atol=1e-5, rtol=0, err_msg=key
        )
        assert other == {name: value for name, value in row.items() if name != "content_embedding"}


def whole_new_chunks(chunks: dict[str, Any]) -> int:
    """The chunks of documents that are in the index whole, in their new version, with no chunk left over."""
    documents = defaultdict(list)
    for row in chunks.values():
        documents[row["doc_id"]].append(row)
    added = {f"d{number:02d}" for number in ADDED}
    return sum(
        len(rows)
        for doc_id, rows in documents.items()
        if {row["metadata"]["version"] for row in rows} == ({1} if doc_id in added else {2})
        and len(rows) == rows[0]["chunk_count"]
    )


class WatchedProxy(FaultProxy):
    """Asks `watch(number, request)` for the fault of each request, counted from 0; None is no fault."""

    def __init__(self, target: str, watch: Callable[[int, Request], Fault | None]) -> None:
        super().__init__(target)
        self._watch = watch

    def _fault_for(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            return self._watch(len(self.requests) - 1, request)


def ingester(*words: str) -> None:
    """What the killed process runs."""
    use_small_requests(setattr)
    if len(words) == 2:
        with connect(url=words[0]) as client:
            load_new(client, words[1])
        return
    from es_latechunk.cli import main
    from es_latechunk.cli.options import shared

    shared.load_recorded = lambda *_, **__: encoder()
    main(words)


if __name__ == "__main__":
    ingester(*sys.argv[1:])
