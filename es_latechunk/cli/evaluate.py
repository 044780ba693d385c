"""`es-latechunk evaluate`: what each pooling, chunk size and search mode finds on labelled questions."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from es_latechunk.chunking import CHUNKERS, DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS
from es_latechunk.cli.options import MODEL, MODEL_NAME, MODEL_SETTINGS, WINDOW, add_options, json_option
from es_latechunk.cli.output import Failures, on_screen, print_json
from es_latechunk.cli.sources import Reader, reader_options
from es_latechunk.documents import unique_documents
from es_latechunk.elastic.search.query import DEFAULT_BM25_WEIGHT, MODES
from es_latechunk.errors import UsageError
from es_latechunk.evaluation.cache import DEFAULT_CACHE_BYTES, ArrayCache, default_cache_folder
from es_latechunk.evaluation.relevance import RELEVANCES
from es_latechunk.models import load_encoder
from es_latechunk.types import POOLINGS

if TYPE_CHECKING:
    from rich.table import Table

    from es_latechunk.evaluation.chunkings import OnProgress
    from es_latechunk.evaluation.differences import Difference
    from es_latechunk.evaluation.evaluate import CombinationResult, Evaluation
    from es_latechunk.evaluation.measures import Interval, QuestionScores
    from es_latechunk.types import Encoder

T = TypeVar("T")
SETTINGS = ("model", "window", "chunker", "max_tokens", "pooling", "mode")
FILE_WIDTH = 120  # characters of a line, if the output is no terminal
UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


class Several(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The type of an option that takes several values, with commas between."""

    def __init__(self, each: click.ParamType) -> None:  # type: ignore[type-arg,unused-ignore]
        self.each = each
        self.name = each.name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(self.each.convert(word.strip(), param, ctx) for word in str(value).split(","))


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The type of an option that takes a number of bytes, as "4GB", "500M" or "0"."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
        if not found:
            self.fail(f"{value!r} is not a size; write 4GB or 500MB", param, ctx)
        return int(float(found[1]) * UNITS[found[2].upper()])


