"""Read documents from paths and standard input, each file by its format."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, cast

from es_latechunk.documents.ahead import fetched_ahead
from es_latechunk.documents.formats.jsonl import BYTE_ORDER_MARK
from es_latechunk.documents.options import (
    DEFAULT_MAX_DOCUMENT_BYTES,
    SUFFIXES,
    Reading,
    check_extra,
    extras_are_complete,
    ignore,
    kind_of,
)
from es_latechunk.documents.parts import READERS, FilePart, PartReading, cause_of, read_part
from es_latechunk.documents.remote.address import Address, parse_address
from es_latechunk.documents.sources import Selection, SourceFile, check_paths, find_files, printable
from es_latechunk.errors import DocumentError, setting
from es_latechunk.types import Document

if TYPE_CHECKING:
    from es_latechunk.documents.remote.objects import RemoteFile

MOST_UNREACHABLE = 5  # objects in a row; after that, each further one would only cost its attempts
STDIN, STDIN_ID = Path("-"), "stdin"

LEFT_OUT = "the rest is left out; run the same command again"

Source = Path | Address
Stage = Callable[[Iterable[Document | DocumentError]], Iterator[Document | DocumentError]]


class StandardInput:
    """Stands for standard input among the parts of a source; only the process that was started can read it."""


Item = FilePart | StandardInput | DocumentError  # what is listed, or why it cannot be
# Reads the parts among the items, perhaps before their turn, and yields all items in order, each part with its reading.
ReadAhead = Callable[[Iterator[Item], Reading], Iterator[tuple[Item, PartReading | None]]]


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
    return SourceDocuments(paths, Selection(include, exclude), reading)


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
    return sum(file.size for file in files if kind_of(file.name, format) and isinstance(file, SourceFile))


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


def in_this_process(items: Iterator[Item], reading: Reading) -> Iterator[tuple[Item, PartReading | None]]:
    """Read each part when its turn has come: see ReadAhead."""
    for item in fetched_ahead(items):
        yield item, read_part(item, reading) if isinstance(item, FilePart) and item.kind else None


def through(
    documents: Iterable[Document | DocumentError], stage: Stage
) -> Iterator[Document | DocumentError]:
    """Return the same documents as the generator `stage` passes them on; a cluster can still read a source's."""
    return documents.through(stage) if isinstance(documents, SourceDocuments) else stage(documents)


class SourceDocuments(Iterator[Document | DocumentError]):
    """The documents of a source: what `read_documents` returns. They are read by this process, unless others do it.

    Nothing is checked or read before the first of them is asked for.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        selection: Selection,
        reading: Reading,
        through: tuple[Stage, ...] = (),
    ) -> None:
        self._paths = paths
        self._selection = selection
        self._reading = reading
        self._through = through
        self._documents: Iterator[Document | DocumentError] | None = None

    def __next__(self) -> Document | DocumentError:
        if self._documents is None:
            self._documents = self.read_by(in_this_process)
        return next(self._documents)

    def through(self, stage: Stage) -> SourceDocuments:
        """Return the same documents as a generator that looks at each passes them on; others can still read them."""
        return SourceDocuments(self._paths, self._selection, self._reading, (*self._through, stage))

    def read_by(self, read_ahead: ReadAhead) -> Iterator[Document | DocumentError]:
        """Yield the documents, read by `read_ahead`: the same ones in the same order, whoever reads them."""
        documents = _read(self._paths, self._selection, self._reading, read_ahead)
        for stage in self._through:
            documents = stage(documents)
        return documents


def _read(
    paths: Iterable[str | Path], selection: Selection, reading: Reading, read_ahead: ReadAhead
) -> Iterator[Document | DocumentError]:
    sources = parse_sources(paths)
    _check(sources, selection, reading)
    given_up: set[int] = set()
    before, unreachable = -1, 0  # objects of a source in a row
    for item, documents in read_ahead(_listed(sources, selection, reading, given_up), reading):
        if isinstance(item, DocumentError):
            yield item
        elif isinstance(item, StandardInput):
            yield from _read_stdin(reading)
        elif item.source in given_up:
            continue
        elif documents is None:
            yield from _unknown_format(item.file, reading)
        else:
            end = yield from documents
            if end.error:
                yield end.error
            unreachable = unreachable if item.source == before else 0
            unreachable = 0 if end.reached else unreachable + 1
            before, source = item.source, sources[item.source]
            if unreachable == MOST_UNREACHABLE and isinstance(source, Address):
                given_up.add(item.source)
                yield DocumentError(
                    source.shown, f"{MOST_UNREACHABLE} objects in a row cannot be read; {LEFT_OUT}"
                )


def _listed(
    sources: list[Source], selection: Selection, reading: Reading, given_up: set[int]
) -> Iterator[Item]:
    """Yield what is to be read, in order; a source that was given up is not listed further."""
    for number, source in enumerate(sources):
        if source == STDIN:
            yield StandardInput()
            continue
        for file in _find(source, selection):
            if number in given_up:
                break
            if isinstance(file, DocumentError):
                yield file
            else:
                yield FilePart(file, kind_of(file.name, reading.format), number)


def _unknown_format(file: SourceFile | RemoteFile, reading: Reading) -> Iterator[DocumentError]:
    if file.named:
        cause = f"is of an unknown format ({', '.join(SUFFIXES)}); give its format with {setting('format')}"
        yield DocumentError(printable(file.id), cause)
    else:
        reading.on_note(printable(file.id), "is of an unknown format; it is skipped")


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
        yield DocumentError(STDIN_ID, cause_of(error))
