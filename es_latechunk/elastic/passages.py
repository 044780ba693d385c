"""The chunks around a hit, joined into one passage that reads well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from es_latechunk.elastic.actions import chunk_id
from es_latechunk.elastic.search import Searcher
from es_latechunk.types import Hit, Passage


def add_passages(searcher: Searcher, hits: Sequence[Hit], neighbours: int) -> list[Hit]:
    """Hits with the passage of up to `neighbours` chunks on each side of the same document."""
    chunks = {hit.id: hit for hit in hits}
    around = {
        chunk_id(hit.doc_id, ordinal)
        for hit in hits
        for ordinal in range(max(0, hit.ordinal - neighbours), hit.ordinal + neighbours + 1)
    }
    chunks.update(searcher.fetch_rows(sorted(around - chunks.keys())))
    return [replace(hit, passage=join_passage(_neighbourhood(hit, chunks, neighbours))) for hit in hits]


def join_passage(chunks: Sequence[Hit]) -> Passage:
    """Chunks of one document, in order, as one text."""
    text = chunks[0].content
    for before, after in pairwise(chunks):
        gap = after.start - before.end
        text += ("\n\n" if gap > 1 else " " * gap) + after.content
    return Passage(chunks[0].start, chunks[-1].end, text)


def _neighbourhood(hit: Hit, chunks: Mapping[str, Hit], neighbours: int) -> list[Hit]:
    """The hit and the chunks on both sides, as far as they follow each other.

    A document may be replaced between the search and this; chunks of its new version can overlap the hit.
    """
    found = [hit]
    for distance in range(1, neighbours + 1):
        before = chunks.get(chunk_id(hit.doc_id, hit.ordinal - distance))
        if before is None or before.end > found[0].start:
            break
        found.insert(0, before)
    for distance in range(1, neighbours + 1):
        after = chunks.get(chunk_id(hit.doc_id, hit.ordinal + distance))
        if after is None or after.start < found[-1].end:
            break
        found.append(after)
    return found
