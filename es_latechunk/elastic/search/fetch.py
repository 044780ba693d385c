"""The winners' fields: what a search shows is fetched for the few chunks that it shows, after they are ranked.

A search looks at hundreds of chunks to show ten. Their ids and scores are small; their fields are not, where
documents carry large metadata. So the first request asks for ids and scores alone, and this one for the rest.

It also looks whether each document is whole: every chunk of one version, and none of another. While a document
is replaced, a refresh in between shows some chunks of both versions; such a document is left out of the results
until it is whole again, so that no reader sees half of it.
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
    """The chunks that were fetched, by index and `_id`; None for one that is gone or is none of ours."""

    hits: dict[Key, Hit | None] = field(default_factory=dict)
    broken: set[tuple[str, str]] = field(
        default_factory=set
    )  # (index, document) of two versions, or of a part

    def shown(self, candidates: Iterable[Candidate], k: int) -> list[Hit]:
        """The first k candidates as hits, without what cannot be shown."""
        hits = (self._hit(candidate) for candidate in candidates)
        return list(islice((hit for hit in hits if hit is not None), k))

    def _hit(self, candidate: Candidate) -> Hit | None:
        hit = self.hits.get(candidate.key)
        if hit is None or (candidate.index, hit.doc_id) in self.broken:
            return None
        inner = None
        if candidate.inner is not None:
            inner = tuple(found for found in map(self._hit, candidate.inner) if found is not None)
        return replace(hit, score=candidate.score, inner_hits=inner)


def fetch(
    search: Search,
    candidates: Sequence[Candidate],
    into: Fetched,
    *,
    indices: int = 1,
    highlight: str | None = None,
) -> None:
    """Fetch what is not there yet of the candidates and their inner ones, in requests of a bounded size.

    `indices` is the number of indices that `search` reads: each may hold a chunk of the same `_id`. `highlight`
    marks the words of that text in the content. A request whose answer is too large for the server is halved, down
    to one chunk.
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
    """Chunks by `_id`; the aggregation sees all chunks of their documents, in the same look at the index."""
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
    """A hit from one row of Elasticsearch's answer; None, with a warning, for one that is no chunk of ours."""
    if "_source" not in row:
        raise PreconditionError(
            f"index {row['_index']}: keeps no _source, so its chunks cannot be shown; make it again with the "
            "template of es-latechunk"
        )
    source = row["_source"]
    if fault := _fault(row["_id"], source):
        log.warning(
            "index %s: %s is no chunk of es-latechunk (%s), so it is left out",
            row["_index"],
            row["_id"],
            fault,
        )
        return None
    title, metadata = source.get("title"), source.get("metadata")
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
    )


def _fault(identifier: str, source: Mapping[str, Any]) -> str:
    """What shows that somebody else has written this, or "": a field can also be null or a list."""
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
