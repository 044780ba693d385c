"""Start, stop and find nodes of the embedded Elasticsearch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from es_latechunk.errors import NodeError, setting
from es_latechunk.node.account import server_account
from es_latechunk.node.install import Progress
from es_latechunk.node.layout import (
    Node,
    NodeFolder,
    load,
    locked,
    node_folder,
    node_folders,
    write_atomically,
)
from es_latechunk.node.prepare import DEFAULT_NAME, Wanted, make_reachable, prepare
from es_latechunk.node.process import boot, end, wait_until_ready


def _silent(message: str) -> None:
    """Show no progress."""


def start_node(
    name: str = DEFAULT_NAME,
    *,
    port: int | None = None,
    java_home: Path | None = None,
    elasticsearch_home: Path | None = None,
    elasticsearch_version: str | None = None,
    heap: str | None = None,
    secure: bool | None = None,
    timeout: float = 180.0,
    progress: Progress = _silent,
) -> Node:
    """Start a node in the background and return when it answers; leave a running node as it is.

    An argument that is None keeps the value of the last start: port, version and security. `heap` is a size such as
    "768m"; `timeout` is the seconds that the boot may take; `progress` gets a line at every step.
    Raises UsageError for a setting that cannot be, NodeError with the reason if the node cannot start.
    """
    wanted = Wanted(port, java_home, elasticsearch_home, elasticsearch_version, heap, secure)
    folder, account = node_folder(name), server_account()
    make_reachable(folder, account)
    with locked(folder.lock):
        known = load(folder)
        if known and known.pid:
            _refuse_change(known, wanted)
            progress(f"node {name!r} runs already")
            wait_until_ready(known, folder, deadline=time.monotonic() + timeout)
            return _known(folder)  # a start that was cut short has left a launcher; the server has another id
        with _kept_on_failure(folder):
            node, environment = prepare(folder, account, wanted, known, progress)
            progress(f"Starting Elasticsearch {node.version} at {node.url} (some 10 s)")
            boot(node, folder, account=account, environment=environment, timeout=timeout)
    return _known(folder)


def stop_node(
    name: str = DEFAULT_NAME, *, timeout: float = 60.0, progress: Progress = _silent
) -> Node | None:
    """Stop a node cleanly and return it; None if it did not run.

    After `timeout` seconds it is killed, and `progress` gets a line that says so.
    """
    folder = node_folder(name)
    if load(folder) is None:
        return None
    with locked(folder.lock):
        node = _known(folder)
        if node.pid is None:
            return None
        if end(folder, timeout=timeout):
            progress(f"node {name!r} did not stop within {timeout:g} s and was killed")
        folder.pid.unlink(missing_ok=True)
        return _known(folder)


def node_status(name: str = DEFAULT_NAME) -> Node | None:
    """The node as it is now, running or not; None if there is no node of that name."""
    return load(node_folder(name))


def all_nodes() -> list[Node]:
    """Every node that was ever started here, by name."""
    return [node for folder in node_folders() if (node := load(folder))]


def running_node() -> Node | None:
    """The node to talk to when none is named: `default`, else the only one that runs, else None.

    Raises NodeError naming them if several run and none of them is the default.
    """
    running = [node for node in all_nodes() if node.pid]
    for node in running:
        if node.name == DEFAULT_NAME:
            return node
    if len(running) > 1:
        names = ", ".join(f"{node.name} at {node.url}" for node in running)
        raise NodeError(
            f"several local nodes run, none of them named {DEFAULT_NAME!r} ({names}): give {setting('url')}"
        )
    return running[0] if running else None


def _known(folder: NodeFolder) -> Node:
    node = load(folder)
    if node is None:
        raise NodeError(f"{folder.state}: was deleted while the node was in use")
    return node


def _refuse_change(running: Node, wanted: Wanted) -> None:
    secure = running.secure if wanted.secure is None else wanted.secure
    requested = (wanted.port or running.port, wanted.elasticsearch_version or running.version, secure)
    if requested != (running.port, running.version, running.secure):
        raise NodeError(
            f"node {running.name!r} runs already, as {running.version} at {running.url}"
            f"{', secure' if running.secure else ''}; stop it first to start it with other settings"
        )


@contextmanager
def _kept_on_failure(folder: NodeFolder) -> Iterator[None]:
    """A start that fails leaves node.json as it was: a version that did not boot holds no data."""
    before = folder.state.read_text(encoding="utf-8") if folder.state.exists() else None
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        if not succeeded and before is not None:
            write_atomically(folder.state, before)
        elif not succeeded:
            folder.state.unlink(missing_ok=True)
