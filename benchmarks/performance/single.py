"""What is measured of es-latechunk alone: the first hit of a cold search, and an ingest that grows."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elasticsearch import Elasticsearch
from processes import MemoryWatch, Worker

QUERY = "How is a document found again that was changed?"
MODES = ("hybrid", "knn", "bm25")
STEPS = (1, 2, 5, 10, 20, 50, 100)  # thousands of chunks


def cold_searches(index: str, url: str, calls: int) -> list[dict[str, Any]]:
    """Seconds from the start of `es-latechunk search` to its first hit, and the processor's seconds of the whole call.

    The first call of each mode is not counted. It leaves the bytecode that Python keeps of every module, also where the
    environment forbids that: without it each call would compile all modules anew, which no user's installation does.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    rows = []
    for call in range(calls + 1):
        for mode in MODES:
            command = [
                str(Path(sys.executable).parent / "es-latechunk"), "search", QUERY, "--index", index, "--url", url,
                "--mode", mode, "--json",
            ]  # fmt: skip
            before = _cpu_seconds()
            start = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            with process, MemoryWatch(process.pid, interval=0.005) as memory:
                assert process.stdout  # noqa: S101 - for the type checker
                first = process.stdout.readline()
                seconds = time.monotonic() - start
                process.stdout.read()
            if process.wait() or not first:
                raise SystemExit(f"{command}: found nothing")
            if call:
                rows.append(
                    {
                        "mode": mode,
                        "seconds": seconds,
                        "cpu_seconds": _cpu_seconds() - before,
                        "memory_mb": memory.peak(),
                    }
                )
    return rows


def _cpu_seconds() -> float:
    """The processor's seconds, user and system, of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def growth(
    folder: Path | None, chunks: int, *, client: Elasticsearch, url: str, log: Path
) -> list[dict[str, Any]]:
    """One ingest of so many chunks: its time and memory when it reaches each step."""
    index = "benchmark-growth"
    client.indices.delete(index=index, ignore_unavailable=True)
    worker = Worker(Path(sys.executable), "ours.py", ("auto", "auto", "late"), log)
    worker.wait_until_loaded()
    with MemoryWatch(worker.pid) as memory:
        marks = worker.ask("grow", folder=folder and str(folder), chunks=chunks, url=url, index=index)[
            "marks"
        ]
    worker.end()
    worker.wait_until_ended()
    client.indices.delete(index=index)
    return grown(marks, memory)


def grown(marks: Sequence[Sequence[float]], memory: MemoryWatch) -> list[dict[str, Any]]:
    """A row for each step, with the seconds that 1,000 chunks took since the step before."""
    rows = []
    before, began = marks[0]
    for step in STEPS:
        found = next((mark for mark in marks if mark[0] >= 1000 * step), None)
        if found is None:
            break
        reached, moment = found
        if reached > before:  # one request can pass two steps
            rows.append(
                {
                    "chunks": reached,
                    "seconds_per_1000": 1000 * (moment - began) / (reached - before),
                    "memory_mb": memory.peak(until=moment),
                }
            )
        before, began = reached, moment
    return rows
