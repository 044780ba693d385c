"""A dry run: what an ingest would write, how long it would take and how large it would be."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from elasticsearch import Elasticsearch

from es_latechunk.documents import SeenIds
from es_latechunk.elastic.identity import check_encoder
from es_latechunk.elastic.ingest import IngestOptions, IngestRun
from es_latechunk.elastic.load import Load, resolve
from es_latechunk.elastic.mapping import index_type, read_record
from es_latechunk.elastic.report import Tally
from es_latechunk.elastic.retry import ride_out
from es_latechunk.errors import DocumentError
from es_latechunk.late import embed_chunks
from es_latechunk.types import ChunkedDocument, Document, Encoder

SAMPLE_TOKENS = 4_096
GRAPH_BYTES = 128  # of HNSW a vector: 2 x 16 neighbours of 4 bytes
TEXT_FACTOR = 1.6  # stored text and its postings, against the text's UTF-8
QUANTIZED_BITS = {"int8": 8, "int4": 4, "bbq": 1}


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """What a run would do; nothing is written. The estimates come from a sample encoded on this machine.

    `documents`, `failed` and `documents_to_delete` count documents, `chunks`, `to_index`, `unchanged` and
    `to_delete` chunks: those that shorter versions lack, and with `prune` those of `documents_to_delete`.
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


def plan_ingest(
    documents: Iterable[Document],
    *,
    client: Elasticsearch,
    index: str,
    encoder: Encoder,
    options: IngestOptions | None = None,
    tally: Tally | None = None,
) -> IngestPlan:
    """Read, compare and cut all documents, and encode a sample; see `ingest` for the arguments and errors."""
    options = options or IngestOptions()
    state = ride_out(lambda: resolve(client, index), retry_for=options.retry_for)
    record = read_record(client, state.name)
    check_encoder(index, record.identity.encoder, encoder.identity)
    sample: list[ChunkedDocument] = []
    changed = to_index = to_delete = tokens = sampled = size = 0
    with SeenIds() as seen:
        run = IngestRun(Load(client, state), record, encoder, options, tally or Tally(), seen)
        for chunked, surplus in run.changed_documents(documents):
            changed, to_index, to_delete = changed + 1, to_index + len(chunked.spans), to_delete + surplus
            tokens += len(chunked.tokens)
            size += len(chunked.document.text.encode())
            if sampled < SAMPLE_TOKENS:
                sample.append(chunked)
                sampled += len(chunked.tokens)
        stale, stale_chunks = run.count_stale() if options.prune else (0, 0)
    vector = vector_bytes(encoder.dim, index_type(client, state.name))
    return IngestPlan(
        documents=run.tally.documents + changed,
        chunks=to_index + run.tally.unchanged,
        to_index=to_index,
        unchanged=run.tally.unchanged,
        to_delete=to_delete + stale_chunks,
        documents_to_delete=stale,
        failed=run.tally.failed,
        tokens=tokens,
        estimated_seconds=round(tokens * _seconds_a_token(sample, encoder), 1),
        estimated_bytes=round(size * TEXT_FACTOR) + to_index * vector,
    )


def vector_bytes(dims: int, kind: str) -> int:
    """Bytes of one vector in an index of type `kind`: float32 values, quantised values, graph."""
    name, _, graph = kind.partition("_")
    quantised = dims * QUANTIZED_BITS.get(name, 0) // 8
    return 4 * dims + quantised + (GRAPH_BYTES if "hnsw" in (name, graph) else 0)


def _seconds_a_token(sample: list[ChunkedDocument], encoder: Encoder) -> float:
    """Measured on the sample; the first text loads the model and is not counted."""
    if not sample:
        return 0.0
    encoder.encode_queries(["warm"])
    started = time.monotonic()
    for block in embed_chunks(sample, encoder=encoder):
        if isinstance(block, DocumentError):
            raise block
    return (time.monotonic() - started) / sum(len(chunked.tokens) for chunked in sample)
