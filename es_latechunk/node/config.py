"""A node's configuration files, and TLS and a user with a generated password for a node that asks who is there."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from es_latechunk.errors import NodeError, UsageError
from es_latechunk.node.account import Account
from es_latechunk.node.java import VECTOR_MODULE, JavaRuntime
from es_latechunk.node.layout import NodeFolder, write_atomically

_MEGABYTE = 1 << 20
_HEAP = re.compile(r"([1-9]\d*)([mg])", re.IGNORECASE)
# The files that state a container's memory limit: control groups version 2, then version 1.
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# The garbage collector's log would take up to 2 GB, a heap dump as much as the heap.
_UNWANTED_OPTIONS = ("-Xlog:gc", "-XX:+HeapDumpOnOutOfMemoryError")

Settings = Mapping[str, str | int | bool]


def server_settings(
    folder: NodeFolder, port: int, *, elasticsearch_home: Path
) -> dict[str, str | int | bool]:
    """elasticsearch.yml of one node that listens on this machine only."""
    settings: dict[str, str | int | bool] = {
        "cluster.name": f"es-latechunk-{folder.name}",
        "node.name": folder.name,
        "path.data": str(folder.data),
        "path.logs": str(folder.logs),
        "network.host": "127.0.0.1",
        "http.port": port,
        "transport.port": "9300-9400",
        "discovery.type": "single-node",
        "xpack.ml.enabled": False,
        # The defaults are shares of the disk: a large, well-filled disk would make every index read-only.
        "cluster.routing.allocation.disk.watermark.low": "1gb",
        "cluster.routing.allocation.disk.watermark.high": "500mb",
        "cluster.routing.allocation.disk.watermark.flood_stage": "250mb",
    }
    if (elasticsearch_home / "modules" / "ingest-geoip").is_dir():
        # A local node fetches nothing by itself. The small distribution does not know the setting.
        settings["ingest.geoip.downloader.enabled"] = False
    return settings


def settings_text(settings: Settings) -> str:
    """Settings as YAML; JSON's quoting is YAML's too, whatever the paths hold."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items())


def jvm_options(shipped: str, *, java: JavaRuntime, heap: int) -> str:
    """The distribution's own jvm.options, with a heap in MB, without what this Java or a laptop lacks."""
    lines = [line for line in shipped.splitlines() if not _unwanted(line, java)]
    return "\n".join([*lines, f"-Xms{heap}m", f"-Xmx{heap}m", "-XX:-AlwaysPreTouch", ""])


def _unwanted(line: str, java: JavaRuntime) -> bool:
    if f"--add-modules={VECTOR_MODULE}" in line:
        return VECTOR_MODULE not in java.modules
    return line.startswith(_UNWANTED_OPTIONS)


def heap_megabytes(heap: str | None) -> int:
    """The heap: "2g", "768m", or by default a quarter of the memory, at least 512 MB and at most 1 GB."""
    memory = _memory_bytes() // _MEGABYTE
    if heap is None:
        return max(512, min(1024, memory // 4))
    found = _HEAP.fullmatch(heap)
    if not found:
        raise UsageError(f"heap {heap!r}: write a size such as 768m or 2g")
    megabytes = int(found[1]) * (1024 if found[2] in "gG" else 1)
    if megabytes > memory:
        raise UsageError(f"heap {heap!r}: this machine has {memory} MB of memory; ask for half of it at most")
    return megabytes


def _memory_bytes() -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [Path(file).read_text().strip() for file in _MEMORY_LIMITS if Path(file).is_file()]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])


USERNAME = "latechunk"
_NAMES = ("127.0.0.1", "::1", "localhost")


def security_settings(*, secure: bool) -> dict[str, str | bool]:
    """The part of elasticsearch.yml that turns security on or off."""
    if not secure:
        return {"xpack.security.enabled": False}
    settings: dict[str, str | bool] = {
        "xpack.security.enabled": True,
        "xpack.security.autoconfiguration.enabled": False,
        "xpack.security.transport.ssl.verification_mode": "certificate",
    }
    for channel in ("http", "transport"):
        settings |= {
            f"xpack.security.{channel}.ssl.enabled": True,
            f"xpack.security.{channel}.ssl.key": "server.key",
            f"xpack.security.{channel}.ssl.certificate": "server.crt",
            f"xpack.security.{channel}.ssl.certificate_authorities": "ca.crt",
        }
    return settings


def make_certificates(folder: NodeFolder, account: Account) -> None:
    """A certificate authority of this node alone, made once; its own key is not kept."""
    if folder.ca_certs.exists():
        return
    try:
        import trustme
    except ImportError as error:
        raise NodeError("a secure node needs trustme: pip install 'es-latechunk[node]'") from error
    authority = trustme.CA(organization_name="es-latechunk", organization_unit_name=folder.name)
    server = authority.issue_cert(*_NAMES, organization_name="es-latechunk")
    chain = "".join(part.bytes().decode("ascii") for part in server.cert_chain_pems)
    public = authority.cert_pem.bytes().decode("ascii")
    key = server.private_key_pem.bytes().decode("ascii")
    write_atomically(folder.config / "server.key", key, owner=account.uid)
    write_atomically(folder.config / "server.crt", chain, owner=account.uid)
    write_atomically(folder.config / "ca.crt", public, owner=account.uid)
    # Last, because its presence says that all of them are there.
    write_atomically(folder.ca_certs, public, mode=0o644)


def make_user(
    folder: NodeFolder, account: Account, *, elasticsearch_home: Path, environment: dict[str, str]
) -> None:
    """The one user, whose password is kept in a file that the caller alone can read."""

    def users(*arguments: str, standard_input: str = "") -> None:
        tool = elasticsearch_home / "bin" / "elasticsearch-users"
        done = account.run([tool, *arguments], environment=environment, standard_input=standard_input)
        if done.returncode != 0:
            output = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
            raise NodeError(f"node {folder.name!r}: elasticsearch-users {arguments[0]} failed: {output[-1]}")

    user_exists = f"{USERNAME}:" in (folder.config / "users").read_text(encoding="utf-8")
    if user_exists and folder.password.exists():
        return
    if user_exists:
        users("userdel", USERNAME)
    password = secrets.token_urlsafe(24)
    # By standard input: arguments can be seen in the list of processes.
    users("useradd", USERNAME, "-r", "superuser", standard_input=f"{password}\n{password}\n")
    write_atomically(folder.password, password + "\n")
