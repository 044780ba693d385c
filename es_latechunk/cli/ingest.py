"""`es-latechunk ingest`: write documents into an index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from es_latechunk.cli.options.cluster import cluster_options
from es_latechunk.cli.options.completion import index_option
from es_latechunk.cli.options.help import Command
from es_latechunk.cli.options.shared import ModelChoice, connection_options, json_option, model_options
from es_latechunk.cli.options.sources import Reader, reader_options
from es_latechunk.cli.output.messages import (
    Failures,
    UnreadableNotes,
    log_format_option,
    logged_notes,
    note,
    print_json,
)
from es_latechunk.cli.output.progress import SourceProgress, bytes_of, counted_results, progress_bar
from es_latechunk.documents.dead_letter import DeadLetters
from es_latechunk.errors import DocumentError, UsageError
from es_latechunk.report import IngestCounts
from es_latechunk.types import DEFAULT_RETRY_FOR

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.dry_run import IngestPlan
    from es_latechunk.ingest import IngestRun
    from es_latechunk.report import DocumentResult
    from es_latechunk.scale import RayCluster
    from es_latechunk.types import Document


class Share(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The type of an option that takes a share of a whole, as "30%" or "0.3"."""

    name = "share"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"{value!r} is not a share; write 30% or 0.3", param, ctx)
        return share


SHARE = Share()


@dataclass(frozen=True, slots=True)
class Source:
    """The source of the documents: paths, or an index of the same cluster."""

    paths: tuple[str, ...]
    from_index: str | None
    reader: Reader


@click.command(
    cls=Command,
    examples=(
        "es-latechunk ingest notes/ --index notes",
        "es-latechunk ingest notes/ --index notes --prune --dead-letter failed.ndjson",
        "es-latechunk ingest notes/ --alias current",
        "es-latechunk ingest notes/ --index notes --cluster ray --encoders 2 --encoder-resources cpu=2",
    ),
)
@click.argument("paths", nargs=-1, metavar="PATH...")
@index_option(required=False, help="Index to write to; create it with `index create`.")
@click.option(
    "--alias",
    metavar="NAME",
    help="Fill a new index for this alias; `index promote` then switches the alias to it.",
)
@click.option("--from-index", metavar="NAME", help="Read the documents of this index instead of PATHs.")
@click.option("--prune", is_flag=True, help="Remove documents that are no longer in the source.")
@click.option(
    "--max-prune", type=SHARE, default="50%", show_default=True, metavar="SHARE",
    help="Refuse to remove more than this share of the index's documents.",
)  # fmt: skip
@click.option("--wait", is_flag=True, help="Wait for another ingest into the same index to end.")
@click.option(
    "--dead-letter",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the documents that failed to FILE as NDJSON, which ingest can read again.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Report what would be written, with estimates of time and size, and write nothing.",
)
@click.option(
    "--retry-for", type=click.FloatRange(0), default=DEFAULT_RETRY_FOR, show_default=True, metavar="SECONDS",
    help="How long a failed request to the cluster or a hosted model is retried.",
)  # fmt: skip
@log_format_option
@cluster_options
@reader_options
@model_options
@connection_options
@json_option
def ingest(
    paths: tuple[str, ...],
    index: str | None,
    alias: str | None,
    from_index: str | None,
    prune: bool,
    max_prune: float,
    wait: bool,
    dead_letter: Path | None,
    dry_run: bool,
    retry_for: float,
    cluster: RayCluster | None,
    reader: Reader,
    model: ModelChoice,
    client: Elasticsearch,
    as_json: bool,
) -> None:
    """Write documents into an index. PATH is a file, a folder, "-" for standard input, or an address that begins
    with s3://, gs://, abfs://, hf:// or https://.

    The model and the chunker are those that the index records. Running the same command again writes only what has
    changed. If a document cannot be used, it is named on stderr, the others are written, and the exit code is 1.
    """
    from es_latechunk.dry_run import DryRun
    from es_latechunk.ingest import IngestRun

    if alias and click.get_current_context().get_parameter_source("index") is ParameterSource.ENVIRONMENT:
        index = None  # the default is for commands that name neither
    source = Source(paths, from_index, reader)
    _check_usage(source, index, alias, dead_letter, dry_run)
    if cluster and dry_run:
        raise UsageError("--dry-run measures this machine, not a cluster; leave out --cluster")
    failures = Failures()
    with ExitStack() as stack:
        stack.enter_context(logged_notes())
        read = SourceProgress(bytes_of(lambda: reader.count_bytes(paths), quiet=as_json) if paths else None)
        documents = read.counted(_documents(client, source, read.add_bytes))
        common: Any = {
            "client": client,
            "encoder": replace(model, keywords={**model.keywords, "retry_for": retry_for}).load_for,
            "retry_for": retry_for,
            "prune": prune,
            "max_prune": max_prune,
        }
        if index and dry_run:
            planned = DryRun(documents, index=index, **common)
            counts = IngestCounts()
            with progress_bar(read, counts, quiet=as_json):
                _follow(counted_results(planned, read, counts), failures, None)
            _print_plan(planned.plan, as_json=as_json)
        else:
            run = IngestRun(documents, index=index, alias=alias, wait=wait, cluster=cluster, **common)
            # Opened only now: a run that cannot begin must not empty the file of the run before it.
            letters = stack.enter_context(DeadLetters(dead_letter)) if dead_letter else None
            with _reported(run, reader, as_json=as_json):
                with progress_bar(read, run.progress, quiet=as_json):
                    _follow(run, failures, letters)
                if alias:
                    note(
                        f"index {run.index} is filled; switch the alias to it with: es-latechunk index promote {alias}"
                    )
    failures.exit()


