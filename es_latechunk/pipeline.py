"""The Python way through: the same words as the command line, with sensible defaults.

Elasticsearch's client is imported where a server is asked, so that the stages before it do without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from es_latechunk.chunking import DEFAULT_MAX_TOKENS, chunk_document, make_chunker
from es_latechunk.elastic.identity import IndexIdentity
from es_latechunk.elastic.query import Mode, SearchOptions
from es_latechunk.elastic.report import IngestReport, Tally
from es_latechunk.elastic.template import index_body, load_template
from es_latechunk.errors import DocumentError
from es_latechunk.late import EmbeddedChunks, embed_chunks
from es_latechunk.models import load_recorded
from es_latechunk.types import (
    ChunkedDocument,
    ChunkVector,
    Document,
    Encoder,
    EncoderIdentity,
    Hit,
    Pooling,
    Reranker,
)

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

OnError = Callable[[DocumentError], None]


def embed_documents(
    documents: Iterable[Document],
    *,
    encoder: Encoder,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    chunker: str = "sentences",
    pooling: Pooling = "late",
    on_error: OnError | None = None,
) -> Iterator[ChunkVector]:
    """Chunk vectors of a stream of documents, lazily and in order; no server is needed.

    A document that cannot be used raises its DocumentError, or goes to `on_error` and the others go on.
    """
    cut = make_chunker(chunker, tokenizer=encoder.tokenizer, max_tokens=max_tokens)

    def chunked() -> Iterator[ChunkedDocument]:
        for document in documents:
            try:
                yield chunk_document(document, chunker=cut, tokenizer=encoder.tokenizer)
            except DocumentError as error:
                _tell(error, on_error)

    for block in embed_chunks(chunked(), encoder=encoder, pooling=pooling):
        if isinstance(block, DocumentError):
            _tell(block, on_error)
        else:
            yield from _chunk_vectors(block)


def _tell(error: DocumentError, on_error: OnError | None) -> None:
    if on_error is None:
        raise error
    on_error(error)


def _chunk_vectors(block: EmbeddedChunks) -> Iterator[ChunkVector]:
    document = block.chunked.document
    for ordinal, vector in enumerate(block.vectors, block.first):
        span = block.chunked.spans[ordinal]
        yield ChunkVector(document.id, ordinal, span, document.text[span.start : span.end], vector)


def create_index(
    name: str,
    *,
    encoder: Encoder,
    client: Elasticsearch | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    chunker: str = "sentences",
    pooling: Pooling = "late",
    quantization: str = "int8",
    shards: int | None = None,
    replicas: int | None = None,
    template: Path | None = None,
    context_fields: bool = True,
    language: str | None = None,
) -> bool:
    """Create an index for this encoder's vectors; True if it is new, False if it was there already.

    The mapping's `_meta` records the encoder, the chunker and the pooling; an index of the same name that
    records anything else is refused (IndexMismatchError). Without a client: ELASTICSEARCH_URL or the local node.
    """
    from es_latechunk.elastic import connection, mapping

    make_chunker(chunker, tokenizer=encoder.tokenizer, max_tokens=max_tokens)  # refuses what cannot work
    identity = IndexIdentity(encoder.identity, chunker, max_tokens, pooling)
    body = index_body(
        identity,
        template=load_template(template),
        quantization=quantization,
        shards=shards,
        replicas=replicas,
        context_fields=context_fields,
        language=language,
    )
    return mapping.create_index(client or connection.connect(), name, body, identity)


def fresh_index_for(
    alias: str,
    *,
    client: Elasticsearch,
    load: Callable[[], Encoder],
    load_for: Callable[[EncoderIdentity], Encoder],
) -> tuple[str, Encoder]:
    """An index that waits for the alias, made like the one behind it now, and the encoder for it.

    `load` gives the encoder for the first index of an alias, `load_for` the one that may take the place of a
    recorded one. A waiting index is used again, if it was made with the same encoder (IndexMismatchError).
    """
    from es_latechunk.elastic import alias as aliases
    from es_latechunk.elastic import mapping

    current = aliases.current_indices(client, alias)
    recorded = mapping.read_identity(client, alias) if current else None
    encoder = load_for(recorded.encoder) if recorded else load()

    identity = IndexIdentity(encoder.identity, "sentences", DEFAULT_MAX_TOKENS)
    template = load_template()
    if recorded:
        identity = replace(recorded, encoder=encoder.identity)
        template = mapping.template_of(client, current[0])

    def create(name: str) -> None:
        mapping.create_index(client, name, index_body(identity, template=template), identity)

    return aliases.fresh_index(client, alias, create), encoder


def ingest(
    documents: Iterable[Document],
    *,
    index: str,
    client: Elasticsearch | None = None,
    encoder: Encoder | None = None,
    on_error: OnError | None = None,
    on_progress: Callable[[Tally], None] | None = None,
    retry_for: float = 120.0,
    prune: bool = False,
    max_prune: float = 0.5,
    wait: bool = False,
    tally: Tally | None = None,
) -> IngestReport:
    """Write what is new or changed into an index that `create_index` made; see `elastic.ingest.ingest`.

    Without an encoder, the model that the index records is loaded. `retry_for` is in seconds. `prune` removes
    the documents that are not among `documents`: what an iterator leaves out without a word is gone then. More
    than the share `max_prune` (0 to 1) of the index's documents is never removed: a PreconditionError says so. If
    another load writes the index, an IndexBusyError names it; with `wait`, this one begins when that has ended.
    """
    from es_latechunk.elastic import connection
    from es_latechunk.elastic.ingest import IngestOptions
    from es_latechunk.elastic.ingest import ingest as run

    client = client or connection.connect()
    options = IngestOptions(
        on_error=on_error,
        on_progress=on_progress,
        retry_for=retry_for,
        prune=prune,
        max_prune=max_prune,
        wait=wait,
    )
    encoder = encoder or _recorded_encoder(client, index)
    return run(documents, client=client, index=index, encoder=encoder, options=options, tally=tally)


def search(
    query: str,
    *,
    index: str,
    client: Elasticsearch | None = None,
    encoder: Encoder | None = None,
    k: int = 10,
    mode: Mode | None = None,
    num_candidates: int | None = None,
    filters: Iterable[str] = (),
    options: SearchOptions | None = None,
    reranker: Reranker | None = None,
    rank_window_size: int | None = None,
) -> list[Hit]:
    """The `k` best chunks for a query, best first; `options` takes all that SearchOptions has instead.

    The mode is hybrid where the chunks' text is indexed; a kNN score is (1 + cosine) / 2. Without an encoder,
    the model that the index records is loaded: keep one and pass it for many queries. A reranker (see
    `load_reranker`) puts the first `rank_window_size` hits (default 50, at least k) in its own order.
    """
    from es_latechunk.elastic import connection
    from es_latechunk.elastic.search import search as run

    client = client or connection.connect()
    options = options or SearchOptions(k=k, mode=mode, num_candidates=num_candidates, filters=tuple(filters))
    if encoder is None and options.mode != "bm25":
        encoder = _recorded_encoder(client, index)
    return run(
        query,
        client=client,
        index=index,
        encoder=encoder,
        options=options,
        reranker=reranker,
        rank_window_size=rank_window_size,
    )


def _recorded_encoder(client: Elasticsearch, index: str) -> Encoder:
    from es_latechunk.elastic import mapping

    return load_recorded(mapping.read_identity(client, index).encoder)
