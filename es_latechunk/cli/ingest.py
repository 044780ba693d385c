"""`es-latechunk ingest`: documents into an index."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from es_latechunk.cli.chunk import skipped
from es_latechunk.cli.options import ModelChoice, connection_options, json_option, model_options
from es_latechunk.cli.output import Failures, note, print_json, progress_bar
from es_latechunk.documents import FORMATS, read_documents
from es_latechunk.elastic.report import Tally
from es_latechunk.errors import DocumentError

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--index", required=True, metavar="NAME")
@click.option("--format", type=click.Choice(FORMATS), default="auto", show_default=True)
@click.option(
    "--retry-for", type=click.FloatRange(0), default=120.0, show_default=True, metavar="SECONDS",
    help="How long a request may be tried again.",
)  # fmt: skip
@model_options
@connection_options
@json_option
def ingest(
    paths: tuple[str, ...],
    index: str,
    format: str,
    retry_for: float,
    model: ModelChoice,
    client: Elasticsearch,
    as_json: bool,
) -> None:
    """Write documents into an index: files, folders, "-" for standard input.

    The index says which model and chunker are used. Running the same command again writes only what has
    changed. What cannot be used is named on stderr, the rest is written, and the exit code is 1.
    """
    from es_latechunk.elastic.ingest import ingest as run_ingest
    from es_latechunk.elastic.mapping import read_identity

    encoder = model.load_for(read_identity(client, index).encoder)
    failures, tally = Failures(), Tally()

    def not_read(error: DocumentError) -> None:
        tally.failed += 1
        failures(error)

    try:
        with progress_bar(paths, format=format, quiet=as_json) as progress:
            run_ingest(
                read_documents(
                    paths, format=format, on_error=not_read, on_skip=skipped, on_read=progress.read
                ),
                client=client,
                index=index,
                encoder=encoder,
                on_error=failures,
                on_progress=progress.show,
                retry_for=retry_for,
                tally=tally,
            )
    finally:
        _print_report(tally, getattr(encoder, "precision", "hosted"), as_json=as_json)
    failures.exit()


def _print_report(tally: Tally, precision: str, *, as_json: bool) -> None:
    report = tally.report()
    if as_json:
        print_json({**asdict(report), "precision": precision})
        return
    note(
        f"{report.documents} documents, {report.chunks} chunks: {report.indexed} indexed, "
        f"{report.unchanged} unchanged, {report.deleted} deleted; {report.failed} documents failed; "
        f"{report.tokens} tokens in {report.seconds:.1f} s ({precision})"
    )
