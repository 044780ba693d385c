"""What the encoders of a test's Ray cluster load: they are other processes, which import this file.

As a program it is the command line with these encoders and small parts: `python ray_encoders.py FOLDER WORD...`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import faults
import pytest
from indices import WordEncoder, _stable_id

from es_latechunk.documents.parts import FilePart
from es_latechunk.errors import LateChunkError
from es_latechunk.scale.cluster import load_cloudpickle
from es_latechunk.scale.readers import ReadBlock, ReaderProcess
from es_latechunk.types import FloatArray, IntArray

POISON = "strychnine"
LINGER, RELEASED = "linger", "released"
PYTHONPATH = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])


class TestEncoder(WordEncoder):
    """Its process ends when it encodes a certain word, and waits at another one for the file RELEASED."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        super().__init__(query_prefix="")
        self.batch_tokens = 16
        self._folder = folder

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        if any(_stable_id(POISON) in window for window in windows):
            os.kill(os.getpid(), signal.SIGKILL)
        if any(_stable_id(LINGER) in window for window in windows):
            wait_for((self._folder / RELEASED).exists)
        return super().encode_windows(windows)


class TestReader(ReaderProcess):
    """Its process ends when it is to read a file with a certain name."""

    __test__ = False

    def begin(self, parts: Sequence[FilePart], skip: int) -> ReadBlock | LateChunkError:
        if any(POISON in part.file.id for part in parts[:1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().begin(parts, skip)


def load_words(folder: Path, recorded: Any) -> WordEncoder:
    """An encoder of words in small requests; its process leaves its id in the folder."""
    faults.use_small_requests(setattr)
    (folder / str(os.getpid())).touch()
    return TestEncoder(folder)


def loader(folder: Path) -> Callable[[Any], WordEncoder]:
    """The function that an ingest gets as its encoder."""
    return partial(load_words, folder)


def started(folder: Path) -> list[int]:
    """The ids of the other processes that have loaded an encoder so far."""
    return sorted({int(path.name) for path in folder.iterdir() if path.name.isdecimal()} - {os.getpid()})


def wait_for(condition: Callable[[], object], seconds: float = 480) -> None:
    """Wait until it holds; other work may keep this machine busy."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@contextmanager
def ray_of_two_processors() -> Iterator[str]:
    """A Ray cluster of this process, whose encoders can import the tests' files; gives its address."""
    load_cloudpickle()  # imports Ray as the program does
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PYTHONPATH)
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100_000_000,
        )
        signal.signal(signal.SIGTERM, handler)
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


def command(folder: str, *words: str) -> None:
    """What the process that a signal ends runs."""
    from es_latechunk.cli import main
    from es_latechunk.cli.options import shared
    from es_latechunk.scale import load, parts

    parts.SMALLEST_PART = parts.LARGEST_PART = 200
    load.STOP_SECONDS = 120.0  # this machine may be busy
    shared.ModelChoice.load_for = property(lambda _: loader(Path(folder)))  # type: ignore[assignment, method-assign]
    main(words)


if __name__ == "__main__":
    from ray_encoders import command as imported  # the encoders import this file, and know no __main__

    imported(*sys.argv[1:])
