"""The result of each document, and the counts of a whole run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from typing import Literal, Protocol

from es_latechunk.errors import DocumentError
from es_latechunk.stages import StageClock, StageSeconds
from es_latechunk.types import ChunkedDocument

MAX_FAILURES = 100  # in a report, so that a long run with many of them takes no more memory

MANY_UNKNOWN = 0.1  # a document with at least this share of unknown text is counted
MOST_UNKNOWN = 0.5  # a document with more than this share has a warning of its own
MAX_NAMED = 10

Outcome = Literal["indexed", "unchanged", "deleted", "failed"]


@dataclass(frozen=True, slots=True)
class DocumentResult:
    """The result of one document.

    `indexed`, `unchanged` and `deleted` count its chunks. `tokens` is the number of tokens that were encoded;
    `unknown_tokens` of them stand for text that the model cannot read, which is `unknown_share` (0 to 1) of the text.
    A failed document has an `error`, whose `source` is the document if it could be read.
    """

    doc_id: str
    outcome: Outcome
    indexed: int = 0
    unchanged: int = 0
    deleted: int = 0
    tokens: int = 0
    error: DocumentError | None = None
    unknown_tokens: int = 0
    unknown_share: float = 0.0


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The counts of a run.

    `documents` and `failed` count documents; `chunks`, `indexed`, `unchanged` and `deleted` count chunks. A document
    that failed is not counted in `documents`, so chunks == indexed + unchanged is what the index now holds of the
    source. `tokens` is the number of tokens that were encoded, `unknown_tokens` how many of them the model does not
    know. `seconds` is the whole time, `stages` how much of it each stage was busy. `failures` has the first hundred
    errors.
    """

    documents: int
    chunks: int
    indexed: int
    unchanged: int
    deleted: int
    failed: int
    tokens: int
    seconds: float
    unknown_tokens: int = 0
    stages: StageSeconds = field(default_factory=StageSeconds)
    failures: tuple[DocumentError, ...] = ()


class IngestProgress(Protocol):
    """How far an ingest is, for a progress bar.

    `seen_documents` were compared with the index; the `planned` ones among them have to be encoded; `encoded_tokens` of
    their tokens have been. `documents` and `failed` count finished documents, `indexed` and `unchanged` their chunks.
    """

    @property
    def documents(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def indexed(self) -> int: ...
    @property
    def unchanged(self) -> int: ...
    @property
    def seen_documents(self) -> int: ...
    @property
    def planned_documents(self) -> int: ...
    @property
    def planned_characters(self) -> int: ...
    @property
    def planned_tokens(self) -> int: ...
    @property
    def encoded_tokens(self) -> float: ...


@dataclass(slots=True)
class IngestCounts:
    """The running counts of an ingest: its report so far, and an `IngestProgress`."""

    documents: int = 0
    indexed: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    failures: list[DocumentError] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    clock: StageClock = field(default_factory=StageClock)
    seen_documents: int = 0
    planned_documents: int = 0
    planned_characters: int = 0
    planned_tokens: int = 0
    encoded_tokens: float = 0.0

    def plan(self, chunked: ChunkedDocument) -> None:
        """Count a document that has to be encoded."""
        self.planned_documents += 1
        self.planned_characters += len(chunked.document.text)
        self.planned_tokens += len(chunked.tokens)

    def encode(self, chunked: ChunkedDocument, chunks: int) -> None:
        """Count so many of a document's chunks as encoded; all of its chunks have the same part of its tokens."""
        self.encoded_tokens += len(chunked.tokens) * chunks / len(chunked.spans)

    def add(self, result: DocumentResult) -> None:
        """Add the result of a document."""
        self.deleted += result.deleted
        self.tokens += result.tokens
        self.unknown_tokens += result.unknown_tokens
        if result.error is not None:
            self.failed += 1
            if len(self.failures) < MAX_FAILURES:
                self.failures.append(result.error)
        elif result.outcome != "deleted":
            self.documents += 1
            self.indexed += result.indexed
            self.unchanged += result.unchanged

    def merge(self, other: IngestCounts) -> None:
        """Add the counts of a part of the documents, which another process has loaded."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures = [*self.failures, *other.failures][:MAX_FAILURES]
        self.clock.add(other.clock.seconds())

    def report(self) -> IngestReport:
        """Return the counts so far."""
        return IngestReport(
            documents=self.documents,
            chunks=self.indexed + self.unchanged,
            indexed=self.indexed,
            unchanged=self.unchanged,
            deleted=self.deleted,
            failed=self.failed,
            tokens=self.tokens,
            seconds=round(time.monotonic() - self.started, 3),
            unknown_tokens=self.unknown_tokens,
            stages=self.clock.seconds(),
            failures=tuple(self.failures),
        )


# Those of the counts that are numbers of something.
SUMS = tuple(
    row.name for row in fields(IngestCounts) if row.type in ("int", "float") and row.name != "started"
)


@dataclass(slots=True)
class UnreadableText:
    """Warnings about text that the model cannot read: one for each of the worst documents, and one for all.

    Such a text is written anyway, because full-text search finds it, but its vectors carry little meaning.
    """

    documents: int = 0  # with at least the share MANY_UNKNOWN of unknown text
    named: int = 0  # with more than the share MOST_UNKNOWN
    tokens: int = 0
    unknown: int = 0

    def add(self, doc_id: str, *, tokens: int, unknown: int, share: float) -> str | None:
        """Count a document; return a warning about it if most of it is unknown, for the first MAX_NAMED of them."""
        if share < MANY_UNKNOWN:
            return None
        self.documents += 1
        self.tokens += tokens
        self.unknown += unknown
        if share <= MOST_UNKNOWN:
            return None
        self.named += 1
        if self.named > MAX_NAMED:
            return None
        says = "full-text search finds it, its vectors say little"
        return f"{doc_id}: {share:.0%} of its text is unknown to the model; {says}"

    def summary(self) -> str | None:
        """Return the warning about all documents, or None if there is nothing to warn about."""
        if not self.documents:
            return None
        which = "1 document" if self.documents == 1 else f"{self.documents} documents"
        more = f" ({self.named - MAX_NAMED} more of them mostly)" if self.named > MAX_NAMED else ""
        return (
            f"{self.unknown / self.tokens:.0%} of the tokens of {which} are unknown to this model{more}; choose one "
            "that knows their language, a multilingual one for instance (es-latechunk models lists some)"
        )
