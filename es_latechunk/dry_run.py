"""A dry run: what an ingest would write, how long it would take, and how much space it would need."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from es_latechunk.documents import SeenIds
from es_latechunk.errors import DocumentError
from es_latechunk.ingest import DEFAULT_MAX_PRUNE, check_shares
from es_latechunk.ingest_stages import ChangedDocument, changed_documents, count_stale, hashed_documents
from es_latechunk.late import count_pieces, embed_chunks
from es_latechunk.models import EncoderLoader
from es_latechunk.report import DocumentResult, IngestCounts
from es_latechunk.target import Target, open_target
from es_latechunk.types import DEFAULT_RETRY_FOR, ChunkedDocument, Document, Encoder

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

SAMPLE_TOKENS = 4_096  # enough to measure the speed, at a cost of seconds
GRAPH_BYTES = 128  # of the HNSW graph per vector: 2 x 16 neighbours of 4 bytes
TEXT_FACTOR = 1.6  # bytes of the stored text and its postings per byte of the text in UTF-8
QUANTIZED_BITS = {"int8": 8, "int4": 4, "bbq": 1}


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """What an ingest would do. The estimates come from a sample that was encoded on this machine.

    `documents`, `failed` and `documents_to_delete` count documents; `chunks`, `to_index`, `unchanged` and `to_delete`
    count chunks. `to_delete` are the chunks that shorter versions no longer have, and with `prune` all those of
    `documents_to_delete`.
    """

    documents: int
    chunks: int
    to_index: int
    unchanged: int
    to_delete: int
    documents_to_delete: int
    failed: int
    tokens: int
    estimated_seconds: float
    estimated_bytes: int
    unknown_tokens: int = 0


class DryRun:
    """The stages of an ingest before the encoder. Iterating over it yields the result that each document would have.

    Afterwards `plan` summarises what the ingest would do; its estimates need a sample to be encoded. `index`,
    `client`, `encoder`, `retry_for`, `prune` and `max_prune` are those of IngestRun, and so are the errors: a prune
    that the ingest would refuse is refused here too.
    """

    def __init__(
        self,
        documents: Iterable[Document | DocumentError],
        *,
        index: str,
        client: Elasticsearch | None = None,
        encoder: Encoder | EncoderLoader | None = None,
        retry_for: float = DEFAULT_RETRY_FOR,
        prune: bool = False,
        max_prune: float = DEFAULT_MAX_PRUNE,
    ) -> None:
        from es_latechunk.elastic.connection import connect
        from es_latechunk.elastic.retry import retry_transient
        from es_latechunk.elastic.write.session import resolve

        check_shares(retry_for, max_prune)
        self._documents = documents
        self._client = client or connect()
        self._state = retry_transient(
            lambda: resolve(self._client, index), retry_for=retry_for, retry_unreachable=False
        )
        self._target = open_target(self._client, self._state, encoder, retry_for=retry_for)
        self._retry_for = retry_for
        self._prune = prune
        self._max_prune = max_prune
        self._plan: IngestPlan | None = None

    @property
    def plan(self) -> IngestPlan:
        """What the ingest would do; reads all documents first if they have not been read yet."""
        if self._plan is None:
            for _ in self:
                pass
        assert self._plan is not None  # noqa: S101 - the loop above sets it or raises
        return self._plan

    def __iter__(self) -> Iterator[DocumentResult]:
        from es_latechunk.elastic.index.admin import index_type
        from es_latechunk.elastic.write.session import LoadSession

        state, target = self._state, self._target
        session = LoadSession(self._client, state)
        counts = IngestCounts()
        sample: list[ChunkedDocument] = []
        sampled = size = vectors = 0
        with SeenIds() as seen:
            hashed = hashed_documents(self._documents, seen, target.vectors)
            for item in changed_documents(hashed, target, session, counts.clock):
                result = _planned(item) if isinstance(item, ChangedDocument) else item
                if isinstance(item, ChangedDocument):
                    size += len(item.chunked.document.text.encode())
                    pieces = count_pieces(item.chunked, target.record.identity.pooling.pieces)
                    vectors += len(pieces) + int(pieces.sum())
                    if sampled < SAMPLE_TOKENS:
                        sample.append(item.chunked)
                        sampled += len(item.chunked.tokens)
                counts.add(result)
                yield result
            stale = (0, 0)
            if self._prune:
                stale = count_stale(target, session, seen, counts.failed, max_share=self._max_prune)
        vector = vector_bytes(target.encoder.dim, index_type(self._client, state.name))
        self._plan = IngestPlan(
            documents=counts.documents,
            chunks=counts.indexed + counts.unchanged,
            to_index=counts.indexed,
            unchanged=counts.unchanged,
            to_delete=counts.deleted + stale[1],
            documents_to_delete=stale[0],
            failed=counts.failed,
            tokens=counts.tokens,
            estimated_seconds=round(counts.tokens * _seconds_per_token(sample, target), 1),
            estimated_bytes=round(size * TEXT_FACTOR) + vectors * vector,
            unknown_tokens=counts.unknown_tokens,
        )


def _planned(item: ChangedDocument) -> DocumentResult:
    chunked = item.chunked
    return DocumentResult(
        chunked.document.id,
        "indexed",
        len(chunked.spans),
        deleted=item.surplus,
        tokens=len(chunked.tokens),
        unknown_tokens=chunked.tokens.unknown,
        unknown_share=chunked.tokens.unknown_share,
    )


def vector_bytes(dimensions: int, kind: str) -> int:
    """Return the bytes of one vector in an index of type `kind`: float32 values, quantised values and graph."""
    name, _, graph = kind.partition("_")
    quantised = dimensions * QUANTIZED_BITS.get(name, 0) // 8
    return 4 * dimensions + quantised + (GRAPH_BYTES if "hnsw" in (name, graph) else 0)


def _seconds_per_token(sample: list[ChunkedDocument], target: Target) -> float:
    """Measure the speed on the sample; a text before it loads the model, so that loading is not measured."""
    if not sample:
        return 0.0
    target.encoder.encode_queries(["warm"])
    started = time.monotonic()
    pooling = target.record.identity.pooling
    for block in embed_chunks(sample, encoder=target.encoder, pooling=pooling, windows=target.windows):
        if isinstance(block, DocumentError):
            raise block
    return (time.monotonic() - started) / sum(len(chunked.tokens) for chunked in sample)
