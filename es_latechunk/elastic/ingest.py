"""The whole way into the index: documents in, a report out, and the same index however often it is run."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from elasticsearch import Elasticsearch

from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.documents import SeenIds, document_hash, shown
from es_latechunk.documents.dead_letter import DeadLetters
from es_latechunk.elastic.actions import Action, check_id, delete_actions, index_actions
from es_latechunk.elastic.alias import note_fill
from es_latechunk.elastic.bulk import BulkWriter
from es_latechunk.elastic.connection import server_errors, server_version
from es_latechunk.elastic.identity import check_encoder
from es_latechunk.elastic.load import Load, open_load, resolve
from es_latechunk.elastic.mapping import IndexRecord, read_record, single_index
from es_latechunk.elastic.prune import Stale, stale_documents
from es_latechunk.elastic.report import IngestReport, OpenDocument, Tally
from es_latechunk.elastic.retry import DEFAULT_RETRY_FOR, ride_out
from es_latechunk.elastic.state import Comparison, compare_with_index, count_documents
from es_latechunk.errors import DocumentError, PreconditionError, WriteError
from es_latechunk.late import EmbeddedChunks, embed_chunks
from es_latechunk.types import ChunkedDocument, Document, Encoder

PACKED_VECTORS_SINCE = (9, 3)
NOT_FOUND = 404
DEFAULT_MAX_PRUNE = 0.5
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a run behaves; see `ingest`."""

    on_error: Callable[[DocumentError], None] | None = None
    on_progress: Callable[[Tally], None] | None = None
    retry_for: float = DEFAULT_RETRY_FOR
    prune: bool = False
    dead_letters: DeadLetters | None = None
    max_prune: float = DEFAULT_MAX_PRUNE
    wait: bool = False
    alias: str | None = None


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

    `index` is resolved once: an alias that moves during the load does not move the load, which then ends with a
    WriteError, as what it wrote is not behind the alias. One load at a time owns an index: another one is an
    IndexBusyError, or is waited for (`wait`). Chunks are cut and pooled as the index records. A document that
    cannot be used goes to `on_error` and, if it was read, to the dead letters; the others go on.

    `prune` removes, at the end, the documents that the source no longer has: not when anything of it failed. A
    source that gave none at all is refused, and so is one without more than the share `max_prune` (0 to 1) of the
    index's documents (PreconditionError). `alias` is the alias that the index is filled for: what the load counted
    is noted for `promote`.

    Raises IndexMismatchError before anything is written when the encoder is not the index's own, and WriteError
    when the cluster does not answer as it should for `retry_for` seconds, or the index takes nothing, is deleted
    or taken over; `tally`, where given, then holds what was done until there.
    """
    options, tally = options or IngestOptions(), tally or Tally()
    state = ride_out(lambda: resolve(client, index), retry_for=options.retry_for)
    record = ride_out(lambda: read_record(client, state.name), retry_for=options.retry_for)
    check_encoder(index, record.identity.encoder, encoder.identity)
    packed = ride_out(lambda: _takes_packed_vectors(client), retry_for=options.retry_for)
    with SeenIds() as seen, open_load(client, state, retry_for=options.retry_for, wait=options.wait) as load:
        run = IngestRun(load, record, encoder, options, tally, seen, packed=packed)
        if options.alias:
            note_fill(load, options.alias, chunks=None, failed=0)
        try:
            run.write(documents)
            if load.own is None:
                run.check_whole()
            if options.prune:
                run.prune()
        finally:
            run.tell_failures()
        report = tally.report()
        if options.alias:
            note_fill(load, options.alias, chunks=report.chunks, failed=report.failed)
    now = ride_out(lambda: single_index(client, index), retry_for=options.retry_for, opening=False)
    if now != state.name:
        raise WriteError(
            f"{index}: stood for {state.name} when this load began, and stands for {now} now; what was written is in "
            f"{state.name}: run the same command again"
        )
    return report


class IngestRun:
    """One ingest: the stages as generators, and the documents that are on their way through them."""

    def __init__(
        self,
        load: Load,
        record: IndexRecord,
        encoder: Encoder,
        options: IngestOptions,
        tally: Tally,
        seen: SeenIds,
        *,
        packed: bool = False,
    ) -> None:
        self._seen = seen
        self._client = load.client
        self._target = load.target
        self._record = record
        self._encoder = encoder
        self._chunker = make_chunker(
            record.identity.chunker, tokenizer=encoder.tokenizer, max_tokens=record.identity.max_tokens
        )
        self._vector_identity = record.identity.digest()
        self._packed = packed
        self._writer = BulkWriter(
            load.client,
            load.target,
            on_result=self._settle,
            retry_for=options.retry_for,
            require_alias=load.require_alias,
            check=load.check,
        )
        self._comparisons: dict[str, Comparison] = {}
        self._open: dict[str, OpenDocument] = {}
        self._refused: deque[tuple[DocumentError, Document | None]] = deque()
        self.options = options
        self.tally = tally

    def changed_documents(self, documents: Iterable[Document]) -> Iterator[tuple[ChunkedDocument, int]]:
        """What is to be written, cut into chunks, with the number of chunks that it leaves over in the index."""
        return self._chunk(self._changed(self._unique(documents)))

    def write(self, documents: Iterable[Document]) -> None:
        """Write what is new or changed, and return when every chunk is settled."""
        chunked = (document for document, _ in self.changed_documents(documents))
        for block in embed_chunks(chunked, encoder=self._encoder, pooling=self._record.identity.pooling):
            if isinstance(block, DocumentError):
                self._fail(block, self._comparisons.pop(block.document).document)
            else:
                self._send(block)
            self.tell_failures()
            if self.options.on_progress:
                self.options.on_progress(self.tally)
        self._writer.flush()

    def count_stale(self) -> tuple[int, int]:
        """Documents and chunks that pruning would remove: none where a document of the source failed.

        Raises PreconditionError where the source gave no document, or lacks too large a share of the index's.
        """
        if not len(self._seen):
            raise PreconditionError(
                "prune: the source gave no document, so nothing is removed; check the paths"
            )
        if self.tally.failed:
            log.warning("prune: %d documents of the source failed, so nothing is removed", self.tally.failed)
            return 0, 0
        stale = chunks = 0
        for document in self._stale():
            stale, chunks = stale + 1, chunks + document.chunks
        log.info("prune: %d documents (%d chunks) are no longer in the source", stale, chunks)
        if stale and self.options.max_prune < 1:
            there = count_documents(self._client, self._target, retry_for=self.options.retry_for)
            if stale > self.options.max_prune * there:
                raise PreconditionError(
                    f"prune: {stale} of the index's {there} documents are no longer in the source, more than "
                    f"--max-prune {self.options.max_prune:.0%}, so nothing is removed; check the paths, or allow it "
                    "with --max-prune 100%"
                )
        return stale, chunks

    def prune(self) -> None:
        """Remove what the source no longer has; the count is logged before the first is removed."""
        stale, _ = self.count_stale()
        if not stale:
            return
        for document in self._stale():
            actions = list(delete_actions(document.doc_id, 0, document.last_ordinal))
            self._open[document.doc_id] = OpenDocument(None, waiting=len(actions), tokens=0)
            for action in actions:
                self._writer.add(action)
        self._writer.flush()

    def check_whole(self) -> None:
        """Fail each document that is not in the index as this run wants it: another load has written it too.

        Only needed where nothing keeps two loads apart.
        """
        with server_errors(self._client, self._target):
            self._client.indices.refresh(index=self._target)
        wanted = ((Document(doc_id, ""), doc_hash) for doc_id, doc_hash in self._seen.places() if doc_hash)
        for comparison in compare_with_index(
            self._client, self._target, wanted, retry_for=self.options.retry_for
        ):
            if not comparison.unchanged:
                cause = "was changed by another load while this one ran; run the same command again"
                self._fail(DocumentError(shown(comparison.document.id), cause))
                self.tally.documents -= 1

    def _stale(self) -> Iterator[Stale]:
        return stale_documents(self._client, self._target, self._seen, retry_for=self.options.retry_for)

    def _unique(self, documents: Iterable[Document]) -> Iterator[tuple[Document, str]]:
        for document in documents:
            try:
                doc_hash = document_hash(document, vectors=self._vector_identity)
            except DocumentError as error:
                self._fail(error)
                continue
            if self._seen.first_place(document.id, doc_hash) is None:
                yield document, doc_hash
            else:
                twice = DocumentError(document.id, "its id was used before in this run; give it another id")
                self._fail(twice, document, stays=True)

    def _changed(self, documents: Iterable[tuple[Document, str]]) -> Iterator[Comparison]:
        for comparison in compare_with_index(
            self._client, self._target, documents, retry_for=self.options.retry_for
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
            self._refused.append((done.error, done.document))
        elif done.document:
            self.tally.documents += 1
            self.tally.indexed += done.indexed

    def _fail(self, error: DocumentError, document: Document | None = None, *, stays: bool = False) -> None:
        """Count and tell a failure. `stays`: another document of the same id is none the worse for it."""
        self.tally.failed += 1
        if document and not stays:
            self._seen.set_place(document.id, "")
        if document and self.options.dead_letters:
            self.options.dead_letters.add(document, error)
        if self.options.on_error:
            self.options.on_error(error)

    def tell_failures(self) -> None:
        """Count and tell what the server refused since the last call; the thread that sends leaves it to this one."""
        while self._refused:
            self._fail(*self._refused.popleft())


def _takes_packed_vectors(client: Elasticsearch) -> bool:
    """Whether every node reads vectors as base64, which is shorter and read faster than numbers."""
    version = server_version(client)
    if version is None:
        log.info("no right to see the server's version (monitor), so vectors are sent as lists of numbers")
    return version is not None and version >= PACKED_VECTORS_SINCE
