"""The whole way into the index: documents in, a report out, and the same index however often it is run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from elasticsearch import Elasticsearch

from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.documents import SeenIds, document_hash
from es_latechunk.documents.dead_letter import DeadLetters
from es_latechunk.elastic.actions import Action, check_id, delete_actions, index_actions
from es_latechunk.elastic.bulk import BulkWriter
from es_latechunk.elastic.connection import server_version
from es_latechunk.elastic.identity import check_encoder
from es_latechunk.elastic.load import without_refresh
from es_latechunk.elastic.mapping import IndexRecord, read_record
from es_latechunk.elastic.prune import Stale, stale_documents
from es_latechunk.elastic.report import IngestReport, OpenDocument, Tally
from es_latechunk.elastic.retry import DEFAULT_RETRY_FOR
from es_latechunk.elastic.state import Comparison, compare_with_index
from es_latechunk.errors import DocumentError, PreconditionError
from es_latechunk.late import EmbeddedChunks, embed_chunks
from es_latechunk.types import ChunkedDocument, Document, Encoder

PACKED_VECTORS_SINCE = (9, 3)
NOT_FOUND = 404
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a run behaves; see `ingest`."""

    on_error: Callable[[DocumentError], None] | None = None
    on_progress: Callable[[Tally], None] | None = None
    retry_for: float = DEFAULT_RETRY_FOR
    prune: bool = False
    dead_letters: DeadLetters | None = None


def ingest(
    documents: Iterable[Document],
    *,
    client: Elasticsearch,
    index: str,
    encoder: Encoder,
    options: IngestOptions | None = None,
    tally: Tally | None = None,
) -> IngestReport:
    """Write every document that is new or changed, and remove the chunks that a shorter version lacks.

    Chunks are cut and pooled as the index records. A document that cannot be used goes to `on_error` and,
    if it was read, to the dead letters; the others go on. `prune` removes, at the end, the documents that
    the source no longer has: not when anything of it failed, and a source that gave none at all is refused
    (PreconditionError). Raises IndexMismatchError before anything is written when the encoder is not the
    index's own, and WriteError when the cluster does not answer as it should for `retry_for` seconds; `tally`,
    where given, then holds what was done until there.
    """
    record = read_record(client, index)
    check_encoder(index, record.identity.encoder, encoder.identity)
    run = IngestRun(client, index, record, encoder, options or IngestOptions(), tally or Tally())
    with SeenIds() as seen, without_refresh(client, index, retry_for=run.options.retry_for):
        run.write(documents, seen)
        if run.options.prune:
            run.prune(seen)
    return run.tally.report()


