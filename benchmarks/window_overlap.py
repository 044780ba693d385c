"""What the overlap of windows costs and gives: kNN nDCG@10 on labelled collections, computed exactly in memory.

    python benchmarks/window_overlap.py FOLDER [--max-tokens 128] [--overlap 0 --overlap 32]

FOLDER and the scoring are those of search_quality.py. `cost` is the number of tokens that went through the model,
special tokens not counted, per token of the documents. Overlaps default to none, a sixteenth, an eighth and a quarter
of the window. The last column is the mean of both scores next to the first overlap, with a 95 % interval (paired
bootstrap over questions).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from search_quality import COLLECTIONS, FloatArray, K, Question, interval

from es_latechunk import ChunkVector, embed_documents, load_encoder, raise_errors
from es_latechunk.types import IntArray, TokenEncoder


class Counted:
    """Counts the tokens that an encoder's model reads."""

    def __init__(self, encoder: TokenEncoder) -> None:
        self.tokens = 0
        self._encode = encoder.encode_windows

    def encode_windows(self, windows: Sequence[IntArray]) -> list[npt.NDArray[np.float32]]:
        self.tokens += sum(map(len, windows))
        return self._encode(windows)


def relevant(chunks: Sequence[ChunkVector], questions: Sequence[Question]) -> npt.NDArray[np.bool_]:
    """Which chunks (N,) hold an answer of each question (Q,): (Q, N)."""
    starts, ends = (np.array([getattr(chunk, side) for chunk in chunks]) for side in ("start", "end"))
    own = in_document(chunks, questions)
    found = np.zeros_like(own)
    for row, question in enumerate(questions):
        for first, last in question.answers:
            found[row] |= own[row] & (starts < last) & (first < ends)
    return found


def in_document(chunks: Sequence[ChunkVector], questions: Sequence[Question]) -> npt.NDArray[np.bool_]:
    """Which chunks (N,) are of the document that each question (Q,) was asked of: (Q, N)."""
    documents = np.array([chunk.doc_id for chunk in chunks])
    return np.array([question.doc_id for question in questions])[:, None] == documents


def ndcg(scores: FloatArray, gains: npt.NDArray[np.bool_]) -> FloatArray:
    """nDCG@10 (Q,) of scores and gains (Q, N); see search_quality.py."""
    discounts = 1 / np.log2(np.arange(2, K + 2))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    ideal = np.array([discounts[:count].sum() for count in gains.sum(axis=1)])
    won: FloatArray = (np.take_along_axis(gains, order, axis=1) @ discounts[: order.shape[1]]) / ideal
    return won


def measure(
    chunks: Sequence[ChunkVector], questions: Sequence[Question], queries: npt.NDArray[np.float32]
) -> tuple[FloatArray, FloatArray]:
    """nDCG@10 (Q,) in-corpus and in-document, for the vectors (Q, dim) of the questions."""
    scores = (queries @ np.stack([chunk.vector for chunk in chunks]).T).astype(np.float64)
    gains = relevant(chunks, questions)
    own = np.where(in_document(chunks, questions), scores, -2.0)
    return ndcg(scores, gains), ndcg(own, gains)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--collection", "collections", multiple=True, default=["squad_dev", "chunking_evaluation"])
@click.option("--max-tokens", "sizes", multiple=True, type=int, default=[128], show_default=True)
@click.option("--overlap", "overlaps", multiple=True, type=int, help="Tokens; may be repeated.")
def main(folder: Path, collections: Sequence[str], sizes: Sequence[int], overlaps: Sequence[int]) -> None:
    """Measure the overlaps on the collections in FOLDER."""
    encoder = load_encoder()
    assert isinstance(encoder, TokenEncoder)  # noqa: S101 - the default model runs here
    window = encoder.window_tokens
    counted = Counted(encoder)
    encoder.encode_windows = counted.encode_windows  # type: ignore[method-assign]
    for collection in collections:
        documents, questions = COLLECTIONS[collection](folder / collection)
        queries = encoder.encode_queries([question.text for question in questions])
        total = sum(len(encoder.tokenizer.tokenize(document.text)) for document in documents)
        for max_tokens in sizes:
            click.echo(f"\n{collection}, {max_tokens}-token chunks, {len(questions)} questions\n")
            click.echo(
                "| overlap | cost | in-corpus | in-document | mean, next to the first |\n|---|---|---|---|---|"
            )
            first: FloatArray | None = None
            for overlap in overlaps or (0, window // 16, window // 8, window // 4):
                before = counted.tokens
                embedded = embed_documents(
                    documents, encoder=encoder, max_tokens=max_tokens, pooling="late", overlap=overlap
                )
                corpus, own = measure(list(raise_errors(embedded)), questions, queries)
                both = (corpus + own) / 2
                first = both if first is None else first
                low, high = interval(both - first, seed=0)
                click.echo(
                    f"| {overlap} | {(counted.tokens - before) / total:.2f} | {corpus.mean():.3f} | "
                    f"{own.mean():.3f} | {(both - first).mean():+.3f} ({low:+.3f} to {high:+.3f}) |"
                )


if __name__ == "__main__":
    main()
