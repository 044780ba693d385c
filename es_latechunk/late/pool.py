"""Mean pooling of token vectors into chunk vectors, one window at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from es_latechunk.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class PartialSums:
    """Sums (N, dim) float64 and token counts (N,) of the chunks `first` ... `first + N - 1`."""

    first: int
    sums: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]


def sum_by_chunk(vectors: FloatArray, owner: IntArray) -> PartialSums:
    """Add up token vectors (T, dim) by the chunk that owns each token, `owner` (T,) in rising order.

    The sums are float64, so that a chunk of thousands of tokens is as precise as one of ten.
    """
    starts = np.flatnonzero(np.diff(owner, prepend=owner[0] - 1))
    first, last = int(owner[0]), int(owner[-1])
    sums = np.zeros((last - first + 1, vectors.shape[1]), dtype=np.float64)
    counts = np.zeros(last - first + 1, dtype=np.int64)
    rows = owner[starts] - first
    sums[rows] = np.add.reduceat(vectors, starts, axis=0, dtype=np.float64)
    counts[rows] = np.diff(starts, append=len(owner))
    return PartialSums(first, sums, counts)


class ChunkAccumulator:
    """Joins the partial sums of the windows of one document, in order, and returns each chunk when it is complete."""

    def __init__(self) -> None:
        self._open: PartialSums | None = None

    def add(self, part: PartialSums, *, last: bool) -> tuple[int, FloatArray]:
        """Return the first ordinal and the means (N, dim) float32 of the chunks that `part` completes; N may be 0.

        The last chunk of a window may continue in the next window, so it stays open until a later chunk begins or
        `last` says that no window follows.
        """
        joined = part if self._open is None else _join(self._open, part)
        ready = len(joined.counts) if last else len(joined.counts) - 1
        if not last:
            self._open = PartialSums(joined.first + ready, joined.sums[ready:], joined.counts[ready:])
        return joined.first, (joined.sums[:ready] / joined.counts[:ready, None]).astype(np.float32)


def _join(left: PartialSums, right: PartialSums) -> PartialSums:
    size = right.first + len(right.counts) - left.first
    sums = np.zeros((size, left.sums.shape[1]), dtype=np.float64)
    counts = np.zeros(size, dtype=np.int64)
    for part in (left, right):
        rows = slice(part.first - left.first, part.first - left.first + len(part.counts))
        sums[rows] += part.sums
        counts[rows] += part.counts
    return PartialSums(left.first, sums, counts)


def l2_normalise(vectors: FloatArray) -> FloatArray:
    """Return unit vectors (N, dim); a zero vector has no direction and stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: FloatArray = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return unit
