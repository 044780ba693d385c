"""What the tests of the hosted Jina API share: a small model, documents, and the vectors they should get."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from jina_server import KEY, JinaServer, late_vectors, word_vector

from es_latechunk.models.jina_api import (
    HostedModel,
    JinaApiClient,
    JinaApiEncoder,
    UnicodeTokenizer,
)
from es_latechunk.models.jina_api.requests import chunk_texts
from es_latechunk.types import ChunkedDocument, ChunkSpan, Document

DIM = 32
SMALL = HostedModel(
    "jina-embeddings-v3",
    context=120,
    window=120,
    dimensions=DIM,
    matryoshka=(16, DIM),
    tasks=("retrieval.passage", "retrieval.query", "text-matching"),
    late_chunking=True,
)
NO_TASKS = replace(SMALL, tasks=())


def client_of(server: JinaServer, key: str = KEY, **options: Any) -> JinaApiClient:
    settings = {"timeout": 10.0, "retry_for": 20.0, "backoff": 0.01, **options}
    return JinaApiClient(key, base_url=server.url, **settings)


def encoder_of(
    server: JinaServer, *, concurrency: int = 4, model: HostedModel = SMALL, **options: Any
) -> Any:
    return JinaApiEncoder(model, client_of(server, concurrency=concurrency), **options)


def chunked(text: str, doc_id: str = "doc") -> ChunkedDocument:
    """A document with one chunk a sentence; the space between two sentences is in no chunk."""
    spans = tuple(ChunkSpan(*match.span()) for match in re.finditer(r"\S[^.]*\.?", text))
    return ChunkedDocument(Document(doc_id, text), spans, UnicodeTokenizer().tokenize(text))


def story(sentences: int, name: str = "river") -> ChunkedDocument:
    text = "  ".join(f"The {name} number {i} met the {name} of year {i * 7}." for i in range(sentences))
    return chunked(text, name)


def unit(vectors: Any) -> Any:
    return np.asarray(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)


def expected(document: ChunkedDocument, task: str = "retrieval.passage") -> Any:
    """What one request with the whole document would give."""
    vectors = late_vectors(chunk_texts(document), DIM)
    return unit([vector + 0.1 * word_vector(task, DIM) for vector in vectors])