def several(
    flag: str, each: Any, default: Sequence[Any] = (), **more: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make an option that can be repeated, or take several values with commas between; the command gets a tuple."""

    def flat(ctx: click.Context, param: click.Parameter, values: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(value for group in values for value in group))

    shown = ",".join(map(str, default)) or False
    given = [tuple(default)] if default else []
    return click.option(
        flag, type=Several(each), multiple=True, callback=flat, default=given, show_default=shown, **more
    )


def other_model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the model that are not compared; the command gets `loading`, a dictionary."""

    @wraps(command)
    def with_loading(*args: Any, **values: Any) -> Any:
        loading = {name: values.pop(name) for name in MODEL_SETTINGS if name != "window"}
        return command(*args, loading=loading, **values)

    return add_options(with_loading, tuple(option for option in MODEL if option not in (MODEL_NAME, WINDOW)))


@click.command()
@click.option(
    "--documents",
    "paths",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Documents: a file or folder in any format that ingest reads, or the folder of a collection.",
)
@click.option(
    "--questions",
    type=click.Path(path_type=Path),
    help="Questions: a file of JSON lines, or a folder in BEIR's format. Default: those of the collection.",
)
@click.option(
    "--relevance",
    type=click.Choice(RELEVANCES),
    help="span: a chunk counts if it overlaps an answer; document: the best chunk ranks its document. Default: span if "
    "the questions have answers.",
)
@several("--pooling", click.Choice(POOLINGS), POOLINGS, help="Poolings to compare, with commas between.")
@several(
    "--max-tokens",
    click.IntRange(1),
    [DEFAULT_MAX_TOKENS],
    metavar="N,...",
    help="Maximum numbers of tokens per chunk.",
)
@several(
    "--chunker", click.Choice(list(CHUNKERS)), [DEFAULT_CHUNKER], help="Units that are merged into chunks."
)
@several("--mode", click.Choice(MODES), MODES, help="Kinds of search.")
@several(
    "--model",
    click.STRING,
    metavar="NAME,...",
    help="Models: folders, Hugging Face ids, or jina-api:NAME. Default: all-MiniLM-L6-v2.",
)
@several(
    "--window",
    click.IntRange(1),
    metavar="TOKENS,...",
    help="Tokens per window. Default: the length that the model was trained at.",
)
@click.option(
    "-k",
    type=click.IntRange(10),
    default=10,
    show_default=True,
    metavar="N",
    help="Hits that recall and MRR look at; nDCG looks at 10.",
)
@click.option(
    "--bm25-weight",
    type=click.FloatRange(0, 1),
    default=DEFAULT_BM25_WEIGHT,
    show_default=True,
    help="Weight of BM25 in a hybrid search.",
)
@click.option(
    "--baseline",
    metavar="WORDS",
    help='Combination that all others are compared with, such as "naive 128 hybrid". Default: the first one.',
)
@click.option(
    "--sample",
    type=click.IntRange(1),
    metavar="N",
    help="Evaluate only N questions, chosen at random but always the same ones.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write what was found and what is relevant to this folder, as TREC run and qrels files.",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that keeps token vectors for the next run. Default: in the user's cache folder.",
)
@click.option(
    "--cache-size",
    type=Size(),
    default=DEFAULT_CACHE_BYTES,
    show_default="4GB",
    metavar="SIZE",
    help="Maximum size of that folder, such as 500MB; 0 keeps nothing.",
)
@reader_options
@other_model_options
@json_option
def evaluate(
    paths: tuple[str, ...],
    questions: Path | None,
    model: tuple[str, ...],
    window: tuple[int, ...],
    baseline: str | None,
    sample: int | None,
    runs: Path | None,
    cache_dir: Path | None,
    cache_size: int,
    reader: Reader,
    loading: dict[str, Any],
    as_json: bool,
    **wanted: Any,
) -> None:
    """Measure how well each combination of settings finds the answers to your questions.

    Prints nDCG@10, recall and MRR of every combination of --pooling, --max-tokens, --chunker, --mode, --model and
    --window: in-corpus searches all documents, in-document only the one that the question is about. Differences to the
    baseline have 95 % intervals (paired bootstrap over questions). Scores are exact and computed in memory: no server
    is needed.
    """
    from es_latechunk.evaluation.differences import differences, find_baseline
    from es_latechunk.evaluation.evaluate import Axes
    from es_latechunk.evaluation.evaluate import evaluate as run_evaluate
    from es_latechunk.evaluation.measures import check_installed
    from es_latechunk.evaluation.questions import read_questions

    check_installed()
    source = _source(paths, questions, reader)
    failures = Failures()
    texts = list(failures.named(unique_documents(source.reader.read(source.paths))))
    asked = _sampled(list(failures.named(read_questions(source.questions))), sample)
    if runs is not None:
        runs.mkdir(parents=True, exist_ok=True)
    with _progress(quiet=as_json) as on_progress:
        evaluation = run_evaluate(
            texts,
            asked,
            encoders=_encoders(model, window, loading),
            cache=ArrayCache(cache_dir or default_cache_folder(), max_bytes=cache_size),
            axes=Axes(
                max_tokens=wanted.pop("max_tokens"),
                chunkers=wanted.pop("chunker"),
                poolings=wanted.pop("pooling"),
                modes=wanted.pop("mode"),
            ),
            runs=runs,
            on_progress=on_progress,
            **wanted,
        )
    for error in evaluation.errors:
        failures.add(error)
    base = find_baseline(evaluation, baseline)
    gains = differences(evaluation.results, base)
    if as_json:
        for result, gain in zip(evaluation.results, gains, strict=True):
            print_json(result_row(evaluation, result, gain, baseline=result is base))
    else:
        print_results(evaluation, gains, base)
    failures.exit()


def _encoders(names: Sequence[str], windows: Sequence[int], loading: dict[str, Any]) -> list[Encoder]:
    """Load each model with each window."""
    return [
        load_encoder(name, window=window, **loading)
        for name in names or (None,)
        for window in windows or (None,)
    ]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the documents and the questions are, and how the documents are read."""

    paths: Sequence[str]
    questions: Path
    reader: Reader


def _source(paths: Sequence[str], questions: Path | None, reader: Reader) -> Source:
    from es_latechunk.evaluation.questions import find_collection

    collection = find_collection(Path(paths[0])) if len(paths) == 1 else None
    if collection is None:
        if questions is None:
            raise UsageError("evaluate needs --questions FILE: JSON lines with question, doc_id and answers")
        return Source(paths, questions, reader)
    id_field = collection.id_field if reader.id_field == "id" else reader.id_field
    found = [str(collection.documents)]
    return Source(found, questions or collection.questions, replace(reader, id_field=id_field))


def _sampled(questions: list[T], count: int | None) -> list[T]:
    """Return `count` of the questions in their order; all of them if there are no more."""
    if count is None or count >= len(questions):
        return questions
    chosen = sorted(random.Random(0).sample(range(len(questions)), count))  # noqa: S311 - no secret
    return [questions[number] for number in chosen]


@contextmanager
def _progress(*, quiet: bool) -> Iterator[OnProgress]:
    """Show on stderr what is being done, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("")
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def result_row(
    evaluation: Evaluation, result: CombinationResult, gain: Difference, *, baseline: bool
) -> dict[str, Any]:
    """Return the result of one combination as a JSON row."""
    combination = result.combination
    return {
        "model": combination.model,
        "window": combination.window,
        "chunker": combination.chunker,
        "max_tokens": combination.max_tokens,
        "pooling": combination.pooling or None,
        "mode": combination.mode,
        "baseline": baseline,
        "questions": len(evaluation.questions),
        "in_corpus": _measures(result.in_corpus, gain.in_corpus),
        "in_document": result.in_document and _measures(result.in_document, gain.in_document),
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


def print_results(evaluation: Evaluation, gains: Sequence[Difference], baseline: CombinationResult) -> None:
    """Print a table of what is found, and one of what it costs."""
    from rich.console import Console

    from es_latechunk.evaluation.measures import CONFIDENCE

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=FILE_WIDTH)
    combinations = [result.combination for result in evaluation.results]
    varying = [name for name in SETTINGS if len({getattr(one, name) for one in combinations}) > 1] or ["mode"]
    shared = [str(getattr(combinations[0], name)) for name in SETTINGS if name not in varying]
    facts = f"{len(evaluation.questions)} questions, relevance by {evaluation.relevance}"
    console.print(on_screen(" ".join([f"{facts},", *filter(None, shared)])), markup=False, soft_wrap=True)
    console.print(f"\nnDCG@10, and how much it is above the baseline ({CONFIDENCE} % interval)")
    quality = _table(varying, ["in-corpus", "above the baseline"])
    if evaluation.relevance == "span":
        quality.add_column("in-document", justify="right", no_wrap=True)
        quality.add_column("above the baseline", justify="right", no_wrap=True)
    cost = _table(
        varying,
        [f"recall@{evaluation.k}", f"MRR@{evaluation.k}", "chunks", "tokens read", "seconds", "index MB"],
    )
    for result, gain in zip(evaluation.results, gains, strict=True):
        settings = [on_screen(str(getattr(result.combination, name)) or "-") for name in varying]
        cells = [f"{result.in_corpus.ndcg.mean():.3f}", _gain(gain.in_corpus, result is baseline)]
        if result.in_document is not None:
            cells += [f"{result.in_document.ndcg.mean():.3f}", _gain(gain.in_document, result is baseline)]
        quality.add_row(*settings, *cells)
        cells = [f"{result.in_corpus.recall.mean():.3f}", f"{result.in_corpus.mrr.mean():.3f}"]
        cells += [f"{result.chunks:,}", f"{result.tokens:,}", f"{result.seconds:.1f}"]
        cost.add_row(*settings, *cells, f"{result.index_bytes / 1e6:.1f}")
    console.print(quality)
    console.print("\nIn-corpus recall and MRR, and what indexing costs")
    console.print(cost)


def _table(settings: Sequence[str], columns: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in settings:
        table.add_column(name.replace("_", " "), no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _gain(interval: Interval | None, is_baseline: bool) -> str:
    if interval is None or is_baseline:
        return "baseline" if is_baseline else ""
    return f"{_signed(interval.mean)} ({_signed(interval.low)} to {_signed(interval.high)})"


def _signed(value: float) -> str:
    """Return a number between -1 and 1 with its sign and three digits."""
    return f"{value:+.3f}".replace("0.", ".", 1)
