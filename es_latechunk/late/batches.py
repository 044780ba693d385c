"""Batches of windows: alike in length, bounded in tokens, whatever documents they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indexes of `lengths` in batches whose padded size (longest x count) is at most `batch_tokens`.

    Longest first, so that padding is small and the peak of memory comes at once. A window longer than
    `batch_tokens` is a batch of its own. Ties keep their order, so the plan is deterministic.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
