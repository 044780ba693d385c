"""What each pooling finds: nDCG@10 on labelled collections, computed exactly in memory, by kNN and by a hybrid search.

    python benchmarks/poolings.py FOLDER [--max-tokens 64 --max-tokens 128] [--questions 1500]

FOLDER and the scoring are those of search_quality.py; BM25 and the fusion are those of `es-latechunk evaluate`. `cost`
is the number of tokens that went through the model, special tokens not counted, per token of the documents. The table
at the end has the means, and the differences to naive pooling and to late pooling in the model's own window with 95 %
intervals (paired bootstrap over questions). "96/32" is a window of 96 tokens with an overlap of 32. A document
goes through the model once per pooling, whatever the token weights are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, product
from pathlib import Path

import click
import numpy as np
from search_quality import COLLECTIONS, RESAMPLES, FloatArray, Question
from window_overlap import in_document, ndcg, relevant

from es_latechunk import ChunkVector, Document, embed_documents, load_encoder, raise_errors
from es_latechunk.elastic.search.query import DEFAULT_BM25_WEIGHT
from es_latechunk.evaluation.search.bm25 import ContextualBM25
from es_latechunk.evaluation.search.ranking import Scores, blocks
from es_latechunk.late.combine import blend, mix_neighbours
from es_latechunk.types import IntArray, PoolingOptions, TokenEncoder, TokenWeights

# Name, tokens per window, and overlap; None is the default.
READINGS = (("naive", None, None), ("late", None, None), ("late 96/32", 96, 32))
SHARES = (0.1, 0.2, 0.3)
WEIGHTS: tuple[TokenWeights, ...] = ("none", "sif")
Vectors = np.ndarray[tuple[int, int], np.dtype[np.float32]]


class Remembered:
    """Runs each window through an encoder's model once, and counts its tokens."""

    def __init__(self, encoder: TokenEncoder) -> None:
        self.tokens = 0
        self._encode = encoder.encode_windows
        self._known: dict[bytes, np.ndarray[tuple[int, ...], np.dtype[np.float16]]] = {}

    def encode_windows(self, windows: Sequence[IntArray]) -> list[Vectors]:
        new = [window for window in windows if window.tobytes() not in self._known]
        self.tokens += sum(map(len, new))
        for window, vectors in zip(new, self._encode(new) if new else [], strict=True):
            self._known[window.tobytes()] = vectors.astype(np.float16)
        return [self._known[window.tobytes()].astype(np.float32) for window in windows]


def pooled(
    documents: Sequence[Document], encoder: TokenEncoder, max_tokens: int
) -> Iterator[tuple[str, list[ChunkVector], float]]:
    """Yield the name, the chunks and the cost of each pooling."""
    model = encoder.encode_windows
    found: dict[tuple[str, str], list[ChunkVector]] = {}
    cost: dict[str, float] = {}
    total = sum(len(encoder.tokenizer.tokenize(document.text)) for document in documents)
    for name, window, overlap in READINGS:
        remembered = Remembered(encoder)
        remembered._encode = model
        encoder.encode_windows = remembered.encode_windows  # type: ignore[method-assign]
        for weights in WEIGHTS:
            options = PoolingOptions("naive" if name == "naive" else "late", weights, late_window=window)
            chunks = embed_documents(
                documents, encoder=encoder, max_tokens=max_tokens, pooling=options, overlap=overlap
            )
            found[name, weights] = list(raise_errors(chunks))
        cost[name] = remembered.tokens / total
    encoder.encode_windows = model  # type: ignore[method-assign]
    for (name, weights), chunks in list(found.items()):
        if name != "naive":
            both = blend(stacked(chunks), stacked(found["naive", weights]))
            found[name.replace("late", "blend"), weights] = with_vectors(chunks, both)
            cost[name.replace("late", "blend")] = cost[name] + cost["naive"]
    for (name, weights), chunks in found.items():
        label = name if weights == "none" else f"{name}, sif"
        yield label, chunks, cost[name]
        if name == "naive" or name.startswith("blend"):
            for share in SHARES:
                yield f"{label}, share {share}", neighboured(chunks, share), cost[name]


def stacked(chunks: Sequence[ChunkVector]) -> Vectors:
    """Return the vectors (N, dim) of chunks."""
    return np.stack([chunk.vector for chunk in chunks])


def with_vectors(chunks: Sequence[ChunkVector], vectors: Vectors) -> list[ChunkVector]:
    """Return the chunks with other vectors."""
    return [replace(chunk, vector=vector) for chunk, vector in zip(chunks, vectors, strict=True)]


