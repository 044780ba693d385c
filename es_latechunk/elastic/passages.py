"""The chunks around a hit, joined into one passage that reads well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from es_latechunk.elastic.actions import chunk_id
from es_latechunk.elastic.search import Searcher
from es_latechunk.types import Hit, Passage


def add_passages(searcher: Searcher, hits: Sequence[Hit], neighbours: int) -> list[Hit]:
    """Hits with the passage of up to `neighbours` chunks on each side of the same document."""
    chunks = {hit.id: hit for hit in hits}
    wanted = sorted({chunk for hit in hits for chunk in _around(hit, neighbours)} - chunks.keys())
    chunks.update(searcher.fetch_rows(wanted))
    return [
        replace(hit, passage=join_passage([chunks[c] for c in _around(hit, neighbours) if c in chunks]))
        for hit in hits
    ]


def join_passage(chunks: Sequence[Hit]) -> Passage:
    """Chunks of one document, in order, as one text."""
    text = chunks[0].content
    for before, after in pairwise(chunks):
        gap = after.start - before.end
        text += ("\n\n" if gap > 1 else " " * gap) + after.content
    return Passage(chunks[0].start, chunks[-1].end, text)


def _around(hit: Hit, neighbours: int) -> list[str]:
    first = max(0, hit.ordinal - neighbours)
    return [chunk_id(hit.doc_id, ordinal) for ordinal in range(first, hit.ordinal + neighbours + 1)]
