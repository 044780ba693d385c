"""The whole way into the index: documents in, a report out, and the same index however often it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from elasticsearch import Elasticsearch

from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.documents import SeenIds
from es_latechunk.elastic.actions import Action, check_id, delete_actions, index_actions
from es_latechunk.elastic.bulk import BulkWriter
from es_latechunk.elastic.connection import server_version
from es_latechunk.elastic.identity import IndexIdentity, check_encoder
from es_latechunk.elastic.load import without_refresh
from es_latechunk.elastic.mapping import read_identity
from es_latechunk.elastic.report import IngestReport, OpenDocument, Tally
from es_latechunk.elastic.state import Comparison, compare_with_index
from es_latechunk.errors import DocumentError
from es_latechunk.late import EmbeddedChunks, embed_chunks
from es_latechunk.types import ChunkedDocument, Document, Encoder

PACKED_VECTORS_SINCE = (9, 3)
NOT_FOUND = 404

OnError = Callable[[DocumentError], None]


def ingest(
    documents: Iterable[Document],
    *,
    client: Elasticsearch,
    index: str,
    encoder: Encoder,
    on_error: OnError | None = None,
    on_progress: Callable[[Tally], None] | None = None,
    retry_for: float = 120.0,
    tally: Tally | None = None,
) -> IngestReport:
    """Write every document that is new or changed, and remove the chunks that a shorter version lacks.

    Chunks are cut and pooled as the index records. A document that cannot be used goes to `on_error`
    (default: none, it is only counted) and the others go on. Raises IndexMismatchError before anything is
    written when the encoder is not the index's own, and WriteError when the cluster does not take what is
    sent for `retry_for` seconds; `tally`, where given, then holds what was done until there.
    """
    identity = read_identity(client, index)
    check_encoder(index, identity.encoder, encoder.identity)
    run = _Run(client, index, identity, encoder, on_error, on_progress, retry_for, tally or Tally())
    with SeenIds() as seen, without_refresh(client, index):
        run.write(documents, seen)
    return run.tally.report()


class _Run:
    """One ingest: the stages as generators, and the documents that are on their way through them."""

    def __init__(
        self,
        client: Elasticsearch,
        index: str,
        identity: IndexIdentity,
        encoder: Encoder,
        on_error: OnError | None,
        on_progress: Callable[[Tally], None] | None,
        retry_for: float,
        tally: Tally,
    ) -> None:
        self._client = client
        self._index = index
        self._identity = identity
        self._encoder = encoder
        self._on_error = on_error
        self._on_progress = on_progress
        self._chunker = make_chunker(
            identity.chunker, tokenizer=encoder.tokenizer, max_tokens=identity.max_tokens
        )
        self._packed = server_version(client) >= PACKED_VECTORS_SINCE
        self._writer = BulkWriter(client, index, on_result=self._settle, retry_for=retry_for)
        self._comparisons: dict[str, Comparison] = {}
        self._open: dict[str, OpenDocument] = {}
        self.tally = tally

    def write(self, documents: Iterable[Document], seen: SeenIds) -> None:
        unique = self._unique(documents, seen)
        chunked = self._chunk(self._changed(unique))
        for block in embed_chunks(chunked, encoder=self._encoder, pooling=self._identity.pooling):
            if isinstance(block, DocumentError):
                self._fail(block)
            else:
                self._send(block)
            if self._on_progress:
                self._on_progress(self.tally)
        self._writer.flush()

    def _unique(self, documents: Iterable[Document], seen: SeenIds) -> Iterator[Document]:
        for document in documents:
            if seen.first_place(document.id, "") is None:
                yield document
            else:
                self._fail(
                    DocumentError(document.id, "its id was used before in this run; give it another id")
                )

    def _changed(self, documents: Iterable[Document]) -> Iterator[Comparison]:
        for comparison in compare_with_index(self._client, self._index, documents):
            if comparison.unchanged:
                self.tally.documents += 1
                self.tally.unchanged += comparison.stored.chunks
            else:
                yield comparison

    def _chunk(self, comparisons: Iterable[Comparison]) -> Iterator[ChunkedDocument]:
        for comparison in comparisons:
            document = comparison.document
            try:
                chunked = chunk_document(document, chunker=self._chunker, tokenizer=self._encoder.tokenizer)
                check_id(document.id, len(chunked.spans))
            except DocumentError as error:
                self._fail(error)
                continue
            self._comparisons[document.id] = comparison
            yield chunked

    def _send(self, block: EmbeddedChunks) -> None:
        document = block.chunked.document
        comparison = self._comparisons[document.id]
        if block.first == 0:
            self._begin(block.chunked, comparison)
        for action in index_actions(
            block.chunked, block.first, block.vectors, doc_hash=comparison.doc_hash, packed=self._packed
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
        surplus = max(0, comparison.stored.last_ordinal + 1 - chunks)
        self._open[chunked.document.id] = OpenDocument(chunks + surplus, len(chunked.tokens))

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

    def _close(self, document: OpenDocument) -> None:
        self.tally.deleted += document.deleted
        self.tally.tokens += document.tokens
        if document.error:
            self._fail(document.error)
        else:
            self.tally.documents += 1
            self.tally.indexed += document.indexed

    def _fail(self, error: DocumentError) -> None:
        self.tally.failed += 1
        self._comparisons.pop(error.document, None)
        if self._on_error:
            self._on_error(error)
