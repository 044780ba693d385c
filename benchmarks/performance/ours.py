"""es-latechunk as a contender: `python ours.py ENGINE DTYPE POOLING`; the pooling `default` is the model's own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from answering import answer_requests
from documents import MAX_TOKENS, made, prose, read_texts, sizes

from es_latechunk import (
    Document,
    IngestRun,
    connect,
    create_index,
    embed_documents,
    load_encoder,
    raise_errors,
)

MARK_EVERY = 100  # chunks
ENGINE, DTYPE, POOLING = sys.argv[1:]
pooling: Any = None if POOLING == "default" else POOLING
encoder: Any = load_encoder(engine=ENGINE, dtype=DTYPE, device="cpu")  # type: ignore[arg-type]


def read(path: str) -> Iterator[Document]:
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield Document(row["id"], row["text"])


def vectors(documents: str) -> dict[str, Any]:
    """Text to chunk vectors."""
    start = time.perf_counter()
    chunks = raise_errors(
        embed_documents(read(documents), encoder=encoder, max_tokens=MAX_TOKENS, pooling=pooling)
    )
    count = sum(1 for _ in chunks)
    return {"seconds": time.perf_counter() - start, "chunks": count}


def ingest(documents: str, url: str, index: str) -> dict[str, Any]:
    """Text to searchable chunks."""
    with connect(url=url) as client:
        create_index(index, encoder=encoder, client=client, max_tokens=MAX_TOKENS, pooling=pooling)
        start = time.perf_counter()
        run = IngestRun(read(documents), index=index, client=client, encoder=encoder)
        for _ in run:
            pass
        seconds = time.perf_counter() - start
    if run.report.failed:
        raise RuntimeError(f"documents failed: {run.report.failures[0]}")
    return {"seconds": seconds, "chunks": run.report.chunks, "stages": stages(run.report)}


def stages(report: Any) -> dict[str, float]:
    """The busy seconds of each stage that the report names; stages overlap, so the sum may exceed the whole."""
    found = getattr(report, "stages", None)
    return asdict(found) if found else {}


def forward(documents: str) -> dict[str, Any]:
    """The model alone, over whole windows; `tokens` counts each token that goes through it, special ones too."""
    ids = np.concatenate([encoder.tokenizer.tokenize(document.text).ids for document in read(documents)])
    size, whole = encoder.window_tokens, encoder.identity.window
    windows = [ids[first : first + size] for first in range(0, len(ids) - size + 1, size)]
    batch = max(1, encoder.batch_tokens // whole)
    start = time.perf_counter()
    for first in range(0, len(windows), batch):
        encoder.encode_windows(windows[first : first + batch])
    return {"seconds": time.perf_counter() - start, "tokens": len(windows) * whole}


def grow(folder: str | None, chunks: int, url: str, index: str) -> dict[str, Any]:
    """One ingest of at least so many chunks; how many were written at which moments (time.monotonic())."""
    pieces = prose(read_texts(Path(folder) if folder else None), encoder.tokenizer)
    marks = [(0, 0.0)]

    def documents() -> Iterator[Document]:
        for document in made(pieces, sizes("mix"), "growth", seed=1):
            if marks[-1][0] >= chunks:
                return
            yield document

    with connect(url=url) as client:
        create_index(index, encoder=encoder, client=client, max_tokens=MAX_TOKENS, pooling=pooling)
        marks[0] = (0, time.monotonic())
        run = IngestRun(documents(), index=index, client=client, encoder=encoder)
        for _ in run:
            if run.report.indexed - marks[-1][0] >= MARK_EVERY:
                marks.append((run.report.indexed, time.monotonic()))
    return {"marks": marks, "tokens": run.report.tokens}


answer_requests(
    {"vectors": vectors, "ingest": ingest, "forward": forward, "grow": grow},
    precision=encoder.precision.split()[0],
)
