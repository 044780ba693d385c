"""Decode bytes without changing a character: by a byte order mark, as UTF-8, or as chardet guesses."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from es_latechunk.errors import UsageError, setting

UTF8 = "utf-8"
# Longest first: the mark of UTF-32-LE begins with that of UTF-16-LE.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The encodings that the WHATWG standard requires of browsers, without subsets and obsolete variants, by their
# names in chardet.
GUESSED = (
    *(f"cp{number}" for number in range(1250, 1259)),
    *("cp874", "iso8859-2", "iso8859-5", "iso8859-6", "iso8859-7", "koi8-r", "koi8-u", "cp866"),
    *("mac-roman", "mac-cyrillic", "cp932", "euc-jp", "gb18030", "big5", "cp949"),
)
COMMONEST = "cp1252"  # Mac encodings fit almost all of its texts too, so they count only if it does not fit
MAC = "mac-"
SAMPLE_BYTES = 64 * 1024
NEXT_STEP = f"give its encoding with {setting('encoding')}"
# A guess is certain if chardet is this confident, and this many times as confident as of any other reading.
CONFIDENT, TIMES_AS_CONFIDENT = 0.1, 2
# A reading with less confidence than this means nothing: random bytes get as much.
HOPELESS = 0.02
# Letters of Greek and the scripts after it in Unicode, up to Thai, and those that touch one of A to Z.
LATIN, EAST_ASIAN = re.compile("[A-Za-z]"), re.compile("[\u2e80-\ud7ff]")
MOSTLY = 4  # a text with this many times more letters A to Z than East Asian characters is a Latin text
FAR_LETTERS = re.compile("[\u0370-\u0fff]+")
FAR_IN_LATIN = re.compile("[A-Za-z][\u0370-\u0fff]|[\u0370-\u0fff][A-Za-z]")


@dataclass(frozen=True, slots=True)
class FoundEncoding:
    """The encoding that was found; if it is an uncertain guess, `doubt` says why."""

    name: str
    doubt: str = ""


class DamagedError(ValueError):
    """The content is UTF-8 except for a few bytes."""


def check_encoding(name: str) -> None:
    """Raise a UsageError if Python knows no text encoding of that name."""
    try:
        codecs.lookup(name)
        b"text".decode(name, "replace")
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"{setting('encoding')} {name} is not known; try utf-8, cp1252, gb18030 or utf-16-le"
        ) from error


def is_wide(name: str) -> bool:
    """Return whether every character has at least two bytes: then a single byte is no line end and no NUL."""
    return codecs.lookup(name).name.startswith(("utf-16", "utf-32"))


def marked_encoding(begin: bytes) -> str | None:
    """Return the encoding named by a byte order mark at the beginning, unless it is the mark of UTF-8."""
    return next((name for mark, name in MARKS if begin.startswith(mark)), None)


def decode(
    content: bytes, *, encoding: str | None = None, declared: str | None = None
) -> tuple[str, FoundEncoding]:
    """Return the text of `content`, with its byte order mark, and the encoding that was found.

    The first of these that applies is used: a byte order mark; UTF-8, if it is valid (plain ASCII is no proof if
    `encoding` is given, because some encodings have seven bits); `encoding`; the encoding that the content itself
    has `declared`, if it fits; a guess. A ValueError says why nothing fits, or names the guesses.
    """
    found = find_encoding(content, encoding=encoding, declared=declared)
    return decode_as(content, found.name), found


def find_encoding(
    content: bytes, *, encoding: str | None = None, declared: str | None = None
) -> FoundEncoding:
    """Return the encoding of `content`, found in the same way as by `decode`."""
    marked = marked_encoding(content)
    if marked:
        return FoundEncoding(marked)
    if encoding and (content.isascii() or not _is_utf8(content)):
        return FoundEncoding(codecs.lookup(encoding).name)
    if declared and (content.isascii() or not _is_utf8(content)) and _fits(content, declared):
        return FoundEncoding(_usual_name(declared))
    if encoding or b"\0" in content:
        return FoundEncoding(UTF8)
    return _guess(content)


def decode_as(content: bytes, encoding: str) -> str:
    """Return bytes decoded from `encoding`; a ValueError names the first byte that is invalid in it.

    NULs are refused, because a file that contains them is binary and not text.
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
            f"leave it out, or give {setting('encoding')} utf-16-le"
        )
    return text


def _usual_name(declared: str) -> str:
    """Return a declared encoding as browsers understand it: Latin-1 and ASCII mean cp1252."""
    name = codecs.lookup(declared).name
    return "cp1252" if name in ("iso8859-1", "ascii") else name


