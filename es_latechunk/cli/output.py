"""What the commands print: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from es_latechunk.documents import count_bytes, shown
from es_latechunk.types import ChunkedDocument, Hit

if TYPE_CHECKING:
    from es_latechunk.elastic.report import Tally
    from es_latechunk.errors import DocumentError, LateChunkError


def print_json(value: Any) -> None:
    """One JSON object on one line of stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))


def note(text: str) -> None:
    """A line for the person at the terminal."""
    click.echo(text, err=True)


def complain(error: LateChunkError) -> None:
    """An error as one line of stderr, whatever characters an id or a server's answer has in it."""
    note(f"error: {shown(str(error))}")


class Failures:
    """Names each document that failed on stderr, and remembers that there was one."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, error: DocumentError) -> None:
        self.count += 1
        complain(error)

    def exit(self) -> None:
        """Leave with 1 when a document failed."""
        if self.count:
            click.get_current_context().exit(1)


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


def print_hits(hits: Iterable[Hit], *, as_json: bool) -> None:
    """Hits as JSON lines, or as a table."""
    if as_json:
        for hit in hits:
            print_json(asdict(hit))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    table.add_column("score", no_wrap=True)
    table.add_column("chunk", overflow="fold", max_width=30)
    table.add_column("characters", no_wrap=True)
    table.add_column("content", overflow="fold", ratio=1)
    for hit in hits:
        content = " ".join(hit.content.split())
        table.add_row(f"{hit.score:.4f}", Text(hit.id), f"{hit.start}-{hit.end}", Text(content))
    Console(highlight=False).print(table if table.row_count else "no hits")


class Progress:
    """A bar on stderr: how much of the source is read, and what became of it."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar = bar
        self._task = task

    def read(self, count: int) -> None:
        """Some bytes of the source have been read."""
        self._bar.advance(self._task, count)

    def show(self, tally: Tally) -> None:
        """Bring the counts up to date."""
        report = tally.report()
        speed = report.tokens / report.seconds if report.seconds else 0
        counts = f"{report.documents} documents  {report.chunks} chunks  {speed:,.0f} tokens/s"
        self._bar.update(self._task, description=counts)


@contextmanager
def progress_bar(paths: Iterable[str], *, format: str, quiet: bool) -> Iterator[Progress]:
    """Documents, chunks, tokens a second and the time left, on stderr and only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    hidden = quiet or not console.is_terminal
    with Bar(*columns, console=console, transient=True, disable=hidden) as bar:
        total = None if hidden else count_bytes(paths, format=format)
        yield Progress(bar, bar.add_task("", total=total))
