"""Where the embedded Elasticsearch lives on disk, and how its files are written and locked.

home/elasticsearch/9.2.4/      the unpacked distribution, shared by all nodes
home/java/...                  a Java runtime's copy, only where the server's account cannot read the original
home/nodes/default/            one folder a node: node.json, boot.log, config/, data/, logs/, tmp/
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from es_latechunk.errors import UsageError

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
    """Makes `path`, its owner's alone; for root others may pass through, as the server does."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def write_atomically(path: Path, text: str, *, mode: int = 0o600, owner: int | None = None) -> None:
    """Writes by a new file and a rename, so that no half file is seen and no planted link is followed."""
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
    """Holds the file `path` against other processes; waits while another one holds it."""
    with path.open("a") as file:
        path.chmod(0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
