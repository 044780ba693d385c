"""From boundaries to chunks: units are merged while they fit into a chunk, and cut if they are too long for one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from es_latechunk.chunking.token_positions import (
    AT_LINE_BREAK,
    AT_SPACE,
    BETWEEN_WIDE,
    IN_CLUSTER,
    IN_WORD,
    TokenPositions,
)
from es_latechunk.types import IntArray

# In the order of preference. Inside a word, or even a character cluster, only if there is no other way.
_WORD_BOUNDARIES = (AT_LINE_BREAK, AT_SPACE, BETWEEN_WIDE)
_EMERGENCIES = (IN_WORD, IN_CLUSTER)


def even_pieces(positions: TokenPositions, start: int, end: int, *, max_tokens: int) -> Iterator[int]:
    """Yield the starts of pieces of the visible tokens [start, end): about equally long, and none too long."""
    while (length := positions.length(start, end)) > max_tokens:
        share = math.ceil(length / math.ceil(length / max_tokens))
        yield start
        start = _cut(positions, start, end, target=positions.reach(start, share), max_tokens=max_tokens)
        if start == end:
            return
    yield start


def full_pieces(positions: TokenPositions, *, max_tokens: int) -> Iterator[int]:
    """Yield the starts of pieces of all visible tokens, each as long as `max_tokens` and the word boundaries allow."""
    start, end = 0, len(positions)
    while start < end:
        yield start
        reach = positions.reach(start, max_tokens)
        start = _cut(positions, start, end, target=reach, max_tokens=max_tokens) if reach < end else end


def _cut(positions: TokenPositions, start: int, end: int, *, target: int, max_tokens: int) -> int:
    """Return the token before which to cut [start, end), near `target`.

    The cut is inside a word only if the piece has no word boundary at all.
    """
    kinds = positions.cut_kinds
    limit = positions.reach(start, max_tokens)
    # A boundary in the second half of the piece is good enough; one in the first half makes it too short.
    near = max(start + 1, (start + target) // 2)
    for choices in (_WORD_BOUNDARIES, _EMERGENCIES):
        for kind in choices:
            found = _nearest(kinds, kind, near, limit, target)
            if found >= 0:
                return found
        found = max(kinds.rfind(kind, start + 1, near) for kind in choices)
        if found >= 0:
            return found
    # One character in several tokens, or one word in one token, is alone longer than a piece may be.
    while limit < end and not kinds[limit]:
        limit += 1
    return limit


def _nearest(kinds: bytes, kind: int, low: int, high: int, target: int) -> int:
    """Return the position of `kind` in [low, high] that is nearest to `target`; -1 if there is none."""
    left, right = kinds.rfind(kind, low, target + 1), kinds.find(kind, target, high + 1)
    if left < 0 or right < 0:
        return max(left, right)
    return left if target - left <= right - target else right


class Kind(IntEnum):
    """The kind of unit that begins at a boundary; if boundaries coincide, the highest kind counts."""

    PIECE = 0  # the rest of a sentence that is too long
    SENTENCE = 1
    LINE = 2  # a list item, a footnote, a table's row, what follows a rule or a table
    PARAGRAPH = 3
    BODY = 4  # what follows a heading or a table's header, and should stay with it


class Unit(NamedTuple):
    """The visible tokens [start, end), which begin at character `position` and should stay in one chunk."""

    start: int
    end: int
    position: int
    kind: Kind


def find_units(positions: TokenPositions, boundaries: Iterable[tuple[IntArray, Kind]]) -> list[Unit]:
    """Return the units between the boundaries, which are positions in characters.

    Each unit has a token. What has none is merged into the unit before it, or at the beginning of the text into the
    unit after it.
    """
    begun: dict[int, tuple[int, Kind]] = {}
    for characters, kind in boundaries:
        tokens = np.searchsorted(positions.first, characters)
        for token, position in zip(tokens.tolist(), characters.tolist(), strict=True):
            if 0 < token < len(positions):
                before = begun.get(token, (position, kind))
                begun[token] = max(before[0], position), max(before[1], kind)
    starts = [(0, (0, Kind.PARAGRAPH)), *sorted(begun.items())]
    ends = [token for token, _ in starts[1:]] + [len(positions)]
    return [
        Unit(start, end, position, kind) for (start, (position, kind)), end in zip(starts, ends, strict=True)
    ]


def join(units: Iterable[Unit], *, kind: Kind) -> Iterator[list[Unit]]:
    """Group units so that each group begins with one of `kind` or higher."""
    group: list[Unit] = []
    for unit in units:
        if group and unit.kind >= kind:
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def cut_long(units: Iterable[Unit], positions: TokenPositions, *, max_tokens: int) -> Iterator[Unit]:
    """Yield the units, but cut each of more than `max_tokens` tokens, with its heading, into even pieces."""
    for unit in _with_headings(units, positions, max_tokens):
        starts = list(even_pieces(positions, unit.start, unit.end, max_tokens=max_tokens))
        bounds = [*starts, unit.end]
        yield unit._replace(end=bounds[1])
        for start, end in pairwise(bounds[1:]):
            yield Unit(start, end, int(positions.first[start]), Kind.PIECE)


def _with_headings(units: Iterable[Unit], positions: TokenPositions, max_tokens: int) -> Iterator[Unit]:
    """Yield the units, but join each that is too long to its heading, which would otherwise be a chunk of its own."""
    before: Unit | None = None
    for unit in units:
        long = positions.length(unit.start, unit.end) > max_tokens
        if before and long and unit.kind == Kind.BODY:
            before = before._replace(end=unit.end)
            continue
        if before:
            yield before
        before = unit
    if before:
        yield before


def pack(units: Sequence[Unit], positions: TokenPositions, *, max_tokens: int) -> list[int]:
    """Return the positions, in characters, at which all chunks but the first one begin.

    Units are merged while they fit. A chunk that is at least half full ends at the end of a paragraph, and no chunk
    ends with a heading if the heading fits into the next chunk.
    """
    starts = []
    begin = 0
    for index in range(1, len(units)):
        unit = units[index]
        first = units[begin].start
        if positions.length(first, unit.end) > max_tokens:
            begin = _with_its_headings(units, begin, index, positions, max_tokens)
        elif unit.kind == Kind.PARAGRAPH and positions.length(first, unit.start) * 2 >= max_tokens:
            begin = index
        else:
            continue
        starts.append(units[begin].position)
    return starts


def _with_its_headings(
    units: Sequence[Unit], begin: int, index: int, positions: TokenPositions, max_tokens: int
) -> int:
    """Return the first heading before unit `index` that fits into the chunk that this unit begins.

    At least one unit stays in the chunk before, which begins with unit `begin`.
    """
    first = index
    while (
        units[first].kind == Kind.BODY
        and begin < first - 1
        and positions.length(units[first - 1].start, units[index].end) <= max_tokens
    ):
        first -= 1
    return first