def _fits(content: bytes, declared: str) -> bool:
    """Return whether the content is valid in the encoding that it declares in ASCII characters."""
    try:
        name = _usual_name(declared)
        content.decode(name)
    except (LookupError, ValueError):
        return False
    return not name.startswith("utf")


def _is_utf8(content: bytes) -> bool:
    return _decodes(content, UTF8)


def _fault(content: bytes, error: UnicodeDecodeError, encoding: str = UTF8) -> str:
    name = "UTF-8" if encoding == UTF8 else encoding
    return f"is not {name} (byte 0x{content[error.start]:02x} at position {error.start})"


def _guess(content: bytes) -> FoundEncoding:
    try:
        content.decode(UTF8)
    except UnicodeDecodeError as error:
        fault = _fault(content, error)
        if error.reason == "unexpected end of data" or _mostly_utf8(content, error.start):
            raise DamagedError(f"{fault}, but the rest is: it is damaged; repair it") from error
        readings = _readings(_sample(content, error.start))
    else:
        return FoundEncoding(UTF8)
    readings = [reading for reading in readings if _decodes(content, reading.encoding)]
    if not readings:
        raise ValueError(f"{fault}, and none of the known encodings fits; it may be binary, or {NEXT_STEP}")
    if _decodes(content, COMMONEST):
        if readings[0].encoding.startswith(MAC):
            raise ValueError(f"{fault}, and may be {COMMONEST} or {readings[0].encoding}; {NEXT_STEP}")
        readings = [reading for reading in readings if not reading.encoding.startswith(MAC)]
    best = readings[0]
    near = [other for other in readings if other.confidence * TIMES_AS_CONFIDENT > best.confidence]
    # Two encodings that give the same sample may still give different texts for the whole content.
    rivals = [
        other.encoding
        for other in near
        if other.text != best.text or content.decode(other.encoding) != content.decode(best.encoding)
    ]
    alike = [other.encoding for other in near if other.encoding not in rivals]
    name = COMMONEST if COMMONEST in alike else best.encoding
    if rivals:
        return FoundEncoding(name, f"may as well be {', '.join(rivals)}")
    return FoundEncoding(name, "" if best.confidence >= CONFIDENT else "that is a guess from few characters")


@dataclass(frozen=True, slots=True)
class _Reading:
    """A sample decoded by one encoding, and how confident (0 to 1) chardet is that this is its text."""

    encoding: str
    confidence: float
    text: str


def _readings(sample: bytes) -> list[_Reading]:
    """Return the possible readings of the sample, the most confident one first."""
    from chardet import detect_all

    readings: list[_Reading] = []
    for found in detect_all(
        sample, ignore_threshold=True, prefer_superset=False, compat_names=False, include_encodings=GUESSED
    ):
        name, confidence = found["encoding"], found["confidence"]
        if name in (None, UTF8) or confidence < HOPELESS or not _decodes(sample, name):
            continue
        text = sample.decode(name)
        if not _mixes_scripts(sample, text):
            readings.append(_Reading(name, confidence, text))
    return sorted(
        readings, key=lambda reading: (-round(reading.confidence, 3), reading.encoding != COMMONEST)
    )


def _mixes_scripts(sample: bytes, text: str) -> bool:
    """Return whether a reading mixes scripts within Latin words: then it is Latin text in another encoding."""
    far_words = len(FAR_LETTERS.findall(text))
    if far_words and 2 * len(FAR_IN_LATIN.findall(text)) >= far_words:
        return True
    # Read as Korean, the degree sign and the C of "5 °C" are one syllable.
    latin, east_asian = len(LATIN.findall(text)), len(EAST_ASIAN.findall(text))
    taken = len(LATIN.findall(sample.decode("latin-1"))) - latin
    return latin > MOSTLY * east_asian and 2 * taken >= east_asian > 0


def _decodes(content: bytes, name: str) -> bool:
    try:
        content.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _mostly_utf8(content: bytes, fault: int) -> bool:
    """Return whether text around the fault has more valid than invalid UTF-8: no other encoding looks like that."""
    window = content[max(0, fault - SAMPLE_BYTES) : fault + SAMPLE_BYTES].decode(UTF8, "replace")
    return len(re.findall("[^\0-\x7f\ufffd]", window)) > window.count("\ufffd")


def _sample(content: bytes, fault: int) -> bytes:
    """Return the bytes from the fault on that distinguish encodings: the lines that are not plain ASCII."""
    begin = content.rfind(b"\n", max(0, fault - SAMPLE_BYTES), fault) + 1 or max(0, fault - SAMPLE_BYTES)
    lines = content[begin : begin + 16 * SAMPLE_BYTES].splitlines(keepends=True)
    return b"".join(line for line in lines if not line.isascii())[:SAMPLE_BYTES]
