"""The parent's side: contenders in processes of their own, their memory, and the Elasticsearch that all write into."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from es_latechunk.node import Node, start_node, stop_node

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MEGABYTE = 1e6
LOOK_FOR_CHILDREN = 25  # looks at the memory between two searches for new child processes, which cost more
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}


class MemoryWatch:
    """Looks every few milliseconds at the resident memory of a process and all that it started."""

    def __init__(self, pid: int, interval: float = 0.02) -> None:
        self._root = psutil.Process(pid)
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.seen: list[tuple[float, float]] = []  # (time.monotonic(), MB)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def peak(self, until: float = float("inf")) -> float:
        """Return the most MB that were seen until a moment of time.monotonic()."""
        return round(max((memory for moment, memory in self.seen if moment <= until), default=0.0), 1)

    def _watch(self) -> None:
        tree: list[psutil.Process] = []
        while True:
            try:
                if len(self.seen) % LOOK_FOR_CHILDREN == 0:
                    tree = [self._root, *self._root.children(recursive=True)]
                self.seen.append((time.monotonic(), sum(_resident(one) for one in tree) / MEGABYTE))
            except psutil.NoSuchProcess:
                return
            if self._ended.wait(self._interval):
                return


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0


class Worker:
    """A process that answers requests (see answering.py); `facts` has its versions and its precision."""

    def __init__(self, python: Path, script: str, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, HERE / script, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **OFFLINE},
                text=True,
            )
        self.facts: Mapping[str, Any] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_loaded(self) -> None:
        self.facts = self._answer()

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """Run an operation in the process and return its answer."""
        assert self._process.stdin  # noqa: S101 - for the type checker
        self._process.stdin.write(json.dumps({"operation": operation, **request}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def measure(self, operation: str, **request: Any) -> dict[str, Any]:
        """The same, with the peak memory in MB while it ran."""
        with MemoryWatch(self.pid) as memory:
            answer = self.ask(operation, **request)
        return {**answer, "memory_mb": memory.peak()}

    def end(self) -> None:
        """Tell the process to end."""
        assert self._process.stdin  # noqa: S101 - for the type checker
        self._process.stdin.close()

    def wait_until_ended(self) -> None:
        """Wait for the end, and kill the process if it does not come."""
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout  # noqa: S101 - for the type checker
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise SystemExit(
                f"a benchmark process ended with {code}:\n{self._log.read_text('utf-8')[-4000:]}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def local_node(name: str) -> Iterator[Node]:
    """Start an embedded Elasticsearch for a benchmark alone, on a free port, and stop it at the end."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    node = start_node(name, port=port)
    try:
        yield node
    finally:
        stop_node(name)