def _follow(
    results: Iterable[DocumentResult],
    failures: Failures,
    letters: DeadLetters | None,
) -> None:
    """Name each document that fails or is mostly unreadable, and write failed ones to `letters`."""
    unreadable = UnreadableNotes()
    for result in results:
        unreadable.result(result)
        if result.error is not None:
            if letters and result.error.source:
                letters.add(result.error.source, result.error)
            failures.add(result.error)
    unreadable.summary()


def _check_usage(
    source: Source, index: str | None, alias: str | None, dead_letter: Path | None, dry_run: bool
) -> None:
    if bool(index) == bool(alias):
        raise UsageError("ingest needs either --index NAME or --alias NAME")
    if bool(source.paths) == bool(source.from_index):
        raise UsageError("ingest needs either PATHs or --from-index NAME")
    if index and source.from_index == index:
        raise UsageError(f"--from-index {index} is the index that is written; choose another one")
    if alias and dry_run:
        raise UsageError("--dry-run compares with an index; give --index NAME")
    if dead_letter and any(_holds(Path(path), dead_letter) for path in source.paths):
        raise UsageError(
            f"--dead-letter {dead_letter} is one of the sources; write to a file outside of them"
        )


def _holds(path: Path, file: Path) -> bool:
    return path.resolve() in (file.resolve(), *file.resolve().parents)


def _documents(
    client: Elasticsearch, source: Source, on_read: Callable[[int], None]
) -> Iterable[Document | DocumentError]:
    if source.from_index:
        from es_latechunk.elastic.index.from_index import read_index

        text_field = source.reader.text_field or "content"
        return read_index(source.from_index, client=client, text_field=text_field)
    return source.reader.read(source.paths, on_read=on_read)


def _print_plan(plan: IngestPlan, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(plan))
        return
    pruned = f" (of {plan.documents_to_delete} documents that are gone)" if plan.documents_to_delete else ""
    click.echo(
        f"would write {plan.to_index} chunks ({plan.tokens} tokens) of {plan.documents} documents, delete "
        f"{plan.to_delete}{pruned}; {plan.unchanged} unchanged, {plan.failed} documents failed\n"
        f"estimates: {plan.estimated_seconds:.0f} s, {plan.estimated_bytes / 1e6:.1f} MB on disk"
    )


@contextmanager
def _reported(run: IngestRun, reader: Reader, *, as_json: bool) -> Iterator[None]:
    """Print the report when the block has ended, even with an error, unless a wrong setting kept it from beginning."""
    refused = False
    try:
        yield
    except UsageError:
        refused = not run.report.documents
        raise
    finally:
        if not refused:
            _print_report(run, reader, as_json=as_json)


def _print_report(run: IngestRun, reader: Reader, *, as_json: bool) -> None:
    report = run.report
    if as_json:
        counts = {name: getattr(report, name) for name in report.__dataclass_fields__ if name != "failures"}
        stages = asdict(report.stages)
        rest = {"precision": run.precision, "engine": run.engine, "encodings": dict(reader.encodings)}
        print_json({**counts, "stages": stages, **rest})
    else:
        note(
            f"{report.documents} documents, {report.chunks} chunks: {report.indexed} indexed, "
            f"{report.unchanged} unchanged, {report.deleted} deleted; {report.failed} documents failed"
        )
        note(f"{report.tokens} tokens in {report.seconds:.1f} s ({run.precision}, {run.engine})")
        busy = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in asdict(report.stages).items())
        note(f"seconds by stage (they overlap): {busy}")
