"""`make bench-knn`: recall, latency and size of each kind of vector index, beside exact search.

    python benchmarks/performance/knn.py [--chunks 10000] [--documents FOLDER]

The chunks are those of documents whose sentences are drawn at random from this repository's pages (or a folder), with
the vectors of all-MiniLM-L6-v2; the queries are pairs of such sentences. Every index holds the same vectors in one
segment. Recall@10 is the part of the ten nearest chunks by exact cosine that a search finds. The figures of every round
go into benchmarks/results/knn.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
import warnings
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from documents import MAX_TOKENS, MIDDLE, made, prose, read_texts
from elasticsearch import Elasticsearch, helpers
from elasticsearch.exceptions import GeneralAvailabilityWarning
from machine import describe_machine
from processes import ROOT, local_node

from es_latechunk import ChunkVector, connect, create_index, embed_documents, load_encoder, raise_errors
from es_latechunk.elastic.index.template import QUANTIZATIONS, VECTOR_FIELD
from es_latechunk.elastic.search.query import SearchOptions
from es_latechunk.types import FloatArray

RESULTS = ROOT / "benchmarks" / "results" / "knn.json"
K = 10
CANDIDATES = (50, SearchOptions(k=K).candidates())  # few, and as many as `search` asks for


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=Path)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    machine = describe_machine()
    encoder = load_encoder()
    sentences = prose(read_texts(given.documents), encoder.tokenizer, sentences=True)
    endless = made(sentences, repeat(MIDDLE), "knn", seed=3)
    chunks: list[ChunkVector] = []
    for chunk in raise_errors(embed_documents(endless, encoder=encoder, max_tokens=MAX_TOKENS)):
        chunks.append(chunk)
        if len(chunks) == given.chunks:
            break
    drawn = random.Random(4)  # noqa: S311 - queries, no secret
    queries = encoder.encode_queries(
        [" ".join(piece.text for piece in drawn.choices(sentences, k=2)) for _ in range(given.queries)]
    )
    exact = nearest(queries, np.stack([chunk.vector for chunk in chunks]))
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with local_node("benchmark-knn") as node, connect(url=node.url) as client:
        facts = {kind: fill(client, kind, encoder, chunks) for kind in QUANTIZATIONS}
        rounds = ask(client, queries, exact, given.rounds)
        client.indices.delete(index=[name_of(kind) for kind in QUANTIZATIONS])
        version = node.version
    results = {
        "started": started,
        "machine": machine,
        "elasticsearch": version,
        "settings": {
            "chunks": given.chunks,
            "queries": given.queries,
            "rounds": given.rounds,
            "num_candidates": CANDIDATES,
        },
        "quantizations": [{"quantization": kind, **facts[kind]} for kind in QUANTIZATIONS],
        "rounds": rounds,
    }
    given.output.parent.mkdir(exist_ok=True)
    given.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def nearest(queries: FloatArray, vectors: FloatArray) -> list[set[str]]:
    """The ids of the chunks with the largest cosines, for each query (vectors have length one)."""
    return [{str(place) for place in np.argsort(-(vectors @ query))[:K]} for query in queries]


def name_of(quantization: str) -> str:
    return f"benchmark-knn-{quantization}"


def fill(
    client: Elasticsearch, quantization: str, encoder: Any, chunks: Sequence[ChunkVector]
) -> dict[str, Any]:
    """Write the chunks into an index of one segment; give its size, and that of its vectors."""
    name = name_of(quantization)
    client.indices.delete(index=name, ignore_unavailable=True)
    create_index(name, encoder=encoder, client=client, max_tokens=MAX_TOKENS, quantization=quantization)
    actions = (
        {
            "_index": name,
            "_id": str(place),
            "content": chunk.content,
            "doc_id": chunk.doc_id,
            "ordinal": chunk.ordinal,
            "start": chunk.start,
            "end": chunk.end,
            VECTOR_FIELD: chunk.vector.tolist(),
        }
        for place, chunk in enumerate(chunks)
    )
    start = time.perf_counter()
    helpers.bulk(client, actions)
    client.options(request_timeout=600).indices.forcemerge(index=name, max_num_segments=1)
    client.indices.flush(index=name)
    client.indices.refresh(index=name)
    seconds = time.perf_counter() - start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeneralAvailabilityWarning)  # a technical preview
        usage = client.indices.disk_usage(index=name, run_expensive_tasks=True)[name]
    return {
        # Not from the index's statistics, which are up to ten seconds old.
        "bytes": usage["store_size_in_bytes"],
        "vector_bytes": usage["fields"][VECTOR_FIELD]["knn_vectors_in_bytes"],
        "seconds_to_build": seconds,
    }


def ask(
    client: Elasticsearch, queries: FloatArray, exact: Sequence[set[str]], rounds: int
) -> list[dict[str, Any]]:
    """The median milliseconds of a query and the recall, of each round; the first round is not counted."""
    order = random.Random(5)  # noqa: S311 - an order, no secret
    ways = [(kind, candidates) for kind in QUANTIZATIONS for candidates in CANDIDATES]
    rows = []
    for number in range(rounds + 1):
        for kind, candidates in order.sample(ways, len(ways)):
            taken, right = [], 0
            for query, wanted in zip(queries, exact, strict=True):
                clause = {
                    "field": VECTOR_FIELD, "query_vector": query.tolist(), "k": K, "num_candidates": candidates,
                }  # fmt: skip
                start = time.perf_counter()
                answer = client.search(index=name_of(kind), knn=clause, size=K, source=False)
                taken.append(1000 * (time.perf_counter() - start))
                right += len(wanted & {hit["_id"] for hit in answer["hits"]["hits"]})
            row = {"round": number - 1, "quantization": kind, "num_candidates": candidates}
            row |= {"milliseconds": statistics.median(taken), "recall": right / (K * len(queries))}
            if number:
                rows.append(row)
    return rows


if __name__ == "__main__":
    main()
