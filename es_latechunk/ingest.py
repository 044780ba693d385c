"""The way of the data, from top to bottom: documents in, compared, cut, embedded, written, and reported.

    documents -> hashed -> compared with the index -> cut into chunks -> embedded -> bulk actions -> results

Each stage is a generator that takes what the one before it gives. What a stage has no use for passes through it as it
is: a DocumentError, from wherever it comes, and the result of a document that needs no writing. So each document
of the source comes out at the end as one DocumentResult, and nothing else carries news.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from es_latechunk.bootstrap import fresh_index
from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.documents import USED_BEFORE, SeenIds, document_hash, printable
from es_latechunk.errors import DocumentError, PreconditionError, UsageError, WriteError, setting
from es_latechunk.late import embed_chunks
from es_latechunk.models import EncoderLoader, choose_encoder
from es_latechunk.report import DocumentResult, IngestProgress, IngestReport, Outcome
from es_latechunk.types import ChunkedDocument, Chunker, Document, Encoder

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch
    from typing_extensions import Unpack

    from es_latechunk.elastic.index.admin import IndexRecord
    from es_latechunk.elastic.index.contents import Comparison
    from es_latechunk.elastic.index.ownership import IndexState
    from es_latechunk.elastic.write.actions import Action
    from es_latechunk.elastic.write.bulk import ActionResult
    from es_latechunk.elastic.write.load import Load

DEFAULT_RETRY_FOR = 120.0  # seconds
DEFAULT_MAX_PRUNE = 0.5
PACKED_VECTORS_SINCE = (9, 3)
NOT_FOUND = 404
Count = Callable[[DocumentResult], None]
log = logging.getLogger(__name__)


class IngestKeywords(TypedDict, total=False):
    """The keywords of `ingest` that IngestRun explains."""

    retry_for: float
    prune: bool
    max_prune: float
    wait: bool


def ingest(
    documents: Iterable[Document | DocumentError],
    *,
    index: str | None = None,
    alias: str | None = None,
    client: Elasticsearch | None = None,
    encoder: Encoder | EncoderLoader | None = None,
    **keywords: Unpack[IngestKeywords],
) -> IngestReport:
    """Write what is new or changed, to the end; the report lists what failed. IngestRun explains the arguments."""
    run = IngestRun(documents, index=index, alias=alias, client=client, encoder=encoder, **keywords)
    for _ in run:
        pass
    return run.report


class IngestRun:
    """One ingest: iterate over it for each document's result as it is settled; `report` counts them at any time.

    Every document that is new or changed is written, and the chunks that a shorter version lacks are removed. A
    document that cannot be used gives its error as its result, and the others go on. Chunks are cut and pooled as
    the index records. `encoder` is the index's own; or a function that loads it, given what the index records (None
    for the first index of an alias); or None, and the model that the index records is loaded. Without a client the
    cluster is that of ELASTICSEARCH_URL, or the local node.

    `index` is resolved once: an alias that moves during the load does not move the load, which then ends with a
    WriteError, as what it wrote is not behind the alias. One load at a time owns an index: another one is an
    IndexBusyError, or is waited for (`wait`).

    `prune` removes, at the end, the documents that the source no longer has: not when anything of it failed. A
    source that gave none at all is refused, and so is one without more than the share `max_prune` (0 to 1) of the
    index's documents (PreconditionError). With `alias` instead of `index`, a fresh index is filled with all of the
    source and nothing else, and what the load counted is noted for `promote`, which swaps the alias to it.

    A new IngestRun has nothing written yet, but the index is looked up and the encoder loaded: it raises
    IndexNotFoundError, and IndexMismatchError when the encoder is not the index's own. The iteration raises
    WriteError when the cluster does not answer as it should for `retry_for` seconds, or the index takes nothing, is
    deleted or taken over. `report` then holds what was done until there.
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
        from es_latechunk.elastic.retry import ride_out
        from es_latechunk.elastic.write.load import resolve

        check_shares(retry_for, max_prune)
        self._documents = documents
        self._alias = alias
        self._client = client or connect()
        self._retry_for = retry_for
        self._prune = prune or alias is not None
        self._max_prune = 1.0 if alias is not None else max_prune
        self._wait = wait
        self._counts = IngestProgress()
        if alias is not None and index is None:
            index, encoder = ride_out(
                lambda: fresh_index(alias, client=self._client, encoder=encoder), retry_for=retry_for
            )
        elif index is None or alias is not None:
            raise UsageError(f"ingest needs either {setting('index')} or {setting('alias')}")
        self._name = index
        self._index = ride_out(lambda: resolve(self._client, self._name), retry_for=retry_for)
        self._target = open_target(self._client, self._index, encoder, retry_for=retry_for)

    @property
    def index(self) -> str:
        """The name of the index that is written, also behind an alias."""
        return self._index.name

    @property
    def encoder(self) -> Encoder:
        """The encoder that makes the vectors."""
        return self._target.encoder

    @property
    def report(self) -> IngestReport:
        """What was done so far."""
        return self._counts.report()

    def __iter__(self) -> Iterator[DocumentResult]:
        from es_latechunk.elastic.index.admin import single_index
        from es_latechunk.elastic.retry import ride_out
        from es_latechunk.elastic.write.alias import note_fill
        from es_latechunk.elastic.write.load import open_load

        client, retry_for = self._client, self._retry_for
        with (
            SeenIds() as seen,
            open_load(client, self._index, retry_for=retry_for, wait=self._wait) as load,
        ):
            if self._alias:
                note_fill(load, self._alias, chunks=None, failed=0)
            for result in self._results(load, seen):
                if result.error:
                    seen.clear_hash(result.doc_id)
                yield result
            if self._alias:
                note_fill(load, self._alias, chunks=self.report.chunks, failed=self.report.failed)
        now = ride_out(lambda: single_index(client, self._name), retry_for=retry_for, opening=False)
        if now != self.index:
            raise WriteError(
                f"{self._name}: stood for {self.index} when this load began, and stands for {now} now; what was "
                f"written is in {self.index}: run the same command again"
            )

    def _results(self, load: Load, seen: SeenIds) -> Iterator[DocumentResult]:
        target, count = self._target, self._counts.add
        yield from written(changed_documents(self._documents, target, load, seen), target, load, count)
        if load.own is None:
            for result in interfered(target, load, seen):
                self._counts.documents -= 1
                count(result)
                yield result
        if self._prune and count_stale(target, load, seen, self.report.failed, max_share=self._max_prune)[0]:
            yield from pruned(target, load, seen, count)


