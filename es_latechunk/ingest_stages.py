"""The stages of an ingest: documents are hashed, compared with the index, chunked, embedded and written.

    documents -> hashed -> compared with the index -> cut into chunks -> embedded -> bulk actions -> results

Each stage is a generator that reads the stage before it. Items that a stage cannot use pass through it unchanged: a
DocumentError of any earlier stage, and the result of a document that need not be written. So each document of the
source leaves the last stage as one DocumentResult, and that is the only channel for results and errors.

One process runs them all. On a cluster the process that reads the source hashes, and the others do the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from es_latechunk.chunking import chunk_document
from es_latechunk.documents import USED_BEFORE, SeenIds, document_hash, printable
from es_latechunk.errors import DocumentError, PreconditionError, setting
from es_latechunk.late import embed_chunks
from es_latechunk.report import DocumentResult, IngestCounts, Outcome
from es_latechunk.stages import StageClock
from es_latechunk.target import Target
from es_latechunk.threads import check_interrupt
from es_latechunk.types import ChunkedDocument, Document

if TYPE_CHECKING:
    from es_latechunk.elastic.index.contents import Comparison
    from es_latechunk.elastic.write.actions import Action
    from es_latechunk.elastic.write.bulk import ActionResult
    from es_latechunk.elastic.write.session import LoadSession

NOT_FOUND = 404
HashedDocument = tuple[Document, str]
log = logging.getLogger(__name__)


def hashed_documents(
    documents: Iterable[Document | DocumentError], seen: SeenIds, vectors: str
) -> Iterator[HashedDocument | DocumentResult]:
    """Yield each document with its hash; a second document with the same id is a failure.

    `seen` keeps for each id the hash that the index should have at the end.
    """
    for document in documents:
        check_interrupt()
        if isinstance(document, DocumentError):
            yield failed_result(document)
            continue
        try:
            doc_hash = document_hash(document, vectors=vectors)
        except DocumentError as error:
            yield failed_result(error)
            continue
        if seen.add(document.id, doc_hash):
            yield document, doc_hash
        else:
            yield failed_result(DocumentError(printable(document.id), USED_BEFORE), document)


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
    hashed: Iterable[HashedDocument | DocumentResult],
    target: Target,
    session: LoadSession,
    clock: StageClock,
) -> Iterator[ChangedDocument | DocumentResult]:
    """Chunk the documents that have to be written; an unchanged document becomes a result, and costs no encoding."""
    from es_latechunk.elastic.index.contents import compare_with_index
    from es_latechunk.elastic.write.actions import check_document

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
            yield failed_result(error, document)
        else:
            yield ChangedDocument(chunked, comparison)


def written(
    documents: Iterable[ChangedDocument | DocumentResult],
    target: Target,
    session: LoadSession,
    counts: IngestCounts,
    *,
    repeated: bool = False,
) -> Iterator[DocumentResult]:
    """Embed the documents and write their chunks; yield the result of a document when all its actions are settled.

    Each result is counted before it is yielded, and all results of a request before the first of them: an interrupt in
    between then leaves a report that agrees with the index. `repeated`: another process has begun with these documents
    and was lost, so a chunk that is to be deleted and is not there was deleted by it.
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
                yield failed_result(block, opened.pop(block.document).document)
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

    yield from _settled(actions(), opened, target, session, counts, repeated=repeated)


def _settled(
    actions: Iterable[Action | DocumentResult],
    opened: dict[str, _OpenDocument],
    target: Target,
    session: LoadSession,
    counts: IngestCounts,
    *,
    repeated: bool = False,
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
        repeated=repeated,
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


def failed_result(error: DocumentError, document: Document | None = None) -> DocumentResult:
    """Return the result of a document that cannot be used; the error keeps the document, if it could be read."""
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
            yield failed_result(DocumentError(printable(comparison.document.id), cause))


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
