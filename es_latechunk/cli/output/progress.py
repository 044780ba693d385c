"""The progress bar of `ingest` and `embed`: encoded tokens against an estimate that is corrected while reading."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from es_latechunk.documents import through
from es_latechunk.errors import DocumentError
from es_latechunk.report import DocumentResult, IngestCounts, IngestProgress
from es_latechunk.types import ChunkVector, Document, Tokens


@dataclass(slots=True)
class SourceProgress:
    """How much of the source has been read; `total_bytes` is None if it is not known, as for standard input."""

    total_bytes: int | None = None
    bytes: int = 0
    documents: int = 0
    characters: int = 0
    ended: bool = False

    def add_bytes(self, count: int) -> None:
        """Count bytes that were read."""
        self.bytes += count

    def counted(self, documents: Iterable[Document | DocumentError]) -> Iterator[Document | DocumentError]:
        """Return the documents, which are counted as they pass through."""
        return through(documents, self._counted)

    def _counted(self, documents: Iterable[Document | DocumentError]) -> Iterator[Document | DocumentError]:
        for document in documents:
            self.documents += 1
            self.characters += len(document.text) if isinstance(document, Document) else 0
            yield document
        self.ended = True


def estimate_tokens(source: SourceProgress, counts: IngestProgress) -> float | None:
    """Return the number of tokens that the whole run will encode; None if nothing can be said about it yet.

    Reading is ahead of chunking by hundreds of documents, so the tokens of the documents that are chunked stand for
    their characters alone. A document that is unchanged has no tokens to encode; it is taken to be as long as the mean.
    """
    if source.ended and counts.seen_documents >= source.documents:
        return counts.planned_tokens
    unchanged = counts.seen_documents - counts.planned_documents
    seen = counts.planned_characters + unchanged * source.characters / max(source.documents, 1)
    everything = float(source.characters)
    if not source.ended:
        if not source.total_bytes or not source.bytes:
            return None
        everything *= source.total_bytes / source.bytes
    if not seen:
        return None
    return counts.planned_tokens * max(1.0, everything / seen)


def counted_results(
    results: Iterable[DocumentResult], source: SourceProgress, counts: IngestCounts
) -> Iterator[DocumentResult]:
    """Count the results of a dry run, for which a token is done when it is counted."""
    for result in results:
        counts.add(result)
        counts.seen_documents += 1
        counts.planned_documents += 1
        counts.planned_characters = round(
            counts.seen_documents * source.characters / max(source.documents, 1)
        )
        counts.planned_tokens += result.tokens
        counts.encoded_tokens = counts.planned_tokens
        yield result


class EmbedProgress:
    """Feeds the counts of `embed`, which has the tokens of each document and then its chunks."""

    def __init__(self) -> None:
        self.counts = IngestCounts()

    def add_tokens(self, tokens: Tokens) -> None:
        """Count a document that has to be encoded."""
        self.counts.seen_documents += 1
        self.counts.planned_documents += 1
        self.counts.planned_tokens += len(tokens)
        self.counts.planned_characters += int(tokens.offsets[-1, 1]) if len(tokens) else 0

    def add_chunk(self, chunk: ChunkVector | DocumentError) -> None:
        """Count a chunk that is encoded, or a document that cannot be used."""
        if isinstance(chunk, DocumentError):
            self.counts.seen_documents += 1
            return
        self.counts.documents += chunk.ordinal == 0
        self.counts.indexed += 1
        share = (chunk.end - chunk.start) / max(self.counts.planned_characters, 1)
        self.counts.encoded_tokens += share * self.counts.planned_tokens


@contextmanager
def progress_bar(source: SourceProgress, counts: IngestProgress, *, quiet: bool) -> Iterator[None]:
    """Show on stderr, if it is a terminal, how far the run is; the bar is gone at the end of the block."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    started = time.monotonic()

    class LiveBar(Bar):
        """A bar that looks at the counts whenever it is drawn, so that the stages of a run need not tell it."""

        def get_renderables(self) -> Iterable[Any]:
            seconds = time.monotonic() - started
            done, total = counts.encoded_tokens, estimate_tokens(source, counts)
            for task in self.tasks:
                self.update(
                    task.id, completed=done, total=total or None, description=describe(counts, total, seconds)
                )
            yield from super().get_renderables()

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TaskProgressColumn())
    # Standard output is left alone: rich would print it on stderr, and `embed` writes its vectors there.
    hidden = quiet or not console.is_terminal
    with LiveBar(*columns, console=console, transient=True, disable=hidden, redirect_stdout=False) as bar:
        bar.add_task("", total=None)
        yield


def describe(counts: IngestProgress, total: float | None, seconds: float) -> str:
    """Return the text beside the bar: documents, chunks, speed and the time that is left."""
    speed = counts.encoded_tokens / seconds if seconds else 0.0
    left = "?"
    if total is not None and speed:
        left = str(timedelta(seconds=round(max(0.0, total - counts.encoded_tokens) / speed)))
    chunks = counts.indexed + counts.unchanged
    return f"{counts.documents:,} documents  {chunks:,} chunks  {speed:,.0f} tokens/s  {left} left"


def bytes_of(count: Callable[[], int | None], *, quiet: bool) -> int | None:
    """Return the size of the source, unless no bar would show it: counting walks all folders."""
    return None if quiet or not sys.stderr.isatty() else count()