def check_shares(retry_for: float, max_prune: float) -> None:
    """Raise a UsageError for a time that ends before it begins, and for a share that is none."""
    if not retry_for >= 0:
        raise UsageError(f"{setting('retry_for')} {retry_for}: give seconds, 0 or more")
    if not 0 <= max_prune <= 1:
        raise UsageError(f"{setting('max_prune')} {max_prune} is not a share; give 0 to 1")


@dataclass(frozen=True, slots=True)
class Target:
    """What the stages know of the index and its encoder.

    `vectors` says what makes a vector, `packed` how it is sent.
    """

    record: IndexRecord
    encoder: Encoder
    chunker: Chunker
    vectors: str
    packed: bool
    retry_for: float


def open_target(
    client: Elasticsearch, index: IndexState, encoder: Encoder | EncoderLoader | None, *, retry_for: float
) -> Target:
    """Read what the index records; an encoder that is not its own is refused (IndexMismatchError)."""
    from es_latechunk.elastic.index.admin import read_record
    from es_latechunk.elastic.index.identity import check_encoder
    from es_latechunk.elastic.retry import ride_out

    record = ride_out(lambda: read_record(client, index.name), retry_for=retry_for)
    identity = record.identity
    encoder = choose_encoder(encoder, identity.encoder, retry_for=retry_for)
    check_encoder(index.name, identity.encoder, encoder.identity)
    chunker = make_chunker(identity.chunker, tokenizer=encoder.tokenizer, max_tokens=identity.max_tokens)
    packed = ride_out(lambda: _takes_packed_vectors(client), retry_for=retry_for)
    return Target(record, encoder, chunker, identity.digest(), packed, retry_for)


