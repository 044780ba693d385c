"""What is known about a node: node.json for what it was started with, the process for whether it runs.

A process counts as the node only if its command line names the node's own folder: an id that was given to another
program after a crash or a reboot is not mistaken for it, and a server whose start was cut short is found.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from es_latechunk.errors import NodeError
from es_latechunk.node.places import NodeFolder, write_atomically

Status = Literal["running", "stopped", "died"]


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the embedded Elasticsearch; `java` and `elasticsearch_home` are what it last started with.

    `pid` is set while it runs; `status` is "died" if it ended without having been stopped. A secure node has
    `ca_certs`, `username` and `password_file`.
    """

    name: str
    url: str
    version: str
    java: Path
    elasticsearch_home: Path
    home: Path
    pid: int | None = None
    status: Status = "stopped"
    ca_certs: Path | None = None
    username: str | None = None
    password_file: Path | None = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def secure(self) -> bool:
        return self.password_file is not None

    def password(self) -> str | None:
        """The generated password of a secure node. Raises NodeError where the caller may not read it."""
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise NodeError(
                f"{self.password_file}: the node's password cannot be read ({error.strerror})"
            ) from error

    def as_json(self) -> dict[str, Any]:
        """What `--json` shows: where the password is, never the password."""
        shown: dict[str, Any] = {
            "name": self.name,
            "url": self.url,
            "version": self.version,
            "pid": self.pid,
            "java": str(self.java),
            "home": str(self.home),
            "status": self.status,
        }
        if self.secure:
            shown |= {
                "ca_certs": str(self.ca_certs),
                "username": self.username,
                "password_file": str(self.password_file),
            }
        return shown


def load(folder: NodeFolder) -> Node | None:
    """The node as it is now; None if it was never started. Raises NodeError for an unreadable node.json."""
    try:
        known = json.loads(folder.state.read_text(encoding="utf-8"))
        username = known["username"]
        pid = running_pid(folder)
        return Node(
            name=folder.name,
            url=known["url"],
            version=known["version"],
            java=Path(known["java"]),
            elasticsearch_home=Path(known["elasticsearch_home"]),
            home=folder.root,
            pid=pid,
            status="running" if pid else "died" if folder.pid.exists() else "stopped",
            ca_certs=folder.ca_certs if username else None,
            username=username,
            password_file=folder.password if username else None,
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NodeError(
            f"{folder.state}: cannot be read ({error.strerror}); was it started by another user?"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise NodeError(f"{folder.state}: damaged ({error!r}); delete it and start the node again") from error


def save(folder: NodeFolder, node: Node) -> None:
    """Writes node.json."""
    known = {
        "url": node.url,
        "version": node.version,
        "java": str(node.java),
        "elasticsearch_home": str(node.elasticsearch_home),
        "username": node.username,
    }
    write_atomically(folder.state, json.dumps(known, indent=2) + "\n")


def running_pid(folder: NodeFolder) -> int | None:
    """The process id of the node's server, or of what is about to start it; None if neither runs."""
    pids = node_pids(folder)
    return pids[0] if pids else None


def node_pids(folder: NodeFolder) -> list[int]:
    """Every living process of the node: its server, if it has written its process id already, comes first.

    Found among all processes of this machine, as the server writes its id some seconds after its start only, and
    whoever started it may have been killed before.
    """
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError as error:
        raise NodeError(
            "seeing whether a node runs needs psutil: pip install 'es-latechunk[local]'"
        ) from error
    try:
        written = int(folder.pid.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        written = 0
    # A process that ended stays a zombie where nothing collects it; its command line is empty.
    processes = psutil.process_iter(["cmdline"])
    pids = [one.pid for one in processes if _is_of_node(one.info["cmdline"] or [], folder)]
    return sorted(pids, key=lambda pid: pid != written)


def _is_of_node(command: list[str], folder: NodeFolder) -> bool:
    """True for the server, and for the launcher that was told to write the server's process id to this folder."""
    starts = "-d" in command and ("-p", str(folder.pid)) in pairwise(command)
    return starts or f"-Djava.io.tmpdir={folder.tmp}" in command
