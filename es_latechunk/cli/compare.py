"""`es-latechunk compare`: the same chunks pooled late and naive, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from es_latechunk.cli.options.help import Command
from es_latechunk.cli.options.shared import (
    ModelChoice,
    PoolingChoice,
    chunker_option,
    json_option,
    max_tokens_option,
    model_options,
    overlap_option,
    pooling_options,
)
from es_latechunk.cli.options.sources import Reader, reader_options
from es_latechunk.cli.output.messages import Failures, UnreadableNotes, note, on_screen, print_json
from es_latechunk.documents import printable, unique_documents
from es_latechunk.evaluation import compare as run_compare
from es_latechunk.evaluation.compare import ComparedSentences, compare_sentences
from es_latechunk.types import Document, Pooling, PoolingOptions

if TYPE_CHECKING:
    from rich.table import Table

    from es_latechunk.evaluation import ComparedChunk


@click.command(
    cls=Command,
    examples=('es-latechunk compare notes/ --query "How many people live in the capital?" --max-tokens 32',),
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--query", required=True, metavar="TEXT", help="Query that the chunks are compared with.")
@click.option(
    "-k", type=click.IntRange(1), default=10, show_default=True, metavar="N", help="Number of chunks."
)
@click.option(
    "--html",
    "html_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the documents of these chunks as a page, each sentence shaded by its similarity.",
)
@chunker_option
@max_tokens_option
@pooling_options
@overlap_option
@reader_options
@model_options
@json_option
def compare(
    paths: tuple[str, ...],
    query: str,
    k: int,
    html_file: Path | None,
    chunker: str,
    max_tokens: int,
    pooling: PoolingChoice,
    overlap: int | None,
    reader: Reader,
    model: ModelChoice,
    as_json: bool,
) -> None:
    """Show each chunk's cosine similarity to a query, and its rank, with late and with naive pooling.

    The chunks are listed by their late similarity. Options of the pooling compare another one with naive pooling, in
    the place of late. No server is needed.
    """
    from rich.console import Console

    from es_latechunk.evaluation.html import check_target

    if html_file is not None:
        check_target(html_file, "html")
    failures, unreadable = Failures(), UnreadableNotes()
    documents = list(unique_documents(reader.read(paths)))
    encoder = model.load()
    options = pooling.options(encoder) or PoolingOptions()
    compared = run_compare(
        documents,
        query,
        encoder=encoder,
        max_tokens=max_tokens,
        chunker=chunker,
        pooling=options,
        overlap=overlap,
        on_tokens=unreadable,
    )
    rows = list(failures.named(compared))[:k]
    unreadable.summary()
    if as_json:
        for row in rows:
            print_json(compared_row(row))
    else:
        Console(highlight=False).print(compared_table(rows, options.pooling))
    if html_file is not None:
        known = {document.id: document for document in documents if isinstance(document, Document)}
        shown = [known[name] for name in dict.fromkeys(row.chunk.doc_id for row in rows)]
        sentences = compare_sentences(shown, query, encoder=encoder, pooling=options, overlap=overlap)
        _write_page(html_file, query, failures.named(sentences), options.pooling)
    failures.exit()


def _write_page(path: Path, query: str, compared: Iterable[ComparedSentences], pooling: Pooling) -> None:
    from es_latechunk.evaluation.html import comparison_page, write_page

    write_page(path, comparison_page(query, list(compared), pooling), "html")
    note(f"written: {printable(str(path))}")


def compared_row(row: ComparedChunk) -> dict[str, Any]:
    """Return a compared chunk as a JSON row."""
    return {
        "doc_id": row.chunk.doc_id,
        "ordinal": row.chunk.ordinal,
        "start": row.chunk.start,
        "end": row.chunk.end,
        "content": row.chunk.content,
        "late": row.late,
        "naive": row.naive,
        "late_rank": row.late_rank,
        "naive_rank": row.naive_rank,
    }


def compared_table(rows: Sequence[ComparedChunk], pooling: Pooling = "late") -> Table:
    """Return a table of the similarities, the ranks, and the beginning of each chunk."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in (pooling, "rank", "naive", "rank"):
        table.add_column(name, justify="right", no_wrap=True, min_width=6)
    table.add_column("chunk")
    for row in rows:
        content = " ".join(row.chunk.content.split())
        # Its column may shrink, so that the numbers stay whole, but it is one line.
        chunk = Text(on_screen(f"{row.chunk.doc_id}: {content}"), no_wrap=True, overflow="ellipsis")
        table.add_row(f"{row.late:.3f}", str(row.late_rank), f"{row.naive:.3f}", str(row.naive_rank), chunk)
    return table
