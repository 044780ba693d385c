"""`es-latechunk verify`: Elasticsearch's kNN next to exact cosines, and each stored vector next to its record."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from es_latechunk.cli.options.completion import index_option
from es_latechunk.cli.options.help import Command
from es_latechunk.cli.options.shared import ModelChoice, connection_options, json_option, model_options
from es_latechunk.cli.options.sources import Reader, reader_options
from es_latechunk.cli.output.messages import logged_notes, note, on_screen, print_json
from es_latechunk.cli.search import read_queries
from es_latechunk.errors import UsageError
from es_latechunk.evaluation import StoredProblem, VerifyReport
from es_latechunk.evaluation import verify as run_verify
from es_latechunk.evaluation.verify import DEFAULT_SAMPLE

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


@click.command(
    cls=Command,
    examples=(
        "es-latechunk verify --index notes",
        'es-latechunk verify --index notes --query "Which city is old?" --documents notes/',
    ),
)
@index_option(required=True, help="Index or alias to verify.")
@click.option(
    "--query", "queries", multiple=True, metavar="TEXT", help="Query for the kNN search. Repeatable."
)
@click.option(
    "--from-file",
    type=click.Path(path_type=Path),
    help="Read the queries from a file, one per line (- is standard input).",
)
@click.option("-k", type=int, default=10, show_default=True, metavar="N", help="Number of hits per query.")
@click.option(
    "--num-candidates",
    type=int,
    multiple=True,
    metavar="N",
    help="Candidates of the kNN search; repeat it to compare several. Default: as in a search, 10 x k, at least 500.",
)
@click.option(
    "--min-recall",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Exit with 1 if the recall is lower with every --num-candidates.",
)
@click.option(
    "--documents",
    "paths",
    multiple=True,
    metavar="PATH",
    help="Embed documents of PATH, the source of the index, again and compare their vectors. Repeatable.",
)
@click.option(
    "--sample",
    type=click.IntRange(1),
    default=DEFAULT_SAMPLE,
    show_default=True,
    metavar="N",
    help="Number of documents of --documents to embed again.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the random choice of these documents."
)
@reader_options
@model_options
@connection_options
@json_option
def verify(
    index: str,
    queries: tuple[str, ...],
    from_file: Path | None,
    min_recall: float,
    paths: tuple[str, ...],
    reader: Reader,
    model: ModelChoice,
    client: Elasticsearch,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Compare the kNN search of an index with exact cosines, and check every chunk and vector in it.

    The exact cosines are computed from the stored vectors. Each chunk must have a vector of the recorded dimensions
    and of length 1, and each document all of its chunks, of one version. With --documents, vectors that do not belong
    to their text are found too. The exit code is 1 if something is wrong or the recall is below --min-recall.
    """
    if queries and from_file:
        raise UsageError("verify takes either --query or --from-file FILE")

    def show(problem: StoredProblem) -> None:
        note(str(problem), "error")
        if as_json:
            print_json({"kind": "problem", **asdict(problem)})

    with logged_notes():
        report = run_verify(
            index,
            queries=read_queries(from_file) if from_file else queries,
            documents=reader.read(paths) if paths else None,
            client=client,
            encoder=model.load_for,
            on_problem=show,
            **wanted,
        )
    if as_json:
        for row in report_rows(report):
            print_json(row)
    else:
        print_report(report)
    best = max((row.recall for row in report.knn), default=1.0)
    if best < min_recall:
        note(f"index {index}: the recall is {best:.4f}, below --min-recall {min_recall:g}", "error")
    if best < min_recall or report.problem_count:
        click.get_current_context().exit(1)


def report_rows(report: VerifyReport) -> list[dict[str, Any]]:
    """Return the report as JSON rows: one per number of candidates, and then the counts."""
    rows = asdict(report)
    shared = {"index": report.index, "index_type": report.index_type, "k": report.k}
    counts = {name: value for name, value in rows.items() if name not in ("knn", "problems", *shared)}
    return [
        *({"kind": "knn", **shared, **row} for row in rows["knn"]),
        {"kind": "summary", **shared, **counts},
    ]


def print_report(report: VerifyReport) -> None:
    """Print a table of the kNN search, and the counts."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if report.knn:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in (
            "candidates", "queries", f"recall@{report.k}", "lowest", "same order", "largest error of a score"
        ):  # fmt: skip
            table.add_column(name, justify="right")
        for row in report.knn:
            table.add_row(
                str(row.num_candidates), str(row.queries), f"{row.recall:.4f}", f"{row.lowest_recall:.4f}",
                f"{row.same_order} of {row.queries}", f"{row.largest_error:.1e}",
            )  # fmt: skip
        console.print(table)
    click.echo(
        f"{on_screen(report.index)} ({report.index_type}): {report.documents} documents, {report.chunks} chunks, "
        f"{report.vectors} vectors, {report.problem_count} problems"
    )
    if report.lowest_cosine is not None:
        click.echo(
            f"{report.compared_documents} documents embedded again: the lowest cosine of a vector to the stored one is "
            f"{report.lowest_cosine:.6f}"
        )
