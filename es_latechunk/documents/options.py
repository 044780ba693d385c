"""The options of reading, which are checked before any file is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
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
    ".parquet": "parquet",
}
FORMATS = ("auto", *dict.fromkeys(SUFFIXES.values()))
BINARY = ("pdf", "docx", "parquet")  # these are compressed already, so nobody gzips them
# What has to be installed to read a format: the extra, and the libraries of it that are imported.
EXTRAS = {
    "pdf": ("files", ("pdfminer",)),
    "docx": ("files", ("markitdown", "mammoth")),
    "parquet": ("parquet", ("pyarrow",)),
}


# Called with a file's id and a Message: a str in which the command line can name settings by their flags.
OnNote = Callable[[str, str], None]


def kind_of(name: str, format: str) -> str:
    """Return the format of a file of that name; "" if it is unknown."""
    if format != "auto":
        return format
    lowered = name.lower()
    inner = lowered.removesuffix(GZIP)
    kind = next((kind for suffix, kind in SUFFIXES.items() if inner.endswith(suffix)), "")
    return "" if kind in BINARY and inner != lowered else kind


def extras_are_complete() -> bool:
    """Return whether all libraries for all formats are installed."""
    return all(find_spec(library) for _, libraries in EXTRAS.values() for library in libraries)


def check_extra(kind: str, name: str) -> None:
    """Raise a UsageError if the libraries for that kind of file are not installed."""
    extra, libraries = EXTRAS.get(kind, ("", ()))
    missing = [library for library in libraries if find_spec(library) is None]
    if missing:
        raise UsageError(
            f"{name}: to read {kind}, {missing[0]} must be installed; run pip install 'es-latechunk[{extra}]', "
            f"or leave such files out with {setting('exclude')} '*.{kind}'"
        )


def ignore(*_: object) -> None:
    """Do nothing: the caller did not ask for this call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The options that all readers of one run share.

    `on_encoding` is called with a file's id and its encoding, if that is not UTF-8; `on_note` with a file's id and
    what the user should know about it although it could be read.
    """

    format: str
    encoding: str | None
    text_field: str
    id_field: str
    max_document_bytes: int
    on_note: OnNote
    on_read: Callable[[int], None]
    on_encoding: Callable[[str, str], None]

    def silent(self) -> Reading:
        """Return the same options without the calls, which other processes cannot make."""
        return replace(self, on_note=ignore, on_read=ignore, on_encoding=ignore)

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(
                f"{setting('format')} {self.format} is not known; choose one of {', '.join(FORMATS)}"
            )
        if self.encoding is not None:
            check_encoding(self.encoding)
        if self.max_document_bytes < 1:
            raise UsageError(
                f"{setting('max_document_bytes')} {self.max_document_bytes} is less than 1; give 1 or more"
            )

    def decode(self, content: bytes, file_id: str, *, declared: str | None = None) -> str:
        """Return the text of a whole file, and report its encoding if that is not UTF-8."""
        text, found = decode(content, encoding=self.encoding, declared=declared)
        self.tell_encoding(file_id, found)
        return text

    def tell_encoding(self, file_id: str, found: FoundEncoding) -> None:
        """Report an encoding other than UTF-8, and add a note if it is an uncertain guess."""
        if found.name != UTF8:
            self.on_encoding(file_id, found.name)
        if found.doubt:
            note = Message(f"was read as {found.name}, but {found.doubt}; {NEXT_STEP}")
            self.on_note(printable(file_id), note)

    def by_lines(self, stream: BinaryIO, file_id: str) -> tuple[BinaryIO, str | None]:
        """Return a stream whose lines end in b"\\n", and their encoding if it is known beforehand."""
        wide = wide_encoding(stream, self.encoding)
        if wide is None:
            return stream, self.encoding
        self.on_encoding(file_id, wide)
        return narrowed(stream, wide), UTF8
