"""The memory of every process of a load over time, and how much each has grown over the second half.

A process's memory is its proportional share (PSS): what several processes share, such as the object store and the
libraries, counts once in the sum. So a process whose neighbour ends has a larger share from then on; `own` is what it
has for itself alone, mapped files left out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

KIB_PER_MB = 1e6 / 1024
WORKER = "other Ray worker"
# What is in the command line of a process, and what it is called here; the first that fits counts. The raylet's has
# the command of its workers in it.
KINDS = (
    ("raylet/raylet", "raylet and object store"),
    ("ray::RayEncoder", "encoder"),
    ("ray::DashboardAgent", "Ray's agents"),
    ("ray::RuntimeEnvAgent", "Ray's agents"),
    ("ray::", WORKER),
    ("default_worker.py", "starting Ray worker"),
    ("gcs/gcs_server", "Ray's gcs_server"),
    ("log_monitor.py", "Ray's log monitor"),
    ("autoscaler", "Ray's autoscaler"),
    ("runtime_env", "Ray's agents"),
    ("dashboard", "Ray's agents"),
    ("es_latechunk", "first process"),
)


def kind_of(command: str) -> str:
    """What a process is called, by its command line."""
    return next((kind for words, kind in KINDS if words in command), "others")


@dataclass(slots=True)
class Seen:
    """What was seen of one process: seconds since the start of the load, and its memory in MB at each of them."""

    kind: str
    pid: int
    seconds: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)

    def add(self, seconds: float, sizes: Mapping[str, float]) -> None:
        self.seconds.append(round(seconds, 1))
        self.resident.append(round(sizes["Rss"], 1))
        self.share.append(round(sizes["Pss"], 1))
        self.own.append(round(sizes["Anonymous"], 1))


class MemoryWatch:
    """Looks every few seconds at a process, all that it has started, and others that are named."""

    def __init__(self, root: int, others: Callable[[], Mapping[int, str]], *, interval: float) -> None:
        self._root = psutil.Process(root)
        self._others = others
        self._interval = interval
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.seen: dict[int, Seen] = {}

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def living(self, kind: str) -> list[int]:
        """The ids of the processes of one kind that run now."""
        return sorted(pid for pid, found in self._processes().items() if found == kind)

    def rows(self) -> list[dict[str, Any]]:
        """What was seen, for a JSON file."""
        return [asdict(seen) for seen in self.seen.values()]

    def _watch(self) -> None:
        while True:
            for pid, kind in self._processes().items():
                if sizes := sizes_of(pid):
                    seen = self.seen.setdefault(pid, Seen(kind, pid))
                    seen.kind = kind  # a worker of Ray gets its name some time after its start
                    seen.add(self.now, sizes)
            if self._ended.wait(self._interval):
                return

    def _processes(self) -> dict[int, str]:
        found: dict[int, str] = {}
        try:
            for one in (self._root, *self._root.children(recursive=True)):
                try:
                    found[one.pid] = kind_of(" ".join(one.cmdline()))
                except psutil.Error:
                    continue
        except psutil.Error:
            pass
        return {**found, **self._others()}


def sizes_of(pid: int) -> dict[str, float]:
    """The lines of smaps_rollup in MB; empty for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return {}
    return {
        name: int(rest.split()[0]) / KIB_PER_MB for name, _, rest in (line.partition(":") for line in lines)
    }


@dataclass(frozen=True, slots=True)
class Growth:
    """What a straight line through the second half of a load says of one process: MB, and MB more at its end."""

    kind: str
    pid: int
    at_half: float
    grown: float
    own_grown: float
    in_quarters: tuple[float, float]  # the medians of the third and the last quarter of the load


def growth(rows: Sequence[Mapping[str, Any]], half: float, end: float) -> list[Growth]:
    """The growth of each process that ran from the half to the end of a load; the largest first."""
    found = []
    for row in rows:
        seconds = np.array(row["seconds"])
        within = (seconds >= half) & (seconds <= end)
        inside = seconds[within]
        if len(inside) < 3 or inside[-1] - inside[0] < 0.9 * (end - half):
            continue
        share, own = (np.array(row[name])[within] for name in ("share", "own"))
        slope, start = np.polyfit(inside - half, share, 1)
        own_slope = np.polyfit(inside - half, own, 1)[0]
        late = inside >= (half + end) / 2
        found.append(
            Growth(
                row["kind"],
                row["pid"],
                at_half=round(float(start), 1),
                grown=round(float(slope * (end - half)), 1),
                own_grown=round(float(own_slope * (end - half)), 1),
                in_quarters=(
                    round(float(np.median(share[~late])), 1),
                    round(float(np.median(share[late])), 1),
                ),
            )
        )
    return sorted(found, key=lambda one: -one.grown)
