"""Options of the commands that read documents, so that all of them read in the same way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import click

from es_latechunk.cli.output.messages import note, with_flags
from es_latechunk.documents import (
    DEFAULT_MAX_DOCUMENT_BYTES,
    FORMATS,
    check_sources,
    count_bytes,
    parse_sources,
    printable,
    read_documents,
    through,
)
from es_latechunk.errors import DocumentError
from es_latechunk.types import Document

NAMES = ("format", "include", "exclude", "encoding", "text_field", "id_field", "max_document_bytes")
OPTIONS = (
    click.option(
        "--format",
        type=click.Choice(FORMATS),
        default="auto",
        show_default=True,
        help="Format of the files; auto: by the suffix of the file name.",
    ),
    click.option(
        "--include",
        multiple=True,
        metavar="PATTERN",
        help="Read only files that match PATTERN (gitignore syntax).",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Skip files that match PATTERN (gitignore syntax).",
    ),
    click.option(
        "--encoding",
        metavar="NAME",
        help="Encoding of files that are not UTF-8, such as cp1252. Default: detected per file.",
    ),
    click.option(
        "--text-field",
        metavar="NAME",
        help="CSV or Parquet column, or JSON key, that holds the text.  [default: text]",
    ),
    click.option(
        "--id-field",
        default="id",
        show_default=True,
        metavar="NAME",
        help="CSV or Parquet column, or JSON key, that holds the id.",
    ),
    click.option(
        "--max-document-bytes",
        type=click.IntRange(1),
        default=DEFAULT_MAX_DOCUMENT_BYTES,
        show_default=f"{DEFAULT_MAX_DOCUMENT_BYTES >> 20} MiB",
        metavar="BYTES",
        help="Report a document as failed if it is larger than this, before or after unpacking.",
    ),
)


@dataclass(frozen=True, slots=True)
class Reader:
    """The reading options of the command line. `encodings` counts the files by encoding, without UTF-8."""

    format: str
    include: Sequence[str]
    exclude: Sequence[str]
    encoding: str | None
    text_field: str | None
    id_field: str
    max_document_bytes: int
    encodings: Counter[str] = field(default_factory=Counter)

    def read(
        self,
        paths: Sequence[str],
        *,
        on_read: Callable[[int], None] | None = None,
    ) -> Iterator[Document | DocumentError]:
        """Return the documents; print notes about some of them, and the encodings that were found, on stderr.

        A warning says if there is no document at all, as a mistaken path looks like that.
        """

        def told(documents: Iterable[Document | DocumentError]) -> Iterator[Document | DocumentError]:
            is_empty = True
            for document in documents:
                is_empty = False
                yield document
            if is_empty:
                note(
                    printable(
                        f"no document was found in {', '.join(paths)}; check the path and the patterns"
                    ),
                    "warning",
                )
            for name, count in sorted(self.encodings.items()):
                note(f"read as {name}: {count} {'file' if count == 1 else 'files'}")

        documents = read_documents(
            paths,
            format=self.format,
            include=self.include,
            exclude=self.exclude,
            encoding=self.encoding,
            text_field=self.text_field or "text",
            id_field=self.id_field,
            max_document_bytes=self.max_document_bytes,
            on_note=_print_note,
            on_read=on_read,
            on_encoding=self._found,
        )
        return through(documents, told)

    def count_bytes(self, paths: Sequence[str]) -> int | None:
        """Return the number of bytes on disk that will be read; None if standard input is among the paths."""
        return count_bytes(paths, format=self.format, include=self.include, exclude=self.exclude)

    def _found(self, file_id: str, encoding: str) -> None:
        self.encodings[encoding] += 1


def reader_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of reading; the command gets `reader`, a Reader."""

    @wraps(command)
    def with_reader(*args: Any, **values: Any) -> Any:
        # Before a server is asked and a model is loaded, which can take minutes.
        check_sources(parse_sources(values["paths"]))
        return command(*args, reader=Reader(**{name: values.pop(name) for name in NAMES}), **values)

    for option in reversed(OPTIONS):
        with_reader = option(with_reader)
    return with_reader


def _print_note(file_id: str, text: str) -> None:
    note(printable(f"{file_id}: {with_flags(text)}"))
