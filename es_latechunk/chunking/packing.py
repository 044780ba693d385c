"""From boundaries to chunks: units between boundaries, put together as long as they fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from es_latechunk.chunking.cutting import even_pieces
from es_latechunk.chunking.visible import VisibleTokens
from es_latechunk.types import IntArray


class Kind(IntEnum):
    """What begins at a boundary; where several meet, the highest counts."""

    PIECE = 0  # the rest of a sentence that is too long
    SENTENCE = 1
    LINE = 2  # a list item, a footnote, a table's row, what follows a rule or a table
    PARAGRAPH = 3
    BODY = 4  # what follows a heading or a table's header, and should stay with it


class Unit(NamedTuple):
    """Visible tokens [start, end) that begin at character `position` and should stay together."""

    start: int
    end: int
    position: int
    kind: Kind


def find_units(visible: VisibleTokens, boundaries: Iterable[tuple[IntArray, Kind]]) -> list[Unit]:
    """Units between the boundaries (positions in characters). Each has a token: one without is merged
    into the unit before it, or at the text's beginning into the one after it."""
    begun: dict[int, tuple[int, Kind]] = {}
    for positions, kind in boundaries:
        tokens = np.searchsorted(visible.first, positions)
        for token, position in zip(tokens.tolist(), positions.tolist(), strict=True):
            if 0 < token < len(visible):
                before = begun.get(token, (position, kind))
                begun[token] = max(before[0], position), max(before[1], kind)
    starts = [(0, (0, Kind.PARAGRAPH)), *sorted(begun.items())]
    ends = [token for token, _ in starts[1:]] + [len(visible)]
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


def cut_long(units: Iterable[Unit], visible: VisibleTokens, *, max_tokens: int) -> Iterator[Unit]:
    """The units, those of more than `max_tokens` tokens in even pieces, with the heading before them."""
    for unit in _with_headings(units, visible, max_tokens):
        starts = list(even_pieces(visible, unit.start, unit.end, max_tokens=max_tokens))
        bounds = [*starts, unit.end]
        yield unit._replace(end=bounds[1])
        for start, end in pairwise(bounds[1:]):
            yield Unit(start, end, int(visible.first[start]), Kind.PIECE)


def _with_headings(units: Iterable[Unit], visible: VisibleTokens, max_tokens: int) -> Iterator[Unit]:
    """The units, each that is too long anyway joined to its heading, which would else stand alone."""
    before: Unit | None = None
    for unit in units:
        long = visible.length(unit.start, unit.end) > max_tokens
        if before and long and unit.kind == Kind.BODY:
            before = before._replace(end=unit.end)
            continue
        if before:
            yield before
        before = unit
    if before:
        yield before


def pack(units: Sequence[Unit], visible: VisibleTokens, *, max_tokens: int) -> list[int]:
    """Positions (characters) where chunks begin, the first one left out.

    Units are merged while they fit. A chunk that is half full ends where a paragraph does, and none ends
    with a heading if the heading fits into the next one.
    """
    positions = []
    begin = 0
    for index in range(1, len(units)):
        unit = units[index]
        first = units[begin].start
        if visible.length(first, unit.end) > max_tokens:
            begin = _with_its_headings(units, begin, index, visible, max_tokens)
        elif unit.kind == Kind.PARAGRAPH and visible.length(first, unit.start) * 2 >= max_tokens:
            begin = index
        else:
            continue
        positions.append(units[begin].position)
    return positions


def _with_its_headings(
    units: Sequence[Unit], begin: int, index: int, visible: VisibleTokens, max_tokens: int
) -> int:
    """The first of the headings before the unit `index` that can move into the chunk that it begins; at least
    one unit stays in the chunk that begins with `begin`."""
    first = index
    while (
        units[first].kind == Kind.BODY
        and begin < first - 1
        and visible.length(units[first - 1].start, units[index].end) <= max_tokens
    ):
        first -= 1
    return first
