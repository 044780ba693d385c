"""Weighted means of token vectors by chunk, and by piece of a chunk, one window at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from es_latechunk.late.pieces import ChunkRows, rows_without_pieces
from es_latechunk.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class PartialSums:
    """Sums (N, dim) and total weights (N,), both float64, of the chunks `first` ... `first + N - 1`."""

    first: int
    sums: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]


def sum_by_chunk(vectors: FloatArray, owner: IntArray, weights: FloatArray | None = None) -> PartialSums:
    """Add up token vectors (T, dim), each times its weight, by the chunk that owns it: `owner` (T,) in rising order.

    Without `weights` (T,), each token weighs 1. The sums are float64, so that a chunk of thousands of tokens is as
    precise as one of ten.
    """
    starts = np.flatnonzero(np.diff(owner, prepend=owner[0] - 1))
    first, last = int(owner[0]), int(owner[-1])
    sums = np.zeros((last - first + 1, vectors.shape[1]), dtype=np.float64)
    totals = np.zeros(last - first + 1, dtype=np.float64)
    rows = owner[starts] - first
    weighted = vectors if weights is None else vectors * weights[:, None]
    sums[rows] = np.add.reduceat(weighted, starts, axis=0, dtype=np.float64)
    if weights is None:
        totals[rows] = np.diff(starts, append=len(owner))
    else:
        totals[rows] = np.add.reduceat(weights, starts, dtype=np.float64)
    return PartialSums(first, sums, totals)


def mean_by_chunk(vectors: FloatArray, owner: IntArray, weights: FloatArray | None = None) -> FloatArray:
    """Return the weighted mean (N, dim) of each chunk's token vectors; see `sum_by_chunk`. No chunk lacks a token."""
    part = sum_by_chunk(vectors, owner, weights)
    return (part.sums / part.weights[:, None]).astype(np.float32)


class ChunkAccumulator:
    """Joins the partial sums of the windows of one document, in order, and returns each chunk when it is complete.

    With `edges` (see `Pieces`), the sums are those of pieces, and a chunk comes with all of its pieces.
    """

    def __init__(self, edges: IntArray | None = None) -> None:
        self._edges = edges
        self._open: PartialSums | None = None

    def add(self, part: PartialSums, *, last: bool) -> tuple[int, ChunkRows]:
        """Return the first ordinal and the means of the chunks that `part` completes; there may be none.

        The last chunk of a window may continue in the next window, so it stays open until a later chunk begins or
        `last` says that no window follows.
        """
        joined = part if self._open is None else _join(self._open, part)
        ready = len(joined.weights)
        if not last:
            ready = self._chunk_start(joined.first + ready - 1) - joined.first
            self._open = PartialSums(joined.first + ready, joined.sums[ready:], joined.weights[ready:])
        return self._means(PartialSums(joined.first, joined.sums[:ready], joined.weights[:ready]))

    def _chunk_start(self, row: int) -> int:
        """Return the first row of the chunk that has this row."""
        if self._edges is None:
            return row
        return int(self._edges[np.searchsorted(self._edges, row, side="right") - 1])

    def _means(self, done: PartialSums) -> tuple[int, ChunkRows]:
        means = (done.sums / done.weights[:, None]).astype(np.float32)
        if self._edges is None:
            return done.first, rows_without_pieces(means)
        first, end = np.searchsorted(self._edges, [done.first, done.first + len(means)]).tolist()
        starts = self._edges[first:end] - done.first
        if not len(starts):
            return first, ChunkRows(means, means, starts)
        sums = np.add.reduceat(done.sums, starts, axis=0)
        weights = np.add.reduceat(done.weights, starts)
        chunks = (sums / weights[:, None]).astype(np.float32)
        return first, ChunkRows(chunks, means, np.diff(self._edges[first : end + 1]))


def _join(left: PartialSums, right: PartialSums) -> PartialSums:
    size = right.first + len(right.weights) - left.first
    sums = np.zeros((size, left.sums.shape[1]), dtype=np.float64)
    weights = np.zeros(size, dtype=np.float64)
    for part in (left, right):
        rows = slice(part.first - left.first, part.first - left.first + len(part.weights))
        sums[rows] += part.sums
        weights[rows] += part.weights
    return PartialSums(left.first, sums, weights)


def l2_normalise(vectors: FloatArray) -> FloatArray:
    """Return unit vectors (N, dim); a zero vector has no direction and stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: FloatArray = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return unit
