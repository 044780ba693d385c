"""What a share of the title and the headings finds on pages that have headings: those of this repository.

    python benchmarks/headings.py [--share 0.1 --share 0.3] [--max-tokens 64 --max-tokens 128]

A chunk is relevant if it overlaps the words that answer the question. The questions were written from passages drawn at
random, before anything was measured on them. There are few of them, so only large differences can be told from noise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from es_latechunk import Document, load_encoder, read_documents
from es_latechunk.errors import raise_errors
from es_latechunk.evaluation.evaluate import Axes, measure_combinations
from es_latechunk.evaluation.questions.read import Question
from es_latechunk.evaluation.results.measures import Values, intervals
from es_latechunk.evaluation.results.recommendation import shown
from es_latechunk.evaluation.vectors.cache import ArrayCache, default_cache_folder
from es_latechunk.types import ChunkSpan

PAGES = Path(__file__).parent.parent / "docs"
LEFT_OUT = ("screens.md", "scale-costs.md")  # screens and tables of numbers
QUESTIONS = Path(__file__).with_suffix(".jsonl")  # each with its page, and words of it that answer it


def questions(pages: Sequence[Document]) -> list[Question]:
    """Return the questions whose answers are still on their pages."""
    texts = {page.id: page.text for page in pages}
    found = []
    for number, line in enumerate(QUESTIONS.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        name, words, asked = f"{row['page']}.md", row["words"], row["question"]
        start = texts[name].find(words)
        if start < 0:
            click.echo(f"{name} no longer has the answer to: {asked}", err=True)
            continue
        span = ChunkSpan(start, start + len(words))
        found.append(Question(str(number), asked, name, (span,), {name: 1}))
    return found


@click.command()
@click.option("--share", "shares", multiple=True, type=float, default=[0.1, 0.2, 0.3], show_default=True)
@click.option("--max-tokens", "sizes", multiple=True, type=int, default=[64, 128], show_default=True)
def main(shares: Sequence[float], sizes: Sequence[int]) -> None:
    """Print nDCG@10 of each share, and how much it is above that of none; means over the sizes of chunks."""
    pages = list(raise_errors(read_documents([str(PAGES)], include=["*.md"], exclude=list(LEFT_OUT))))
    measured = measure_combinations(
        pages,
        questions(pages),
        encoders=[load_encoder()],
        cache=ArrayCache(default_cache_folder()),
        axes=Axes(max_tokens=sizes, embed_titles=(0.0, *shares), modes=("knn", "hybrid")),
    )
    scores: dict[tuple[str, str, float], list[tuple[Values, Values]]] = {}
    for result in measured.results:
        one = result.combination
        vectors = replace(one, embed_title=0.0).vectors
        assert result.in_document is not None  # noqa: S101 - all questions have answers
        found = (result.in_corpus.ndcg, result.in_document.ndcg)
        scores.setdefault((one.mode, vectors, one.embed_title), []).append(found)
    for (mode, vectors, share), found in scores.items():
        cells = []
        for own, without in zip(
            np.mean(found, axis=0), np.mean(scores[mode, vectors, 0.0], axis=0), strict=True
        ):
            [gain] = intervals((own - without)[None])
            cells.append(f"{own.mean():.3f} {shown(gain)}")
        click.echo(f"{mode:6} {share:g} {'  '.join(cells)}  {vectors}")


if __name__ == "__main__":
    main()
