"""What the words and the fusion of a search are worth: nDCG@10 on labelled collections, exactly, in memory.

    python benchmarks/search_settings.py FOLDER title|stemming|fusion|small [--max-tokens 128] [--questions 1500]

FOLDER and its questions are those of search_quality.py, which asks a real node. BM25, the fusion and the default
vectors of all-MiniLM-L6-v2 are those of `es-latechunk evaluate`, and its cache is used. In brackets, 95 % intervals of
the difference to the first row, averaged over the chunk sizes (paired bootstrap over questions).

- `title`: weights of the title in BM25, next to 0.5, the default.
- `stemming`: words as they are, and their stems (Snowball's English stemmer: `pip install snowballstemmer`).
- `fusion`: the default hybrid search next to its two lists, to BM25 without neighbours, to reciprocal rank fusion, and
  to other weights and candidates.
- `small`: the collection is cut into parts of 3, 10 or 100 chunks, or a document each; every part is searched as a
  collection of its own, for the questions whose first answer is in it. Vectors are those of the whole documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import click
import numpy as np
import numpy.typing as npt
from poolings import difference, read, short
from search_quality import COLLECTIONS, FloatArray, K

from es_latechunk import load_encoder
from es_latechunk.elastic.search.fusion import Candidate, convex_sum, reciprocal_rank
from es_latechunk.elastic.search.query import (
    CONTEXT_WEIGHTS,
    DEFAULT_BM25_WEIGHT,
    MIN_NUM_CANDIDATES,
    PLAIN_WEIGHTS,
    RRF_CONSTANT,
)
from es_latechunk.evaluation.evaluate import Axes
from es_latechunk.evaluation.questions.read import Question
from es_latechunk.evaluation.questions.relevance import relevant_chunks
from es_latechunk.evaluation.search.bm25 import ContextualBM25, analyse
from es_latechunk.evaluation.search.ranking import Scores
from es_latechunk.evaluation.vectors.cache import ArrayCache, default_cache_folder
from es_latechunk.evaluation.vectors.chunkings import Chunking, ChunkingVectors, ChunkText, cut_documents
from es_latechunk.evaluation.vectors.source import VectorSource

BLOCK = 200  # questions whose scores are held at the same time
ELASTICSEARCH_K1 = 1.2
# A list's lowest score as its floor, also where the list holds all chunks.
LOWEST = 0
Singles = npt.NDArray[np.float32]
Gains = npt.NDArray[np.bool_]
Analyser = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Words:
    """How BM25 reads the chunks."""

    title: int = CONTEXT_WEIGHTS["title"]
    neighbours: bool = True
    stems: bool = False

    def index(self, documents: Sequence[Sequence[ChunkText]]) -> ContextualBM25:
        """Return BM25 over the chunks of each document."""
        weights = {**CONTEXT_WEIGHTS, "title": self.title} if self.neighbours else PLAIN_WEIGHTS
        return ContextualBM25(
            documents,
            field_weights={name: weight for name, weight in weights.items() if weight},
            k1=None if self.neighbours else ELASTICSEARCH_K1,
            analyser=_stemmed() if self.stems else analyse,
        )


@dataclass(frozen=True, slots=True)
class Way:
    """A row of a table: how to search. `limit` is the length at which a list counts as cut; None stands for both."""

    name: str
    mode: Literal["knn", "bm25", "hybrid", "rrf"] = "hybrid"
    words: Words = Words()
    bm25_weight: float = DEFAULT_BM25_WEIGHT
    candidates: int = MIN_NUM_CANDIDATES
    limit: int | None = None


HYBRID, KNN, BM25 = Way("hybrid"), Way("knn", "knn"), Way("bm25 with context", "bm25")
PLAIN = Words(neighbours=False)
# The rows of each table, in groups; a group's rows are compared with its first.
WAYS: dict[str, tuple[tuple[Way, ...], ...]] = {
    "title": tuple(
        tuple(Way(f"{mode}, {weight / 10:g}", mode, Words(title=weight)) for weight in (5, 0, 1, 2, 10))
        for mode in ("bm25", "hybrid")
    ),
    "stemming": tuple(
        (Way(f"{mode}, words", mode), Way(f"{mode}, stems", mode, Words(stems=True)))
        for mode in ("bm25", "hybrid")
    ),
    "fusion": (
        (
            HYBRID,
            KNN,
            BM25,
            Way("bm25", "bm25", PLAIN),
            Way("rrf (bm25, knn)", "rrf", PLAIN),
            Way("rrf (bm25 with context, knn)", "rrf"),
            Way("hybrid (bm25, knn)", words=PLAIN),
            Way("hybrid, weight 0.4", bm25_weight=0.4),
            Way("hybrid, weight 0.6", bm25_weight=0.6),
            Way("hybrid, 100 candidates", candidates=100),
        ),
    ),
    "small": (
        (
            HYBRID,
            KNN,
            BM25,
            Way("hybrid, each list from its lowest score", limit=LOWEST),
            Way("hybrid, each list from its lowest score, weight 0.6", limit=LOWEST, bm25_weight=0.6),
            Way("hybrid, weight 0.6", bm25_weight=0.6),
        ),
    ),
}


@cache
def _stemmed() -> Analyser:
    import snowballstemmer

    stem = cache(snowballstemmer.stemmer("english").stemWord)
    return lambda text: [stem(word) for word in analyse(text)]


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of a collection or of a part of it, their vectors (N, dim), and the number of each one's document."""

    texts: Sequence[Sequence[ChunkText]]
    vectors: Singles
    document_of: npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions with their vectors (Q, dim), the numbers of their documents (Q,), and the chunks that answer them."""

    texts: Sequence[str]
    vectors: Singles
    document_of: npt.NDArray[np.intp]
    relevant: Sequence[Sequence[int]]

    def part(self, rows: npt.NDArray[np.intp] | slice, shift: int = 0, count: int | None = None) -> Asked:
        """Return some of the questions, with chunks counted from `shift`, if there are only `count`."""
        places = np.arange(len(self.texts))[rows]
        relevant = [
            [chunk - shift for chunk in self.relevant[place] if count is None or 0 <= chunk - shift < count]
            for place in places
        ]
        texts = [self.texts[place] for place in places]
        return Asked(texts, self.vectors[places], self.document_of[places], relevant)


def fused(way: Way, bm25: Singles, cosines: Singles) -> FloatArray:
    """Return the scores (N,) of one question by the project's own fusion; minus infinity for what is in no list."""
    lists = []
    for scores, found in (((1 + cosines) / 2, cosines > -np.inf), (bm25, bm25 > 0)):
        places = np.flatnonzero(found)
        order = places[np.argsort(-scores[places], kind="stable")][: way.candidates]
        lists.append([Candidate("", f"{place:09}", float(scores[place])) for place in order])
    knn, words = lists
    if way.mode == "rrf":
        ranked = reciprocal_rank(words, knn, bm25_weight=way.bm25_weight, constant=RRF_CONSTANT)
    else:
        limit = way.candidates if way.limit is None else way.limit
        ranked = convex_sum(words, knn, bm25_weight=way.bm25_weight, limit=limit)
    fused = np.full(len(cosines), -np.inf)
    for rank, one in enumerate(ranked[:K]):
        fused[int(one.id)] = -rank
    return fused


