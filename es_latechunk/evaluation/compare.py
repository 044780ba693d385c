"""Compare late with naive pooling: the same chunks and query, with and without the context of the document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from es_latechunk.chunking import DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS, chunk_document, make_chunker
from es_latechunk.chunking.chunkers import sentence_spans
from es_latechunk.chunking.sentences import TerminatorIds
from es_latechunk.embed import OnTokens, choose_pooling, embed_documents
from es_latechunk.errors import DocumentError
from es_latechunk.late import embed_chunks
from es_latechunk.types import (
    ChunkSpan,
    ChunkVector,
    Document,
    Encoder,
    FloatArray,
    Pooling,
    PoolingOptions,
)


@dataclass(frozen=True, slots=True)
class ComparedChunk:
    """A chunk with its cosine similarity to the query and its rank (from 1), with late and with naive pooling.

    If `compare` was given another pooling, `late` and `late_rank` are by that one.
    """

    chunk: ChunkVector
    late: float
    naive: float
    late_rank: int
    naive_rank: int


@dataclass(frozen=True, slots=True)
class ComparedSentences:
    """A document, its sentences, and the cosine similarity of each to the query, with late and with naive pooling."""

    document: Document
    sentences: tuple[ChunkSpan, ...]
    late: Sequence[float]
    naive: Sequence[float]


def compare(
    documents: Sequence[Document | DocumentError],
    query: str,
    *,
    encoder: Encoder,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    chunker: str = DEFAULT_CHUNKER,
    pooling: Pooling | PoolingOptions = "late",
    overlap: int | None = None,
    on_tokens: OnTokens | None = None,
) -> list[ComparedChunk | DocumentError]:
    """Return all chunks of `documents`, sorted by their late similarity to the query, the most similar first.

    Everything is computed exactly and without an index. The errors of documents that cannot be used come before the
    chunks. `encoder`, `max_tokens`, `chunker`, `overlap` and `on_tokens` are those of `embed_documents`; `pooling` is
    what is compared with plain naive pooling; if it has pieces, a chunk's best one counts.
    """
    wanted = encoder.encode_queries([query])[0]
    embed = partial(
        embed_documents, documents, encoder=encoder, max_tokens=max_tokens, chunker=chunker, overlap=overlap
    )
    late, naive = list(embed(pooling=pooling, on_tokens=on_tokens)), list(embed(pooling="naive"))
    errors = {item.document: item for item in (*naive, *late) if isinstance(item, DocumentError)}
    alone = {(item.doc_id, item.ordinal): item for item in naive if isinstance(item, ChunkVector)}
    # A hosted model may refuse a document in only one of the two runs; then there is nothing to compare.
    chunks = [item for item in late if isinstance(item, ChunkVector) and (item.doc_id, item.ordinal) in alone]
    late_scores = np.array([_similarity(chunk, wanted) for chunk in chunks])
    naive_scores = np.array([alone[chunk.doc_id, chunk.ordinal].vector @ wanted for chunk in chunks])
    late_ranks, naive_ranks = rank_scores(late_scores.tolist()), rank_scores(naive_scores.tolist())
    return [
        *errors.values(),
        *(
            ComparedChunk(
                chunks[row],
                float(late_scores[row]),
                float(naive_scores[row]),
                late_ranks[row],
                naive_ranks[row],
            )
            for row in np.argsort(-late_scores, kind="stable")
        ),
    ]


def _similarity(chunk: ChunkVector, query: FloatArray) -> float:
    """Return the cosine of a chunk to a query, or that of its best piece, as a search counts it."""
    vectors = [piece.vector for piece in chunk.pieces] or [chunk.vector]
    return max(float(vector @ query) for vector in vectors)


def rank_scores(scores: Sequence[float]) -> list[int]:
    """Return the rank of each score: 1 for the highest, and equal scores in the order in which they come."""
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[np.argsort(-np.array(scores), kind="stable")] = np.arange(1, len(scores) + 1)
    return [int(rank) for rank in ranks]


def compare_sentences(
    documents: Sequence[Document],
    query: str,
    *,
    encoder: Encoder,
    pooling: Pooling | PoolingOptions = "late",
    overlap: int | None = None,
) -> list[ComparedSentences | DocumentError]:
    """Return the similarity of each sentence of each document to a query, as if each sentence were a chunk.

    `pooling` is that of `compare`, without pieces, as a sentence is about as long as one. The model reads the documents
    for this alone. The errors of documents that cannot be used come first.
    """
    wanted = encoder.encode_queries([query])[0]
    terminators = TerminatorIds(encoder.tokenizer)
    cut = []
    errors: dict[str, DocumentError] = {}
    for document in documents:
        spans = sentence_spans(document.text, encoder.tokenizer.tokenize(document.text), terminators)
        try:
            chunker = make_chunker("tokens", tokenizer=encoder.tokenizer)  # not called: the spans are given
            of_sentences = replace(document, spans=spans)
            cut.append(chunk_document(of_sentences, chunker=chunker, tokenizer=encoder.tokenizer))
        except DocumentError as error:
            errors[document.id] = error
    similarities: dict[str, dict[str, list[float]]] = {chunked.document.id: {} for chunked in cut}
    options, windows = choose_pooling(encoder, pooling, overlap)
    sides = (("late", replace(options, pieces=None), windows), ("naive", PoolingOptions("naive"), None))
    for name, side, own_windows in sides:
        for block in embed_chunks(cut, encoder=encoder, pooling=side, windows=own_windows):
            if isinstance(block, DocumentError):
                errors[block.document] = block
            else:
                found = similarities[block.chunked.document.id].setdefault(name, [])
                found += (block.vectors @ wanted).tolist()
    compared = [
        ComparedSentences(chunked.document, tuple(chunked.spans), **similarities[chunked.document.id])
        for chunked in cut
        if chunked.document.id not in errors
    ]
    return [*errors.values(), *compared]
