"""Looking at an index and deleting it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from elasticsearch import AuthorizationException, Elasticsearch

from es_latechunk.elastic.connection import server_errors
from es_latechunk.elastic.mapping import read_identity, single_index
from es_latechunk.elastic.template import CHUNKS, VECTOR_FIELD


def describe_index(client: Elasticsearch, name: str) -> dict[str, Any]:
    """Counts, size in bytes, vector index type, and the identity that the mapping records.

    `bytes` is None for a user who may not see it (the privilege `monitor`).
    """
    identity = read_identity(client, name)
    with server_errors(client, name):
        with suppress(AuthorizationException):  # a reader sees what was last refreshed
            client.indices.refresh(index=name)
        chunks = client.count(index=name, query=CHUNKS)["count"]
        answer = client.search(index=name, size=0, aggs={"ids": {"cardinality": {"field": "doc_id"}}})
        try:
            stats = client.indices.stats(index=name, metric="store")
            size = stats["_all"]["primaries"]["store"]["size_in_bytes"]
        except AuthorizationException:
            size = None
        mappings = next(iter(client.indices.get_mapping(index=name).values()))["mappings"]
    return {
        "index": name,
        "chunks": chunks,
        "documents": answer["aggregations"]["ids"]["value"],
        "bytes": size,
        "index_type": mappings["properties"][VECTOR_FIELD]["index_options"]["type"],
        **identity.to_meta(),
    }


def delete_index(client: Elasticsearch, name: str) -> None:
    """Delete the index that `name` stands for, and nothing else: no wildcard, one index."""
    concrete = single_index(client, name)
    with server_errors(client, name):
        client.indices.delete(index=concrete)
