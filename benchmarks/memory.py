"""Resident memory of an ingest: many short documents, or one long one.

    python benchmarks/memory.py --documents 100000          MB in each tenth of the documents
    python benchmarks/memory.py --megabytes 50              MB for one document of that size
    python benchmarks/memory.py --megabytes 50 --no-server  chunk and embed alone

The tokenizer is the real one of all-MiniLM-L6-v2; a token's vector is looked up in a table, so that what is
seen is the way through and not the model. It writes into an index of its own, which is deleted at the end, on
ELASTICSEARCH_URL or the local node.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from es_latechunk import Document, IngestRun, connect, create_index, embed_documents
from es_latechunk.late import l2_normalise
from es_latechunk.models import default_model
from es_latechunk.models.checkpoint.resolve import resolve_model
from es_latechunk.models.local.tokenizer import HuggingFaceTokenizer, load_tokenizer
from es_latechunk.types import EncoderIdentity, FloatArray, IntArray

MEGABYTE = 1 << 20
DIM = 64
WORDS = [
    "the",
    "city",
    "lies",
    "on",
    "a",
    "river",
    "and",
    "its",
    "old",
    "bridges",
    "carry",
    "trams",
    "over",
    "it",
]


class TableEncoder:
    """Vectors from a table: as many as the model would give, and no time."""

    dim = DIM
    window_tokens = 254
    batch_tokens = 4096
    identity = EncoderIdentity(model="table", weights="sha256:table", dimensions=DIM, window=254)

    def __init__(self) -> None:
        self.tokenizer = HuggingFaceTokenizer(load_tokenizer(resolve_model(default_model()).path))
        self._table = np.random.default_rng(0).standard_normal((1000, DIM)).astype(np.float32)

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        return [self._table[window % 1000] for window in windows]

    def finish(self, pooled: FloatArray) -> FloatArray:
        return l2_normalise(pooled)

    def encode_documents(self, texts: Sequence[str]) -> FloatArray:
        raise NotImplementedError

    def encode_queries(self, texts: Sequence[str]) -> FloatArray:
        raise NotImplementedError


def text(seed: int, words: int) -> str:
    """Sentences of ten words."""
    chosen = np.random.default_rng(seed).integers(len(WORDS), size=words).tolist()
    return " ".join(WORDS[n] + (f" {seed}." if place % 10 == 9 else "") for place, n in enumerate(chosen))


def short_documents(count: int) -> Iterator[Document]:
    for number in range(count):
        yield Document(f"document-{number:07d}", text(number, 30), metadata={"number": number})


def long_document(megabytes: float) -> Document:
    size = int(megabytes * MEGABYTE)
    paragraph = "\n\n".join(text(seed, 120) for seed in range(200))
    return Document("long", (paragraph * (size // len(paragraph) + 1))[:size])


def resident() -> float:
    """MB of this process now."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / MEGABYTE


class Watch:
    """Looks at the memory every few milliseconds, from a thread."""

    def __init__(self, total: int) -> None:
        self.done = 0
        self._total = total
        self._seen: list[list[float]] = [[] for _ in range(10)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.005):
            self._seen[min(9, 10 * self.done // self._total)].append(resident())

    def tenths(self) -> list[float]:
        """The median MB of each tenth."""
        return [round(statistics.median(seen), 1) if seen else 0.0 for seen in self._seen]


def run(documents: Iterator[Document], watch: Watch, *, server: bool) -> int:
    """Through the whole way, or as far as the vectors; gives the number of chunks."""
    encoder = TableEncoder()
    if not server:
        return sum(1 for _ in embed_documents(documents, encoder=encoder))
    name = f"memory-{os.getpid()}"

    with connect() as client:
        create_index(name, encoder=encoder, client=client, pooling="late")
        try:
            load = IngestRun(documents, index=name, client=client, encoder=encoder)
            for _ in load:
                watch.done += 1
            return load.report.chunks
        finally:
            client.indices.delete(index=name)


def peak_mb() -> float:
    """The highest resident memory of this program; getrusage would count that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--documents", type=int, default=100_000)
    options.add_argument("--megabytes", type=float)
    options.add_argument("--no-server", action="store_true")
    given = options.parse_args()
    TableEncoder().tokenizer.tokenize("the libraries are loaded before anything is counted")
    if given.megabytes:
        documents, total = iter([long_document(given.megabytes)]), 1
    else:
        documents, total = short_documents(given.documents), given.documents
    before, started = resident(), time.monotonic()
    with Watch(total) as watch:
        chunks = run(documents, watch, server=not given.no_server)
    peak = peak_mb()
    facts = {"before_mb": round(before, 1), "tenths_mb": watch.tenths(), "peak_mb": round(peak, 1)}
    print(json.dumps({**facts, "chunks": chunks, "seconds": round(time.monotonic() - started, 1)}))


if __name__ == "__main__":
    main()
