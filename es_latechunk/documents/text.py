"""Bytes to text without changing a character, and the few things that a text says of itself."""

from __future__ import annotations

import re

HEADING = re.compile(r"^ {0,3}# +(.+?)(?: +#+)? *$")
FENCE = re.compile(r"^ {0,3}(```|~~~)")


def decode_utf8(content: bytes) -> str:
    """The text of UTF-8 bytes; a ValueError names the first byte that is not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is not UTF-8 (byte 0x{content[error.start]:02x} at position {error.start}); convert it to UTF-8"
        ) from error


def check_text(text: str) -> None:
    """Raise a ValueError for an empty text and for one that has no UTF-8 form (a lone surrogate)."""
    if not text or text.isspace():
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
    for line in text.removeprefix("\ufeff").splitlines():
        if FENCE.match(line):
            fenced = not fenced
        heading = None if fenced else HEADING.match(line)
        if heading:
            return heading[1]
    return ""
