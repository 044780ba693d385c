"""Plan token windows, in which every token of a long document keeps its context, and batches of windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import numpy.typing as npt

from es_latechunk.errors import UsageError, setting
from es_latechunk.types import Encoder, TokenEncoder, TokenWindow

DEFAULT_OVERLAP = 0  # measured, see docs/models.md: an eighth of a window cost 18 % more and found no more
UNRECORDED_OVERLAP_SHARE = 4  # the share of every index that was created before overlaps were recorded
WIDEST_OVERLAP_SHARE = 2  # with more, a token would go through the model more than twice


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of long documents: at most `size` of its tokens each, of which neighbours share `overlap`.

    Special and prefix tokens are not counted. `overlap=None` is for an index that records none: windows of equal length
    that share a quarter of it and take no account of chunks, so that its vectors stay as they are.
    """

    size: int
    overlap: int | None

    def plan(self, tokens: int, starts: npt.ArrayLike) -> Iterator[TokenWindow]:
        """Yield the windows of a document of `tokens` tokens, whose chunks begin at the tokens `starts`, in order."""
        if self.overlap is None:
            return plan_evenly(tokens, self.size, self.size // UNRECORDED_OVERLAP_SHARE)
        return plan_windows(tokens, self.size, self.overlap, starts)

    def shortened(self, tokens: int) -> Windows:
        """Return windows that leave room for so many tokens of something else, with the same overlap."""
        return replace(self, size=self.size - tokens)


@overload
def choose_windows(
    encoder: TokenEncoder, overlap: int | None = None, *, late_window: int | None = None
) -> Windows: ...
@overload
def choose_windows(
    encoder: Encoder, overlap: int | None = None, *, late_window: int | None = None
) -> Windows | None: ...
def choose_windows(
    encoder: Encoder, overlap: int | None = None, *, late_window: int | None = None
) -> Windows | None:
    """Return the windows of new vectors; without an `overlap` (in tokens), they share none.

    `late_window` is that of PoolingOptions. Raises UsageError for an overlap that is negative, more than half of the
    window, or given for a hosted encoder, which has windows of its own (None).
    """
    if not isinstance(encoder, TokenEncoder):
        if overlap is not None:
            raise UsageError(
                f"{setting('overlap')} {overlap}: {encoder.identity.model} plans its windows by itself; leave it out"
            )
        return None
    shorter = 0 if late_window is None else encoder.identity.window - late_window
    size = encoder.window_tokens - shorter
    if overlap is None:
        return Windows(size, DEFAULT_OVERLAP)
    if not 0 <= overlap <= size // WIDEST_OVERLAP_SHARE:
        raise UsageError(
            f"{setting('overlap')} {overlap}: choose 0 to {size // WIDEST_OVERLAP_SHARE} tokens, half of the {size} "
            f"that a window of this model holds beside special and prefix tokens"
        )
    return Windows(size, overlap)


def recorded_windows(
    encoder: Encoder, overlap: int | None, *, late_window: int | None = None
) -> Windows | None:
    """Return the windows of an index that records this overlap, or None for none."""
    if overlap is None and isinstance(encoder, TokenEncoder):
        return replace(choose_windows(encoder, late_window=late_window), overlap=None)
    return choose_windows(encoder, overlap, late_window=late_window)


def plan_windows(tokens: int, size: int, overlap: int, starts: npt.ArrayLike = ()) -> Iterator[TokenWindow]:
    """Yield windows of at most `size` tokens over a document of `tokens` tokens, in order.

    Neighbouring windows share `overlap` tokens, of which each keeps the half on its own side, so each kept token has at
    least overlap // 2 tokens of context on both sides, except at the ends of the document. The kept ranges cover the
    document once, without gaps. They begin at the `starts` of chunks, so that a chunk is kept by one window; only a
    chunk of more than size - overlap tokens, which no window between two others can keep, is cut anywhere.

    There are as few windows as that allows, about equal in length. The number of model tokens is linear in `tokens`.
    """
    _check(size, overlap)
    if tokens <= size:
        if tokens > 0:
            yield TokenWindow(0, tokens, 0, tokens)
        return
    before, after = overlap // 2, overlap - overlap // 2
    edges = _edges(tokens, size - overlap, starts)
    # The windows of fewest tokens, counted from the left and from the right: an edge lies between the two.
    latest = _greedy(edges, tokens, size, before, after)
    earliest = tokens - _greedy((tokens - edges)[::-1], tokens, size, after, before)[::-1]
    count = len(latest) + 1
    share = (tokens + (count - 1) * overlap) / count - overlap
    keep_start = 0
    for number, (low, high) in enumerate(zip(earliest.tolist(), latest.tolist(), strict=True), 1):
        low = max(low, keep_start + 1)
        high = min(high, max(keep_start - before, 0) + size - after)
        first, last = np.searchsorted(edges, [low, high + 1])
        wanted = number * share + before
        keep_end = int(edges[first + np.argmin(np.abs(edges[first:last] - wanted))])
        yield TokenWindow(max(keep_start - before, 0), min(keep_end + after, tokens), keep_start, keep_end)
        keep_start = keep_end
    yield TokenWindow(keep_start - before, tokens, keep_start, tokens)


def _edges(tokens: int, most: int, starts: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return where a window's kept tokens may end: between chunks, and anywhere in one of more than `most` tokens."""
    between = np.unique(np.concatenate([[0], np.asarray(starts, dtype=np.int64), [tokens]]))
    allowed = np.zeros(tokens + 1, dtype=np.bool_)
    allowed[between] = True
    for chunk in np.flatnonzero(np.diff(between) > most).tolist():
        allowed[between[chunk] : between[chunk + 1]] = True
    return np.flatnonzero(allowed)


def _greedy(
    edges: npt.NDArray[np.int64], tokens: int, size: int, before: int, after: int
) -> npt.NDArray[np.int64]:
    """Return the inner edges (N,) of windows that each keep as much as fits, so that they are as few as possible."""
    found: list[int] = []
    start = 0
    while (first := max(start - before, 0)) + size < tokens:
        start = int(edges[np.searchsorted(edges, first + size - after, side="right") - 1])
        found.append(start)
    return np.array(found, dtype=np.int64)


def plan_evenly(tokens: int, size: int, overlap: int) -> Iterator[TokenWindow]:
    """Yield windows of `size` tokens each, spread evenly, that share at least `overlap` tokens, wherever chunks begin.

    What two windows share is cut in the middle: the first half is kept from the left window, the second from the right
    one. The number of model tokens is at most tokens * size / (size - overlap) + size.
    """
    _check(size, overlap)
    if tokens <= size:
        if tokens > 0:
            yield TokenWindow(0, tokens, 0, tokens)
        return
    steps = -(-(tokens - size) // (size - overlap))  # ceiling
    keep_start = 0
    for step in range(steps):
        start = step * (tokens - size) // steps
        next_start = (step + 1) * (tokens - size) // steps
        keep_end = (next_start + start + size) // 2
        yield TokenWindow(start, start + size, keep_start, keep_end)
        keep_start = keep_end
    yield TokenWindow(tokens - size, tokens, keep_start, tokens)


def _check(size: int, overlap: int) -> None:
    if size < 1:
        raise ValueError(f"a window needs at least one token, not {size}")
    if not 0 <= overlap < size:
        raise ValueError(
            f"the overlap must be between 0 and the window's size - 1 = {size - 1}, not {overlap}"
        )


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield indexes of `lengths` in batches whose padded size (longest x count) is at most `batch_tokens`.

    The longest come first, so that padding is small and the peak of memory comes at the beginning. A window longer than
    `batch_tokens` is a batch of its own. Equal lengths keep their order, so the plan is deterministic.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
