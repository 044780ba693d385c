"""Plan token windows, in which every token of a long document keeps its context, and batches of windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from es_latechunk.types import TokenWindow

OVERLAP_SHARE = 4  # the overlap is a quarter of a window, so kept tokens have an eighth of it as context


def plan_windows(tokens: int, size: int, overlap: int | None = None) -> Iterator[TokenWindow]:
    """Yield windows of at most `size` tokens over a document of `tokens` tokens, in order.

    Neighbouring windows share at least `overlap` tokens (default: a quarter of `size`); the windows are
    spread evenly, so that the last one is as long as the others. What two windows share is cut in the
    middle: the first half is kept from the left window, the second from the right one, so each kept token
    has at least overlap // 2 tokens of context on both sides, except at the ends of the document. The kept
    ranges cover the document once, without gaps.

    The number of model tokens is at most tokens * size / (size - overlap) + size: linear in `tokens`.
    """
    if size < 1:
        raise ValueError(f"a window needs at least one token, not {size}")
    overlap = size // OVERLAP_SHARE if overlap is None else overlap
    if not 0 <= overlap < size:
        raise ValueError(
            f"the overlap must be between 0 and the window's size - 1 = {size - 1}, not {overlap}"
        )
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
