"""Everything that must stand before a boot: a reachable folder, software, a port, configuration files."""

from __future__ import annotations

import shutil

from es_latechunk.errors import NodeError
from es_latechunk.node.account import Account
from es_latechunk.node.config import heap_megabytes, jvm_options, server_settings, settings_text
from es_latechunk.node.distribution import Progress, check_space
from es_latechunk.node.java import readable_runtime
from es_latechunk.node.places import HOME_VARIABLE, NodeFolder, home, locked, make_folder, write_atomically
from es_latechunk.node.plan import Software, Wanted, choose_port, choose_software
from es_latechunk.node.security import USERNAME, make_certificates, make_user, security_settings
from es_latechunk.node.state import Node, save

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
        node = _planned(folder, software, port=port, secure=_secure(wanted, known))
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


def _secure(wanted: Wanted, known: Node | None) -> bool:
    return (known is not None and known.secure) if wanted.secure is None else wanted.secure


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
