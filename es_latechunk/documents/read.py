"""Documents from paths and standard input, by the kind of each file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

from es_latechunk.documents.jsonl import BYTE_ORDER_MARK, read_jsonl
from es_latechunk.documents.sources import OnError, SourceFile, check_paths, find_files, shown
from es_latechunk.documents.text import check_text, decode_utf8, markdown_title
from es_latechunk.errors import DocumentError, UsageError
from es_latechunk.types import Document

FORMATS = ("auto", "text", "markdown", "jsonl")
SUFFIXES = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
STDIN, STDIN_ID = Path("-"), "stdin"

Reader = Callable[[BinaryIO, str, OnError], Iterator[Document]]


def raise_error(error: DocumentError) -> None:
    """The default of `on_error`: stop at the first document that cannot be read."""
    raise error


def read_documents(
    paths: Iterable[str | Path],
    *,
    format: str = "auto",
    on_error: OnError = raise_error,
    on_skip: Callable[[str], None] | None = None,
    on_read: Callable[[int], None] | None = None,
) -> Iterator[Document]:
    """Documents of files, folders and "-" (standard input), one at a time and in a fixed order.

    With format "auto" a file's suffix says what it is; standard input is JSONL when its first visible
    character is "{", otherwise one text. A file of another suffix is passed over inside a folder (and given
    to `on_skip`), and is an error where it is named itself. A document's text is never changed: line ends,
    byte order marks and control characters stay. What cannot be read goes to `on_error`, and the rest goes on.
    A path that is not there is a UsageError before anything is read.
    `on_read` is told the bytes read since it was last told, after each document and each file.
    """
    if format not in FORMATS:
        raise UsageError(f"--format {format} is not known; choose one of {', '.join(FORMATS)}")
    places = [Path(path) for path in paths]
    check_paths(place for place in places if place != STDIN)
    for place in places:
        if place == STDIN:
            yield from _read_stdin(format, on_error)
            continue
        for file in find_files([place], on_error):
            kind = _kind(file, format)
            if kind:
                yield from _read_file(file, READERS[kind], on_error, on_read or _ignore)
            elif file.named:
                known = ", ".join(SUFFIXES)
                on_error(
                    DocumentError(shown(file.id), f"is of no known kind ({known}); say which with --format")
                )
            elif on_skip:
                on_skip(shown(file.id))


def count_bytes(paths: Iterable[str | Path], *, format: str = "auto") -> int | None:
    """The bytes that `read_documents` will read of these paths; None where standard input is among them."""
    places = [Path(path) for path in paths]
    check_paths(place for place in places if place != STDIN)
    if STDIN in places:
        return None
    files = (file for file in find_files(places, _ignore) if _kind(file, format))
    return sum(file.path.stat().st_size for file in files)


def _kind(file: SourceFile, format: str) -> str:
    """How the file is read; "" where nobody knows."""
    return SUFFIXES.get(file.path.suffix.lower(), "") if format == "auto" else format


def _ignore(_: object) -> None:
    """Nobody wants to know."""


def _read_file(
    file: SourceFile, reader: Reader, on_error: OnError, on_read: Callable[[int], None]
) -> Iterator[Document]:
    told = 0
    try:
        with file.path.open("rb") as stream:
            for document in reader(stream, file.id, on_error):
                on_read(stream.tell() - told)
                told = stream.tell()
                yield document
            on_read(stream.tell() - told)
    except OSError as error:
        on_error(DocumentError(shown(file.id), f"cannot be read ({error.strerror or error})"))


def _read_stdin(format: str, on_error: OnError) -> Iterator[Document]:
    if sys.stdin is None:
        on_error(DocumentError(STDIN_ID, "cannot be read (it is closed)"))
        return
    stream = cast(BufferedReader, sys.stdin.buffer)
    try:
        if format == "auto":
            begin = stream.peek(4096).removeprefix(BYTE_ORDER_MARK).lstrip()
            format = "jsonl" if begin.startswith(b"{") else "text"
        yield from READERS[format](stream, STDIN_ID, on_error)
    except OSError as error:
        on_error(DocumentError(STDIN_ID, f"cannot be read ({error.strerror or error})"))


def _read_text(stream: BinaryIO, file_id: str, on_error: OnError) -> Iterator[Document]:
    text = _whole(stream, file_id, on_error)
    if text is not None:
        yield Document(id=file_id, text=text)


def _read_markdown(stream: BinaryIO, file_id: str, on_error: OnError) -> Iterator[Document]:
    text = _whole(stream, file_id, on_error)
    if text is not None:
        yield Document(id=file_id, text=text, title=markdown_title(text))


def _whole(stream: BinaryIO, file_id: str, on_error: OnError) -> str | None:
    try:
        text = decode_utf8(stream.read())
        check_text(text)
    except ValueError as error:
        on_error(DocumentError(shown(file_id), str(error)))
        return None
    return text


READERS: dict[str, Reader] = {"text": _read_text, "markdown": _read_markdown, "jsonl": read_jsonl}