def _takes_packed_vectors(client: Elasticsearch) -> bool:
    """Whether every node reads vectors as base64, which is shorter and read faster than numbers."""
    from es_latechunk.elastic.connection import server_version

    version = server_version(client)
    if version is None:
        log.info("no right to see the server's version (monitor), so vectors are sent as lists of numbers")
    return version is not None and version >= PACKED_VECTORS_SINCE


@dataclass(frozen=True, slots=True)
class ChangedDocument:
    """A document that is to be written, cut into chunks, next to what the index holds of it."""

    chunked: ChunkedDocument
    comparison: Comparison

    @property
    def surplus(self) -> int:
        """The chunks that the index holds beyond those of this version."""
        return self.comparison.surplus(len(self.chunked.spans))


def changed_documents(
    documents: Iterable[Document | DocumentError], target: Target, load: Load, seen: SeenIds
) -> Iterator[ChangedDocument | DocumentResult]:
    """What is to be written, cut into chunks; an unchanged document is a result already, and costs no encoding."""
    from es_latechunk.elastic.index.contents import compare_with_index
    from es_latechunk.elastic.write.actions import check_id

    hashed = _hashed(documents, seen, target.vectors)
    for comparison in compare_with_index(load.client, load.target, hashed, retry_for=target.retry_for):
        if isinstance(comparison, DocumentResult):
            yield comparison
            continue
        document = comparison.document
        if comparison.unchanged:
            yield DocumentResult(document.id, "unchanged", unchanged=comparison.stored.chunks)
            continue
        try:
            chunked = chunk_document(document, chunker=target.chunker, tokenizer=target.encoder.tokenizer)
            check_id(document.id, len(chunked.spans))
        except DocumentError as error:
            yield _failed(error, document)
        else:
            yield ChangedDocument(chunked, comparison)


def _hashed(
    documents: Iterable[Document | DocumentError], seen: SeenIds, vectors: str
) -> Iterator[tuple[Document, str] | DocumentResult]:
    """Each document with its hash; an id is taken once. `seen` keeps the hash that the index should end with."""
    for document in documents:
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
    documents: Iterable[ChangedDocument | DocumentResult], target: Target, load: Load, count: Count
) -> Iterator[DocumentResult]:
    """Embed the documents and write their chunks; a document's result comes when all its actions are settled.

    `count` is called with each result first: with those of a whole request before the first of them is given.
    """
    from es_latechunk.elastic.write.actions import delete_actions, index_actions

    opened: dict[str, _OpenDocument] = {}

    def chunked() -> Iterator[ChunkedDocument | DocumentResult]:
        for item in documents:
            if isinstance(item, DocumentResult):
                yield item
                continue
            document, spans = item.chunked.document, item.chunked.spans
            comparison = item.comparison
            opened[document.id] = _OpenDocument(
                document,
                comparison.doc_hash,
                comparison.stored.last_ordinal,
                waiting=len(spans) + item.surplus,
                tokens=len(item.chunked.tokens),
                unknown_tokens=item.chunked.tokens.unknown,
                unknown_share=item.chunked.tokens.unknown_share,
            )
            yield item.chunked

    def actions() -> Iterator[Action | DocumentResult]:
        for block in embed_chunks(chunked(), encoder=target.encoder, pooling=target.record.identity.pooling):
            if isinstance(block, DocumentResult):
                yield block
            elif isinstance(block, DocumentError):
                yield _failed(block, opened.pop(block.document).document)
            else:
                document = opened[block.chunked.document.id]
                yield from index_actions(
                    block.chunked,
                    block.first,
                    block.vectors,
                    doc_hash=document.doc_hash,
                    packed=target.packed,
                    context=target.record.has_context,
                )
                if block.last:
                    yield from delete_actions(
                        block.chunked.document.id, len(block.chunked.spans), document.last_ordinal
                    )

    yield from _settled(actions(), opened, target, load, count)


