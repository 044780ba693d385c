"""The documents in an index: which version of each it holds, and which ones the source no longer has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from elasticsearch import Elasticsearch

from es_latechunk.documents import SeenIds
from es_latechunk.elastic.connection import server_errors
from es_latechunk.elastic.retry import retry_transient
from es_latechunk.types import DEFAULT_RETRY_FOR, Document

T = TypeVar("T")

LOOK_UP_DOCUMENTS = 256
LOOK_UP_CHARACTERS = 2_000_000
# While a shard has no copy, as after the restart of a node, a search fails and is repeated. By default it would answer
# without that shard, and chunks that are there would be taken for missing.
WHOLE: Mapping[str, Any] = {"allow_partial_search_results": False}
# Aggregations over the chunks of a document: the versions they are of, and how many chunks there should be.
VERSIONS = {
    "hashes": {"terms": {"field": "doc_hash", "size": 2}},
    "chunk_count": {"max": {"field": "chunk_count"}},
    "last_ordinal": {"max": {"field": "ordinal"}},
}


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """The chunks that the index holds of one document, of one version or several.

    `chunk_count` is the number of chunks that its version should have, `doc_hash` that version, or "" if the chunks
    come from several, and `versions` how many of them there are, counted up to 2. A listing of ids asks for none of
    these three.
    """

    doc_id: str
    chunks: int
    last_ordinal: int
    chunk_count: int = 0
    doc_hash: str = ""
    versions: int = 0

    @property
    def is_consistent(self) -> bool:
        """True if the chunks are those of one whole version, or no version is recorded at all."""
        return self.is_whole(self.doc_hash) if self.versions else True

    def is_whole(self, doc_hash: str) -> bool:
        """True if the index holds every chunk of exactly that version, and no other chunk."""
        return (
            doc_hash != ""
            and self.doc_hash == doc_hash
            and self.chunks == self.chunk_count == self.last_ordinal + 1
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """A document of the source next to what the index holds of it."""

    document: Document
    doc_hash: str
    indexed: IndexedDocument

    @property
    def unchanged(self) -> bool:
        return self.indexed.is_whole(self.doc_hash)

    def surplus(self, chunks: int) -> int:
        """The number of indexed chunks that remain to be deleted if the document now has `chunks` chunks."""
        return max(0, self.indexed.last_ordinal + 1 - chunks)


def compare_with_index(
    client: Elasticsearch,
    index: str,
    documents: Iterable[tuple[Document, str] | T],
    *,
    retry_for: float = DEFAULT_RETRY_FOR,
) -> Iterator[Comparison | T]:
    """Compare each (document, hash) with the index; everything else passes through.

    Documents are looked up in groups, so that a source of any length takes bounded memory. The index must have been
    refreshed; ids must be unique within `documents`.
    """
    for group in _groups(documents):
        if not isinstance(group, list):
            yield group
            continue
        indexed = _look_up(client, index, [document.id for document, _ in group], retry_for)
        for document, doc_hash in group:
            yield Comparison(
                document, doc_hash, indexed.get(document.id, IndexedDocument(document.id, 0, -1))
            )


def count_documents(client: Elasticsearch, index: str, *, retry_for: float = DEFAULT_RETRY_FOR) -> int:
    """Count the documents in an index exactly, by their first chunks (a cardinality is only approximate)."""

    with server_errors(client, index):
        return retry_transient(
            lambda: count(client, index, {"term": {"ordinal": 0}}),
            retry_for=retry_for,
            what=f"index {index}: its documents could not be counted",
        )


def _groups(documents: Iterable[tuple[Document, str] | T]) -> Iterator[list[tuple[Document, str]] | T]:
    group: list[tuple[Document, str]] = []
    size = 0
    for item in documents:
        if not isinstance(item, tuple):
            yield item
            continue
        document, doc_hash = item
        group.append((document, doc_hash))
        size += len(document.text)
        if len(group) == LOOK_UP_DOCUMENTS or size >= LOOK_UP_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


def count(client: Elasticsearch, index: str, query: Mapping[str, Any]) -> int:
    """Count exactly what matches; unlike the API of that name, fail while a shard has no copy."""
    answer = client.search(index=index, size=0, query=query, track_total_hits=True, **WHOLE)
    return int(answer["hits"]["total"]["value"])


def _look_up(
    client: Elasticsearch, index: str, doc_ids: Sequence[str], retry_for: float
) -> dict[str, IndexedDocument]:
    def ask() -> Any:
        return client.search(
            index=index,
            size=0,
            query={"terms": {"doc_id": list(doc_ids)}},
            **WHOLE,
            aggs={"documents": {"terms": {"field": "doc_id", "size": len(doc_ids)}, "aggs": VERSIONS}},
        )

    with server_errors(client, index):
        answer = retry_transient(
            ask, retry_for=retry_for, what=f"index {index}: its documents could not be looked up"
        )
    buckets = answer["aggregations"]["documents"]["buckets"]
    return {bucket["key"]: indexed_document(bucket["key"], bucket) for bucket in buckets}


def indexed_document(doc_id: str, bucket: Mapping[str, Any]) -> IndexedDocument:
    """Read a document from a bucket of its chunks with the aggregations VERSIONS."""
    hashes = {row["key"]: row["doc_count"] for row in bucket["hashes"]["buckets"]}
    chunks = int(bucket["doc_count"])
    return IndexedDocument(
        doc_id,
        chunks,
        last_ordinal=int(bucket["last_ordinal"]["value"] or 0),
        chunk_count=int(bucket["chunk_count"]["value"] or 0),
        doc_hash=next((key for key, count in hashes.items() if count == chunks), ""),
        versions=len(hashes),
    )


PAGE = 1_000


def stale_documents(
    client: Elasticsearch, index: str, seen: SeenIds, *, retry_for: float = DEFAULT_RETRY_FOR
) -> Iterator[IndexedDocument]:
    """Yield every document of the index whose id is not in `seen`; ids are read page by page."""
    after: dict[str, str] | None = None
    while True:
        page = _page(client, index, after, retry_for)
        for bucket in page["buckets"]:
            last = bucket["last"]["value"]  # None if another program wrote it, without an ordinal
            if last is not None and bucket["key"]["doc_id"] not in seen:
                yield IndexedDocument(bucket["key"]["doc_id"], bucket["doc_count"], int(last))
        after = page.get("after_key")
        if after is None:
            return


def _page(client: Elasticsearch, index: str, after: dict[str, str] | None, retry_for: float) -> Any:
    sources = [{"doc_id": {"terms": {"field": "doc_id"}}}]
    composite = {"size": PAGE, "sources": sources, **({"after": after} if after else {})}
    aggs = {"ids": {"composite": composite, "aggs": {"last": {"max": {"field": "ordinal"}}}}}

    def ask() -> Any:
        return client.search(index=index, size=0, aggs=aggs, **WHOLE)["aggregations"]["ids"]

    with server_errors(client, index):
        return retry_transient(
            ask, retry_for=retry_for, what=f"index {index}: its documents could not be listed"
        )
