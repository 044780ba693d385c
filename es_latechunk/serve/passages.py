"""The passage around a hit, sentence by sentence, each with its similarity to the query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from es_latechunk.types import ChunkSpan, FloatArray, Hit, Passage


@dataclass(frozen=True, slots=True)
class Shown:
    """The characters [start, end) of a text that are displayed, and the hit among them."""

    text: str
    start: int
    end: int
    hit: ChunkSpan


def shown_passage(hit: Hit, passage: Passage) -> Shown:
    """Find a hit in its passage.

    Whitespace between chunks may be shorter in the passage than in the document, but never longer. This limits where
    the hit can begin, so it is found even if the same words occur before it.
    """
    text, length = passage.text, len(hit.content)
    first = len(text) - length - (passage.end - hit.end)
    start = text.index(hit.content, max(first, 0), hit.start - passage.start + length)
    return Shown(text, 0, len(text), ChunkSpan(start, start + length))


def passage_in(text: str, spans: Sequence[ChunkSpan], ordinal: int, neighbours: int) -> Shown:
    """Return a chunk of a document with up to `neighbours` chunks on each side."""
    around = spans[max(0, ordinal - neighbours) : ordinal + neighbours + 1]
    return Shown(text, around[0].start, around[-1].end, spans[ordinal])


def pieces(shown: Shown, spans: Sequence[ChunkSpan], similarities: FloatArray) -> list[dict[str, Any]]:
    """Split a passage into consecutive pieces: its sentences, and the whitespace between them.

    `spans` are the sentences of the text. A sentence that extends beyond the hit or the passage is cut there. The
    `similarity` of a piece between sentences is None.
    """
    cuts = {shown.start, shown.end, shown.hit.start, shown.hit.end}
    cuts.update(end for span in spans for end in (span.start, span.end) if shown.start < end < shown.end)
    rows: list[dict[str, Any]] = []
    sentence = 0
    for start, end in pairwise(sorted(cuts)):
        while sentence < len(spans) and spans[sentence].end <= start:
            sentence += 1
        inside = sentence < len(spans) and spans[sentence].start <= start
        rows.append(
            {
                "text": shown.text[start:end],
                "hit": shown.hit.start <= start < shown.hit.end,
                "similarity": float(similarities[sentence]) if inside else None,
            }
        )
    return rows
