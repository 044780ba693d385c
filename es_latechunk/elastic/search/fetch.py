"""Fetches the fields of the best chunks of a search, after they are ranked.

A search looks at hundreds of chunks to show ten. Their ids and scores are small, but their fields may be large, as
metadata can be. So the first request returns ids and scores alone, and this one the fields of the hits.

The same request checks whether each document is whole: all chunks of one version, and none of another. While a
document is replaced, a refresh may expose chunks of both versions. Such a document is left out of the results until it
is whole again, so that nobody sees half of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from es_latechunk.elastic.index.contents import VERSIONS, indexed_document
from es_latechunk.elastic.search.fusion import Candidate, Key
from es_latechunk.elastic.search.query import SOURCE_FIELDS, highlight_clause
from es_latechunk.elastic.write.actions import chunk_id
from es_latechunk.errors import PreconditionError, TooMuchError
from es_latechunk.types import Hit

FETCH_AT_ONCE = 100  # hits of one answer
NEEDED = {"doc_id": str, "ordinal": int, "start": int, "end": int, "content": str}
log = logging.getLogger(__name__)

Search = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(slots=True)
class Fetched:
    """The fetched chunks by index and `_id`; None for one that no longer exists or was not written by us.

    `broken` are the (index, document) pairs whose chunks are of several versions or incomplete.
    """

    hits: dict[Key, Hit | None] = field(default_factory=dict)
    broken: set[tuple[str, str]] = field(default_factory=set)

    def shown(self, candidates: Iterable[Candidate], k: int) -> list[Hit]:
        """Return the first k candidates that can be shown as hits."""
        hits = (self._hit(candidate) for candidate in candidates)
        return list(islice((hit for hit in hits if hit is not None), k))

    def _hit(self, candidate: Candidate) -> Hit | None:
        hit = self.hits.get(candidate.key)
        if hit is None or (candidate.index, hit.doc_id) in self.broken:
            return None
        inner = None
        if candidate.inner is not None:
            inner = tuple(found for found in map(self._hit, candidate.inner) if found is not None)
        return replace(hit, score=candidate.score, inner_hits=inner, scores=candidate.scores)


def fetch(
    search: Search,
    candidates: Sequence[Candidate],
    into: Fetched,
    *,
    indices: int = 1,
    highlight: str | None = None,
) -> None:
    """Fetch the candidates and their inner ones, unless they are fetched already, in requests of a bounded size.

    `indices` is the number of indices that `search` reads; each may hold a chunk of the same `_id`. `highlight` is a
    text whose words are marked in the content. A request whose answer is too large for the server is halved, down to
    one chunk.
    """
    keys = dict.fromkeys(
        found.key for candidate in candidates for found in (candidate, *(candidate.inner or ()))
    )
    wanted = [key for key in keys if key not in into.hits]
    size = FETCH_AT_ONCE
    while wanted:
        group = wanted[:size]
        try:
            answer = search(_body(group, indices, highlight))
        except TooMuchError:
            if len(group) == 1:
                raise
            size = len(group) // 2
            continue
        _read(answer, group, into)
        wanted = wanted[len(group) :]


def _body(keys: Sequence[Key], indices: int, highlight: str | None) -> dict[str, Any]:
    """Return a search for chunks by `_id`, with an aggregation over all chunks of their documents.

    One request does both, so that it sees one state of the index.
    """
    ids = list(dict.fromkeys(chunk for _, chunk in keys))
    documents = sorted({chunk.rpartition("#")[0] for chunk in ids})
    by_index = {"terms": {"field": "_index", "size": indices}, "aggs": VERSIONS}
    by_document = {
        "terms": {"field": "doc_id", "size": len(documents) + len(ids)},
        "aggs": {"indices": by_index},
    }
    return {
        "query": {"bool": {"should": [{"terms": {"doc_id": documents}}, {"ids": {"values": ids}}]}},
        "post_filter": {"ids": {"values": ids}},
        "size": len(ids) * indices,
        "_source": list(SOURCE_FIELDS),
        "aggs": {"documents": by_document},
        **(highlight_clause(highlight) if highlight is not None else {}),
    }


def _read(answer: Mapping[str, Any], keys: Sequence[Key], into: Fetched) -> None:
    rows = {(row["_index"], row["_id"]): row for row in answer["hits"]["hits"]}
    for key in keys:
        into.hits[key] = read_hit(rows[key]) if key in rows else None
    for document in answer["aggregations"]["documents"]["buckets"]:
        for index in document["indices"]["buckets"]:
            if not indexed_document(document["key"], index).is_consistent:
                into.broken.add((index["key"], document["key"]))


def read_hit(row: Mapping[str, Any]) -> Hit | None:
    """Read a hit from a row of the answer; None, with a warning, for a document that is not one of our chunks."""
    if "_source" not in row:
        raise PreconditionError(
            f"index {row['_index']}: keeps no _source, so its chunks cannot be shown; create it again with the "
            "template of es-latechunk"
        )
    source = row["_source"]
    if fault := chunk_fault(row["_id"], source):
        log.warning(
            "index %s: %s is not a chunk of es-latechunk (%s), so it is left out",
            row["_index"],
            row["_id"],
            fault,
        )
        return None
    title, metadata = source.get("title"), source.get("metadata")
    headings = source.get("headings")
    highlight = row.get("highlight", {}).get("content")
    return Hit(
        id=row["_id"],
        doc_id=source["doc_id"],
        ordinal=source["ordinal"],
        score=row["_score"] or 0.0,
        start=source["start"],
        end=source["end"],
        content=source["content"],
        title=title if isinstance(title, str) else "",
        metadata=metadata if isinstance(metadata, Mapping) else {},
        highlight=highlight[0] if highlight else None,
        headings=tuple(map(str, headings)) if isinstance(headings, list) else (),
    )


def chunk_fault(identifier: str, source: Mapping[str, Any]) -> str:
    """Return what shows that another program wrote this document, or "".

    The types are checked too, as any field of an Elasticsearch document can be null or a list.
    """
    if missing := [name for name in NEEDED if name not in source]:
        return f"it has no {', '.join(missing)}"
    for name, kind in NEEDED.items():
        if not isinstance(source[name], kind):
            return f"its {name} is a {type(source[name]).__name__}"
    ordinal, start, end = source["ordinal"], source["start"], source["end"]
    if identifier != chunk_id(source["doc_id"], ordinal) or ordinal < 0:
        return "its _id is not that of its doc_id and ordinal"
    if start < 0 or len(source["content"]) != end - start:
        return "its content is not as long as its start and end say"
    return ""