def search(way: Way, bm25: Singles, cosines: Singles) -> FloatArray:
    """Return the scores (Q, N) of a way to search; minus infinity for what it does not find."""
    if way.mode == "rrf" or way.limit is not None or way.candidates != MIN_NUM_CANDIDATES:
        return np.stack([fused(way, *pair) for pair in zip(bm25, cosines, strict=True)])
    scores = Scores(cosines, bm25).of(way.mode, k=K, bm25_weight=way.bm25_weight)
    return scores.astype(np.float64)


def ndcg(scores: FloatArray, gains: Gains) -> FloatArray:
    """Return nDCG@10 (Q,) of scores and gains (Q, N); see search_quality.py."""
    discounts = 1 / np.log2(np.arange(2, K + 2))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    won = np.take_along_axis(gains & np.isfinite(scores), order, axis=1) @ discounts[: order.shape[1]]
    ideal: FloatArray = np.array([discounts[:count].sum() for count in gains.sum(axis=1)])
    return won / ideal


def measure(ways: Sequence[Way], chunks: Chunks, asked: Asked) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return nDCG@10 (Q,) of each way, in-corpus and in-document."""
    indices = {way.words: way.words.index(chunks.texts) for way in ways}
    values: dict[str, list[tuple[FloatArray, FloatArray]]] = {}
    for first in range(0, len(asked.texts), BLOCK):
        block = asked.part(slice(first, first + BLOCK))
        cosines: Singles = block.vectors @ chunks.vectors.T
        words = {each: index.scores(block.texts) for each, index in indices.items()}
        gains = np.zeros(cosines.shape, np.bool_)
        for row, relevant in enumerate(block.relevant):
            gains[row, list(relevant)] = True
        for way in ways:
            whole = ndcg(search(way, words[way.words], cosines), gains)
            inside = np.zeros(len(whole))
            for document in np.unique(block.document_of):
                rows, own = block.document_of == document, chunks.document_of == document
                part = np.ix_(rows, own)
                inside[rows] = ndcg(search(way, words[way.words][part], cosines[part]), gains[part])
            values.setdefault(way.name, []).append((whole, inside))
    return {
        name: (np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts]))
        for name, parts in values.items()
    }


def parts_of(
    chunks: Chunks, asked: Asked, size: int | None
) -> Iterator[tuple[npt.NDArray[np.intp], Chunks, Asked]]:
    """Yield parts of `size` chunks (None: of a document) with the questions whose first answer is in each."""
    flat = [chunk for texts in chunks.texts for chunk in texts]
    ends = np.flatnonzero(np.diff(chunks.document_of, append=-1)) + 1
    starts = [0, *ends[:-1]] if size is None else range(0, len(flat), size)
    firsts = np.array([min(relevant) for relevant in asked.relevant])
    for start, end in zip(starts, [*starts[1:], len(flat)], strict=True):
        rows = np.flatnonzero((start <= firsts) & (firsts < end))
        if len(rows):
            own = chunks.document_of[start:end]
            texts = [[flat[start + place] for place in np.flatnonzero(own == one)] for one in np.unique(own)]
            part = asked.part(rows, int(start), int(end - start))
            yield rows, Chunks(texts, chunks.vectors[start:end], own), part


def prepare(
    chunking: Chunking, vectors: Singles, queries: Singles, questions: Sequence[Question]
) -> tuple[Chunks, Asked]:
    """Return a collection's chunks and questions."""
    starts = chunking.starts()
    numbers = {chunked.document.id: number for number, chunked in enumerate(chunking.documents)}
    own = np.array([numbers[question.doc_id] for question in questions])
    relevant = [
        [int(starts[number]) + ordinal for ordinal in relevant_chunks(question, chunking.documents[number])]
        for question, number in zip(questions, own, strict=True)
    ]
    document_of = np.repeat(np.arange(len(numbers)), np.diff(starts))
    asked = Asked([question.text for question in questions], queries, own, relevant)
    return Chunks(list(chunking.contents()), vectors, document_of), asked


