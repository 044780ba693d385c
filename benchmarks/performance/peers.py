"""The other contenders: `python peers.py NAME MODEL_FOLDER`, in an environment where es-latechunk is not installed.

chonkie cuts its own chunks. The others are given the spans of es-latechunk's chunks, so that cutting costs them
nothing. All write with `helpers.bulk` as its documentation shows, into an index with the same vector field.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from answering import answer_requests
from elasticsearch import Elasticsearch, helpers

MAX_TOKENS = 128
NAME, FOLDER = sys.argv[1:]
Row = dict[str, Any]
Chunks = list[tuple[str, str, Any]]  # document id, text, vector
MAPPING = {
    "properties": {
        "doc_id": {"type": "keyword"},
        "content": {"type": "text"},
        "content_embedding": {
            "type": "dense_vector",
            "dims": 384,
            "index": True,
            "similarity": "cosine",
            "index_options": {"type": "int8_hnsw"},
        },
    }
}


class LateChunker:
    """chonkie's LateChunker, which encodes in windows without overlap."""

    precision = "float32"

    def __init__(self) -> None:
        from chonkie import LateChunker
        from chonkie.embeddings import SentenceTransformerEmbeddings

        self._chunker = LateChunker(
            SentenceTransformerEmbeddings(FOLDER, device="cpu"), chunk_size=MAX_TOKENS
        )

    def __call__(self, rows: Iterator[Row]) -> Chunks:
        return [
            (row["id"], chunk.text, chunk.embedding)
            for row in rows
            for chunk in self._chunker.chunk(row["text"])
        ]


class Article:
    """Late chunking as articles show it: one text (here: one window of it) at a time through transformers."""

    precision = "float32"
    window = 256

    def __init__(self) -> None:
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(FOLDER)
        self._model = AutoModel.from_pretrained(FOLDER).eval()

    def __call__(self, rows: Iterator[Row]) -> Chunks:
        return [chunk for row in rows for chunk in self._document(row)]

    def _document(self, row: Row) -> Chunks:
        import torch

        encoded = self._tokenizer(row["text"], add_special_tokens=False, return_offsets_mapping=True)
        ids, starts = encoded["input_ids"], [start for start, _ in encoded["offset_mapping"]]
        hidden = []
        size = self.window - 2
        for first in range(0, len(ids), size):
            window = [self._tokenizer.cls_token_id, *ids[first : first + size], self._tokenizer.sep_token_id]
            with torch.no_grad():
                output = self._model(input_ids=torch.tensor([window]))
            hidden.append(output.last_hidden_state[0, 1:-1].numpy())
        tokens = np.concatenate(hidden)
        chunks = []
        for start, end in row["spans"]:
            first, last = np.searchsorted(starts, [start, end])
            chunks.append(
                (row["id"], row["text"][start:end], tokens[first : max(last, first + 1)].mean(axis=0))
            )
        return chunks


class SentenceTransformers:
    """sentence-transformers on each chunk alone, in float32, in bfloat16, or on its OpenVINO backend."""

    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        self._model: Any
        if NAME == "sentence-transformers-openvino":
            self._model = SentenceTransformer(
                FOLDER, device="cpu", backend="openvino", model_kwargs={"export": True}
            )
            self._model.encode(["compiled now"])
            request = self._model[0].auto_model.request
            kind = request.get_property("INFERENCE_PRECISION_HINT").to_string()
            self.precision = {"bf16": "bfloat16", "f32": "float32"}.get(kind, kind)
        else:
            self.precision = "bfloat16" if NAME.endswith("bfloat16") else "float32"
            self._model = SentenceTransformer(FOLDER, device="cpu", model_kwargs={"dtype": self.precision})

    def __call__(self, rows: Iterator[Row]) -> Chunks:
        texts = [(row["id"], row["text"][start:end]) for row in rows for start, end in row["spans"]]
        vectors = self._model.encode(
            [text for _, text in texts], normalize_embeddings=True, show_progress_bar=False
        )
        return [(doc_id, text, vector) for (doc_id, text), vector in zip(texts, vectors, strict=True)]


PEERS: dict[str, Callable[[], Any]] = {
    "chonkie": LateChunker,
    "article": Article,
    "sentence-transformers-float32": SentenceTransformers,
    "sentence-transformers-bfloat16": SentenceTransformers,
    "sentence-transformers-openvino": SentenceTransformers,
}
peer = PEERS[NAME]()


def read(path: str) -> Iterator[Row]:
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def ingest(documents: str, url: str, index: str) -> dict[str, Any]:
    """Text to vectors, then to searchable chunks."""
    with Elasticsearch(url) as client:
        client.indices.create(index=index, mappings=MAPPING, settings={"number_of_replicas": 0})
        start = time.perf_counter()
        chunks = peer(read(documents))
        encoded = time.perf_counter()
        helpers.bulk(
            client,
            (
                {"_index": index, "doc_id": doc_id, "content": text, "content_embedding": vector.tolist()}
                for doc_id, text, vector in chunks
            ),
        )
        client.indices.refresh(index=index)
        end = time.perf_counter()
    return {
        "seconds": end - start,
        "chunks": len(chunks),
        "stages": {"vectors": encoded - start, "bulk": end - encoded},
    }


answer_requests({"ingest": ingest}, precision=peer.precision)
