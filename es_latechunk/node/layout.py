"""Where the embedded Elasticsearch lives on disk, what is known about each node, and how its files are written."""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from es_latechunk.errors import NodeError, UsageError

HOME_VARIABLE = "ES_LATECHUNK_HOME"
_ROOT_HOME = Path("/var/lib/es-latechunk")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class NodeFolder:
    """One node's folder. All below `root` but node.json, boot.log and secrets belongs to the server."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def state(self) -> Path:
        return self.root / "node.json"

    @property
    def boot_log(self) -> Path:
        return self.root / "boot.log"

    @property
    def ca_certs(self) -> Path:
        return self.root / "ca.pem"

    @property
    def password(self) -> Path:
        return self.root / "password"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def pid(self) -> Path:
        return self.tmp / "pid"

    @property
    def written_by_server(self) -> tuple[Path, ...]:
        return self.config, self.data, self.logs, self.tmp


def home() -> Path:
    """`$ES_LATECHUNK_HOME`, else the user's data folder; for root a folder outside root's closed home."""
    if chosen := os.environ.get(HOME_VARIABLE):
        return Path(chosen).expanduser().absolute()
    if os.geteuid() == 0:
        return _ROOT_HOME
    if data_home := os.environ.get("XDG_DATA_HOME"):
        return Path(data_home).absolute() / "es-latechunk"
    return Path.home() / ".local" / "share" / "es-latechunk"


def node_folder(name: str) -> NodeFolder:
    """The folder of the node `name`, made or not. Raises UsageError for a name that is no folder name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"node name {name!r}: use up to 64 of A-Z a-z 0-9 . _ -, starting with none of . _ -"
        )
    return NodeFolder(home() / "nodes" / name)


def node_folders() -> list[NodeFolder]:
    """Every node that was ever started here, by name."""
    return [NodeFolder(path.parent) for path in sorted((home() / "nodes").glob("*/node.json"))]


def make_folder(path: Path) -> None:
    """Make `path`, its owner's alone; for root others may pass through, as the server does."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def write_atomically(path: Path, text: str, *, mode: int = 0o600, owner: int | None = None) -> None:
    """Write by a new file and a rename, so that no half file is seen and no planted link is followed."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(descriptor, mode)
            if owner is not None:
                os.fchown(descriptor, owner, owner)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file `path` against other processes; waits while another one holds it."""
    with path.open("a") as file:
        path.chmod(0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
        """The generated password of a secure node. Raises NodeError if the caller may not read it."""
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
    """Write node.json."""
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
            "seeing whether a node runs needs psutil: pip install 'es-latechunk[node]'"
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
    """True for the server, and for the launcher that writes the server's process id to this folder."""
    starts = "-d" in command and ("-p", str(folder.pid)) in pairwise(command)
    return starts or f"-Djava.io.tmpdir={folder.tmp}" in command
