"""Searching an index: a request that anyone can read, and its hits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from elasticsearch import Elasticsearch

from es_latechunk.elastic.connection import server_errors
from es_latechunk.elastic.identity import check_encoder
from es_latechunk.elastic.mapping import VECTOR_FIELD, read_identity
from es_latechunk.errors import UsageError
from es_latechunk.types import Encoder, FloatArray, Hit

MOST_CANDIDATES = 10_000
SOURCE_FIELDS = ("doc_id", "ordinal", "start", "end", "content", "title", "metadata")
FILTER_FIELDS = ("doc_id", "ordinal", "chunk_count", "start", "end", "doc_hash")


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """`k` hits; `num_candidates` are looked at on each shard (default: 10 k, at least 100)."""

    k: int = 10
    num_candidates: int | None = None
    filters: tuple[Mapping[str, Any], ...] = ()

    def candidates(self) -> int:
        """The effective number of candidates, between k and Elasticsearch's limit; errors are UsageErrors."""
        if not 1 <= self.k <= MOST_CANDIDATES:
            raise UsageError(f"-k {self.k} is not between 1 and {MOST_CANDIDATES}")
        wanted = self.num_candidates
        if wanted is None:
            return min(max(10 * self.k, 100), MOST_CANDIDATES)
        if not self.k <= wanted <= MOST_CANDIDATES:
            raise UsageError(f"--num-candidates {wanted} is not between -k {self.k} and {MOST_CANDIDATES}")
        return wanted


def parse_filter(text: str) -> Mapping[str, Any]:
    """The query of a filter `field=value`: a field of the chunk, the words of its title, or a metadata key."""
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise UsageError(f"--filter {text!r} has no field and value; write field=value")
    if name in ("title", "content"):
        return {"match_phrase": {name: value}}
    field = name if name in FILTER_FIELDS or name.startswith("metadata.") else f"metadata.{name}"
    return {"term": {field: value}}


def knn_request(vector: FloatArray, options: SearchOptions) -> dict[str, Any]:
    """The body of a kNN search with the query vector (dim,)."""
    knn: dict[str, Any] = {
        "field": VECTOR_FIELD,
        "query_vector": [float(f"{value:.9g}") for value in vector],
        "k": options.k,
        "num_candidates": options.candidates(),
    }
    if options.filters:
        knn["filter"] = [dict(query) for query in options.filters]
    return {"knn": knn, "size": options.k, "_source": list(SOURCE_FIELDS)}


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
    return run_search(client, index, query_request(query, client=client, index=index, encoder=encoder, options=options))


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
