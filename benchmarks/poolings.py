"""What each pooling finds: nDCG@10 on labelled collections, computed exactly in memory, by kNN and by a hybrid search.

    python benchmarks/poolings.py FOLDER [--max-tokens 64 --max-tokens 128] [--windows 96/32] [--questions 1500]

FOLDER and its questions are those of search_quality.py; everything else is `es-latechunk evaluate`. "96/32" are windows
of 96 tokens with an overlap of 32; a row without windows has the model's own. `tokens` is the number of tokens that go
through the model, special tokens not counted, per token of the documents. The tables at the end have the means over all
collections and sizes, and the differences to naive pooling and to the model's default with 95 % intervals (paired
bootstrap over questions). What the model computes is kept in evaluate's cache, so that a second run costs little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from search_quality import COLLECTIONS, RESAMPLES, FloatArray

from es_latechunk import Document, load_encoder
from es_latechunk.elastic.search.query import DEFAULT_BM25_WEIGHT
from es_latechunk.evaluation.evaluate import Axes, measure_combinations
from es_latechunk.evaluation.questions.read import Question
from es_latechunk.evaluation.results.combinations import CombinationResult
from es_latechunk.evaluation.results.measures import Interval
from es_latechunk.evaluation.results.recommendation import shown
from es_latechunk.evaluation.vectors.cache import ArrayCache, default_cache_folder
from es_latechunk.models import measured_pooling
from es_latechunk.types import ChunkSpan, Encoder, PoolingOptions

PLACES = ("in-corpus", "in-document")
SHARES = (0.0, 0.1, 0.2, 0.3)
Scores = dict[tuple[str, str, str], dict[str, list[FloatArray]]]


def read(folder: Path, collection: str, limit: int) -> tuple[list[Document], list[Question]]:
    """Return the documents of a collection, and its questions or so many of them, spread evenly."""
    documents, every = COLLECTIONS[collection](folder / collection)
    rows = np.linspace(0, len(every) - 1, min(limit, len(every))).astype(int)
    questions = [
        Question(
            str(row),
            every[row].text,
            every[row].doc_id,
            tuple(ChunkSpan(*span) for span in every[row].answers),
            {every[row].doc_id: 1},
        )
        for row in rows
    ]
    return documents, questions


def measured(
    documents: Sequence[Document],
    questions: Sequence[Question],
    *,
    encoder: Encoder,
    cache: ArrayCache,
    sizes: Sequence[int],
    windows: Sequence[str],
    shares: Sequence[float],
    exact_windows: bool,
    bm25_weight: float,
) -> Iterator[CombinationResult]:
    """Yield the results of all poolings in the model's own window, and of late and blend in the other windows."""
    readings = [(None, None), *(tuple(int(number) for number in one.split("/")) for one in windows)]
    for late_window, overlap in readings:
        axes = Axes(
            max_tokens=sizes,
            poolings=("late", "naive", "blend") if late_window is None else ("late", "blend"),
            token_weights=("none", "sif"),
            neighbour_shares=shares,
            late_windows=(late_window,),
            overlaps=(overlap,),
            modes=("knn", "hybrid"),
            shared_windows=not exact_windows,
        )
        yield from measure_combinations(
            documents, questions, encoders=[encoder], cache=cache, axes=axes, bm25_weight=bm25_weight
        ).results


def named(result: CombinationResult) -> str:
    """Return the pooling of a result as a row of the tables names it."""
    combination = result.combination
    options = PoolingOptions(
        combination.pooling or "late",
        combination.token_weights,
        combination.neighbour_share,
        combination.late_window,
    )
    return named_settings(options, combination.overlap)