def _settled(
    actions: Iterable[Action | DocumentResult],
    opened: dict[str, _OpenDocument],
    target: Target,
    load: Load,
    count: Count,
) -> Iterator[DocumentResult]:
    from es_latechunk.elastic.write.bulk import write

    def settle(result: ActionResult) -> DocumentResult | None:
        doc_id = result.action.doc_id
        opened[doc_id].settle(result)
        if opened[doc_id].waiting:
            return None
        done = opened.pop(doc_id).result(doc_id)
        count(done)
        return done

    def passing() -> Iterator[Action | DocumentResult]:
        for item in actions:
            if isinstance(item, DocumentResult):
                count(item)
            yield item

    yield from write(
        passing(),
        settle,
        client=load.client,
        index=load.target,
        retry_for=target.retry_for,
        require_alias=load.require_alias,
        check=load.check,
    )


@dataclass(slots=True)
class _OpenDocument:
    """A document whose actions are on their way. `document` is None for one that is only removed."""

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


def interfered(target: Target, load: Load, seen: SeenIds) -> Iterator[DocumentResult]:
    """A failure for each document that is not in the index as this run wants it: another load has written it too.

    Only needed where nothing keeps two loads apart.
    """
    from es_latechunk.elastic.connection import server_errors
    from es_latechunk.elastic.index.contents import compare_with_index

    with server_errors(load.client, load.target):
        load.client.indices.refresh(index=load.target)
    wanted = ((Document(doc_id, ""), doc_hash) for doc_id, doc_hash in seen.hashes())
    for comparison in compare_with_index(load.client, load.target, wanted, retry_for=target.retry_for):
        if not comparison.unchanged:
            cause = "was changed by another load while this one ran; run the same command again"
            yield _failed(DocumentError(printable(comparison.document.id), cause))


def count_stale(
    target: Target, load: Load, seen: SeenIds, failed: int, *, max_share: float
) -> tuple[int, int]:
    """Documents and chunks that pruning will remove: none where documents of the source failed.

    Raises PreconditionError where the source gave no document, or lacks too large a share of the index's.
    """
    from es_latechunk.elastic.index.contents import count_documents, stale_documents

    if not len(seen):
        raise PreconditionError("prune: the source gave no document, so nothing is removed; check the paths")
    if failed:
        log.warning("prune: %d documents of the source failed, so nothing is removed", failed)
        return 0, 0
    stale = chunks = 0
    for document in stale_documents(load.client, load.target, seen, retry_for=target.retry_for):
        stale, chunks = stale + 1, chunks + document.chunks
    log.info("prune: %d documents (%d chunks) are no longer in the source", stale, chunks)
    if stale and max_share < 1:
        there = count_documents(load.client, load.target, retry_for=target.retry_for)
        if stale > max_share * there:
            raise PreconditionError(
                f"prune: {stale} of the index's {there} documents are no longer in the source, more than "
                f"{setting('max_prune')} "
                f"{max_share:g}, so nothing is removed; check the paths, or allow it with {setting('max_prune')} 1"
            )
    return stale, chunks


def pruned(target: Target, load: Load, seen: SeenIds, count: Count) -> Iterator[DocumentResult]:
    """Remove the documents that the source no longer has; `count` as in `written`."""
    from es_latechunk.elastic.index.contents import stale_documents
    from es_latechunk.elastic.write.actions import delete_actions

    opened: dict[str, _OpenDocument] = {}

    def actions() -> Iterator[Action]:
        for document in stale_documents(load.client, load.target, seen, retry_for=target.retry_for):
            last = document.last_ordinal
            opened[document.doc_id] = _OpenDocument(None, "", last, waiting=last + 1)
            yield from delete_actions(document.doc_id, 0, last)

    yield from _settled(actions(), opened, target, load, count)
