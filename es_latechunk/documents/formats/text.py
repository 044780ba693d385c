"""Read plain text and Markdown: title, pictures, and checks that all texts go through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import BinaryIO

from es_latechunk.documents.options import Reading
from es_latechunk.documents.streams import read_whole
from es_latechunk.types import Document

MARK = "\ufeff"  # a byte order mark is a character of the text, and stays one
HEADING = re.compile(r" {0,3}# +")
# These take linear time: each part of a pattern ends where the next one may begin, so there is no backtracking.
PICTURE = re.compile(r'!\[([^\[\]]*)\]\([ \t]*<?data:[^()<>\s]*>?(?:[ \t]+"[^"()]*")?[ \t]*\)')
PICTURE_BELOW = re.compile(r" {0,3}\[([^\[\]]+)\]:[ \t]*<?data:image/")
PICTURE_REFERENCE = re.compile(r"!\[([^\[\]]*)\](?:\[([^\[\]]*)\])?")
PICTURE_TAG = re.compile(r"""<img\b[^<>]*\bsrc=["']?data:[^<>]*>""", re.IGNORECASE)
ALTERNATIVE_TEXT = re.compile(r"""\balt=(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
FENCE = re.compile(r"^ {0,3}(```|~~~)")


def read_text(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document]:
    """Yield one document without a title."""
    yield Document(id=file_id, text=_whole(stream, file_id, reading), plain_text=True)


def read_markdown(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document]:
    """Yield one document; its title is the first heading of level one. Embedded pictures become their words."""
    text = without_pictures(_whole(stream, file_id, reading))
    check_text(text)
    yield Document(id=file_id, text=text, title=markdown_title(text))


def _whole(stream: BinaryIO, file_id: str, reading: Reading) -> str:
    text = reading.decode(read_whole(stream, reading.max_document_bytes), file_id)
    check_text(text)
    return text


def check_text(text: str) -> None:
    """Raise a ValueError for an empty text, and for one that UTF-8 cannot encode (a lone surrogate)."""
    if not text.lstrip(MARK).strip():
        raise ValueError("is empty; there is nothing to index")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"has half a surrogate pair at character {error.start}, which no encoding can write; repair the source"
        ) from error


def without_pictures(markdown: str) -> str:
    """Return Markdown in which each picture with a `data:` address is replaced by its alternative text.

    The address is the encoded picture itself, which nobody searches for. Fenced code and all other text stay.
    """
    if "data:" not in markdown:
        return markdown
    lines = list(_outside_code(markdown))
    labels = {match[1].lower() for line, code in lines if not code and (match := PICTURE_BELOW.match(line))}

    def referred(match: re.Match[str]) -> str:
        return match[1] if (match[2] or match[1]).lower() in labels else match[0]

    kept: list[str] = []
    for line, code in lines:
        if code:
            kept.append(line)
        elif not PICTURE_BELOW.match(line):
            line = PICTURE_TAG.sub(_alternative_text, PICTURE.sub(r"\1", line))
            kept.append(PICTURE_REFERENCE.sub(referred, line) if labels else line)
    return "".join(kept)


def _outside_code(markdown: str) -> Iterator[tuple[str, bool]]:
    """Yield lines with their ends, and whether each belongs to fenced code."""
    fenced = False
    for line in markdown.splitlines(keepends=True):
        fence = FENCE.match(line)
        yield line, fenced or bool(fence)
        fenced ^= bool(fence)


def _alternative_text(tag: re.Match[str]) -> str:
    words = ALTERNATIVE_TEXT.search(tag[0])
    return unescape(words[1] or words[2]) if words else ""


def markdown_title(text: str) -> str:
    """Return the first level-one heading outside fenced code, or "" if there is none."""
    fenced = False
    for line in text.removeprefix(MARK).splitlines():
        if FENCE.match(line):
            fenced = not fenced
        heading = None if fenced else HEADING.match(line)
        words = _heading_words(line[heading.end() :]) if heading else ""
        if words:
            return words
    return ""


def _heading_words(rest: str) -> str:
    """Return the words of a heading without the closing #s that some people write."""
    rest = rest.rstrip(" ")
    words = rest.rstrip("#")
    return words.rstrip(" ") if words.endswith(" ") else rest
