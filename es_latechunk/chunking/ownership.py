"""Which chunk each token belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from es_latechunk.chunking.visible import code_points, first_visible, visible_characters
from es_latechunk.types import ChunkSpan, IntArray, Tokens


def token_owner(spans: Sequence[ChunkSpan], text: str, tokens: Tokens) -> IntArray:
    """Index (T,) int32 of the chunk that each token belongs to; `spans` are in order, at least one.

    A token belongs to the chunk that holds its first visible character; one of whitespace alone belongs
    with the token before it (the first chunk, if there is none).
    """
    number, first = first_visible(visible_characters(code_points(text)), tokens)
    starts = np.array([span.start for span in spans])
    owner = np.zeros(len(tokens), dtype=np.int32)
    owner[number] = np.maximum(np.searchsorted(starts, first, side="right") - 1, 0)
    # Both token and chunk numbers rise along the text, so a running maximum fills the gaps.
    return np.maximum.accumulate(owner)
