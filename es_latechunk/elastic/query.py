"""Search requests as plain values: what is asked, before anyone is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from es_latechunk.elastic.template import VECTOR_FIELD
from es_latechunk.errors import UsageError
from es_latechunk.types import FloatArray

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
