"""Chunks and embeds a stream of documents without a server, one ChunkVector at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from es_latechunk.chunking import DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS, chunk_document, make_chunker
from es_latechunk.errors import DocumentError
from es_latechunk.late import Windows, choose_windows, embed_chunks
from es_latechunk.models import measured_pooling
from es_latechunk.types import (
    ChunkedDocument,
    ChunkVector,
    Document,
    Encoder,
    Pooling,
    PoolingOptions,
    Tokens,
    check_pooling,
)

OnTokens = Callable[[str, Tokens], None]


def embed_documents(
    documents: Iterable[Document | DocumentError],
    *,
    encoder: Encoder,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    chunker: str = DEFAULT_CHUNKER,
    pooling: Pooling | PoolingOptions | None = None,
    overlap: int | None = None,
    on_tokens: OnTokens | None = None,
) -> Iterator[ChunkVector | DocumentError]:
    """Yield the chunk vectors of a stream of documents, lazily and in order; no server is needed.

    For a document that cannot be used, a DocumentError comes instead of its chunks, and the run continues;
    `raise_errors` stops at it. Raises UsageError for settings that cannot work.

    - `encoder`: from `load_encoder`, or one of your own that follows the protocol.
    - `max_tokens`: the maximum size of a chunk.
    - `chunker`: "sentences", "paragraphs" or "tokens": the units that are merged into chunks.
    - `pooling`: "late", "naive" (each chunk embedded alone), "blend" (the sum of both), or PoolingOptions with all
      settings. Default: what measured best for the model; for a model that nobody measured, "late".
    - `overlap`: the number of tokens that the windows of a long document share, 0 to half of a window. Default: what
      was measured with the same late window; otherwise 0.
    - `on_tokens`: is called with the id and the tokens of each document, which show how much of it the model cannot
      read.
    """
    options, windows = choose_pooling(encoder, pooling, overlap)
    cut = make_chunker(chunker, tokenizer=encoder.tokenizer, max_tokens=max_tokens)

    def chunked() -> Iterator[ChunkedDocument | DocumentError]:
        for document in documents:
            if isinstance(document, DocumentError):
                yield document
                continue
            try:
                document_chunks = chunk_document(document, chunker=cut, tokenizer=encoder.tokenizer)
            except DocumentError as error:
                error.source = document
                yield error
                continue
            if on_tokens is not None:
                on_tokens(document.id, document_chunks.tokens)
            yield document_chunks

    def vectors() -> Iterator[ChunkVector | DocumentError]:
        for block in embed_chunks(chunked(), encoder=encoder, pooling=options, windows=windows):
            if isinstance(block, DocumentError):
                yield block
                continue
            document = block.chunked.document
            for ordinal, vector in enumerate(block.vectors, block.first):
                span = block.chunked.spans[ordinal]
                content = document.text[span.start : span.end]
                pieces = block.pieces[ordinal - block.first] if block.pieces else ()
                yield ChunkVector(document.id, ordinal, span.start, span.end, content, vector, pieces)

    return vectors()


def choose_pooling(
    encoder: Encoder, pooling: Pooling | PoolingOptions | None, overlap: int | None
) -> tuple[PoolingOptions, Windows | None]:
    """Return the pooling and the windows of new vectors: those given, or what measured best for the model, or late.

    Raises UsageError for settings that cannot work.
    """
    measured = measured_pooling(encoder.identity)
    if isinstance(pooling, PoolingOptions):
        options = pooling
    elif pooling is None:
        options = measured.options if measured else PoolingOptions()
    else:
        options = PoolingOptions(pooling)
    check_pooling(options, encoder)
    if overlap is None and measured and options.late_window == measured.options.late_window:
        overlap = measured.overlap  # it belongs to this window
    return options, choose_windows(encoder, overlap, late_window=options.late_window)
