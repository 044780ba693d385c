"""Bytes to text without changing a character: UTF-8 and byte order marks first, then a library's guess."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from es_latechunk.errors import UsageError

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatch

UTF8 = "utf-8"
# Longest first: the mark of UTF-32-LE begins with that of UTF-16-LE.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What the WHATWG encoding standard asks of browsers, less those that are subsets or relics of others.
GUESSED = (
    *(f"cp{number}" for number in range(1250, 1259)),
    *("iso8859_2", "iso8859_5", "iso8859_7", "koi8_r", "koi8_u", "cp866", "mac_roman", "mac_cyrillic"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
)
COMMONEST = "cp1252"  # named where others would give the same text
SAMPLE_BYTES = 64 * 1024
NEXT_STEP = "say which it is with --encoding"
# By how much a guess must beat every other one that reads the text differently; see _beats.
LITTLE_MESS, SOME_MESS, MUCH_MESS, SAME_LANGUAGE = 0.01, 0.01, 0.05, 0.05


class DamagedError(ValueError):
    """The content is UTF-8 all but for some bytes."""


def check_encoding(name: str) -> None:
    """Raise a UsageError where Python knows no text encoding of that name."""
    try:
        codecs.lookup(name)
        b"text".decode(name, "replace")
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"--encoding {name} is not known; try utf-8, cp1252, gb18030 or utf-16-le"
        ) from error


def is_wide(name: str) -> bool:
    """Whether every character has at least two bytes, so that line ends and NULs cannot be told from bytes."""
    return codecs.lookup(name).name.startswith(("utf-16", "utf-32"))


def marked_encoding(begin: bytes) -> str | None:
    """The encoding that a byte order mark at the beginning names, other than UTF-8's own."""
    return next((name for mark, name in MARKS if begin.startswith(mark)), None)


def decode(content: bytes, *, encoding: str | None = None, declared: str | None = None) -> tuple[str, str]:
    """The text of `content`, its byte order mark included, and the encoding that it was found to be in.

    In this order: a byte order mark; UTF-8 where it is valid (and not plain ASCII while `encoding` says
    otherwise: some encodings have seven bits); `encoding`, where given; what the content `declared` of itself,
    where that fits; a guess that no other one comes near. A ValueError says why nothing fits, or names the
    guesses.
    """
    found = find_encoding(content, encoding=encoding, declared=declared)
    return decode_as(content, found), found


def find_encoding(content: bytes, *, encoding: str | None = None, declared: str | None = None) -> str:
    """The encoding of `content`, as `decode` finds it."""
    marked = marked_encoding(content)
    if marked:
        return marked
    if encoding and (content.isascii() or not _is_utf8(content)):
        return codecs.lookup(encoding).name
    if declared and (content.isascii() or not _is_utf8(content)) and _fits(content, declared):
        return _usual_name(declared)
    if encoding or b"\0" in content:
        return UTF8
    return _guess(content)


def decode_as(content: bytes, encoding: str) -> str:
    """The text of bytes in `encoding`; a ValueError names the first byte that does not belong there.

    NULs are refused, as what holds them is binary and no text.
    """
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" not in content or is_wide(encoding):
            raise ValueError(f"{_fault(content, error, encoding)}; convert it to UTF-8") from error
        text = content.decode("latin-1")
    position = text.find("\0")
    if position >= 0:
        raise ValueError(
            f"holds a NUL at position {position}: it is binary, or UTF-16 without a byte order mark; "
            "leave it out, or say --encoding utf-16-le"
        )
    return text


def _usual_name(declared: str) -> str:
    """A declared encoding as browsers take it: Latin-1 and ASCII stand for cp1252."""
    name = codecs.lookup(declared).name
    return "cp1252" if name in ("iso8859-1", "ascii") else name


def _fits(content: bytes, declared: str) -> bool:
    """Whether the content is in the encoding that it declares in ASCII characters."""
    try:
        name = _usual_name(declared)
        content.decode(name)
    except (LookupError, ValueError):
        return False
    return not name.startswith("utf")


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode(UTF8)
    except UnicodeDecodeError:
        return False
    return True


def _fault(content: bytes, error: UnicodeDecodeError, encoding: str = UTF8) -> str:
    name = "UTF-8" if encoding == UTF8 else encoding
    return f"is not {name} (byte 0x{content[error.start]:02x} at position {error.start})"


def _guess(content: bytes) -> str:
    try:
        content.decode(UTF8)
    except UnicodeDecodeError as error:
        fault = _fault(content, error)
        if error.reason == "unexpected end of data" or _mostly_utf8(content, error.start):
            raise DamagedError(f"{fault}, but the rest is: it is damaged; repair it") from error
        sample = _sample(content, error.start)
    else:
        return UTF8
    from charset_normalizer import from_bytes

    matches = list(from_bytes(sample, cp_isolation=list(GUESSED), enable_fallback=False))
    if not matches:
        raise ValueError(
            f"{fault} nor any other encoding that is looked for; it may be binary, or {NEXT_STEP}"
        )
    best = matches[0]
    alike = best.could_be_from_charset
    name = COMMONEST if COMMONEST in alike else best.encoding
    rivals = {match.encoding for match in matches[1:] if str(match) != str(best) and not _beats(best, match)}
    rivals |= {other for other in alike if _differ(content, name, other)}
    if rivals:
        raise ValueError(f"{fault}, and may as well be {', '.join(sorted({name} | rivals))}; {NEXT_STEP}")
    return name


def _differ(content: bytes, name: str, other: str) -> bool:
    """Whether two encodings that read the sample alike read the whole differently."""
    try:
        return content.decode(other) != content.decode(name, "replace")
    except UnicodeDecodeError:
        return False


def _mostly_utf8(content: bytes, fault: int) -> bool:
    """Whether text around the fault has more good UTF-8 characters than bad: no other encoding looks so."""
    window = content[max(0, fault - SAMPLE_BYTES) : fault + SAMPLE_BYTES].decode(UTF8, "replace")
    return len(re.findall("[^\0-\x7f\ufffd]", window)) > window.count("\ufffd")


def _sample(content: bytes, fault: int) -> bytes:
    """Bytes from the fault on that tell encodings apart: the lines that are not plain ASCII."""
    begin = content.rfind(b"\n", max(0, fault - SAMPLE_BYTES), fault) + 1 or max(0, fault - SAMPLE_BYTES)
    lines = content[begin : begin + 16 * SAMPLE_BYTES].splitlines(keepends=True)
    return b"".join(line for line in lines if not line.isascii())[:SAMPLE_BYTES]


def _beats(best: CharsetMatch, rival: CharsetMatch) -> bool:
    """Whether the best guess is clearly better than one that reads the text differently.

    The tests hold paragraphs of 21 languages: every guess that is accepted is right, and of the Latin scripts
    in one byte about half are refused.
    """
    mess, language = rival.chaos - best.chaos, best.coherence - rival.coherence
    if best.chaos >= LITTLE_MESS:
        return False
    return mess >= MUCH_MESS or language >= SAME_LANGUAGE or (mess >= SOME_MESS and language > -SAME_LANGUAGE)
