"""An encoder of words, indices made with it, and their contents."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from commands import run
from elasticsearch import Elasticsearch
from fakes import WordTokenizer

from es_latechunk import Document, IngestReport, create_index, ingest
from es_latechunk.late import embed_chunks, l2_normalise
from es_latechunk.types import ChunkedDocument, ChunkSpan, EncoderIdentity, FloatArray, IntArray, Tokens

VOCABULARY = 60_000
CONTEXT = 0.2  # how much of a token's vector comes from its window

LETTERS = [
    Document(
        "berlin", "Berlin lies on the Spree. The city is old. It has many lakes.", "Berlin", {"lang": "en"}
    ),
    Document(
        "lisbon", "Lisbon lies on the Tagus. Its hills are steep. Trams climb them.", "Lisbon", {"lang": "en"}
    ),
    Document(
        "köln",
        "Köln liegt am Rhein. Der Dom ist hoch.",
        "Köln am Rhein",
        {"lang": "de", "tags": ["dom", "rhein"]},
    ),
]


def _stable_id(word: str) -> int:
    return zlib.crc32(word.encode()) % VOCABULARY


class StableTokenizer(WordTokenizer):
    """Words and marks, each with an id that is the same in every process."""

    pieces: Mapping[int, str] = {_stable_id(mark): mark for mark in ".!?"}

    def tokenize(self, text: str) -> Tokens:
        tokens = super().tokenize(text)
        words = (text[start:end] for start, end in tokens.offsets.tolist())
        return Tokens(np.array([_stable_id(word) for word in words], dtype=np.int32), tokens.offsets)


class WordEncoder:
    """A token's vector is its word's own direction and a share of its window's: late chunking by hand."""

    def __init__(self, *, dim: int = 16, window: int = 64, **identity: Any) -> None:
        self.tokenizer = StableTokenizer()
        self.dim = dim
        self.window_tokens = window
        self.batch_tokens = 256
        self.tokens_encoded = 0
        named = {"model": "fake/words", "weights": "sha256:words", **identity}
        self.identity = EncoderIdentity(dimensions=dim, window=window, **named)

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        return [self._encode(window) for window in windows]

    def _encode(self, window: IntArray) -> FloatArray:
        self.tokens_encoded += len(window)
        words = np.stack([np.random.default_rng(word).standard_normal(self.dim) for word in window.tolist()])
        return (words + CONTEXT * words.mean(axis=0)).astype(np.float32)

    def finish(self, pooled: FloatArray) -> FloatArray:
        return l2_normalise(pooled)

    def encode_documents(self, texts: Sequence[str]) -> FloatArray:
        whole = (
            ChunkedDocument(Document(text, text), (ChunkSpan(0, len(text)),), self.tokenizer.tokenize(text))
            for text in texts
        )
        return np.concatenate([block.vectors for block in embed_chunks(whole, encoder=self)])  # type: ignore[union-attr]

    def encode_queries(self, texts: Sequence[str]) -> FloatArray:
        return self.encode_documents(texts)


@pytest.fixture
def client(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    """A plain client of the session's node; what a test creates is gone after it."""
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        yield client
        for name in client.indices.get(index="test-*", expand_wildcards="all"):
            client.indices.delete(index=name)


def make_index(
    client: Elasticsearch, name: str, encoder: WordEncoder | None = None, **options: Any
) -> WordEncoder:
    """An index of short chunks; gives the encoder that belongs to it."""
    encoder = encoder or WordEncoder()
    assert create_index(name, encoder=encoder, client=client, **{"max_tokens": 7, **options})
    return encoder


def load(
    client: Elasticsearch, name: str, documents: Iterable[Document], encoder: WordEncoder, **options: Any
) -> tuple[IngestReport, list[str]]:
    """Ingest; gives the report and the messages of what failed."""
    report = ingest(documents, index=name, client=client, encoder=encoder, **options)
    return report, [str(error) for error in report.failures]


def stored_chunks(
    client: Elasticsearch, name: str, query: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Every chunk's source by its `_id`, with the vector as a list of float32 values."""
    client.indices.refresh(index=name)
    answer = client.search(
        index=name, size=10_000, query=query or {"match_all": {}}, fields=["content_embedding"], source=True
    )
    hits = answer["hits"]["hits"]
    assert len(hits) == answer["hits"]["total"]["value"]
    return {
        hit["_id"]: {**hit["_source"], "content_embedding": hit["fields"]["content_embedding"]}
        for hit in hits
    }


WORDS = (  # noqa: SIM905
    "harbour lamp river stone bridge winter garden tower market bread engine valley copper signal forest "
    "island mirror candle anchor pepper saddle ribbon hammer violin meadow pencil basket kettle lantern falcon"
).split()
QUERIES = ["copper tower", "winter garden by the river", "falcon", "bread market hammer violin"]


def made_up_documents(count: int = 24, sentences: int = 6) -> list[Document]:
    """Documents of so many sentences of five words; each sentence is a chunk of at most 7 tokens."""
    rng = np.random.default_rng(7)
    return [
        Document(
            f"doc-{number:02}",
            " ".join(f"{' '.join(rng.choice(WORDS, 5))}.".capitalize() for _ in range(sentences)),
            f"Title {number}",
            {"part": "odd" if number % 2 else "even", "date": f"2024-05-{number + 1:02}"},
        )
        for number in range(count)
    ]


@contextmanager
def made_up_index(url: str, name: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    """An index of the made-up documents, with its encoder, for tests that only read it."""
    with Elasticsearch(url) as client:
        encoder = make_index(client, name)
        load(client, name, made_up_documents(), encoder)
        yield client, encoder
        client.indices.delete(index=name)


def rows_of(*arguments: str, **options: Any) -> list[dict[str, Any]]:
    """The JSON rows that a search prints."""
    result = run("search", *arguments, "--json", **options)
    assert (result.exit_code, result.stderr) == (0, ""), result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]
