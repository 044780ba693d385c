"""The output of the commands: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar
from unicodedata import category

import click

from es_latechunk.documents import printable
from es_latechunk.errors import DocumentError, LateChunkError, Message
from es_latechunk.report import UnreadableText
from es_latechunk.types import ChunkedDocument

if TYPE_CHECKING:
    from es_latechunk.report import DocumentResult
    from es_latechunk.types import Tokens

DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # Unicode's bidirectional embeddings
LOG_FORMAT = "es_latechunk.log_format"
# Settings whose flag differs from the name of the argument in Python.
FLAGS = {"k": "-k", "filters": "--filter", "template": "--mapping", "reranker": "--rerank"}

T = TypeVar("T")


def print_json(value: Any) -> None:
    """Print a value as JSON on one line of stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))


def on_screen(text: str, *, keep: str = "") -> str:
    """Return a text that is safe on a terminal: characters that control the terminal are escaped, as \\u001b.

    With control characters, a document could write to the clipboard or over the screen; with others it could turn
    the direction of writing beyond its own text. The characters in `keep`, such as a line end, are not escaped.
    """

    def is_safe(character: str) -> bool:
        control = category(character) in ("Cc", "Cs", "Zl", "Zp") or character in DIRECTIONS
        return character in keep or not control

    return "".join(c if is_safe(c) else f"\\u{ord(c):04x}" for c in text)


def note(text: str, level: str = "info") -> None:
    """Print a line on stderr: plain text, or a JSON object with --log-format json."""
    context = click.get_current_context(silent=True)
    if context and context.meta.get(LOG_FORMAT) == "json":
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        text = json.dumps({"time": time, "level": level, "message": text}, ensure_ascii=False)
    elif level != "info":
        text = f"{level}: {text}"
    click.echo(text, err=True)


def complain(error: LateChunkError) -> None:
    """Print an error as one line on stderr, even if an id or a server's answer in it contains control characters."""
    note(printable(with_flags(error.message)), "error")


def with_flags(text: str) -> str:
    """Return a message in which the settings are named by their flags."""
    return text.render(_flag) if isinstance(text, Message) else text


def _flag(setting: str) -> str:
    return FLAGS.get(setting, f"--{setting.replace('_', '-')}")


def _choose_log_format(context: click.Context, parameter: click.Parameter, value: str) -> None:
    context.meta[LOG_FORMAT] = value


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    is_eager=True,
    expose_value=False,
    callback=_choose_log_format,
    help="Format of the messages on stderr.",
)


class _NoteHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(printable(record.getMessage()), record.levelname.lower())


@contextmanager
def logged_notes() -> Iterator[None]:
    """Print the log messages of this package as notes while the block runs."""
    logger, handler = logging.getLogger("es_latechunk"), _NoteHandler(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class Failures:
    """Prints each document that failed on stderr, and counts them for the exit code."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, error: DocumentError) -> None:
        """Print an error and count it."""
        self.count += 1
        complain(error)

    def named(self, items: Iterable[T | DocumentError]) -> Iterator[T]:
        """Yield the items that are not errors; print each error as it comes."""
        for item in items:
            if isinstance(item, DocumentError):
                self.add(item)
            else:
                yield item

    def exit(self) -> None:
        """Exit with code 1 if a document failed."""
        if self.count:
            click.get_current_context().exit(1)


class UnreadableNotes:
    """Prints on stderr which documents consist mostly of unknown tokens, and at the end the share in all documents."""

    def __init__(self) -> None:
        self._counted = UnreadableText()

    def __call__(self, doc_id: str, tokens: Tokens) -> None:
        self._add(doc_id, len(tokens), tokens.unknown, tokens.unknown_share)

    def result(self, result: DocumentResult) -> None:
        """Count a document of an ingest, unless it failed."""
        if result.error is None:
            self._add(result.doc_id, result.tokens, result.unknown_tokens, result.unknown_share)

    def _add(self, doc_id: str, tokens: int, unknown: int, share: float) -> None:
        if text := self._counted.add(doc_id, tokens=tokens, unknown=unknown, share=share):
            note(printable(text), "warning")

    def summary(self) -> None:
        """Print the line about all documents, if some of their tokens are unknown to the model."""
        if text := self._counted.summary():
            note(text, "warning")


def chunk_rows(chunked: ChunkedDocument) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a document as JSON rows."""
    document = chunked.document
    for ordinal, span in enumerate(chunked.spans):
        yield {
            "doc_id": document.id,
            "ordinal": ordinal,
            "start": span.start,
            "end": span.end,
            "content": document.text[span.start : span.end],
        }
