"""Plain text and Markdown, and the few things that a text says of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from es_latechunk.documents.options import Reading
from es_latechunk.documents.streams import read_whole
from es_latechunk.types import Document

MARK = "\ufeff"  # a byte order mark is a character of the text, and stays one
HEADING = re.compile(r"^ {0,3}# +(.+?)(?: +#+)? *$")
FENCE = re.compile(r"^ {0,3}(```|~~~)")


def read_text(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document]:
    """One document, without a title."""
    yield Document(id=file_id, text=_whole(stream, file_id, reading))


def read_markdown(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document]:
    """One document; its title is the first heading of level one."""
    text = _whole(stream, file_id, reading)
    yield Document(id=file_id, text=text, title=markdown_title(text))


def _whole(stream: BinaryIO, file_id: str, reading: Reading) -> str:
    text = reading.decode(read_whole(stream, reading.max_document_bytes), file_id)
    check_text(text)
    return text


def check_text(text: str) -> None:
    """Raise a ValueError for an empty text and for one that has no UTF-8 form (a lone surrogate)."""
    if not text.lstrip(MARK).strip():
        raise ValueError("is empty; there is nothing to index")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"has half a surrogate pair at character {error.start}, which no encoding can write; repair the source"
        ) from error


def markdown_title(text: str) -> str:
    """The first level-one heading outside fenced code, or "" where there is none."""
    fenced = False
    for line in text.removeprefix(MARK).splitlines():
        if FENCE.match(line):
            fenced = not fenced
        heading = None if fenced else HEADING.match(line)
        if heading:
            return heading[1]
    return ""
