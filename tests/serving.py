"""The application on a real server in a thread, and an encoder that can be held back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from fakes import PositionEncoder
from starlette.applications import Starlette

from es_latechunk.serve.app import create_app
from es_latechunk.serve.limits import Limits
from es_latechunk.serve.server import make_server
from es_latechunk.types import FloatArray, IntArray, TokenEncoder

SECRET = "a confidential text"


def served(encoder: TokenEncoder, **options: Any) -> AbstractContextManager[str]:
    """The URL of `serve`, which runs for as long as the block does."""
    return running(create_app(encoder, **options), options.get("limits") or Limits())


@contextmanager
def running(application: Starlette, limits: Limits | None = None) -> Iterator[str]:
    """The URL of an application that runs for as long as the block does."""
    server = make_server(application, limits or Limits())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class HeldEncoder(PositionEncoder):
    """Waits before each batch until it is let go, and says when it has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        self.begun.set()
        assert self.let_go.wait(60)
        return super().encode_windows(windows)


class FailingEncoder(PositionEncoder):
    """Fails on a batch that holds a window of 13 tokens, quoting what it must not."""

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        if any(len(window) == 13 for window in windows):
            raise RuntimeError(SECRET)
        return super().encode_windows(windows)
