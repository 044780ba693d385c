"""nDCG@10 of the search modes on labelled collections, through a real Elasticsearch.

A chunk is relevant where it overlaps an answer of the question. "In-corpus" searches all documents,
"in-document" only the one that the question was asked of. Prints a table of means, and of the differences to
`hybrid` with 95 % intervals (paired bootstrap over questions).

    python benchmarks/search_quality.py FOLDER --max-tokens 128

FOLDER holds squad_dev/ and xquad/ (documents.jsonl, questions.jsonl) and chunking_evaluation/ (corpus/*.txt,
questions.jsonl); ours came from the repositories rajpurkar/SQuAD-explorer, google-deepmind/xquad and
brandonstarxel/chunking_evaluation.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from elasticsearch import Elasticsearch, helpers

from es_latechunk import Document, Hit, create_index, ingest, load_encoder
from es_latechunk.elastic.connection import connect
from es_latechunk.elastic.search.query import SearchOptions
from es_latechunk.elastic.search.searcher import Searcher
from es_latechunk.types import Encoder

K = 10
BATCH = 64
RESAMPLES = 10_000
FloatArray = npt.NDArray[np.float64]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Question:
    """A question of one document, with the characters [start, end) of its answers."""

    text: str
    doc_id: str
    answers: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table: how to search, and whether the index knows the neighbours' words."""

    name: str
    options: SearchOptions
    context: bool = True


METHODS = (
    Method("knn", SearchOptions(k=K, mode="knn")),
    Method("bm25", SearchOptions(k=K, mode="bm25"), context=False),
    Method("bm25 with context", SearchOptions(k=K, mode="bm25")),
    Method(
        "rrf (bm25, knn)", SearchOptions(k=K, mode="hybrid", fusion="rrf", bm25_weight=0.5), context=False
    ),
    Method("hybrid", SearchOptions(k=K)),
    Method("hybrid, 100 candidates", SearchOptions(k=K, num_candidates=100)),
)


def squad(folder: Path) -> tuple[list[Document], list[Question]]:
    """SQuAD's articles; only questions whose answers' places are certain."""
    documents = [Document(row["id"], row["text"], row["title"]) for row in _rows(folder / "documents.jsonl")]
    questions = [
        Question(row["question"], row["doc_id"], _spans(row["answers"]))
        for row in _rows(folder / "questions.jsonl")
        if all(answer["occurrences"] == 1 for answer in row["answers"])
    ]
    return documents, questions


def chunking_evaluation(folder: Path) -> tuple[list[Document], list[Question]]:
    """Five long texts with the spans that answer a question."""
    texts = sorted((folder / "corpus").glob("*.txt"))
    documents = [Document(path.stem, path.read_text(encoding="utf-8")) for path in texts]
    questions = [
        Question(row["question"], row["corpus"], _spans(row["references"]))
        for row in _rows(folder / "questions.jsonl")
    ]
    return documents, questions


def xquad(folder: Path) -> tuple[list[Document], list[Question]]:
    """Short articles in German and Spanish, which MiniLM hardly knows."""
    languages = ("de", "es")
    documents = [
        Document(row["id"], row["text"], row["title"])
        for row in _rows(folder / "documents.jsonl")
        if row["lang"] in languages
    ]
    questions = [
        Question(row["question"], row["doc_id"], _spans(row["answers"]))
        for row in _rows(folder / "questions.jsonl")
        if row["lang"] in languages
    ]
    return documents, questions


def _rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _spans(rows: Sequence[Mapping[str, Any]]) -> tuple[Span, ...]:
    return tuple((row["start"], row["end"]) for row in rows)


COLLECTIONS = {"squad_dev": squad, "chunking_evaluation": chunking_evaluation, "xquad": xquad}


def build(
    client: Elasticsearch, name: str, documents: Sequence[Document], encoder: Encoder, max_tokens: int
) -> None:
    """Two indices of the same chunks and vectors: `name`, and `name`-plain without the neighbours' words.

    What a broken or kept run has left there is used.
    """
    for index, context in ((name, True), (f"{name}-plain", False)):
        create_index(index, encoder=encoder, client=client, max_tokens=max_tokens, context_fields=context)
    click.echo(ingest(documents, index=name, client=client, encoder=encoder), err=True)
    rows = helpers.scan(client, index=name, query={"_source": {"exclude_vectors": False}})
    keys = ("_id", "_source")
    helpers.bulk(
        client, ({key: row[key] for key in keys} for row in rows), index=f"{name}-plain", refresh=True
    )


def relevant_chunks(client: Elasticsearch, name: str, questions: Sequence[Question]) -> list[set[str]]:
    """The ids of each question's relevant chunks."""
    chunks: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for row in helpers.scan(client, index=name, query={"_source": ["doc_id", "start", "end"]}):
        source = row["_source"]
        chunks[source["doc_id"]].append((row["_id"], source["start"], source["end"]))
    return [
        {
            chunk
            for chunk, start, end in chunks[question.doc_id]
            if any(start < last and first < end for first, last in question.answers)
        }
        for question in questions
    ]


