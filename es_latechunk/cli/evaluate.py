"""`es-latechunk evaluate`: what each pooling, chunk size and search mode finds on labelled questions."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from es_latechunk.chunking import CHUNKERS, DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS
from es_latechunk.cli.options.help import Command
from es_latechunk.cli.options.shared import (
    MODEL,
    MODEL_NAME,
    MODEL_SETTINGS,
    WINDOW,
    add_options,
    json_option,
    optional_connection,
)
from es_latechunk.cli.options.sources import NAMES, Reader, reader_options
from es_latechunk.cli.output.evaluation import (
    flags,
    print_recommendation,
    print_results,
    progress,
    recommended_commands,
    result_row,
)
from es_latechunk.cli.output.messages import Failures, note, print_json
from es_latechunk.documents import printable, shown_source, unique_documents
from es_latechunk.elastic.search.query import DEFAULT_BM25_WEIGHT, MODES
from es_latechunk.errors import UsageError, setting
from es_latechunk.evaluation.questions.relevance import RELEVANCES
from es_latechunk.evaluation.vectors.cache import DEFAULT_CACHE_BYTES
from es_latechunk.models import EncoderLoader, load_encoder, load_recorded
from es_latechunk.types import POOLINGS, TOKEN_WEIGHTS

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.evaluation.results.combinations import EvaluatedCombination
    from es_latechunk.types import Encoder, EncoderIdentity

T = TypeVar("T")
RUNNING = ("device", "dtype", "engine", "offline")  # how a model is run here; an index does not record it
MODEL_OPTIONS = tuple(name for name in MODEL_SETTINGS if name not in ("window", *RUNNING))
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


@click.command(
    cls=Command,
    examples=("es-latechunk evaluate --documents notes/ --questions questions.jsonl --pooling late,naive",),
)
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
    "--make-questions",
    type=click.IntRange(1),
    metavar="N",
    help="Make up to N pseudo-queries from the documents, in place of questions; see docs/evaluation.md.",
)
@click.option(
    "--relevance",
    type=click.Choice(RELEVANCES),
    help="span: a chunk counts if it overlaps an answer; document: the best chunk ranks its document. Default: span if "
    "the questions have answers.",
)
@several(
    "--pooling",
    click.Choice(POOLINGS),
    help="Poolings to compare. Default: what measured best for the model, late and naive.",
)
@several(
    "--token-weights",
    click.Choice(TOKEN_WEIGHTS),
    ["none"],
    help="Weights of the tokens in a vector; sif: frequent words count less.",
)
@several(
    "--neighbour-share",
    click.FloatRange(0, 1),
    [0.0],
    metavar="SHARE,...",
    help="Parts of a vector that come from the chunks before and after it.",
)
@several(
    "--late-window",
    click.IntRange(1),
    metavar="TOKENS,...",
    help="Tokens per window of late and blend, if shorter than --window.",
)
@several(
    "--overlap",
    click.IntRange(0),
    metavar="TOKENS,...",
    help="Tokens that the windows of a long document share. Default: that of a new index.",
)
@several(
    "--pieces",
    click.IntRange(1),
    metavar="TOKENS,...",
    help="Sizes of pieces with vectors of their own; each is compared with none. See docs/quality.md.",
)
@several(
    "--embed-title",
    click.FloatRange(0, 1),
    metavar="SHARE,...",
    help="Parts of a vector that come from the title and the headings. Default: that of the pooling, or else 0.",
)
@click.option(
    "--exact-windows",
    is_flag=True,
    help="End windows between chunks, as an index does; the model then reads the documents once per chunk size.",
)
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
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write an HTML page: quality by chunk size, cost against quality, and the worst questions.",
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
@click.option(
    "--index", metavar="NAME", help="Ask the same questions of this index too; it has these documents."
)
@reader_options
@other_model_options
@optional_connection
@json_option
def evaluate(
    paths: tuple[str, ...],
    questions: Path | None,
    make_questions: int | None,
    model: tuple[str, ...],
    window: tuple[int, ...],
    late_window: tuple[int, ...],
    overlap: tuple[int, ...],
    pieces: tuple[int, ...],
    exact_windows: bool,
    sample: int | None,
    report: Path | None,
    index: str | None,
    client: Elasticsearch | None,
    reader: Reader,
    loading: dict[str, Any],
    as_json: bool,
    **wanted: Any,
) -> None:
    """Measure how well each combination of settings finds the answers to your questions.

    Prints nDCG@10, recall and MRR of every combination of settings, and recommends one: in-corpus searches all
    documents, in-document only the one that the question is about. Differences to the baseline have 95 % intervals
    (paired bootstrap over questions). Scores are exact and computed in memory: no server is needed.
    """
    from es_latechunk.evaluation.evaluate import Axes
    from es_latechunk.evaluation.evaluate import evaluate as run_evaluate
    from es_latechunk.evaluation.html import check_target
    from es_latechunk.evaluation.questions.pseudo_queries import make_pseudo_queries
    from es_latechunk.evaluation.questions.read import read_questions
    from es_latechunk.evaluation.results.measures import check_installed
    from es_latechunk.index import Index

    check_installed()
    if report is not None:
        check_target(report, "report")
    if make_questions and questions:
        raise UsageError(f"{setting('questions')} and {setting('make_questions')}: choose one of them")
    source = _source(paths, questions, reader, needs_questions=not make_questions)
    failures = Failures()
    # First, as a file of questions that cannot be used is known before any document is read.
    asked = [] if make_questions else list(failures.named(read_questions(source.questions)))
    texts = list(failures.named(unique_documents(source.reader.read(source.paths))))
    encoders = _encoders(model, window, loading)
    if make_questions:
        made = make_pseudo_queries(texts, tokenizer=encoders[0][0].tokenizer, count=make_questions)
        if not made.questions:
            raise UsageError(
                f"{setting('make_questions')}: no heading or sentence can be taken out of these documents, as they are "
                f"too short; give longer ones, or {setting('questions')} of your own"
            )
        texts, asked = list(made.documents), list(made.questions)
    asked = _sampled(asked, sample)

    def commands(chosen: EvaluatedCombination) -> list[str]:
        [named] = [words for encoder, words in encoders if encoder is chosen.encoder]
        return recommended_commands(
            chosen.combination,
            model=[*named, *_given(MODEL_OPTIONS)],
            source=[*map(shown_source, source.paths), *source.settings, *_given(NAMES)],
            search=_given(("bm25_weight",)) if chosen.combination.mode == "hybrid" else [],
        )

    with progress(quiet=as_json) as on_progress:
        evaluated = run_evaluate(
            texts,
            asked,
            encoders=[encoder for encoder, _ in encoders],
            axes=Axes(
                max_tokens=wanted.pop("max_tokens"),
                chunkers=wanted.pop("chunker"),
                poolings=wanted.pop("pooling"),
                token_weights=wanted.pop("token_weights"),
                neighbour_shares=wanted.pop("neighbour_share"),
                late_windows=late_window or (None,),
                overlaps=overlap or (None,),
                pieces=(None, *pieces),
                embed_titles=wanted.pop("embed_title") or (None,),
                shared_windows=not exact_windows,
                modes=wanted.pop("mode"),
            ),
            index=Index(index, client=client, encoder=_loader(loading)) if client and index else None,
            report=report,
            commands=commands,
            on_progress=on_progress,
            **wanted,
        )
    for error in evaluated.errors:
        failures.add(error)
    lines = commands(evaluated.recommended) if evaluated.recommended else []
    if as_json:
        for result in evaluated.combinations:
            print_json(result_row(evaluated, result))
        print_json({"recommendation": evaluated.recommendation, "commands": lines})
    else:
        print_results(evaluated)
        print_recommendation(evaluated.recommendation, lines)
    if report is not None:
        note(f"written: {printable(str(report))}")
    failures.exit()


def _encoders(
    names: Sequence[str], windows: Sequence[int], loading: dict[str, Any]
) -> list[tuple[Encoder, list[str]]]:
    """Load each model with each window; return it with the words of a command line that choose it."""
    loaded = []
    for name in names or (None,):
        for window in windows or (None,):
            chosen = {"model": name, "window": window}
            words = flags({one: value for one, value in chosen.items() if value is not None})
            loaded.append((load_encoder(name, window=window, **loading), words))
    return loaded


def _loader(loading: dict[str, Any]) -> EncoderLoader:
    """Return what loads the model that an index records."""

    def load(recorded: EncoderIdentity | None) -> Encoder:
        running: Any = {name: loading[name] for name in RUNNING}
        return load_recorded(recorded, **running) if recorded else load_encoder(**running)

    return load


def _given(names: Sequence[str]) -> list[str]:
    """Return those of the named options that the user has given, as words of a command line."""
    context = click.get_current_context()
    commandline = click.core.ParameterSource.COMMANDLINE
    given = [name for name in names if context.get_parameter_source(name) is commandline]
    return flags({name: context.params[name] for name in given})


@dataclass(frozen=True, slots=True)
class Source:
    """Where the documents and the questions are, and how the documents are read.

    `settings` are words of a command line that the reader needs beside those that the user has given.
    """

    paths: Sequence[str]
    questions: Path
    reader: Reader
    settings: Sequence[str] = ()


def _source(paths: Sequence[str], questions: Path | None, reader: Reader, *, needs_questions: bool) -> Source:
    from es_latechunk.evaluation.questions.read import find_collection

    collection = find_collection(Path(paths[0])) if len(paths) == 1 else None
    if collection is None:
        if questions is None and needs_questions:
            raise UsageError(
                "evaluate needs --questions FILE: JSON lines with question, doc_id and answers; without any, see "
                "--make-questions"
            )
        return Source(paths, questions or Path(), reader)
    found = [str(collection.documents)]
    questions = questions or collection.questions
    if collection.id_field == "id" or reader.id_field != "id":
        return Source(found, questions, reader)
    return Source(
        found, questions, replace(reader, id_field=collection.id_field), ["--id-field", collection.id_field]
    )


def _sampled(questions: list[T], count: int | None) -> list[T]:
    """Return `count` of the questions in their order; all of them if there are no more."""
    if count is None or count >= len(questions):
        return questions
    chosen = sorted(random.Random(0).sample(range(len(questions)), count))  # noqa: S311 - no secret
    return [questions[number] for number in chosen]
