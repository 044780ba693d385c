"""Example requests for one index, for Kibana's Dev Tools, with names and a vector from the index itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from elasticsearch import Elasticsearch

from es_latechunk.elastic.connection import server_errors
from es_latechunk.elastic.console import console_msearch, console_request
from es_latechunk.elastic.index.admin import IndexRecord, read_record
from es_latechunk.elastic.index.template import VECTOR_FIELD
from es_latechunk.elastic.search.query import QueryBuilder, SearchOptions
from es_latechunk.types import FloatArray

SAMPLE_WORDS = 8
CHUNK_FIELDS = ["ordinal", "start", "end", "content"]


def example_requests(client: Elasticsearch, index: str) -> str:
    """Return requests that show the mapping, the counts, one document and its vector, and that search with these.

    They only read. The document is one with a complete first chunk; an empty index gets the first requests alone.
    """
    record = read_record(client, index)
    requests = list(_counts(index))
    if sample := _sample(client, index):
        requests += _document(index, sample)
        requests += _searches(index, record, sample)
    return "\n\n".join(f"# {title}\n{request}" for title, request in requests)


def _counts(index: str) -> Iterator[tuple[str, str]]:
    documents = {
        "terms": {"field": "doc_id", "size": 100},
        "aggs": {"chunk_count": {"max": {"field": "chunk_count"}}},
    }
    yield "The fields, and in _meta the model and the settings", console_request("GET", f"{index}/_mapping")
    yield "The number of chunks", console_request("GET", f"{index}/_count")
    yield (
        "Documents with their chunks; in a whole document the two counts are equal",
        console_request("GET", f"{index}/_search", {"size": 0, "aggs": {"documents": documents}}),
    )
    yield (
        "Size and health",
        console_request("GET", f"_cat/indices/{index}?format=json&h=index,health,docs.count,store.size"),
    )


def _document(index: str, sample: dict[str, Any]) -> Iterator[tuple[str, str]]:
    chunks = {
        "size": 1000,
        "query": {"term": {"doc_id": sample["_source"]["doc_id"]}},
        "sort": ["ordinal"],
        "_source": CHUNK_FIELDS,
    }
    vector = {"query": {"ids": {"values": [sample["_id"]]}}, "_source": False, "fields": [VECTOR_FIELD]}
    yield "One document's chunks in order", console_request("GET", f"{index}/_search", chunks)
    yield "A chunk's vector", console_request("GET", f"{index}/_search", vector)


def _searches(index: str, record: IndexRecord, sample: dict[str, Any]) -> Iterator[tuple[str, str]]:
    vector: FloatArray = sample["fields"][VECTOR_FIELD]
    words = " ".join(sample["_source"]["content"].split()[:SAMPLE_WORDS])

    def builder(**options: Any) -> QueryBuilder:
        return QueryBuilder(record.properties, record.text_fields, SearchOptions(**options))

    nearest = builder(mode="knn").knn(words, vector, size=10)
    collapsed = builder(mode="knn", collapse=True).knn(words, vector, size=10)
    path = f"{index}/_search"
    yield (
        "Nearest vectors: the chunks that are most similar to that chunk",
        console_request("POST", path, nearest),
    )
    yield "The same, with one hit per document", console_request("POST", path, collapsed)
    if builder().mode != "hybrid":
        return
    found = builder(mode="bm25").bm25(words, size=10)
    yield "Words: the start of that chunk", console_request("POST", path, found)
    yield "Both in one request, as a hybrid search sends them", console_msearch(index, [found, nearest])


def _sample(client: Elasticsearch, index: str) -> dict[str, Any] | None:
    whole = [{"exists": {"field": field}} for field in ("doc_id", "content", VECTOR_FIELD)]
    with server_errors(client, index):
        answer = client.search(
            index=index,
            size=1,
            query={"bool": {"filter": [{"term": {"ordinal": 0}}, *whole]}},
            sort=["doc_id"],
            source={"includes": ["doc_id", "content"]},
            fields=[{"field": VECTOR_FIELD}],
        )
    return next(iter(answer["hits"]["hits"]), None)