class IngestRun:
    """One ingest: the stages as generators, and the documents that are on their way through them."""

    def __init__(
        self,
        client: Elasticsearch,
        index: str,
        record: IndexRecord,
        encoder: Encoder,
        options: IngestOptions,
        tally: Tally,
    ) -> None:
        self._client = client
        self._index = index
        self._record = record
        self._encoder = encoder
        self._chunker = make_chunker(
            record.identity.chunker, tokenizer=encoder.tokenizer, max_tokens=record.identity.max_tokens
        )
        self._packed = _takes_packed_vectors(client)
        self._writer = BulkWriter(client, index, on_result=self._settle, retry_for=options.retry_for)
        self._comparisons: dict[str, Comparison] = {}
        self._open: dict[str, OpenDocument] = {}
        self.options = options
        self.tally = tally

    def changed_documents(
        self, documents: Iterable[Document], seen: SeenIds
    ) -> Iterator[tuple[ChunkedDocument, int]]:
        """What is to be written, cut into chunks, with the number of chunks that it leaves over in the index."""
        return self._chunk(self._changed(self._unique(documents, seen)))

    def write(self, documents: Iterable[Document], seen: SeenIds) -> None:
        chunked = (document for document, _ in self.changed_documents(documents, seen))
        for block in embed_chunks(chunked, encoder=self._encoder, pooling=self._record.identity.pooling):
            if isinstance(block, DocumentError):
                self._fail(block, self._comparisons.pop(block.document).document)
            else:
                self._send(block)
            if self.options.on_progress:
                self.options.on_progress(self.tally)
        self._writer.flush()

    def prune(self, seen: SeenIds) -> None:
        """Remove what the source no longer has; the count is logged before the first is removed."""
        if not len(seen):
            raise PreconditionError(
                "prune: the source gave no document, so nothing is removed; check the paths"
            )
        if self.tally.failed:
            log.warning("prune: %d documents of the source failed, so nothing is removed", self.tally.failed)
            return
        stale = chunks = 0
        for document in self._stale(seen):
            stale, chunks = stale + 1, chunks + document.chunks
        log.info("prune: %d documents (%d chunks) are no longer in the source", stale, chunks)
        if not stale:
            return
        for document in self._stale(seen):
            actions = list(delete_actions(document.doc_id, 0, document.last_ordinal))
            self._open[document.doc_id] = OpenDocument(None, waiting=len(actions), tokens=0)
            for action in actions:
                self._writer.add(action)
        self._writer.flush()

    def _stale(self, seen: SeenIds) -> Iterator[Stale]:
        return stale_documents(self._client, self._index, seen, retry_for=self.options.retry_for)

    def _unique(self, documents: Iterable[Document], seen: SeenIds) -> Iterator[tuple[Document, str]]:
        for document in documents:
            try:
                doc_hash = document_hash(document)
            except DocumentError as error:
                self._fail(error)
                continue
            if seen.first_place(document.id, "") is None:
                yield document, doc_hash
            else:
                twice = DocumentError(document.id, "its id was used before in this run; give it another id")
                self._fail(twice, document)

    def _changed(self, documents: Iterable[tuple[Document, str]]) -> Iterator[Comparison]:
        for comparison in compare_with_index(
            self._client, self._index, documents, retry_for=self.options.retry_for
        ):
            if comparison.unchanged:
                self.tally.documents += 1
                self.tally.unchanged += comparison.stored.chunks
            else:
                yield comparison

    def _chunk(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[ChunkedDocument, int]]:
        for comparison in comparisons:
            document = comparison.document
            try:
                chunked = chunk_document(document, chunker=self._chunker, tokenizer=self._encoder.tokenizer)
                check_id(document.id, len(chunked.spans))
            except DocumentError as error:
                self._fail(error, document)
                continue
            self._comparisons[document.id] = comparison
            yield chunked, comparison.surplus(len(chunked.spans))

    def _send(self, block: EmbeddedChunks) -> None:
        document = block.chunked.document
        comparison = self._comparisons[document.id]
        if block.first == 0:
            self._begin(block.chunked, comparison)
        for action in index_actions(
            block.chunked,
            block.first,
            block.vectors,
            doc_hash=comparison.doc_hash,
            packed=self._packed,
            context=self._record.has_context,
        ):
            self._writer.add(action)
        if block.last:
            del self._comparisons[document.id]
            for action in delete_actions(
                document.id, len(block.chunked.spans), comparison.stored.last_ordinal
            ):
                self._writer.add(action)

    def _begin(self, chunked: ChunkedDocument, comparison: Comparison) -> None:
        chunks = len(chunked.spans)
        waiting = chunks + comparison.surplus(chunks)
        self._open[chunked.document.id] = OpenDocument(chunked.document, waiting, len(chunked.tokens))

    def _settle(self, action: Action, status: int, cause: str) -> None:
        document = self._open[action.doc_id]
        document.waiting -= 1
        if cause:
            document.error = document.error or DocumentError(action.doc_id, cause)
        elif action.deletes:
            document.deleted += status != NOT_FOUND
        else:
            document.indexed += 1
        if document.waiting == 0:
            self._close(self._open.pop(action.doc_id))

    def _close(self, done: OpenDocument) -> None:
        self.tally.deleted += done.deleted
        self.tally.tokens += done.tokens
        if done.error:
            self._fail(done.error, done.document)
        elif done.document:
            self.tally.documents += 1
            self.tally.indexed += done.indexed

    def _fail(self, error: DocumentError, document: Document | None = None) -> None:
        self.tally.failed += 1
        if document and self.options.dead_letters:
            self.options.dead_letters.add(document, error)
        if self.options.on_error:
            self.options.on_error(error)


def _takes_packed_vectors(client: Elasticsearch) -> bool:
    """Whether every node reads vectors as base64, which is shorter and read faster than numbers."""
    version = server_version(client)
    if version is None:
        log.info("no right to see the server's version (monitor), so vectors are sent as lists of numbers")
    return version is not None and version >= PACKED_VECTORS_SINCE
