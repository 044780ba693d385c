"""A small model hub on a local port: the part of the protocol that a download uses, and its refusals."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Serves `repositories` (id -> folder); an id in `gated` is listed, but its files are refused."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.broken = False
        self.requests: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def downloads(self) -> list[str]:
        """The files that were asked for."""
        return sorted(
            {path.partition(f"/resolve/{COMMIT}/")[2] for path in self.requests if "/resolve/" in path}
        )

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.answer(parse_qs(asked).get("paths", []))

    def do_GET(self) -> None:
        self.answer([])

    def answer(self, asked: list[str]) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(path)
        api = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models/").strip("/").split("/")
        if len(parts) == 2:
            parts += ["revision", "main"]
        name, verb, rest = "/".join(parts[:2]), parts[2], parts[3:]
        if self.server.broken:
            return self._refuse(500, "", "the hub is broken")
        if name not in self.server.repositories:
            return self._refuse(401, "RepoNotFound", "Invalid username or password.")
        if rest[0] not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {rest[0]}")
        folder = self.server.repositories[name]
        if api and verb == "revision":
            return self._json({"id": name, "modelId": name, "sha": COMMIT, "siblings": [], "tags": []})
        if api and verb == "tree":
            inside = folder.joinpath(*rest[1:])
            if not inside.is_dir():
                return self._refuse(404, "EntryNotFound", "Entry not found")
            everything = "recursive=true" in self.path.lower()
            found = sorted(inside.rglob("*") if everything else inside.iterdir())
            return self._json([_entry(file, folder) for file in found])
        if api and verb == "paths-info":
            return self._json([_entry(folder / one, folder) for one in asked if (folder / one).exists()])
        if name in self.server.gated:
            return self._refuse(403, "GatedRepo", f"Access to model {name} is restricted.")
        return self._file(folder.joinpath(*rest[1:]))

    def _file(self, file: Path) -> None:
        if file.is_file():
            content = file.read_bytes()
            headers = {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": COMMIT}
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if part:
                self._answer(206, content[int(part[1]) : int(part[2]) + 1], headers)
            else:
                self._answer(200, content, headers)
        else:
            self._refuse(404, "EntryNotFound", "Entry not found")

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self._answer(status, json.dumps({"error": message}).encode(), headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(file: Path, folder: Path) -> dict[str, Any]:
    path = file.relative_to(folder).as_posix()
    if file.is_dir():
        return {"type": "directory", "path": path, "size": 0, "oid": _digest(path.encode())}
    content = file.read_bytes()
    return {"type": "file", "path": path, "size": len(content), "oid": _digest(content)}


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()  # noqa: S324 (an etag, as git gives)
