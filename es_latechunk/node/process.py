"""Start the server's process, wait for it, report why it failed, and end it."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from es_latechunk.errors import NodeError, setting
from es_latechunk.node.account import Account
from es_latechunk.node.layout import Node, NodeFolder, node_pids

_POLL_SECONDS = 0.1
# From the most telling to the least; of each the first line in the log counts.
_REASONS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"fatal exception while booting Elasticsearch\s*(?:[\w.$]+\.)?(\w+(?:Exception|Error): .+)$",
        r"^(?:Exception in thread .*?)?(?:[\w$]+\.)+(\w+(?:Exception|Error): (?!starting java failed).+)$",
        r"^((?:Unrecognized|Invalid|# There is insufficient|Could not|The minimum required).+)$",
        r"^(?:Error|ERROR): (.+)$",
    )
)


def boot(
    node: Node, folder: NodeFolder, *, account: Account, environment: dict[str, str], timeout: float
) -> None:
    """Start the server in the background and return when it answers; end it if it does not.

    `timeout` in seconds. Raises NodeError with the log's own reason.
    """
    deadline = time.monotonic() + timeout
    command: list[str | Path] = [node.elasticsearch_home / "bin" / "elasticsearch", "-d", "-p", folder.pid]
    try:
        launcher = account.launch(command, environment=environment, folder=folder.root, log=folder.boot_log)
    except OSError as error:
        raise NodeError(f"node {node.name!r}: {command[0]} cannot be run ({error})") from error
    with _ended_on_failure(launcher):
        try:
            # It returns when the server that it started is ready, or has failed.
            code = launcher.wait(timeout)
        except subprocess.TimeoutExpired:
            raise NodeError(
                f"node {node.name!r} was not up after {timeout:g} s: see {folder.boot_log}, or give "
                f"{setting('timeout')}"
            ) from None
        if code != 0:
            raise _ended_while_starting(node, folder)
        wait_until_ready(node, folder, deadline=deadline)


def _ended_while_starting(node: Node, folder: NodeFolder) -> NodeError:
    why = reason(folder.boot_log.read_text(encoding="utf-8", errors="replace"))
    return NodeError(f"node {node.name!r} ended while starting: {why} (log: {folder.boot_log})")


def wait_until_ready(node: Node, folder: NodeFolder, *, deadline: float) -> None:
    """Wait until the node answers with its health at least yellow. `deadline` is on the monotonic clock."""
    while not answers(node):
        if not node_pids(folder):
            raise _ended_while_starting(node, folder)
        if time.monotonic() > deadline:
            raise NodeError(f"node {node.name!r} runs but does not answer at {node.url}: see {folder.logs}")
        time.sleep(_POLL_SECONDS)


def answers(node: Node) -> bool:
    """Whether the node says within a second that its health is yellow or green."""
    import httpx  # here, so that a search on a running node does not wait for it

    verify = ssl.create_default_context(cafile=str(node.ca_certs)) if node.ca_certs else False
    credentials = (node.username, node.password() or "") if node.username else None
    try:
        # Proxies of the environment are for other machines, not for this one.
        with httpx.Client(verify=verify, auth=credentials, trust_env=False) as client:
            health = client.get(f"{node.url}/_cluster/health?wait_for_status=yellow&timeout=1s", timeout=5)
    except httpx.TransportError:
        return False
    return health.status_code == httpx.codes.OK


def end(folder: NodeFolder, *, timeout: float) -> bool:
    """End the server cleanly; True if it was still there after `timeout` seconds and had to be killed."""
    if _ended(folder, signal.SIGTERM, timeout):
        return False
    if not _ended(folder, signal.SIGKILL, timeout):
        pids = ", ".join(map(str, node_pids(folder)))
        raise NodeError(f"node {folder.name!r}: process {pids} is still there {timeout:g} s after SIGKILL")
    return True


def _ended(folder: NodeFolder, how: signal.Signals, timeout: float) -> bool:
    """Signal each process of the node once, those too that a launcher starts meanwhile; True when none is left."""
    signalled: set[int] = set()
    deadline = time.monotonic() + timeout
    while pids := set(node_pids(folder)):
        for pid in pids - signalled:
            # It may end by itself at any moment.
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        signalled |= pids
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


@contextmanager
def _ended_on_failure(launcher: subprocess.Popen[bytes]) -> Iterator[None]:
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        if not succeeded:
            # The launcher leads a session of its own, so its group is the server and nothing else.
            with suppress(ProcessLookupError):
                os.killpg(launcher.pid, signal.SIGKILL)
            launcher.wait()


def reason(log: str) -> str:
    """The line of a boot's output that says why it failed."""
    for pattern in _REASONS:
        if found := pattern.search(log):
            return found[1].strip("# ")
    return (log.strip().splitlines() or ["it wrote nothing"])[-1]
