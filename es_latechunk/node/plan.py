"""What a start would run: which Elasticsearch on which Java, and on which port."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from es_latechunk.errors import NodeError, UsageError, setting
from es_latechunk.node.distribution import Progress, install, installed
from es_latechunk.node.java import JavaRuntime, ask, find_runtimes, runtime_at
from es_latechunk.node.places import home, node_folders
from es_latechunk.node.state import Node, load
from es_latechunk.node.versions import best_runtime, choose, no_java, numbers, version_of

DEFAULT_NAME, DEFAULT_PORT = "default", 9200
_PORT_RELEASE_SECONDS = 5.0
_NEXT_PORTS = range(DEFAULT_PORT + 1, DEFAULT_PORT + 100)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller asked for; None leaves it to the node's own past, or to the defaults."""

    port: int | None = None
    java_home: Path | None = None
    elasticsearch_home: Path | None = None
    elasticsearch_version: str | None = None
    heap: str | None = None
    secure: bool | None = None


@dataclass(frozen=True, slots=True)
class Software:
    """A distribution and a Java that runs it."""

    version: str
    elasticsearch_home: Path
    java: JavaRuntime


def choose_software(wanted: Wanted, known: Node | None, *, progress: Progress) -> Software:
    """The distribution asked for, else the node's last one, else the newest that a Java here runs."""
    if wanted.elasticsearch_home and wanted.elasticsearch_version:
        raise UsageError(
            f"give {setting('elasticsearch_home')} or {setting('elasticsearch_version')}, not both"
        )
    if own := _own_distribution(wanted, known):
        version = version_of(own)
        _refuse_downgrade(version, known)
        return Software(version, own, _java_for(own, version, wanted.java_home))
    asked = wanted.elasticsearch_version or (known.version if known else None)
    runtimes = [runtime_at(wanted.java_home)] if wanted.java_home else find_runtimes()
    version, java = choose(runtimes, asked)
    _refuse_downgrade(version, known)
    return Software(version, install(home(), version, progress=progress), java)


def choose_port(name: str, port: int | None, known: Node | None) -> int:
    """The port asked for, else the node's last one, else 9200 for the default node, else the next free one.

    Raises NodeError that says who has the port.
    """
    if port is None and known is None and name != DEFAULT_NAME:
        reserved = {node.port for folder in node_folders() if (node := load(folder))}
        free = (one for one in _NEXT_PORTS if one not in reserved and occupant(one) is None)
        if (found := next(free, None)) is None:
            raise NodeError(
                f"node {name!r}: ports {_NEXT_PORTS[0]} to {_NEXT_PORTS[-1]} are taken; give {setting('port')}"
            )
        return found
    chosen = port or (known.port if known else DEFAULT_PORT)
    deadline = time.monotonic() + (_PORT_RELEASE_SECONDS if known else 0)
    while (who := occupant(chosen)) and time.monotonic() < deadline:
        # The node's last server, if it was killed a moment ago, holds its port a little longer than its name.
        time.sleep(0.1)
    if who:
        raise NodeError(
            f"node {name!r}: port {chosen} is in use by {who}; stop that, or give another {setting('port')}"
        )
    return chosen


def occupant(port: int) -> str | None:
    """Who listens on a port of this machine, in words; None if it is free."""
    with socket.socket() as probe:
        probe.settimeout(1)
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    if taken:
        return _who_answers(port)
    with socket.socket() as probe:
        # As the server does: a port that was just given up counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return f"something else ({error.strerror})"
    return None


def _who_answers(port: int) -> str:
    for folder in node_folders():
        if (node := load(folder)) and node.pid and node.port == port:
            return f"node {node.name!r}"
    try:
        with httpx.Client(trust_env=False) as client:
            answer = client.get(f"http://127.0.0.1:{port}/_cluster/health", timeout=2)
    except httpx.HTTPError:
        return "another program"
    return (
        "another Elasticsearch"
        if "x-elastic-product" in answer.headers
        else "another program (it speaks HTTP)"
    )


def _own_distribution(wanted: Wanted, known: Node | None) -> Path | None:
    if wanted.elasticsearch_home:
        return wanted.elasticsearch_home.expanduser().absolute()
    if known is None or wanted.elasticsearch_version:
        return None
    last = known.elasticsearch_home
    return None if last == installed(home(), known.version) else last


def _java_for(elasticsearch_home: Path, version: str, java_home: Path | None) -> JavaRuntime:
    if java_home:
        runtimes = [runtime_at(java_home)]
    else:
        bundled = (elasticsearch_home / "jdk", elasticsearch_home / "jdk.app" / "Contents" / "Home")
        runtimes = [runtime for place in bundled if (runtime := ask(place))] or find_runtimes()
    if java := best_runtime(runtimes, version):
        return java
    raise no_java(runtimes, version)


def _refuse_downgrade(version: str, known: Node | None) -> None:
    if known and numbers(version) < numbers(known.version):
        raise NodeError(
            f"node {known.name!r} holds data of Elasticsearch {known.version}, which {version} cannot read; "
            f"start another one with {setting('name')}, or delete {known.home}"
        )
