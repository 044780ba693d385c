"""How sources are read: what a user may set, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from es_latechunk.documents.encoding import NEXT_STEP, UTF8, FoundEncoding, check_encoding, decode
from es_latechunk.documents.sources import printable
from es_latechunk.documents.streams import GZIP, narrowed, wide_encoding
from es_latechunk.errors import Message, UsageError, setting

DEFAULT_MAX_DOCUMENT_BYTES = 128 * 1024 * 1024
SUFFIXES = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".pdf": "pdf",
    ".docx": "docx",
}
FORMATS = ("auto", *dict.fromkeys(SUFFIXES.values()))
BINARY = ("pdf", "docx")  # compressed by themselves: nobody packs them again


# A file's id and a text, which is a Message: a str that can also name the settings in it as flags.
OnNote = Callable[[str, str], None]


def kind_of(name: str, format: str) -> str:
    """How a file of that name is read; "" where nobody knows."""
    if format != "auto":
        return format
    lowered = name.lower()
    inner = lowered.removesuffix(GZIP)
    kind = next((kind for suffix, kind in SUFFIXES.items() if inner.endswith(suffix)), "")
    return "" if kind in BINARY and inner != lowered else kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one run's readers need to know.

    `on_encoding` gets a file's id and an encoding other than UTF-8; `on_note` gets a file's id and what a user
    should know of it although it could be read.
    """

    format: str
    encoding: str | None
    text_field: str
    id_field: str
    max_document_bytes: int
    on_note: OnNote
    on_read: Callable[[int], None]
    on_encoding: Callable[[str, str], None]

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(
                f"{setting('format')} {self.format} is not known; choose one of {', '.join(FORMATS)}"
            )
        if self.encoding is not None:
            check_encoding(self.encoding)
        if self.max_document_bytes < 1:
            raise UsageError(
                f"{setting('max_document_bytes')} {self.max_document_bytes} leaves nothing; give 1 or more"
            )

    def decode(self, content: bytes, file_id: str, *, declared: str | None = None) -> str:
        """The text of a whole file; an encoding other than UTF-8 is told."""
        text, found = decode(content, encoding=self.encoding, declared=declared)
        self.tell_encoding(file_id, found)
        return text

    def tell_encoding(self, file_id: str, found: FoundEncoding) -> None:
        """Tell an encoding other than UTF-8, and that it is a guess, where it is one that is not certain."""
        if found.name != UTF8:
            self.on_encoding(file_id, found.name)
        if found.doubt:
            note = Message(f"was read as {found.name}, but {found.doubt}; {NEXT_STEP}")
            self.on_note(printable(file_id), note)

    def by_lines(self, stream: BinaryIO, file_id: str) -> tuple[BinaryIO, str | None]:
        """A stream whose lines end in b"\\n", with their encoding where it is known beforehand."""
        wide = wide_encoding(stream, self.encoding)
        if wide is None:
            return stream, self.encoding
        self.on_encoding(file_id, wide)
        return narrowed(stream, wide), UTF8
