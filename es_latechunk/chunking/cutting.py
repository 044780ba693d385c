"""Cutting a run of tokens that is too long for one chunk, at the best places that it offers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from es_latechunk.chunking.visible import (
    AT_LINE_BREAK,
    AT_SPACE,
    BETWEEN_WIDE,
    IN_CLUSTER,
    IN_WORD,
    VisibleTokens,
)

_WORD_BOUNDARIES = (AT_LINE_BREAK, AT_SPACE, BETWEEN_WIDE)
_EMERGENCIES = (IN_WORD, IN_CLUSTER)


def even_pieces(visible: VisibleTokens, start: int, end: int, *, max_tokens: int) -> Iterator[int]:
    """Starts of the pieces of visible tokens [start, end), each near the same size, none too long."""
    while (length := visible.length(start, end)) > max_tokens:
        share = math.ceil(length / math.ceil(length / max_tokens))
        yield start
        start = _cut(visible, start, end, target=visible.reach(start, share), max_tokens=max_tokens)
        if start == end:
            return
    yield start


def full_pieces(visible: VisibleTokens, *, max_tokens: int) -> Iterator[int]:
    """Starts of pieces of all visible tokens, each as long as `max_tokens` and the word boundaries allow."""
    start, end = 0, len(visible)
    while start < end:
        yield start
        reach = visible.reach(start, max_tokens)
        start = _cut(visible, start, end, target=reach, max_tokens=max_tokens) if reach < end else end


def _cut(visible: VisibleTokens, start: int, end: int, *, target: int, max_tokens: int) -> int:
    """Where to cut visible tokens [start, end): in a word only if the piece has no word boundary at all."""
    places = visible.places
    limit = visible.reach(start, max_tokens)
    near = max(start + 1, (start + target) // 2)
    for choices in (_WORD_BOUNDARIES, _EMERGENCIES):
        for place in choices:
            found = _nearest(places, place, near, limit, target)
            if found >= 0:
                return found
        found = max(places.rfind(place, start + 1, near) for place in choices)
        if found >= 0:
            return found
    # One character in several tokens, or one word in one token, is alone longer than a piece may be.
    while limit < end and not places[limit]:
        limit += 1
    return limit


def _nearest(places: bytes, place: int, low: int, high: int, target: int) -> int:
    """The position of `place` in [low, high] that is nearest to `target`; -1 where there is none."""
    left, right = places.rfind(place, low, target + 1), places.find(place, target, high + 1)
    if left < 0 or right < 0:
        return max(left, right)
    return left if target - left <= right - target else right
