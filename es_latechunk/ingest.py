"""The ingest, from top to bottom: documents are compared with the index, chunked, embedded, written and reported.

    documents -> hashed -> compared with the index -> cut into chunks -> embedded -> bulk actions -> results

Each stage is a generator that reads the stage before it. Items that a stage cannot use pass through it unchanged: a
DocumentError of any earlier stage, and the result of a document that need not be written. So each document of the
source leaves the last stage as one DocumentResult, and that is the only channel for results and errors.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from es_latechunk.bootstrap import stage_index
from es_latechunk.chunking import chunk_document
from es_latechunk.documents import USED_BEFORE, SeenIds, document_hash, printable
from es_latechunk.errors import DocumentError, PreconditionError, UsageError, WriteError, setting
from es_latechunk.keywords import keywords_of
from es_latechunk.late import embed_chunks
from es_latechunk.models import EncoderLoader
from es_latechunk.report import DocumentResult, IngestCounts, IngestProgress, IngestReport, Outcome
from es_latechunk.stages import StageClock
from es_latechunk.target import Target, open_target
from es_latechunk.threads import check_interrupt
from es_latechunk.types import DEFAULT_RETRY_FOR, ChunkedDocument, Document, Encoder

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch
    from typing_extensions import Unpack

    from es_latechunk.elastic.index.contents import Comparison
    from es_latechunk.elastic.write.actions import Action
    from es_latechunk.elastic.write.bulk import ActionResult
    from es_latechunk.elastic.write.session import LoadSession

DEFAULT_MAX_PRUNE = 0.5
NOT_FOUND = 404
log = logging.getLogger(__name__)


class IngestKeywords(TypedDict, total=False):
    """The keywords of IngestRun that concern the run; IngestRun explains them."""

    retry_for: float
    prune: bool
    max_prune: float
    wait: bool


class IngestRun:
    """One run of an ingest. Iterating over it yields the result of each document; `report` has the counts so far.

    New and changed documents are written, and the chunks that a shorter version no longer has are removed. A document
    that cannot be used has its error as its result, and the run continues. Chunks are cut and pooled as the index
    records. Only one load at a time can write an index.

    - `index`: an index or an alias. It is resolved once: if an alias moves during the run, the run continues with the
      index that it began with, and ends with a WriteError, because what it wrote is not behind the alias.
    - `alias`: instead of `index`. A new index is filled with exactly the source, and `promote` swaps the alias to it.
    - `client`: without one, the cluster is that of ELASTICSEARCH_URL, or the local node.
    - `encoder`: the index's own encoder, or a function that loads it from what the index records (None for the first
      index of an alias). Without one, the model that the index records is loaded.
    - `retry_for`: the seconds for which a failed request is retried.
    - `prune`: at the end, remove the documents that the source no longer has, unless a document of the source failed.
    - `max_prune`: the share of the index's documents (0 to 1) that pruning may remove. PreconditionError is raised if
      it would remove more, or if the source gave no document.
    - `wait`: wait until another load of the index ends, instead of raising IndexBusyError.

    Looking up the index and loading the encoder raise IndexNotFoundError, and IndexMismatchError if the encoder is not
    the index's own; nothing is written then. Writing raises WriteError if the cluster fails for `retry_for` seconds, or
    the index accepts nothing, is deleted or taken over.
    """

    def __init__(
        self,
        documents: Iterable[Document | DocumentError],
        *,
        index: str | None = None,
        alias: str | None = None,
        client: Elasticsearch | None = None,
        encoder: Encoder | EncoderLoader | None = None,
        retry_for: float = DEFAULT_RETRY_FOR,
        prune: bool = False,
        max_prune: float = DEFAULT_MAX_PRUNE,
        wait: bool = False,
    ) -> None:
        from es_latechunk.elastic.connection import connect
        from es_latechunk.elastic.retry import retry_transient
        from es_latechunk.elastic.write.session import resolve

        check_shares(retry_for, max_prune)
        self._documents = documents
        self._alias = alias
        self._client = client or connect()
        self._retry_for = retry_for
        self._prune = prune or alias is not None
        self._max_prune = 1.0 if alias is not None else max_prune
        self._wait = wait
        self._counts = IngestCounts()
        if alias is not None and index is None:
            index, encoder = retry_transient(
                lambda: stage_index(alias, client=self._client, encoder=encoder),
                retry_for=retry_for,
                retry_unreachable=False,
            )
        elif index is None or alias is not None:
            raise UsageError(f"ingest needs either {setting('index')} or {setting('alias')}")
        self._name = index
        self._index = retry_transient(
            lambda: resolve(self._client, self._name), retry_for=retry_for, retry_unreachable=False
        )
        self._target = open_target(self._client, self._index, encoder, retry_for=retry_for)

    @property
    def index(self) -> str:
        """The name of the index that is written; if an alias was given, that of the index behind it."""
        return self._index.name

    @property
    def encoder(self) -> Encoder:
        """The encoder that makes the vectors."""
        return self._target.encoder

    @property
    def progress(self) -> IngestProgress:
        """The running counts, which change while the run is under way."""
        return self._counts

    @property
    def report(self) -> IngestReport:
        """The counts so far."""
        return self._counts.report()

    def __iter__(self) -> Generator[DocumentResult, None, None]:
        from es_latechunk.elastic.index.admin import single_index
        from es_latechunk.elastic.retry import retry_transient
        from es_latechunk.elastic.write.alias import record_fill
        from es_latechunk.elastic.write.session import open_session

        client, retry_for = self._client, self._retry_for
        with (
            SeenIds() as seen,
            open_session(client, self._index, retry_for=retry_for, wait=self._wait) as session,
        ):
            if self._alias:
                record_fill(session, self._alias, chunks=None, failed=0)
            for result in self._results(session, seen):
                if result.error:
                    seen.clear_hash(result.doc_id)
                yield result
            if self._alias:
                record_fill(session, self._alias, chunks=self.report.chunks, failed=self.report.failed)
        now = retry_transient(lambda: single_index(client, self._name), retry_for=retry_for)
        if now != self.index:
            raise WriteError(
                f"{self._name}: stood for {self.index} when this load began, and stands for {now} now; what was "
                f"written is in {self.index}: run the same command again"
            )

    def _results(self, session: LoadSession, seen: SeenIds) -> Iterator[DocumentResult]:
        target, counts = self._target, self._counts
        changed = changed_documents(self._documents, target, session, seen, counts.clock)
        yield from written(changed, target, session, counts)
        if session.ownership is None:
            for result in interfered(target, session, seen):
                counts.documents -= 1
                counts.add(result)
                yield result
        if self._prune and count_stale(target, session, seen, counts.failed, max_share=self._max_prune)[0]:
            yield from pruned(target, session, seen, counts)


@keywords_of(IngestRun)
def ingest(
    documents: Iterable[Document | DocumentError],
    *,
    index: str | None = None,
    alias: str | None = None,
    client: Elasticsearch | None = None,
    encoder: Encoder | EncoderLoader | None = None,
    **keywords: Unpack[IngestKeywords],
) -> IngestReport:
    """Write every new or changed document, and return the report, which lists what failed."""
    run = IngestRun(documents, index=index, alias=alias, client=client, encoder=encoder, **keywords)
    for _ in run:
        pass
    return run.report


def check_shares(retry_for: float, max_prune: float) -> None:
    """Raise a UsageError for a negative time, or a share that is not between 0 and 1."""
    if not retry_for >= 0:
        raise UsageError(f"{setting('retry_for')} {retry_for}: give seconds, 0 or more")
    if not 0 <= max_prune <= 1:
        raise UsageError(f"{setting('max_prune')} {max_prune} is not a share; give 0 to 1")


@dataclass(frozen=True, slots=True)
class ChangedDocument:
    """A document that has to be written, with its chunks and with what the index holds of it."""

    chunked: ChunkedDocument
    comparison: Comparison

    @property
    def surplus(self) -> int:
        """The number of chunks in the index that this version no longer has."""
        return self.comparison.surplus(len(self.chunked.spans))


def changed_documents(
    documents: Iterable[Document | DocumentError],
    target: Target,
    session: LoadSession,
    seen: SeenIds,
    clock: StageClock,
) -> Iterator[ChangedDocument | DocumentResult]:
    """Chunk the documents that have to be written; an unchanged document becomes a result, and costs no encoding."""
    from es_latechunk.elastic.index.contents import compare_with_index
    from es_latechunk.elastic.write.actions import check_document

    hashed = _hashed(documents, seen, target.vectors)
    compared = compare_with_index(session.client, session.target, hashed, retry_for=target.retry_for)
    for comparison in clock.timed("read", compared):
        if isinstance(comparison, DocumentResult):
            yield comparison
            continue
        document = comparison.document
        if comparison.unchanged:
            yield DocumentResult(document.id, "unchanged", unchanged=comparison.indexed.chunks)
            continue
        try:
            chunked = chunk_document(document, chunker=target.chunker, tokenizer=target.encoder.tokenizer)
            check_document(chunked, target.record.metadata_types)
        except DocumentError as error:
            yield _failed(error, document)
        else:
            yield ChangedDocument(chunked, comparison)


def _hashed(
    documents: Iterable[Document | DocumentError], seen: SeenIds, vectors: str
) -> Iterator[tuple[Document, str] | DocumentResult]:
    """Yield each document with its hash; a second document with the same id is a failure.

    `seen` keeps for each id the hash that the index should have at the end.
    """
    for document in documents:
        check_interrupt()
        if isinstance(document, DocumentError):
            yield _failed(document)
            continue
        try:
            doc_hash = document_hash(document, vectors=vectors)
        except DocumentError as error:
            yield _failed(error)
            continue
        if seen.add(document.id, doc_hash):
            yield document, doc_hash
        else:
            yield _failed(DocumentError(printable(document.id), USED_BEFORE), document)


def written(
    documents: Iterable[ChangedDocument | DocumentResult],
    target: Target,
    session: LoadSession,
    counts: IngestCounts,
) -> Iterator[DocumentResult]:
    """Embed the documents and write their chunks; yield the result of a document when all its actions are settled.

    Each result is counted before it is yielded, and all results of a request before the first of them: an interrupt in
    between then leaves a report that agrees with the index.
    """
    from es_latechunk.elastic.write.actions import delete_actions, index_actions

    opened: dict[str, _OpenDocument] = {}

    def chunked() -> Iterator[ChunkedDocument | DocumentResult]:
        for item in documents:
            counts.seen_documents += 1
            if isinstance(item, DocumentResult):
                yield item
                continue
            counts.plan(item.chunked)
            document, spans = item.chunked.document, item.chunked.spans
            comparison = item.comparison
            opened[document.id] = _OpenDocument(
                document,
                comparison.doc_hash,
                comparison.indexed.last_ordinal,
                waiting=len(spans) + item.surplus,
                tokens=len(item.chunked.tokens),
                unknown_tokens=item.chunked.tokens.unknown,
                unknown_share=item.chunked.tokens.unknown_share,
            )
            yield item.chunked

    def actions() -> Iterator[Action | DocumentResult]:
        pooling = target.record.identity.pooling
        for block in embed_chunks(
            chunked(), encoder=target.encoder, pooling=pooling, windows=target.windows, clock=counts.clock
        ):
            if isinstance(block, DocumentResult):
                yield block
            elif isinstance(block, DocumentError):
                yield _failed(block, opened.pop(block.document).document)
            else:
                counts.encode(block.chunked, len(block.vectors))
                document = opened[block.chunked.document.id]
                indexing = index_actions(
                    block.chunked,
                    block.first,
                    block.vectors,
                    doc_hash=document.doc_hash,
                    packed=target.packed,
                    fields=target.record.properties,
                    pieces=block.pieces,
                )
                yield from counts.clock.timed("write", indexing)
                if block.last:
                    yield from delete_actions(
                        block.chunked.document.id, len(block.chunked.spans), document.last_ordinal
                    )

    yield from _settled(actions(), opened, target, session, counts)


def _settled(
    actions: Iterable[Action | DocumentResult],
    opened: dict[str, _OpenDocument],
    target: Target,
    session: LoadSession,
    counts: IngestCounts,
) -> Iterator[DocumentResult]:
    from es_latechunk.elastic.write.bulk import write

    def settle(result: ActionResult) -> DocumentResult | None:
        doc_id = result.action.doc_id
        opened[doc_id].settle(result)
        if opened[doc_id].waiting:
            return None
        done = opened.pop(doc_id).result(doc_id)
        counts.add(done)
        return done

    def passing() -> Iterator[Action | DocumentResult]:
        for item in actions:
            if isinstance(item, DocumentResult):
                counts.add(item)
            yield item

    yield from write(
        passing(),
        settle,
        client=session.client,
        index=session.target,
        retry_for=target.retry_for,
        require_alias=session.require_alias,
        check=session.check,
        clock=counts.clock,
    )


@dataclass(slots=True)
class _OpenDocument:
    """A document whose actions are not all settled. `document` is None for one that is only removed."""

    document: Document | None
    doc_hash: str
    last_ordinal: int
    waiting: int
    tokens: int = 0
    unknown_tokens: int = 0
    unknown_share: float = 0.0
    indexed: int = 0
    deleted: int = 0
    cause: str = ""

    def settle(self, result: ActionResult) -> None:
        self.waiting -= 1
        if result.cause:
            self.cause = self.cause or result.cause
        elif result.action.deletes:
            self.deleted += result.status != NOT_FOUND
        else:
            self.indexed += 1

    def result(self, doc_id: str) -> DocumentResult:
        outcome: Outcome = "indexed" if self.document else "deleted"
        error = DocumentError(printable(doc_id), self.cause, source=self.document) if self.cause else None
        return DocumentResult(
            doc_id,
            "failed" if error else outcome,
            0 if error else self.indexed,
            deleted=self.deleted,
            tokens=self.tokens,
            error=error,
            unknown_tokens=self.unknown_tokens,
            unknown_share=self.unknown_share,
        )


def _failed(error: DocumentError, document: Document | None = None) -> DocumentResult:
    error.source = document
    return DocumentResult(document.id if document else error.document, "failed", error=error)


def interfered(target: Target, session: LoadSession, seen: SeenIds) -> Iterator[DocumentResult]:
    """Yield a failure for each document that another load has changed since this run wrote it.

    Only needed without ownership of the index, when nothing keeps two loads apart.
    """
    from es_latechunk.elastic.connection import server_errors
    from es_latechunk.elastic.index.contents import compare_with_index

    with server_errors(session.client, session.target):
        session.client.indices.refresh(index=session.target)
    wanted = ((Document(doc_id, ""), doc_hash) for doc_id, doc_hash in seen.hashes())
    for comparison in compare_with_index(session.client, session.target, wanted, retry_for=target.retry_for):
        if not comparison.unchanged:
            cause = "was changed by another load while this one ran; run the same command again"
            yield _failed(DocumentError(printable(comparison.document.id), cause))


def count_stale(
    target: Target, session: LoadSession, seen: SeenIds, failed: int, *, max_share: float
) -> tuple[int, int]:
    """Count the documents and chunks that pruning will remove: none if documents of the source failed.

    A document that failed may still be in the source, so its absence from the results proves nothing. Raises
    PreconditionError if the source gave no document, or lacks too large a share of the index's documents.
    """
    from es_latechunk.elastic.index.contents import count_documents, stale_documents

    if not len(seen):
        raise PreconditionError("prune: the source gave no document, so nothing is removed; check the paths")
    if failed:
        log.warning("prune: %d documents of the source failed, so nothing is removed", failed)
        return 0, 0
    stale = chunks = 0
    for document in stale_documents(session.client, session.target, seen, retry_for=target.retry_for):
        stale, chunks = stale + 1, chunks + document.chunks
    log.info("prune: %d documents (%d chunks) are no longer in the source", stale, chunks)
    if stale and max_share < 1:
        total = count_documents(session.client, session.target, retry_for=target.retry_for)
        if stale > max_share * total:
            raise PreconditionError(
                f"prune: {stale} of the index's {total} documents are no longer in the source, more than "
                f"{setting('max_prune')} "
                f"{max_share:g}, so nothing is removed; check the paths, or allow it with {setting('max_prune')} 1"
            )
    return stale, chunks


def pruned(
    target: Target, session: LoadSession, seen: SeenIds, counts: IngestCounts
) -> Iterator[DocumentResult]:
    """Remove the documents that the source no longer has, and count them."""
    from es_latechunk.elastic.index.contents import stale_documents
    from es_latechunk.elastic.write.actions import delete_actions

    opened: dict[str, _OpenDocument] = {}

    def actions() -> Iterator[Action]:
        for document in stale_documents(session.client, session.target, seen, retry_for=target.retry_for):
            last = document.last_ordinal
            opened[document.doc_id] = _OpenDocument(None, "", last, waiting=last + 1)
            yield from delete_actions(document.doc_id, 0, last)

    yield from _settled(actions(), opened, target, session, counts)
