"""What `es-latechunk evaluate` prints: progress, tables, JSON rows, and the recommendation with its commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from es_latechunk.cli.output.messages import on_screen

if TYPE_CHECKING:
    from rich.table import Table

    from es_latechunk.evaluation.results.combinations import (
        Combination,
        EvaluatedCombination,
        EvaluationReport,
    )
    from es_latechunk.evaluation.results.measures import Interval, QuestionScores
    from es_latechunk.evaluation.vectors.chunkings import OnProgress

SETTINGS = ("model", "window", "chunker", "max_tokens", "vectors", "mode", "index")
FILE_WIDTH = 120  # characters of a line, if the output is no terminal
INDEX_NAME = "my-index"


@contextmanager
def progress(*, quiet: bool) -> Iterator[OnProgress]:
    """Show on stderr what is being done, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("")
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def result_row(report: EvaluationReport, result: EvaluatedCombination) -> dict[str, Any]:
    """Return the result of one combination as a JSON row."""
    from es_latechunk.evaluation.results.combinations import are_pseudo

    combination = result.combination
    return {
        "model": combination.model,
        "window": combination.window,
        "chunker": combination.chunker,
        "max_tokens": combination.max_tokens,
        "pooling": combination.pooling or None,
        "token_weights": combination.token_weights,
        "neighbour_share": combination.neighbour_share,
        "late_window": combination.late_window,
        "overlap": combination.overlap,
        "pieces": combination.pieces,
        "embed_title": combination.embed_title,
        "mode": combination.mode,
        "index": combination.index or None,
        "baseline": result is report.baseline,
        "questions": len(report.questions),
        "pseudo_queries": are_pseudo(report.questions),
        "in_corpus": _measures(result.in_corpus, result.in_corpus_difference),
        "in_document": result.in_document and _measures(result.in_document, result.in_document_difference),
        "chunks": result.chunks,
        "tokens": result.tokens,
        "seconds": round(result.seconds, 3),
        "index_bytes": result.index_bytes,
    }


def _measures(scores: QuestionScores, gain: Interval | None) -> dict[str, float]:
    row = {name: round(float(getattr(scores, name).mean()), 6) for name in scores.MEASURES}
    if gain is not None:
        row |= {
            "ndcg_difference": round(gain.mean, 6),
            "ndcg_low": round(gain.low, 6),
            "ndcg_high": round(gain.high, 6),
        }
    return row


def print_results(report: EvaluationReport) -> None:
    """Print a table of what is found, and one of what it costs."""
    from rich.console import Console

    from es_latechunk.evaluation.results.combinations import count_in_words
    from es_latechunk.evaluation.results.measures import CONFIDENCE

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=FILE_WIDTH)
    combinations = [result.combination for result in report.combinations]
    varying = [name for name in SETTINGS if len({getattr(one, name) for one in combinations}) > 1] or ["mode"]
    shared = [getattr(combinations[0], name) for name in SETTINGS if name not in varying]
    facts = f"{count_in_words(report.questions)}, relevance by {report.relevance}"
    same = [str(value) for value in shared if value]
    console.print(on_screen(" ".join([f"{facts},", *same])), markup=False, soft_wrap=True)
    console.print(f"\nnDCG@10, and how much it is above the baseline ({CONFIDENCE} % interval)")
    quality = _table(varying, ["in-corpus", "above the baseline"])
    if report.relevance == "span":
        quality.add_column("in-document", justify="right", no_wrap=True)
        quality.add_column("above the baseline", justify="right", no_wrap=True)
    cost = _table(
        varying,
        [f"recall@{report.k}", f"MRR@{report.k}", "chunks", "tokens read", "seconds", "index MB"],
    )
    for result in report.combinations:
        is_baseline = result is report.baseline
        settings = [_cell(getattr(result.combination, name)) for name in varying]
        cells = [f"{result.in_corpus.ndcg.mean():.3f}", _gain(result.in_corpus_difference, is_baseline)]
        if result.in_document is not None:
            cells += [
                f"{result.in_document.ndcg.mean():.3f}",
                _gain(result.in_document_difference, is_baseline),
            ]
        quality.add_row(*settings, *cells)
        cells = [f"{result.in_corpus.recall.mean():.3f}", f"{result.in_corpus.mrr.mean():.3f}"]
        cells += [f"{result.chunks:,}", f"{result.tokens:,}", f"{result.seconds:.1f}"]
        cost.add_row(*settings, *cells, f"{result.index_bytes / 1e6:.1f}")
    console.print(quality)
    console.print("\nIn-corpus recall and MRR, and what indexing costs")
    console.print(cost)


def _cell(value: object) -> str:
    return on_screen(str(value) or "-")


def _table(settings: Sequence[str], columns: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in settings:
        table.add_column(name.replace("_", " "), no_wrap=name != "vectors")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _gain(interval: Interval | None, is_baseline: bool) -> str:
    from es_latechunk.evaluation.results.recommendation import shown

    if interval is None or is_baseline:
        return "baseline" if is_baseline else ""
    return shown(interval)


def print_recommendation(sentence: str, commands: Sequence[str]) -> None:
    """Print what to do, and the commands for it."""
    click.echo(f"\n{on_screen(sentence)}")
    if commands:
        click.echo("\n" + "\n".join(f"  {on_screen(line)}" for line in commands))


def recommended_commands(
    combination: Combination, *, model: Sequence[str], source: Sequence[str], search: Sequence[str]
) -> list[str]:
    """Return the lines that create, fill and search an index with the settings of a combination.

    `model`, `source` and `search` are words of the command line that choose the model, the documents and the search.
    """
    from es_latechunk.evaluation.results.differences import DEFAULTS

    # Named even if they are the defaults: what they do is then seen, and stays when a default changes.
    chosen: dict[str, object] = {"max_tokens": combination.max_tokens}
    if combination.pooling:
        chosen["pooling"] = combination.pooling
    others = (
        "chunker", "token_weights", "neighbour_share", "late_window", "overlap", "pieces", "embed_title",
    )  # fmt: skip
    chosen |= {
        name: getattr(combination, name) for name in others if getattr(combination, name) != DEFAULTS[name]
    }
    lines = (
        ["index", "create", INDEX_NAME, *flags(chosen), *model],
        ["ingest", *source, "--index", INDEX_NAME],
        ["search", "QUESTION", "--index", INDEX_NAME, "--mode", combination.mode, *search],
    )
    return [shlex.join(["es-latechunk", *line]) for line in lines]


def flags(values: Mapping[str, object]) -> list[str]:
    """Return settings as words of a command line."""
    words: list[str] = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, (list, tuple)):
            words += [word for one in value for word in (flag, str(one))]
        else:
            words += (
                [flag] if value is True else [flag, f"{value:g}" if isinstance(value, float) else str(value)]
            )
    return words
