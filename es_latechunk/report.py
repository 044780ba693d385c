"""What became of each document, and the counts of a whole run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from es_latechunk.errors import DocumentError

MAX_FAILURES = 100  # that a report keeps

Outcome = Literal["indexed", "unchanged", "deleted", "failed"]


@dataclass(frozen=True, slots=True)
class DocumentResult:
    """What became of one document.

    `indexed`, `unchanged` and `deleted` count its chunks; `tokens` were encoded. A failed document has its `error`,
    and is there itself as `error.source` if it could be read.
    """

    doc_id: str
    outcome: Outcome
    indexed: int = 0
    unchanged: int = 0
    deleted: int = 0
    tokens: int = 0
    error: DocumentError | None = None


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What a run did. `documents` and `failed` count documents, `chunks`, `indexed`, `unchanged` and `deleted` count
    chunks; a document that failed is not among `documents`, so chunks == indexed + unchanged is what the index now
    holds of the source. `tokens` were encoded. `failures` are the first hundred errors.
    """

    documents: int
    chunks: int
    indexed: int
    unchanged: int
    deleted: int
    failed: int
    tokens: int
    seconds: float
    failures: tuple[DocumentError, ...] = ()


@dataclass(slots=True)
class IngestProgress:
    """The running counts of an ingest."""

    documents: int = 0
    indexed: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: int = 0
    tokens: int = 0
    failures: list[DocumentError] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def add(self, result: DocumentResult) -> None:
        """Count a document."""
        self.deleted += result.deleted
        self.tokens += result.tokens
        if result.error is not None:
            self.failed += 1
            if len(self.failures) < MAX_FAILURES:
                self.failures.append(result.error)
        elif result.outcome != "deleted":
            self.documents += 1
            self.indexed += result.indexed
            self.unchanged += result.unchanged

    def report(self) -> IngestReport:
        """What was done so far."""
        return IngestReport(
            documents=self.documents,
            chunks=self.indexed + self.unchanged,
            indexed=self.indexed,
            unchanged=self.unchanged,
            deleted=self.deleted,
            failed=self.failed,
            tokens=self.tokens,
            seconds=round(time.monotonic() - self.started, 3),
            failures=tuple(self.failures),
        )
