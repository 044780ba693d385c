"""serve among those who mean no good: connections that ask nothing, bodies without end, names that point here."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fakes import PositionEncoder
from made_models import add_modules, save_model
from serving import HeldEncoder, served

from es_latechunk.serve.limits import Limits
from es_latechunk.serve.server import is_known

UNFINISHED = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


def connection(url: str, sent: bytes = b"") -> socket.socket:
    """A connection that has sent so much, whose answers are waited for for a minute."""
    place = urlsplit(url)
    made = socket.create_connection((place.hostname, place.port), timeout=60)
    made.sendall(sent)
    return made


def read_all(connected: socket.socket) -> bytes:
    """What comes until the server closes."""
    answer = b""
    try:
        while part := connected.recv(65536):
            answer += part
    except ConnectionResetError:
        pass
    return answer


@contextmanager
def holding(url: str, count: int) -> Iterator[list[socket.socket]]:
    """So many connections with an unfinished header."""
    with ExitStack() as stack:
        yield [stack.enter_context(connection(url, UNFINISHED)) for _ in range(count)]


def test_connections_that_ask_nothing_make_room_for_those_that_ask() -> None:
    with served(PositionEncoder(), limits=Limits(connections=10)) as url, holding(url, 30) as held:
        assert httpx.get(f"{url}/health").status_code == 200
        assert [read_all(one) for one in held[:20]] == [b""] * 20, "the oldest go first"
        held[-1].sendall(b"\r\n")
        assert held[-1].recv(1000).startswith(b"HTTP/1.1 200")


def test_where_every_connection_is_being_answered_a_further_one_gets_503() -> None:
    encoder = HeldEncoder()
    with ThreadPoolExecutor() as threads, served(encoder, limits=Limits(connections=1)) as url:
        first = threads.submit(httpx.post, f"{url}/embed", json={"inputs": "a"}, timeout=60)
        assert encoder.begun.wait(60)
        with connection(url) as refused:
            answer = read_all(refused)
        encoder.let_go.set()
        assert first.result().status_code == 200
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Retry-After: 1\r\n" in answer


@pytest.mark.parametrize("before", [b"", UNFINISHED + b"\r\n"])
def test_a_header_that_does_not_end_is_answered_408(before: bytes) -> None:
    """The first one of a connection, and the next one after an answer."""
    with served(PositionEncoder(), limits=Limits(header_seconds=0.3)) as url, connection(url, before) as one:
        if before:
            assert one.recv(1000).startswith(b"HTTP/1.1 200")
        one.sendall(UNFINISHED)
        # What is left of the answer before, if its body came apart from its header, and then this one.
        assert b"HTTP/1.1 408 Request Timeout\r\n" in read_all(one)


def test_few_descriptors_are_no_end(tmp_path: Path) -> None:
    """The command with 400 descriptors, and 500 connections that it would need one each for."""
    folder = add_modules(save_model(tmp_path / "tiny"), "Pooling")
    limited = ["sh", "-c", 'ulimit -n 400; exec "$@"', "sh"]
    command = [*limited, sys.executable, "-m", "es_latechunk", "serve", "--port", "0", "--model", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            ready = process.stderr.readline()
            url = ready.partition(" on ")[2].partition(";")[0]
            with holding(url, 500):
                assert [httpx.get(f"{url}/health").status_code for _ in range(5)] == [200] * 5
            process.terminate()
            logged = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert logged == "stopped\n"


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes() -> None:
    header = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 101\r\n\r\n"
    with (
        served(PositionEncoder(), limits=Limits(body_bytes=100)) as url,
        connection(url, header) as one,
    ):
        assert one.recv(1000).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("192.168.1.7", True),
        ("localhost:8000", True),
        ("page.localhost", True),
        ("serve:8000", True),
        ("", True),
        ("vectors.example:443", True),
        ("VECTORS.example.", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("vectors.example.evil", False),
        ("localhost.evil.example:8000", False),
    ],
)
def test_a_host_is_known(host: str, known: bool) -> None:
    assert is_known(host, frozenset({"vectors.example"})) == known


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/nowhere"])
def test_a_name_that_was_made_to_point_here_is_refused(path: str) -> None:
    with served(PositionEncoder(), hosts=["Vectors.example"]) as url:
        refused = httpx.get(url + path, headers={"Host": "evil.example"})
        known = httpx.get(url + path, headers={"Host": "vectors.example:8000"})
    assert refused.status_code == 421
    assert "--allow-host NAME" in refused.text
    assert known.status_code == (404 if path == "/nowhere" else 200)


def test_a_token_guards_whatever_the_name() -> None:
    with served(PositionEncoder(), token="word") as url:
        headers = {"Host": "evil.example"}
        assert httpx.get(f"{url}/v1/models", headers=headers).status_code == 401
        headers["Authorization"] = "Bearer word"
        assert httpx.get(f"{url}/v1/models", headers=headers).status_code == 200
