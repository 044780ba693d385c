"""Do pseudo-queries rank the poolings as people's questions do? nDCG@10 in-corpus of both, for one collection.

    python benchmarks/pseudo_queries.py COLLECTION --max-tokens 128 --sample 300

COLLECTION is a folder that `es-latechunk evaluate --documents` reads. Prints a table with the mean of each combination
for both kinds of questions, the differences to naive pooling with 95 % intervals, and Kendall's tau of the two orders.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import click
import numpy as np

from es_latechunk import Document, load_encoder, raise_errors, read_documents
from es_latechunk.evaluation.evaluate import Axes, measure_combinations
from es_latechunk.evaluation.questions.pseudo_queries import make_pseudo_queries
from es_latechunk.evaluation.questions.read import Question, check_questions, find_collection, read_questions
from es_latechunk.evaluation.results.combinations import CombinationResult
from es_latechunk.evaluation.results.measures import intervals
from es_latechunk.evaluation.results.recommendation import shown
from es_latechunk.evaluation.vectors.cache import ArrayCache, default_cache_folder
from es_latechunk.types import Pooling


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--max-tokens", default=128)
@click.option("--sample", default=300)
@click.option("--pooling", multiple=True, default=("naive", "late", "blend"))
@click.option("--cache-dir", type=click.Path(path_type=Path), default=default_cache_folder())
def main(folder: Path, max_tokens: int, sample: int, pooling: tuple[Pooling, ...], cache_dir: Path) -> None:
    """Compare pseudo-queries with the questions of a collection."""
    files = find_collection(folder)
    if files is None:
        raise click.UsageError(f"{folder} is no collection")
    encoder = load_encoder()
    read = read_documents([str(files.documents)], id_field=files.id_field)
    documents = list(raise_errors(read))
    asked = [
        one
        for one in check_questions(read_questions(files.questions), documents)
        if isinstance(one, Question)
    ]
    chosen = np.random.default_rng(0).permutation(len(asked))[:sample]
    made = make_pseudo_queries(documents, tokenizer=encoder.tokenizer, count=sample)
    axes = Axes(max_tokens=(max_tokens,), poolings=pooling, modes=("knn", "hybrid"))
    cache = ArrayCache(cache_dir)

    def measured(texts: list[Document], questions: list[Question]) -> list[CombinationResult]:
        return list(
            measure_combinations(texts, questions, encoders=[encoder], cache=cache, axes=axes).results
        )

    real = measured(documents, [asked[place] for place in sorted(chosen.tolist())])
    pseudo = measured(list(made.documents), list(made.questions))
    print(
        f"{folder.name}, {max_tokens} tokens: {len(chosen)} questions, {len(made.questions)} pseudo-queries"
    )
    print(
        "| mode | pooling | questions | above naive | pseudo-queries | above naive |\n|---|---|---|---|---|---|"
    )
    for one, other in zip(real, pseudo, strict=True):
        cells = [one.combination.mode, one.combination.pooling]
        for result, results in ((one, real), (other, pseudo)):
            base = next(
                each
                for each in results
                if (each.combination.pooling, each.combination.mode) == ("naive", result.combination.mode)
            )
            [gain] = intervals((result.in_corpus.ndcg - base.in_corpus.ndcg)[None])
            cells += [f"{result.in_corpus.ndcg.mean():.3f}", "" if result is base else shown(gain)]
        print(f"| {' | '.join(cells)} |")
    for mode in axes.modes:
        first = [result.in_corpus.ndcg.mean() for result in real if result.combination.mode == mode]
        second = [result.in_corpus.ndcg.mean() for result in pseudo if result.combination.mode == mode]
        pairs = list(combinations(range(len(first)), 2))
        signs = [np.sign((first[a] - first[b]) * (second[a] - second[b])) for a, b in pairs]
        print(f"{mode}: Kendall's tau {np.mean(signs):+.2f}")


if __name__ == "__main__":
    main()
