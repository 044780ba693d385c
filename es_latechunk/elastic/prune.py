"""Removing documents that are no longer in the source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from elasticsearch import Elasticsearch

from es_latechunk.documents import SeenIds
from es_latechunk.elastic.connection import server_errors

PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Stale:
    """A document of the index that the source does not have, with its chunks and its last ordinal."""

    doc_id: str
    chunks: int
    last_ordinal: int


def stale_documents(client: Elasticsearch, index: str, seen: SeenIds) -> Iterator[Stale]:
    """Every document of the index whose id is not among `seen`, a page of ids at a time."""
    after: dict[str, str] | None = None
    while True:
        sources = [{"doc_id": {"terms": {"field": "doc_id"}}}]
        composite = {"size": PAGE, "sources": sources, **({"after": after} if after else {})}
        aggs = {"ids": {"composite": composite, "aggs": {"last": {"max": {"field": "ordinal"}}}}}
        with server_errors(client, index):
            page = client.search(index=index, size=0, aggs=aggs)["aggregations"]["ids"]
        for bucket in page["buckets"]:
            if bucket["key"]["doc_id"] not in seen:
                yield Stale(bucket["key"]["doc_id"], bucket["doc_count"], int(bucket["last"]["value"]))
        after = page.get("after_key")
        if after is None:
            return
