"""A web server on a local port, whose files change and whose connections break off as a test says."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit


@dataclass(slots=True)
class WebFile:
    """What the server answers for one path."""

    content: bytes
    tag: str = '"1"'
    ranges: bool = True
    end: str = "length"  # "length", "chunked", or "close": nothing says where it ends
    cuts: list[int] = field(default_factory=list)  # the next answers break off after so many bytes
    statuses: list[int] = field(default_factory=list)  # the next answers are these instead
    headers: dict[str, str] = field(default_factory=dict)


class WebServer(ThreadingHTTPServer):
    """Serves `files` by their paths; `requests` has each request's target and the range that it asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, WebFile] = {}
        self.requests: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.requests.append((self.path, asked))
        file = self.server.files.get(urlsplit(self.path).path)
        status = 404 if file is None else file.statuses.pop(0) if file.statuses else 200
        if file is None or status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        begin = re.fullmatch(r"bytes=(\d+)-", asked)
        unchanged = self.headers.get("If-Range", file.tag) == file.tag
        start = int(begin[1]) if begin and file.ranges and unchanged else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(file.content) - 1}/{len(file.content)}")
        if file.tag:
            self.send_header("ETag", file.tag)
        for name, value in file.headers.items():
            self.send_header(name, value)
        self._send(file, file.content[start:], file.cuts.pop(0) if file.cuts else None)

    def _send(self, file: WebFile, content: bytes, cut: int | None) -> None:
        if file.end == "length":
            self.send_header("Content-Length", str(len(content)))
        elif file.end == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = content[:cut]
        if file.end == "chunked":
            sent = b"%x\r\n%s\r\n" % (len(sent), sent) + (b"" if cut is not None else b"0\r\n\r\n")
        self.wfile.write(sent)
        self.close_connection = cut is not None or file.end == "close"
