"""Exact rankings in memory: cosine, BM25, and both fused as a hybrid search fuses them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from es_latechunk.elastic.search.fusion import BM25_FLOOR, KNN_FLOOR
from es_latechunk.elastic.search.query import DEFAULT_BM25_WEIGHT, Mode, SearchOptions
from es_latechunk.types import FloatArray, IntArray

Order = npt.NDArray[np.intp]
COSINE_FLOOR = 2 * KNN_FLOOR - 1  # Elasticsearch's score is (1 + cosine) / 2
BLOCK_SCORES = 16_000_000  # scores that are held at the same time


@dataclass(frozen=True, slots=True)
class Found:
    """The best items of Q questions, best first: their numbers (Q, k) int32, and their scores (Q, k) float32.

    Where a question has fewer than k, the numbers are -1 and the scores minus infinity.
    """

    items: IntArray
    scores: FloatArray

    @classmethod
    def empty(cls, questions: int, k: int) -> Found:
        """Return what finds nothing."""
        items = np.full((questions, k), -1, dtype=np.int32)
        return cls(items, np.full((questions, k), -np.inf, dtype=np.float32))

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        """Return several groups of questions as one."""
        items, scores = [part.items for part in parts], [part.scores for part in parts]
        return cls(np.concatenate(items), np.concatenate(scores))

    def place(self, rows: Order, found: Found, *, first: int) -> None:
        """Write what was found for the questions `rows`, among items that are counted from `first`."""
        self.items[rows] = np.where(found.items >= 0, found.items + first, -1)
        self.scores[rows] = found.scores

    def falling(self) -> list[list[float]]:
        """Return the scores with equal ones made to fall by the smallest step, as trec_eval orders ties by the id."""
        scores = self.scores.copy()
        for place in range(1, scores.shape[1]):
            below = np.nextafter(scores[:, place - 1], np.float32(-np.inf))
            scores[:, place] = np.minimum(scores[:, place], below)
        rows: list[list[float]] = scores.tolist()
        return rows


@dataclass(frozen=True, slots=True)
class Scores:
    """What the two searches say of Q questions and N chunks: cosines and BM25, both (Q, N).

    Either is None if no mode needs it. A chunk with none of a question's words has a BM25 score of 0.
    """

    cosines: FloatArray | None
    bm25: FloatArray | None

    def part(self, questions: Order, chunks: slice) -> Scores:
        """Return the scores of some questions and chunks."""
        return Scores(
            None if self.cosines is None else self.cosines[questions, chunks],
            None if self.bm25 is None else self.bm25[questions, chunks],
        )

    def of(self, mode: Mode, *, k: int, bm25_weight: float = DEFAULT_BM25_WEIGHT) -> FloatArray:
        """Return the scores (Q, N) of a mode; minus infinity for a chunk that the search does not find at all."""
        if mode == "knn" and self.cosines is not None:
            return self.cosines
        if mode == "bm25" and self.bm25 is not None:
            return _found_words(self.bm25)
        if mode == "hybrid" and self.cosines is not None and self.bm25 is not None:
            return _convex_sum(_found_words(self.bm25), self.cosines, k=k, bm25_weight=bm25_weight)
        raise ValueError(f"no scores for mode {mode!r}")


def _found_words(bm25: FloatArray) -> FloatArray:
    return np.where(bm25 > 0, bm25, -np.inf).astype(np.float32)


def _convex_sum(bm25: FloatArray, knn: FloatArray, *, k: int, bm25_weight: float) -> FloatArray:
    """Return what `elastic.search.fusion.convex_sum` gives for the candidates of both lists, for all questions at once.

    Tests hold the two equal; one question at a time, as a search fuses, ten thousand questions would take minutes.
    """
    candidates = SearchOptions(k=k).candidates()
    first, second = _scaled(bm25, candidates, BM25_FLOOR), _scaled(knn, candidates, COSINE_FLOOR)
    fused = bm25_weight * np.nan_to_num(first, nan=0.0) + (1 - bm25_weight) * np.nan_to_num(second, nan=0.0)
    fused[np.isnan(first) & np.isnan(second)] = -np.inf
    return fused.astype(np.float32)


def _scaled(scores: FloatArray, candidates: int, floor: float) -> npt.NDArray[np.float64]:
    """Scale each row's best `candidates` scores from their floor to [0, 1], as a search does; NaN for other chunks."""
    exact = scores.astype(np.float64)
    count = exact.shape[1]
    if count == 0:
        return exact
    if count > candidates:
        last = np.partition(exact, count - candidates, axis=1)[:, count - candidates, None]
        listed = (exact >= last) & np.isfinite(exact)
    else:
        listed = np.isfinite(exact)
    low = np.min(exact, axis=1, keepdims=True, where=listed, initial=np.inf)
    cut = listed.sum(axis=1, keepdims=True) >= candidates
    low = np.where(cut, low, np.minimum(low, floor))
    high = np.max(exact, axis=1, keepdims=True, where=listed, initial=-np.inf)
    spread = high - low
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.where(spread > 0, (exact - low) / spread, 1.0)
    return np.where(listed, scaled, np.nan)


def best(scores: FloatArray, k: int) -> Found:
    """Return each row's best `k` items, best first; equal scores are ordered by the number of the item."""
    found, count = Found.empty(len(scores), k), scores.shape[1]
    taken = min(k, count)
    if taken:
        last = np.partition(scores, count - taken, axis=1)[:, count - taken]
        for number, (row, smallest) in enumerate(zip(scores, last, strict=True)):
            chosen = np.flatnonzero((row >= smallest) & np.isfinite(row))
            order = chosen[np.argsort(-row[chosen], kind="stable")][:taken]
            found.items[number, : len(order)] = order
            found.scores[number, : len(order)] = row[order]
    return found


def by_document(scores: FloatArray, starts: Order) -> FloatArray:
    """Return the best score (Q, D) of each document, from those (Q, N) of its chunks; `starts` are its first chunks."""
    return np.maximum.reduceat(scores, starts, axis=1) if scores.shape[1] else scores


def blocks(questions: int, chunks: int) -> Iterator[slice]:
    """Yield slices of the questions, so that a block's scores for all chunks fit into memory."""
    step = max(1, BLOCK_SCORES // max(1, chunks))
    for first in range(0, questions, step):
        yield slice(first, min(first + step, questions))
