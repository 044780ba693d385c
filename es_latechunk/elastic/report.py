"""Counting what an ingest did, and saying it truthfully at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from es_latechunk.errors import DocumentError
from es_latechunk.types import Document


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one run did. `documents` and `failed` count documents, `chunks`, `indexed`, `unchanged` and
    `deleted` count chunks; a document that failed is not among `documents`, so
    chunks == indexed + unchanged is what the index now holds of the source. `tokens` were encoded.
    """

    documents: int
    chunks: int
    indexed: int
    unchanged: int
    deleted: int
    failed: int
    tokens: int
    seconds: float


@dataclass(slots=True)
class Tally:
    """The running counts of an ingest, and the documents that failed."""

    documents: int = 0
    indexed: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def report(self) -> IngestReport:
        return IngestReport(
            documents=self.documents,
            chunks=self.indexed + self.unchanged,
            indexed=self.indexed,
            unchanged=self.unchanged,
            deleted=self.deleted,
            failed=self.failed,
            tokens=self.tokens,
            seconds=round(time.monotonic() - self.started, 3),
        )


@dataclass(slots=True)
class OpenDocument:
    """A document whose actions are on their way; it counts when all of them are settled.

    `document` is None for one that is only removed.
    """

    document: Document | None
    waiting: int
    tokens: int
    indexed: int = 0
    deleted: int = 0
    error: DocumentError | None = None
