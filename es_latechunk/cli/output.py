"""What the commands print: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
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
    from es_latechunk.report import DocumentResult, IngestReport
    from es_latechunk.types import Tokens

DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # Unicode's bidirectional embeddings
LOG_FORMAT = "es_latechunk.log_format"
# The settings whose flag is another word than the argument in Python.
FLAGS = {"k": "-k", "filters": "--filter", "template": "--mapping", "reranker": "--rerank"}

T = TypeVar("T")


def print_json(value: Any) -> None:
    """One JSON object on one line of stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))


def on_screen(text: str, *, keep: str = "") -> str:
    """Text of documents for a person's terminal: what the terminal would obey is written as an escape, \\u001b.

    These are the control characters, with which a document could write to the clipboard or over the screen, and
    those that turn the direction of writing beyond the text. `keep` are characters that stay, such as a line end.
    """
    return "".join(f"\\u{ord(c):04x}" if _is_obeyed(c) and c not in keep else c for c in text)


def _is_obeyed(character: str) -> bool:
    return category(character) in ("Cc", "Cs", "Zl", "Zp") or character in DIRECTIONS


def note(text: str, level: str = "info") -> None:
    """A line on stderr for the person at the terminal, or a JSON object for a machine (--log-format json)."""
    context = click.get_current_context(silent=True)
    if context and context.meta.get(LOG_FORMAT) == "json":
        text = json.dumps({"time": _now(), "level": level, "message": text}, ensure_ascii=False)
    elif level != "info":
        text = f"{level}: {text}"
    click.echo(text, err=True)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def complain(error: LateChunkError) -> None:
    """An error as one line of stderr, whatever characters an id or a server's answer has in it."""
    note(printable(with_flags(error.message)), "error")


def with_flags(text: str) -> str:
    """A message that names settings by their flags."""
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
    """Show what the package logs as notes, for as long as the block runs."""
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
    """Names each document that failed on stderr, and remembers that there was one."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, error: DocumentError) -> None:
        """Name the error."""
        self.count += 1
        complain(error)

    def named(self, items: Iterable[T | DocumentError]) -> Iterator[T]:
        """What did not fail; each error is named as it comes."""
        for item in items:
            if isinstance(item, DocumentError):
                self.add(item)
            else:
                yield item

    def exit(self) -> None:
        """Leave with 1 when a document failed."""
        if self.count:
            click.get_current_context().exit(1)


class UnreadableNotes:
    """Says on stderr which documents the model mostly cannot read, and at the end how much of all of them."""

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
        """The line for all documents, where there is something to say."""
        if text := self._counted.summary():
            note(text, "warning")


def chunk_rows(chunked: ChunkedDocument) -> Iterator[dict[str, Any]]:
    """A document's chunks as JSON rows."""
    document = chunked.document
    for ordinal, span in enumerate(chunked.spans):
        yield {
            "doc_id": document.id,
            "ordinal": ordinal,
            "start": span.start,
            "end": span.end,
            "content": document.text[span.start : span.end],
        }


class Progress:
    """A bar on stderr: how much of the source is read, and what became of it."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar = bar
        self._task = task

    def read(self, count: int) -> None:
        """Some bytes of the source have been read."""
        self._bar.advance(self._task, count)

    def show(self, report: IngestReport) -> None:
        """Bring the counts up to date."""
        speed = report.tokens / report.seconds if report.seconds else 0
        counts = f"{report.documents} documents  {report.chunks} chunks  {speed:,.0f} tokens/s"
        self._bar.update(self._task, description=counts)


@contextmanager
def progress_bar(count_bytes: Callable[[], int | None], *, quiet: bool) -> Iterator[Progress]:
    """Documents, chunks, tokens a second and the time left, on stderr and only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    hidden = quiet or not console.is_terminal
    with Bar(*columns, console=console, transient=True, disable=hidden) as bar:
        total = None if hidden else count_bytes()
        yield Progress(bar, bar.add_task("", total=total))
