"""Everything that must stand before a boot: which Elasticsearch on which Java and port, a reachable folder, files."""

from __future__ import annotations

import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from es_latechunk.errors import NodeError, UsageError, setting
from es_latechunk.node.account import Account
from es_latechunk.node.config import (
    USERNAME,
    heap_megabytes,
    jvm_options,
    make_certificates,
    make_user,
    security_settings,
    server_settings,
    settings_text,
)
from es_latechunk.node.install import Progress, check_space, install, installed
from es_latechunk.node.java import (
    JavaRuntime,
    ask,
    best_runtime,
    choose,
    find_runtimes,
    no_java,
    numbers,
    readable_runtime,
    runtime_at,
    version_of,
)
from es_latechunk.node.layout import (
    HOME_VARIABLE,
    Node,
    NodeFolder,
    home,
    load,
    locked,
    make_folder,
    node_folders,
    save,
    write_atomically,
)

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
    preferred = wanted.elasticsearch_version or (known.version if known else None)
    runtimes = [runtime_at(wanted.java_home)] if wanted.java_home else find_runtimes()
    version, java = choose(runtimes, preferred)
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
    import httpx  # here, so that a search on a running node does not wait for it

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
        runtimes = [runtime for folder in bundled if (runtime := ask(folder))] or find_runtimes()
    if java := best_runtime(runtimes, version):
        return java
    raise no_java(runtimes, version)


def _refuse_downgrade(version: str, known: Node | None) -> None:
    if known and numbers(version) < numbers(known.version):
        raise NodeError(
            f"node {known.name!r} holds data of Elasticsearch {known.version}, which {version} cannot read; "
            f"start another one with {setting('name')}, or delete {known.home}"
        )


_FREE_BYTES = 1 << 30
_SHIPPED_ONCE = ("roles.yml", "role_mapping.yml", "users", "users_roles")


def make_reachable(folder: NodeFolder, account: Account) -> None:
    try:
        make_folder(folder.root)
    except OSError as error:
        raise NodeError(f"{folder.root}: cannot be made ({error.strerror}); set {HOME_VARIABLE}") from error
    if not account.reaches(folder.root):
        raise NodeError(
            f"{folder.root}: started by root, the server runs as user {account.uid}, who cannot enter "
            f"this folder; set {HOME_VARIABLE} to one that others may pass through, or leave it unset"
        )


def prepare(
    folder: NodeFolder, account: Account, wanted: Wanted, known: Node | None, progress: Progress
) -> tuple[Node, dict[str, str]]:
    """Everything before the boot: software, port, node.json and configuration."""
    heap = heap_megabytes(wanted.heap)
    check_space(folder.root, _FREE_BYTES, "a node")
    # Two nodes that start at once must not unpack the same files nor choose the same port.
    with locked(home() / "lock"):
        port = choose_port(folder.name, wanted.port, known)
        software = _usable(choose_software(wanted, known, progress=progress), account)
        secure = known is not None and known.secure if wanted.secure is None else wanted.secure
        node = _planned(folder, software, port=port, secure=secure)
        save(folder, node)
    environment = {
        "ES_JAVA_HOME": str(software.java.home),
        "ES_PATH_CONF": str(folder.config),
        "ES_TMPDIR": str(folder.tmp),
    }
    _configure(folder, account, node, software, heap)
    if node.secure:
        make_certificates(folder, account)
        make_user(folder, account, elasticsearch_home=software.elasticsearch_home, environment=environment)
    return node, environment


def _usable(software: Software, account: Account) -> Software:
    if not account.reaches(software.elasticsearch_home / "lib"):
        raise NodeError(
            f"{software.elasticsearch_home}: started by root, the server runs as user {account.uid}, "
            "who cannot read this folder; move it to one that others may read"
        )
    java = readable_runtime(software.java, account, home() / "java")
    return Software(software.version, software.elasticsearch_home, java)


def _planned(folder: NodeFolder, software: Software, *, port: int, secure: bool) -> Node:
    return Node(
        name=folder.name,
        url=f"{'https' if secure else 'http'}://127.0.0.1:{port}",
        version=software.version,
        java=software.java.home,
        elasticsearch_home=software.elasticsearch_home,
        home=folder.root,
        ca_certs=folder.ca_certs if secure else None,
        username=USERNAME if secure else None,
        password_file=folder.password if secure else None,
    )


def _configure(folder: NodeFolder, account: Account, node: Node, software: Software, heap: int) -> None:
    if folder.tmp.exists():
        shutil.rmtree(folder.tmp)
    for path in folder.written_by_server:
        path.mkdir(mode=0o700, exist_ok=True)
        account.own(path)
    shipped = software.elasticsearch_home / "config"

    def write(file: str, text: str) -> None:
        write_atomically(folder.config / file, text, owner=account.uid)

    for file in _SHIPPED_ONCE:
        if (shipped / file).is_file() and not (folder.config / file).exists():
            write(file, (shipped / file).read_text(encoding="utf-8"))
    settings = server_settings(folder, node.port, elasticsearch_home=software.elasticsearch_home)
    write("elasticsearch.yml", settings_text(settings | security_settings(secure=node.secure)))
    write("log4j2.properties", (shipped / "log4j2.properties").read_text(encoding="utf-8"))
    options = (shipped / "jvm.options").read_text(encoding="utf-8")
    write("jvm.options", jvm_options(options, java=software.java, heap=heap))
