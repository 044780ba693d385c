"""One set of chunks in two orders: by late cosine and by naive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from es_latechunk.types import Hit, Pooling


@dataclass(frozen=True, slots=True)
class Ranked:
    """A chunk's cosine to the query and its rank (from 1), late and naive; None: not in that list."""

    hit: Hit
    late: float | None
    naive: float | None
    late_rank: int | None
    naive_rank: int | None

    def facts(self) -> dict[str, Any]:
        """The chunk as a JSON row."""
        hit = self.hit
        return {
            "id": hit.id,
            "doc_id": hit.doc_id,
            "ordinal": hit.ordinal,
            "start": hit.start,
            "end": hit.end,
            "content": hit.content,
            "title": hit.title,
            "metadata": hit.metadata,
            "late": self.late,
            "naive": self.naive,
            "late_rank": self.late_rank,
            "naive_rank": self.naive_rank,
        }


def rank(hits: Sequence[Hit], late: Sequence[float | None], naive: Sequence[float | None]) -> list[Ranked]:
    """The hits with both cosines and both ranks; equal cosines are ranked in the order in which they come."""
    rows = zip(hits, late, naive, _ranks(late), _ranks(naive), strict=True)
    return [Ranked(*row) for row in rows]


def best(ranked: Sequence[Ranked], pooling: Pooling, k: int) -> list[Ranked]:
    """The first k by one of the two."""
    places = {row.late_rank if pooling == "late" else row.naive_rank: row for row in ranked}
    return [places[place] for place in range(1, k + 1) if place in places]


def _ranks(cosines: Sequence[float | None]) -> list[int | None]:
    known = sorted((-cosine, place) for place, cosine in enumerate(cosines) if cosine is not None)
    ranks = {place: rank for rank, (_, place) in enumerate(known, 1)}
    return [ranks.get(place) for place in range(len(cosines))]
