"""Removing documents that are no longer in the source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from elasticsearch import Elasticsearch

from es_latechunk.documents import SeenIds
from es_latechunk.elastic.connection import server_errors
from es_latechunk.elastic.retry import DEFAULT_RETRY_FOR, persist

PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Stale:
    """A document of the index that the source does not have, with its chunks and its last ordinal."""

    doc_id: str
    chunks: int
    last_ordinal: int


def stale_documents(
    client: Elasticsearch, index: str, seen: SeenIds, *, retry_for: float = DEFAULT_RETRY_FOR
) -> Iterator[Stale]:
    """Every document of the index whose id is not among `seen`, a page of ids at a time."""
    after: dict[str, str] | None = None
    while True:
        page = _page(client, index, after, retry_for)
        for bucket in page["buckets"]:
            last = bucket["last"]["value"]  # None for what somebody else has written, without an ordinal
            if last is not None and bucket["key"]["doc_id"] not in seen:
                yield Stale(bucket["key"]["doc_id"], bucket["doc_count"], int(last))
        after = page.get("after_key")
        if after is None:
            return


def _page(client: Elasticsearch, index: str, after: dict[str, str] | None, retry_for: float) -> Any:
    sources = [{"doc_id": {"terms": {"field": "doc_id"}}}]
    composite = {"size": PAGE, "sources": sources, **({"after": after} if after else {})}
    aggs = {"ids": {"composite": composite, "aggs": {"last": {"max": {"field": "ordinal"}}}}}

    def ask() -> Any:
        return client.search(index=index, size=0, aggs=aggs)["aggregations"]["ids"]

    with server_errors(client, index):
        return persist(ask, retry_for=retry_for, what=f"index {index}: its documents could not be listed")