def ndcg(hits: Sequence[Hit], relevant: set[str]) -> float:
    """nDCG@10 with gains of 0 and 1. Source: Järvelin and Kekäläinen 2002, with the logarithm of rank + 1."""
    discounts = 1 / np.log2(np.arange(2, K + 2))
    gains = np.array([hit.id in relevant for hit in hits[:K]], dtype=float)
    return float(gains @ discounts[: len(gains)] / discounts[: len(relevant)].sum())


def in_corpus(searcher: Searcher, questions: Sequence[Question], vectors: Sequence[Any]) -> list[list[Hit]]:
    """The hits of each question."""
    hits: list[list[Hit]] = []
    for first in range(0, len(questions), BATCH):
        batch = slice(first, first + BATCH)
        found = searcher.run([question.text for question in questions[batch]], vectors[batch])
        hits += [answer.hits for answer in found]
    return hits


def in_document(
    client: Elasticsearch,
    index: str,
    options: SearchOptions,
    questions: Sequence[Question],
    vectors: Sequence[Any],
) -> list[list[Hit]]:
    """The hits of each question among the chunks of its own document."""
    hits: list[list[Hit]] = [[] for _ in questions]
    places: dict[str, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        places[question.doc_id].append(place)
    for doc_id, asked in places.items():
        searcher = Searcher(client, index, replace(options, filters=(f"doc_id={doc_id}",)))
        found = in_corpus(
            searcher, [questions[place] for place in asked], [vectors[place] for place in asked]
        )
        for place, answer in zip(asked, found, strict=True):
            hits[place] = answer
    return hits


def measure(
    client: Elasticsearch, name: str, questions: Sequence[Question], encoder: Encoder
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """nDCG@10 (questions,) of each method, in-corpus and in-document."""
    vectors = list(encoder.encode_queries([question.text for question in questions]))
    relevant = relevant_chunks(client, name, questions)
    scores = {}
    for method in METHODS:
        index = name if method.context else f"{name}-plain"
        whole = in_corpus(Searcher(client, index, method.options), questions, vectors)
        own = in_document(client, index, method.options, questions, vectors)
        scores[method.name] = (
            np.array([ndcg(*pair) for pair in zip(whole, relevant, strict=True)]),
            np.array([ndcg(*pair) for pair in zip(own, relevant, strict=True)]),
        )
    return scores


def interval(differences: FloatArray, seed: int) -> tuple[float, float]:
    """The middle 95 % of the mean difference under resampling of questions."""
    picks = np.random.default_rng(seed).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def report(title: str, scores: Mapping[str, tuple[FloatArray, FloatArray]], seed: int) -> None:
    """Print one table, as Markdown."""
    click.echo(f"\n{title}\n")
    click.echo(
        "| | in-corpus | hybrid is better by | in-document | hybrid is better by |\n|---|---|---|---|---|"
    )
    for name, values in scores.items():
        cells = []
        for own, best in zip(values, scores["hybrid"], strict=True):
            low, high = interval(best - own, seed)
            gain = "" if name == "hybrid" else f"{(best - own).mean():+.3f} ({low:+.3f} to {high:+.3f})"
            cells += [f"{own.mean():.3f}", gain]
        click.echo(f"| {name} | {' | '.join(cells)} |")


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--collection", "collections", multiple=True, type=click.Choice(list(COLLECTIONS)))
@click.option("--max-tokens", "sizes", multiple=True, type=int, default=[128], show_default=True)
@click.option(
    "--questions", "sample", default=500, show_default=True, help="At most so many of each collection."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--url", help="Default: ELASTICSEARCH_URL, or the local node.")
@click.option("--keep", is_flag=True, help="Keep the indices.")
def main(
    folder: Path,
    collections: Sequence[str],
    sizes: Sequence[int],
    sample: int,
    seed: int,
    url: str | None,
    keep: bool,
) -> None:
    """Measure the search modes on the collections in FOLDER."""
    encoder = load_encoder()
    client = connect(url=url)
    for collection in collections or list(COLLECTIONS):
        documents, questions = COLLECTIONS[collection](folder / collection)
        picks = np.random.default_rng(seed).permutation(len(questions))[:sample]
        asked = [questions[pick] for pick in sorted(picks)]
        for size in sizes:
            name = f"search-quality-{collection}-{size}"
            build(client, name, documents, encoder, size)
            scores = measure(client, name, asked, encoder)
            report(f"{collection}, {size}-token chunks, {len(asked)} questions", scores, seed)
            if not keep:
                client.indices.delete(index=[name, f"{name}-plain"])


if __name__ == "__main__":
    main()
