"""Chunk vectors of a stream of documents, with no server: cut, embed, one ChunkVector at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from es_latechunk.chunking import DEFAULT_MAX_TOKENS, chunk_document, make_chunker
from es_latechunk.errors import DocumentError
from es_latechunk.late import EmbeddedChunks, embed_chunks
from es_latechunk.types import ChunkedDocument, ChunkVector, Document, Encoder, Pooling, Tokens

OnError = Callable[[DocumentError], None]
OnTokens = Callable[[str, Tokens], None]


def embed_documents(
    documents: Iterable[Document],
    *,
    encoder: Encoder,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    chunker: str = "sentences",
    pooling: Pooling = "late",
    on_error: OnError | None = None,
    on_tokens: OnTokens | None = None,
) -> Iterator[ChunkVector]:
    """Chunk vectors of a stream of documents, lazily and in order; no server is needed.

    A document that cannot be used raises its DocumentError, or goes to `on_error` and the others go on. `on_tokens`
    gets each document's id and tokens, which tell how much of it the model cannot read.
    """
    cut = make_chunker(chunker, tokenizer=encoder.tokenizer, max_tokens=max_tokens)

    def chunked() -> Iterator[ChunkedDocument]:
        for document in documents:
            try:
                document_chunks = chunk_document(document, chunker=cut, tokenizer=encoder.tokenizer)
            except DocumentError as error:
                _tell(error, on_error)
                continue
            if on_tokens is not None:
                on_tokens(document.id, document_chunks.tokens)
            yield document_chunks

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
