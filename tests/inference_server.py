"""The inference API as it is published, for what no server here has: it stores endpoints and asks their services.

A key or a URL that a service refuses fails the PUT, as Elasticsearch tries each new endpoint. `licensed = False`
refuses as a Basic licence does; `deploying` answers to come say that the model is not there yet.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


class InferenceServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.licensed = True
        self.deploying = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def embed(self, endpoint: dict[str, Any], texts: list[str]) -> list[list[float]]:
        """What the endpoint's service answers, asked as Elasticsearch asks it."""
        settings = endpoint["service_settings"]
        if endpoint["service"] in ("elasticsearch", "jinaai"):
            return [[0.0] * 384 for _ in texts]
        openai = endpoint["service"] == "openai"
        body = {"input": texts, "model": settings["model_id"]} if openai else {"inputs": texts}
        headers = {"Authorization": f"Bearer {settings['api_key']}"}
        answer = httpx.post(settings["url"], json=body, headers=headers).raise_for_status().json()
        return [row["embedding"] for row in answer["data"]] if openai else answer


class _Handler(BaseHTTPRequestHandler):
    server: InferenceServer

    def _answer(self, body: Any, status: int = 200) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", "application/vnd.elasticsearch+json;compatible-with=9")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, reason: str) -> None:
        self._answer({"error": {"type": "exception", "reason": reason}, "status": status}, status)

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    @property
    def _name(self) -> str:
        return self.path.partition("?")[0].rpartition("/")[2]

    def do_PUT(self) -> None:
        endpoint = self._body()
        if not self.server.licensed:
            self._refuse(403, "current license is non-compliant for [inference]")
            return
        try:
            self.server.embed(endpoint, ["how big"])
        except httpx.HTTPError as error:
            self._refuse(400, f"cannot ask with key {endpoint['service_settings'].get('api_key')}: {error}")
            return
        self.server.endpoints[self._name] = endpoint
        self._answer({"inference_id": self._name, "task_type": "text_embedding", **endpoint})

    def do_POST(self) -> None:
        body = self._body()
        if self.server.deploying:
            self.server.deploying -= 1
            self._refuse(408, "timed out waiting for the model's deployment")
            return
        vectors = self.server.embed(self.server.endpoints[self._name], body["input"])
        self._answer({"text_embedding": [{"embedding": vector} for vector in vectors]})

    def do_GET(self) -> None:
        if self._name not in self.server.endpoints:
            self._refuse(404, f"Inference endpoint not found [{self._name}]")
            return
        stored = json.loads(json.dumps(self.server.endpoints[self._name]))
        stored["service_settings"].pop("api_key", None)
        self._answer({"endpoints": [{"inference_id": self._name, **stored}]})

    def do_DELETE(self) -> None:
        self.server.endpoints.pop(self._name)
        self._answer({"acknowledged": True})

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def inference_server() -> Iterator[InferenceServer]:
    with InferenceServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
