"""Tables in Markdown, into which HTML tables are converted too. A line that begins with `|` is a row, kept whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from es_latechunk.chunking.blocks import LINE_START, WITHIN_LINE
from es_latechunk.chunking.token_positions import TokenPositions
from es_latechunk.types import IntArray

_ROW = re.compile(rf"{LINE_START}(?P<row>\|{WITHIN_LINE}*)")
# The row between the header and those below it: `| --- | :---: |`.
_SEPARATOR = re.compile(r"[|: \t]*-[|:\- \t]*")
# The `|` before a cell that is not empty; the one that closes the row does not match.
_CELL = re.compile(r"\|(?=[ \t]*[^|\s])")
_NONE: IntArray = np.empty(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class TableBoundaries:
    """The boundaries of tables, as positions in characters.

    `lines` are the beginnings of rows and the ends of tables, `bodies` the beginnings of the first row below each
    header, `cells` the beginnings of cells in rows that are too long to be kept whole, and `sentence_ends` those of
    the text that do not lie inside a row that is kept whole.
    """

    lines: IntArray
    bodies: IntArray
    cells: IntArray
    sentence_ends: IntArray


@dataclass(frozen=True, slots=True)
class TableHeader:
    """A table's header with its separator, characters [start, body), and the rows below it, [body, end)."""

    start: int
    body: int
    end: int


def table_headers(text: str) -> Iterator[TableHeader]:
    """Yield the tables that have a header and rows below it, in order."""
    found = list(_ROW.finditer(text)) if "|" in text else []
    for top, body, bottom in _tables(found):
        if top < body <= bottom:
            yield TableHeader(found[top].start("row"), found[body].start("row"), found[bottom].end("row"))


def table_boundaries(
    text: str, sentence_ends: IntArray, positions: TokenPositions, *, max_tokens: int
) -> TableBoundaries:
    """Find the positions at which the tables of a text may be cut.

    A row is kept whole, and so is a header with its separator: a full stop in a cell ends no sentence. Only a row of
    more than `max_tokens` tokens is cut, at its sentence ends and between its cells.
    """
    found = list(_ROW.finditer(text))
    rows = [match.span("row") for match in found]
    if not rows:
        return TableBoundaries(_NONE, _NONE, _NONE, sentence_ends)
    # One search for all rows, because each search copies the positions.
    token_ranges = np.searchsorted(positions.first, np.array(rows, dtype=np.int32)).tolist()

    def fits(top: int, last: int) -> bool:
        first, after = token_ranges[top][0], token_ranges[last][1]
        return bool(first == after or positions.length(first, after) <= max_tokens)

    lines: list[int] = []
    bodies: list[int] = []
    cells: list[int] = []
    whole: list[tuple[int, int]] = []
    for top, body, bottom in _tables(found):
        first = top
        if body > top:
            if body <= bottom and fits(body, body):
                bodies.append(rows[body][0])
            if fits(top, body - 1):
                lines.append(rows[top][0])
                whole.append((rows[top][0], rows[body - 1][1]))
                first = body
        for number in range(first, bottom + 1):
            start, end = rows[number]
            lines.append(start)
            if fits(number, number):
                whole.append((start, end))
            else:
                cells += [match.start() for match in _CELL.finditer(text, start + 1, end)]
        lines.append(rows[bottom][1])
    return TableBoundaries(
        np.array(lines, dtype=np.int32),
        np.array(bodies, dtype=np.int32),
        np.array(cells, dtype=np.int32),
        _outside(sentence_ends, whole),
    )


def _tables(rows: Sequence[re.Match[str]]) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each table's first row, of the first row below its header, and of its last row.

    Without a header the second is the first; with nothing below the header it is one more than the last. Rows of one
    table are one line end apart.
    """
    top = 0
    for number, row in enumerate(rows):
        below = rows[number + 1] if number + 1 < len(rows) else None
        if below is not None and row.end() == below.start():
            continue
        has_header = number > top and _SEPARATOR.fullmatch(rows[top + 1]["row"])
        yield top, top + 2 if has_header else top, number
        top = number + 1


def _outside(positions: IntArray, ranges: list[tuple[int, int]]) -> IntArray:
    """Return the positions that lie inside none of the ranges, which are in order; the end of a range is outside."""
    if not ranges:
        return positions
    starts, ends = np.array(ranges, dtype=np.int32).T
    before = np.searchsorted(starts, positions)  # how many ranges begin before each position
    outside: IntArray = positions[(before == 0) | (positions >= ends[before - 1])]
    return outside