def show(title: str, what: str, scores: Mapping[str, tuple[list[FloatArray], list[FloatArray]]]) -> None:
    """Print one table, as Markdown: the values of several chunk sizes are averaged, question by question."""
    click.echo(f"\n{title}\n\n| | in-corpus | difference | in-document | difference |\n|---|---|---|---|---|")
    for group in WAYS[what]:
        for way in group:
            cells = []
            for own, base in zip(scores[way.name], scores[group[0].name], strict=True):
                cells += [short(np.mean(own)), "" if way is group[0] else difference({"": own}, {"": base})]
            click.echo(f"| {way.name} | {' | '.join(cells)} |")


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("what", type=click.Choice(list(WAYS)))
@click.option(
    "--collection",
    "collections",
    multiple=True,
    type=click.Choice(list(COLLECTIONS)),
    default=["squad_dev", "chunking_evaluation"],
    show_default=True,
)
@click.option("--max-tokens", "sizes", multiple=True, type=int, default=[64, 128, 256], show_default=True)
@click.option(
    "--questions", "limit", type=int, default=1500, show_default=True, help="Questions, spread evenly."
)
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Default: that of evaluate.")
def main(
    folder: Path,
    what: str,
    collections: Sequence[str],
    sizes: Sequence[int],
    limit: int,
    cache_dir: Path | None,
) -> None:
    """Measure settings of a search on the collections in FOLDER."""
    encoder = load_encoder()
    source = VectorSource(encoder, ArrayCache(cache_dir or default_cache_folder()))
    [default, *_] = Axes()._variants(encoder)
    ways = [way for group in WAYS[what] for way in group]
    parts: dict[str, int | None] = {}
    if what == "small":
        parts = {"3 chunks": 3, "10 chunks": 10, "100 chunks": 100, "one document": None}
    for collection in collections:
        documents, questions = read(folder, collection, limit)
        chunkings, _ = cut_documents(
            documents,
            encoders=[encoder],
            chunkers=["sentences"],
            max_tokens=sizes,
            on_progress=lambda *_: None,
        )
        vectors = ChunkingVectors(chunkings, [default], source, on_progress=lambda *_: None)
        queries = source.embed_queries([question.text for question in questions])
        tables: dict[str, dict[str, tuple[list[FloatArray], list[FloatArray]]]] = {}
        for number, chunking in enumerate(chunkings):
            chunks, asked = prepare(chunking, vectors.of(number, default).rows.vectors, queries, questions)
            for place, size in [("all", -1), *parts.items()]:
                several = (
                    [(np.arange(len(questions)), chunks, asked)]
                    if size == -1
                    else parts_of(chunks, asked, size)
                )
                values = {way.name: (np.zeros(len(questions)), np.zeros(len(questions))) for way in ways}
                for rows, *part in several:
                    for name, found in measure(ways, *part).items():
                        for own, one in zip(values[name], found, strict=True):
                            own[rows] = one
                for name, (corpus, own) in values.items():
                    columns = tables.setdefault(place, {}).setdefault(name, ([], []))
                    columns[0].append(corpus)
                    columns[1].append(own)
                    means = f"{corpus.mean():.3f}/{own.mean():.3f}"
                    click.echo(f"{collection} {chunking.max_tokens:4} {place:13} {name:52} {means}")
        for place, table in tables.items():
            names = ", ".join(map(str, sizes))
            show(f"{collection}, {place}, chunks of {names} tokens, {len(questions)} questions", what, table)


if __name__ == "__main__":
    main()