def neighboured(chunks: Sequence[ChunkVector], share: float) -> list[ChunkVector]:
    """Return the chunks with a share of their neighbours."""
    mixed = []
    for _, group in groupby(chunks, lambda chunk: chunk.doc_id):
        own = list(group)
        mixed += with_vectors(own, mix_neighbours(stacked(own), share))
    return mixed


def measured(
    chunks: Sequence[ChunkVector],
    questions: Sequence[Question],
    queries: Vectors,
    bm25: ContextualBM25,
    bm25_weight: float,
) -> Mapping[tuple[str, str], FloatArray]:
    """Return nDCG@10 (Q,) by mode, and in-corpus or in-document."""
    vectors = stacked(chunks)
    scores: dict[tuple[str, str], list[FloatArray]] = {}
    for block in blocks(len(questions), len(chunks)):
        asked = questions[block]
        gains, own = relevant(chunks, asked), in_document(chunks, asked)
        both = Scores(queries[block] @ vectors.T, bm25.scores([question.text for question in asked]))
        for mode in ("knn", "hybrid"):
            everywhere = both.of(mode, k=10, bm25_weight=bm25_weight).astype(np.float64)
            within = np.full_like(everywhere, -np.inf)
            for row in {rows.tobytes(): rows for rows in own}.values():
                asking = np.flatnonzero((own == row).all(axis=1))
                inside = slice(int(row.argmax()), int(row.argmax() + row.sum()))
                part = both.part(asking, inside).of(mode, k=10, bm25_weight=bm25_weight)
                within[asking, inside] = part
            scores.setdefault((mode, "in-corpus"), []).append(ndcg(everywhere, gains))
            scores.setdefault((mode, "in-document"), []).append(ndcg(within, gains))
    return {key: np.concatenate(parts) for key, parts in scores.items()}


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--collection", "collections", multiple=True, default=["squad_dev", "chunking_evaluation"])
@click.option("--max-tokens", "sizes", multiple=True, type=int, default=[64, 128, 256], show_default=True)
@click.option(
    "--questions", "limit", type=int, default=1500, show_default=True, help="Questions, spread evenly."
)
@click.option("--bm25-weight", type=float, default=DEFAULT_BM25_WEIGHT, show_default=True)
def main(
    folder: Path, collections: Sequence[str], sizes: Sequence[int], limit: int, bm25_weight: float
) -> None:
    """Measure the poolings on the collections in FOLDER."""
    encoder = load_encoder()
    if not isinstance(encoder, TokenEncoder):
        raise TypeError(f"{encoder.identity.model} gives no token vectors")
    results: dict[tuple[str, str, str], dict[str, list[FloatArray]]] = {}
    costs: dict[str, list[float]] = {}
    for collection, max_tokens in product(collections, sizes):
        documents, every = COLLECTIONS[collection](folder / collection)
        questions = [every[row] for row in np.linspace(0, len(every) - 1, min(limit, len(every))).astype(int)]
        queries = encoder.encode_queries([question.text for question in questions])
        bm25 = None
        for name, chunks, cost in pooled(documents, encoder, max_tokens):
            if bm25 is None:
                groups = groupby(chunks, lambda chunk: chunk.doc_id)
                bm25 = ContextualBM25([[chunk.content for chunk in group] for _, group in groups])
            costs.setdefault(name, []).append(cost)
            scores = measured(chunks, questions, queries, bm25, bm25_weight)
            for (mode, where), values in scores.items():
                results.setdefault((mode, name, where), {}).setdefault(collection, []).append(values)
            means = "  ".join(
                f"{mode} {where} {values.mean():.4f}" for (mode, where), values in scores.items()
            )
            click.echo(f"{collection:20} {max_tokens:4} {name:24} {cost:.2f}  {means}")
    click.echo("\nMeans over all collections and sizes, and the differences to naive and to late\n")
    for mode, name, where in sorted(results):
        own, cost = results[mode, name, where], float(np.mean(costs[name]))
        mean = np.mean([np.mean(values) for values in own.values()])
        differences = "  ".join(difference(own, results[mode, other, where]) for other in ("naive", "late"))
        click.echo(f"{mode:6} {where:11} {name:24} {cost:.2f}  {mean:.4f}  {differences}")


def difference(own: Mapping[str, list[FloatArray]], other: Mapping[str, list[FloatArray]]) -> str:
    """Return the mean difference with its interval: questions are resampled in each collection, sizes are averaged."""
    resampled, means = [], []
    for seed, collection in enumerate(own):
        values = np.mean(own[collection], axis=0) - np.mean(other[collection], axis=0)
        picks = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
        resampled.append(values[picks].mean(axis=1))
        means.append(values.mean())
    low, high = np.percentile(np.mean(resampled, axis=0), [2.5, 97.5])
    return f"{np.mean(means):+.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    main()
