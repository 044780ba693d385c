"""Searching an index: a query in, hits out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from elasticsearch import Elasticsearch

from es_latechunk.elastic.connection import server_errors
from es_latechunk.elastic.identity import check_encoder
from es_latechunk.elastic.mapping import read_identity
from es_latechunk.elastic.query import SearchOptions, knn_request, parse_filter
from es_latechunk.errors import UsageError
from es_latechunk.types import Encoder, Hit


def search(
    query: str,
    *,
    client: Elasticsearch,
    index: str,
    encoder: Encoder,
    k: int = 10,
    num_candidates: int | None = None,
    filters: Iterable[str] = (),
) -> list[Hit]:
    """The `k` chunks nearest to the query, best first; `_score` is (1 + cosine) / 2.

    The query is encoded as the index records (prefix, dimensions); an encoder that is not the index's own
    is refused (IndexMismatchError). `filters` are "field=value".
    """
    options = SearchOptions(k, num_candidates, tuple(parse_filter(text) for text in filters))
    return run_search(
        client, index, query_request(query, client=client, index=index, encoder=encoder, options=options)
    )


def query_request(
    query: str, *, client: Elasticsearch, index: str, encoder: Encoder, options: SearchOptions
) -> dict[str, Any]:
    """The search's request body, ready to be sent or shown."""
    if not query.strip():
        raise UsageError("the query is empty; write a few words")
    options.candidates()
    check_encoder(index, read_identity(client, index).encoder, encoder.identity)
    return knn_request(encoder.encode_queries([query])[0], options)


def run_search(client: Elasticsearch, index: str, request: Mapping[str, Any]) -> list[Hit]:
    """Send a search body to an index and read its hits."""
    with server_errors(client, index):
        answer = client.search(index=index, body=dict(request))
    return [read_hit(row) for row in answer["hits"]["hits"]]


def read_hit(row: Mapping[str, Any]) -> Hit:
    """A hit from one row of Elasticsearch's answer."""
    source = row["_source"]
    return Hit(
        id=row["_id"],
        doc_id=source["doc_id"],
        ordinal=source["ordinal"],
        score=row["_score"],
        start=source["start"],
        end=source["end"],
        content=source["content"],
        title=source.get("title", ""),
        metadata=source.get("metadata", {}),
    )
