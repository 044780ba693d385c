"""The heading path of each chunk: the headings, from the highest level down, whose sections it begins in.

It stands alone because chunkers do not need it: they only ask where a heading begins (`blocks.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from es_latechunk.chunking.blocks import LINE_START, WITHIN_LINE
from es_latechunk.types import ChunkSpan

LONGEST_HEADING = 200  # characters; a longer line is a paragraph that begins with a #
# A line that opens or closes a block of code, in which a # begins a comment, or a heading.
_LINE = re.compile(
    rf"{LINE_START}(?:(?P<fence>```|~~~)|(?P<marks>\#{{1,6}})[ \t]+(?P<words>\S{WITHIN_LINE}*))"
)
_CLOSING_MARKS = re.compile(r"[ \t]+#+$")


def heading_paths(text: str, spans: Sequence[ChunkSpan]) -> tuple[tuple[str, ...], ...]:
    """Return the heading path of each chunk of a Markdown text; that of a chunk that begins with a heading includes it.

    The spans are in order. A text without headings gives empty paths.
    """
    headings = _headings(text)
    path: list[tuple[int, str]] = []
    paths = []
    number = 0
    for span in spans:
        while number < len(headings) and headings[number][0] <= span.start:
            _, level, words = headings[number]
            path = [*(above for above in path if above[0] < level), (level, words)]
            number += 1
        paths.append(tuple(words for _, words in path))
    return tuple(paths)


def _headings(text: str) -> list[tuple[int, int, str]]:
    """Return the position, the level (1 to 6) and the words of each heading outside fenced code."""
    found = []
    fenced = False
    for line in _LINE.finditer(text):
        if line["fence"]:
            fenced = not fenced
            continue
        words = _CLOSING_MARKS.sub("", line["words"].rstrip())
        if not fenced and len(words) <= LONGEST_HEADING:
            found.append((line.start("marks"), len(line["marks"]), words))
    return found