def named_settings(options: PoolingOptions, overlap: int | None) -> str:
    """Return a pooling as a row of the tables names it."""
    windows = f" {options.late_window}/{overlap}" if options.late_window else ""
    weights = "" if options.token_weights == "none" else f", {options.token_weights}"  # noqa: S105
    share = f", share {options.neighbour_share:g}" if options.neighbour_share else ""
    return f"{options.pooling}{windows}{weights}{share}"


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--collection", "collections", multiple=True, default=["squad_dev", "chunking_evaluation"])
@click.option("--max-tokens", "sizes", multiple=True, type=int, default=[64, 128, 256], show_default=True)
@click.option(
    "--windows", multiple=True, default=["96/32"], show_default=True, help="SIZE/OVERLAP, in tokens."
)
@click.option("--share", "shares", multiple=True, type=float, default=SHARES, show_default=True)
@click.option("--exact-windows", is_flag=True, help="The vectors of an index, for a pass per chunk size.")
@click.option(
    "--questions", "limit", type=int, default=1500, show_default=True, help="Questions, spread evenly."
)
@click.option("--bm25-weight", type=float, default=DEFAULT_BM25_WEIGHT, show_default=True)
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Default: that of evaluate.")
def main(
    folder: Path,
    collections: Sequence[str],
    sizes: Sequence[int],
    windows: Sequence[str],
    shares: Sequence[float],
    exact_windows: bool,
    limit: int,
    bm25_weight: float,
    cache_dir: Path | None,
) -> None:
    """Measure the poolings on the collections in FOLDER."""
    encoder = load_encoder()
    cache = ArrayCache(cache_dir or default_cache_folder())
    scores: Scores = {}
    costs: dict[str, list[float]] = {}
    for collection in collections:
        documents, questions = read(folder, collection, limit)
        total = sum(len(encoder.tokenizer.tokenize(document.text)) for document in documents)
        for result in measured(
            documents,
            questions,
            encoder=encoder,
            cache=cache,
            sizes=sizes,
            windows=windows,
            shares=shares,
            exact_windows=exact_windows,
            bm25_weight=bm25_weight,
        ):
            if result.in_document is None:
                raise ValueError("questions without answers")
            name, mode = named(result), result.combination.mode
            costs.setdefault(name, []).append(result.tokens / total)
            found = {"in-corpus": result.in_corpus.ndcg, "in-document": result.in_document.ndcg}
            for where, values in found.items():
                scores.setdefault((mode, name, where), {}).setdefault(collection, []).append(values)
            means = "/".join(f"{values.mean():.4f}" for values in found.values())
            click.echo(f"{collection:20} {result.combination.max_tokens:4} {mode:6} {name:30} {means}")
    best = measured_pooling(encoder.identity)
    default = best and named_settings(best.options, best.overlap)
    show(scores, costs, {"naive": "naive", **({default: "the default"} if default else {"late": "late"})})


def show(scores: Scores, costs: Mapping[str, Sequence[float]], bases: Mapping[str, str]) -> None:
    """Print a table for each mode, as Markdown: means over all collections and sizes, and differences to the bases."""
    for mode in dict.fromkeys(mode for mode, _, _ in scores):
        names = dict.fromkeys(name for kind, name, _ in scores if kind == mode)
        known = {base: label for base, label in bases.items() if base in names}
        heads = [f"to {label}, {where}" for label in known.values() for where in PLACES]
        click.echo(f"\n{mode}\n\n| pooling | tokens | nDCG@10 | {' | '.join(heads)} |")
        click.echo("|---" * (3 + len(heads)) + "|")
        for name in names:
            own = [scores[mode, name, where] for where in PLACES]
            means = "/".join(short(np.mean([np.mean(values) for values in one.values()])) for one in own)
            cells = [name, f"{np.mean(costs[name]):.1f}", means]
            for base in known:
                for one, where in zip(own, PLACES, strict=True):
                    cells.append("" if name == base else difference(one, scores[mode, base, where]))
            click.echo(f"| {' | '.join(cells)} |")


def short(value: np.floating[Any]) -> str:
    """Return a value between 0 and 1 as the tables have it."""
    return f"{value:.3f}".removeprefix("0")


def difference(own: Mapping[str, list[FloatArray]], other: Mapping[str, list[FloatArray]]) -> str:
    """Return the mean difference with its interval: questions are resampled in each collection, sizes are averaged."""
    resampled, means = [], []
    for seed, collection in enumerate(own):
        values = np.mean(own[collection], axis=0) - np.mean(other[collection], axis=0)
        picks = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
        resampled.append(values[picks].mean(axis=1))
        means.append(values.mean())
    low, high = np.percentile(np.mean(resampled, axis=0), [2.5, 97.5])
    return shown(Interval(float(np.mean(means)), float(low), float(high)))


if __name__ == "__main__":
    main()
