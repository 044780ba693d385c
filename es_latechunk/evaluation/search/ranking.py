"""Exact rankings in memory: cosine, BM25, and both fused as a hybrid search fuses them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from es_latechunk.elastic.search.fusion import BM25_FLOOR, KNN_FLOOR
from es_latechunk.elastic.search.query import DEFAULT_BM25_WEIGHT, Mode, SearchOptions
from es_latechunk.types import FloatArray, IntArray

Order = npt.NDArray[np.intp]
COSINE_FLOOR = 2 * KNN_FLOOR - 1  # Elasticsearch's score is (1 + cosine) / 2
GROUPS = 16  # groups of items per item that is looked for: their maxima are sorted out instead of all items
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
    # BM25's list of a hybrid search by its length: it is the same with all vectors.
    _words: dict[int, _List] = field(default_factory=dict)

    def with_cosines(self, cosines: FloatArray) -> Scores:
        """Return the scores of the same searches for words beside other vectors."""
        return Scores(cosines, self.bm25, self._words)

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
            candidates = SearchOptions(k=k).candidates()
            if candidates not in self._words:
                self._words[candidates] = _list(_found_words(self.bm25), candidates, BM25_FLOOR)
            knn = _list(self.cosines, candidates, COSINE_FLOOR)
            return _convex_sum(self._words[candidates], knn, self.cosines.shape, bm25_weight=bm25_weight)
        raise ValueError(f"no scores for mode {mode!r}")


def _found_words(bm25: FloatArray) -> FloatArray:
    return np.where(bm25 > 0, bm25, np.float32(-np.inf))


@dataclass(frozen=True, slots=True)
class _List:
    """The chunks that one search lists for each question: their rows and columns (L,), and scores (L,) in [0, 1]."""

    rows: Order
    columns: Order
    scaled: npt.NDArray[np.float64]


def _convex_sum(bm25: _List, knn: _List, shape: tuple[int, ...], *, bm25_weight: float) -> FloatArray:
    """Return what `elastic.search.fusion.convex_sum` gives for the candidates of both lists, for all questions at once.

    Tests hold the two equal; one question at a time, as a search fuses, ten thousand questions would take minutes.
    """
    fused: FloatArray = np.full(shape, -np.inf, dtype=np.float32)
    fused[bm25.rows, bm25.columns] = bm25_weight * bm25.scaled
    words = fused[knn.rows, knn.columns]
    fused[knn.rows, knn.columns] = np.where(np.isfinite(words), words, 0) + (1 - bm25_weight) * knn.scaled
    return fused


def _list(scores: FloatArray, candidates: int, floor: float) -> _List:
    """Return each row's best `candidates` items, with their scores scaled from the floor to [0, 1] as a search does."""
    count = scores.shape[1]
    listed = np.isfinite(scores)
    if count > candidates:
        listed &= scores >= np.partition(scores, count - candidates, axis=1)[:, count - candidates, None]
    rows, columns = np.nonzero(listed)
    exact = scores[rows, columns].astype(np.float64)
    low, high = np.full(len(scores), np.inf), np.full(len(scores), -np.inf)
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    if len(starts):
        low[rows[starts]] = np.minimum.reduceat(exact, starts)
        high[rows[starts]] = np.maximum.reduceat(exact, starts)
    cut = np.bincount(rows, minlength=len(scores)) >= candidates
    low = np.where(cut, low, np.minimum(low, floor))[rows]
    spread = high[rows] - low
    return _List(rows, columns, np.divide(exact - low, spread, out=np.ones_like(exact), where=spread > 0))


def best(scores: FloatArray, k: int) -> Found:
    """Return each row's best `k` items, best first; equal scores are ordered by the number of the item."""
    found, count = Found.empty(len(scores), k), scores.shape[1]
    taken = min(k, count)
    if taken:
        # The k best groups' maxima are k items, so that all of the k best are at least as good as the last of these.
        groups = np.arange(0, count, max(1, count // (GROUPS * taken)))
        maxima = np.maximum.reduceat(scores, groups, axis=1)
        last = np.partition(maxima, len(groups) - taken, axis=1)[:, len(groups) - taken, None]
        rows, items = np.nonzero((scores >= last) & np.isfinite(scores))
        chosen = scores[rows, items]
        order = np.lexsort((items, -chosen, rows))
        rows, items, chosen = rows[order], items[order], chosen[order]
        places = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = places < taken
        found.items[rows[kept], places[kept]] = items[kept]
        found.scores[rows[kept], places[kept]] = chosen[kept]
    return found


def by_document(scores: FloatArray, starts: Order) -> FloatArray:
    """Return the best score (Q, D) of each document, from those (Q, N) of its chunks; `starts` are its first chunks."""
    return np.maximum.reduceat(scores, starts, axis=1) if scores.shape[1] else scores


def blocks(questions: int, chunks: int) -> Iterator[slice]:
    """Yield slices of the questions, so that a block's scores for all chunks fit into memory."""
    step = max(1, BLOCK_SCORES // max(1, chunks))
    for first in range(0, questions, step):
        yield slice(first, min(first + step, questions))
