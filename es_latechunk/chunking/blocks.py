"""Boundaries in the layout of a text: blank lines, list items, headings and rules."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from es_latechunk.types import IntArray

_BREAK = r"(?:\r\n|\r(?!\n)|[\n\x0b\x85\u2028])"
_INDENT = r"[ \t\u3000]*"
# A form feed or a paragraph separator stands for a blank line.
_BLANK_LINES = re.compile(rf"{_BREAK}(?:[^\S\r\n\x0b\x0c\x85\u2028\u2029]*{_BREAK})+|[\x0c\u2029]")
LINE_START = rf"(?:\A|{_BREAK}|[\x0c\u2029]){_INDENT}"
WITHIN_LINE = r"[^\r\n\x0b\x0c\x85\u2028\u2029]"
_ITEM = re.compile(
    rf"{LINE_START}(?P<start>(?:[-*+•‣◦▪·–—]|\(?\d{{1,3}}[.)]|\(?[^\W\d_]\)|\[\^?\w{{1,4}}\]:?)[ \t]+\S)"
)
_HEADING = re.compile(rf"{LINE_START}(?P<start>\#{{1,6}}[ \t]+\S)[^\r\n]*")
# A line of dashes or equals signs underlines the heading above it, or separates two sections.
_RULE = re.compile(rf"{LINE_START}(?:-{{3,}}|={{3,}}|\*{{3,}}|_{{3,}})[ \t]*(?=[\r\n]|\Z)")


@dataclass(frozen=True, slots=True)
class Blocks:
    """Positions, in characters, at which parts of a text begin.

    `paragraphs` begin after blank lines, `bodies` after headings; `lines` are list items and what follows a rule.
    """

    paragraphs: IntArray
    headings: IntArray
    bodies: IntArray
    lines: IntArray


def find_blocks(text: str) -> Blocks:
    """Find the blocks of a Markdown or plain text.

    A single line break is not a boundary, because many texts break their lines at a fixed width.
    """
    headings = [(match.start("start"), match.end()) for match in _HEADING.finditer(text)]
    lines = [match.start("start") for match in _ITEM.finditer(text)]
    lines += [match.end() for match in _RULE.finditer(text)]
    return Blocks(
        paragraphs=np.array([match.end() for match in _BLANK_LINES.finditer(text)], dtype=np.int32),
        headings=np.array([start for start, _ in headings], dtype=np.int32),
        bodies=np.array([end for _, end in headings], dtype=np.int32),
        lines=np.array(sorted(lines), dtype=np.int32),
    )
