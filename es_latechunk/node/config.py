"""The text of a node's configuration files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from es_latechunk.errors import UsageError
from es_latechunk.node.java import JavaRuntime
from es_latechunk.node.places import NodeFolder
from es_latechunk.node.versions import VECTOR_MODULE

_MEGABYTE = 1 << 20
_HEAP = re.compile(r"([1-9]\d*)([mg])", re.IGNORECASE)
# Where a container's memory limit is told: control groups version 2, then 1.
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
    limits = [Path(place).read_text().strip() for place in _MEMORY_LIMITS if Path(place).is_file()]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])
