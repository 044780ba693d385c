"""Read documents from paths and standard input, each file by its format."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from gzip import BadGzipFile
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from es_latechunk.documents.binary import read_docx, read_pdf
from es_latechunk.documents.html import read_html
from es_latechunk.documents.jsonl import BYTE_ORDER_MARK, read_jsonl
from es_latechunk.documents.options import (
    DEFAULT_MAX_DOCUMENT_BYTES,
    SUFFIXES,
    Reading,
    check_extra,
    extras_are_complete,
    kind_of,
)
from es_latechunk.documents.parquet import read_parquet
from es_latechunk.documents.remote.address import Address, ObjectError, UnreachableError, parse_address
from es_latechunk.documents.sources import Selection, SourceFile, check_paths, find_files, printable
from es_latechunk.documents.streams import unpacked
from es_latechunk.documents.tables import read_csv
from es_latechunk.documents.text import read_markdown, read_text
from es_latechunk.errors import DocumentError, setting
from es_latechunk.types import Document

if TYPE_CHECKING:
    from es_latechunk.documents.remote.objects import RemoteFile

MOST_UNREACHABLE = 5  # objects in a row; after that, each further one would only cost its attempts
STDIN, STDIN_ID = Path("-"), "stdin"

LEFT_OUT = "the rest is left out; run the same command again"

Source = Path | Address
Reader = Callable[[BinaryIO, str, Reading], Iterator[Document | DocumentError]]
READERS: dict[str, Reader] = {
    "text": read_text,
    "markdown": read_markdown,
    "html": read_html,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "pdf": read_pdf,
    "docx": read_docx,
    "parquet": read_parquet,
}
FROM_THE_END = (read_parquet,)  # these need a stream that can be positioned


def read_documents(
    paths: Iterable[str | Path],
    *,
    format: str = "auto",
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    encoding: str | None = None,
    text_field: str = "text",
    id_field: str = "id",
    max_document_bytes: int = DEFAULT_MAX_DOCUMENT_BYTES,
    on_note: Callable[[str, str], None] | None = None,
    on_read: Callable[[int], None] | None = None,
    on_encoding: Callable[[str, str], None] | None = None,
) -> Iterator[Document | DocumentError]:
    """Yield the documents of files, folders, addresses and "-" (standard input), one at a time and in a fixed order.

    An address begins with s3://, gs://, abfs://, hf://, http:// or https://, and stands for an object or, in a store,
    for all objects below it.

    What cannot be read becomes a DocumentError, and reading goes on. `ingest` and `embed_documents` accept these errors
    among the documents; `raise_errors` raises the first one. A text is never changed: line ends, byte order marks and
    control characters stay.

    - `format`: "auto", "text", "markdown", "html", "csv", "jsonl", "pdf", "docx" or "parquet". With "auto", it follows
      from the suffix, with or without ".gz" after it; standard input is JSONL if its first visible character is "{",
      otherwise one text. In a folder, a file with an unknown suffix is skipped with a note; if its own path was given,
      it is an error.
    - `include`, `exclude`: patterns in gitignore syntax, for files inside folders.
    - `encoding`: of text that is not UTF-8; without it, the encoding is guessed.
    - `text_field`, `id_field`: names of CSV or Parquet columns, or JSON keys.
    - `max_document_bytes`: a larger document is an error.
    - `on_note`: is called with a file's id and what the user should know about it although it could be read.
    - `on_read`: is called after each document and each file with the bytes that were read from disk since then.
    - `on_encoding`: is called with a file's id and its encoding, if that is not UTF-8.

    A path that does not exist, a wrong option or a missing library raises UsageError before anything is read, and a
    store or web server that cannot be reached raises PreconditionError.
    """

    def ignore(*_: object) -> None:
        """Do nothing: the caller did not ask for this call."""

    reading = Reading(
        format=format,
        encoding=encoding,
        text_field=text_field,
        id_field=id_field,
        max_document_bytes=max_document_bytes,
        on_note=on_note or ignore,
        on_read=on_read or ignore,
        on_encoding=on_encoding or ignore,
    )
    selection, sources = Selection(include, exclude), parse_sources(paths)
    _check(sources, selection, reading)
    for source in sources:
        yield from _read_source(source, selection, reading)


def parse_sources(paths: Iterable[str | Path]) -> list[Source]:
    """Return each path as a Path of this machine or as an address of another."""
    return [parse_address(path) or Path(path) for path in paths]


def check_sources(sources: Iterable[Source]) -> None:
    """Raise a UsageError for the first path or address where nothing is, as that is probably a typing error."""
    for source in sources:
        if isinstance(source, Address):
            from es_latechunk.documents.remote.objects import check_address

            check_address(source)
        elif source != STDIN:
            check_paths([source])


def count_bytes(
    paths: Iterable[str | Path],
    *,
    format: str = "auto",
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> int | None:
    """Return the number of bytes that `read_documents` will read.

    It is None if standard input or an address is among the paths: to list a store can take as long as to read it.
    """
    sources = parse_sources(paths)
    if STDIN in sources or any(isinstance(source, Address) for source in sources):
        return None
    check_sources(sources)
    files = _usable_files(sources, Selection(include, exclude))
    return sum(
        file.path.stat().st_size
        for file in files
        if kind_of(file.name, format) and isinstance(file, SourceFile)
    )


def _find(source: Source, selection: Selection) -> Iterator[SourceFile | RemoteFile | DocumentError]:
    if not isinstance(source, Address):
        return find_files([source], selection)
    # Imported here: the libraries of stores and web servers are slow to import.
    from es_latechunk.documents.remote.objects import find_objects

    return find_objects(source, selection)


def _usable_files(sources: list[Source], selection: Selection) -> Iterator[SourceFile | RemoteFile]:
    found = (file for source in sources for file in _find(source, selection))
    return (file for file in found if not isinstance(file, DocumentError))


def _check(sources: list[Source], selection: Selection, reading: Reading) -> None:
    """Raise a UsageError for a path that does not exist, and for a file whose library is not installed."""
    check_sources(sources)
    if extras_are_complete():
        return
    for file in _usable_files([source for source in sources if source != STDIN], selection):
        check_extra(kind_of(file.name, reading.format), printable(file.id))
    if STDIN in sources:
        check_extra(reading.format, STDIN_ID)


def _read_source(
    source: Source, selection: Selection, reading: Reading
) -> Iterator[Document | DocumentError]:
    if source == STDIN:
        yield from _read_stdin(reading)
        return
    unreachable = 0
    for file in _find(source, selection):
        if isinstance(file, DocumentError):
            yield file
            continue
        kind = kind_of(file.name, reading.format)
        if kind:
            reached = yield from _read_file(file, READERS[kind], reading)
            unreachable = 0 if reached else unreachable + 1
            if unreachable == MOST_UNREACHABLE and isinstance(source, Address):
                yield DocumentError(
                    source.shown, f"{unreachable} objects in a row cannot be read; {LEFT_OUT}"
                )
                return
        elif file.named:
            cause = (
                f"is of an unknown format ({', '.join(SUFFIXES)}); give its format with {setting('format')}"
            )
            yield DocumentError(printable(file.id), cause)
        else:
            reading.on_note(printable(file.id), "is of an unknown format; it is skipped")


def _read_file(
    file: SourceFile | RemoteFile, reader: Reader, reading: Reading
) -> Generator[Document | DocumentError, None, bool]:
    """Yield the documents of a file; return whether its store, if it is in one, could be reached."""
    reported = 0  # bytes on disk, not of the unpacked content
    try:
        with file.open_anywhere() if reader in FROM_THE_END else file.open() as stream:
            for document in reader(unpacked(stream, file.name), file.id, reading):
                reading.on_read(stream.tell() - reported)
                reported = stream.tell()
                yield document
            reading.on_read(stream.tell() - reported)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        yield DocumentError(printable(file.id), _cause(error))
        return not isinstance(error, UnreachableError)
    return True


def _cause(error: Exception) -> str:
    if isinstance(error, EOFError | zlib.error | BadGzipFile):
        return f"cannot be unpacked ({error}); get the whole file"
    if isinstance(error, ObjectError):
        return str(error)
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    return str(error)


def _read_stdin(reading: Reading) -> Iterator[Document | DocumentError]:
    if sys.stdin is None:
        yield DocumentError(STDIN_ID, "cannot be read (it is closed)")
        return
    stream = cast(BufferedReader, sys.stdin.buffer)
    try:
        kind = reading.format
        if kind == "auto":
            begin = stream.peek(4096).removeprefix(BYTE_ORDER_MARK).lstrip()
            kind = "jsonl" if begin.startswith(b"{") else "text"
        yield from READERS[kind](stream, STDIN_ID, reading)
    except (OSError, ValueError) as error:
        yield DocumentError(STDIN_ID, _cause(error))
