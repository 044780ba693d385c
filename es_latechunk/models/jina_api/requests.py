"""How a document's chunks are laid out over requests, and how the answers become chunk vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from es_latechunk.models.jina_api.tokenizer import estimate_tokens
from es_latechunk.types import ChunkedDocument, FloatArray, TokenWindow

MAX_INPUTS = 2048  # the API refuses a request with more texts
CONTEXT_SHARE = 8  # as in local windows: an eighth of the window is context on either side
LARGEST_SEGMENT_SHARE = 2  # a text longer than half a window is cut, so that it too gets context


@dataclass(frozen=True, slots=True)
class Segment:
    """What is sent as one input: a chunk, or a part of a chunk that is too long for one request."""

    text: str
    chunk: int
    tokens: int


def chunk_texts(document: ChunkedDocument) -> list[str]:
    """Each chunk with the whitespace up to the next one: joined, they are the document again.

    The API joins the inputs of a late-chunking request without anything in between.
    """
    text, spans = document.document.text, document.spans
    gaps = [text[left.end : right.start] for left, right in pairwise(spans)]
    return [
        text[span.start : span.end] + (gap if gap.isspace() else "")
        for span, gap in zip(spans, [*gaps, ""], strict=False)
    ]


def segment(texts: Sequence[str], limit: int) -> list[Segment]:
    """The texts in order, those of more than `limit` estimated tokens cut into several segments."""
    return [
        Segment(part, chunk, max(1, estimate_tokens(part)))
        for chunk, text in enumerate(texts)
        for part in _cut(text, limit)
    ]


def plan_requests(tokens: Sequence[int], size: int, *, context: int) -> list[TokenWindow]:
    """Requests of at most `size` tokens and `MAX_INPUTS` segments; `tokens` has one count per segment.

    A window's positions count segments here: those of [start, end) are sent together.
    A segment is kept only where whole segments of at least `context` tokens stand before and after it in
    the request, or where the document begins or ends, as far as a third of `size` allows. The kept ranges
    cover all segments once, in order. A segment larger than `size` goes alone.
    """
    windows: list[TokenWindow] = []
    keep_start = 0
    while keep_start < len(tokens):
        start = _take(tokens, range(keep_start - 1, -1, -1), context, size // 3)
        start, end = _fill(tokens, keep_start - start, keep_start, size)
        keep_end = end
        if end < len(tokens):
            keep_end -= _take(tokens, range(end - 1, keep_start, -1), context, size // 3)
        windows.append(TokenWindow(start, end, keep_start, keep_end))
        keep_start = keep_end
    return windows


def merge(segments: Sequence[Segment], vectors: FloatArray, chunks: int) -> FloatArray:
    """Unit vectors (chunks, dim): a cut chunk's is the mean of its segments, weighted by their tokens."""
    weights = np.asarray([part.tokens for part in segments], dtype=np.float32)
    owners = np.asarray([part.chunk for part in segments], dtype=np.intp)
    sums: FloatArray = np.zeros((chunks, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, owners, vectors * weights[:, None])
    sums /= np.linalg.norm(sums, axis=1, keepdims=True)
    return sums


def _take(tokens: Sequence[int], order: range, wanted: int, most: int) -> int:
    """How many segments in `order` give `wanted` tokens without going over `most`."""
    total = taken = 0
    for index in order:
        if total >= wanted or total + tokens[index] > most:
            break
        total += tokens[index]
        taken += 1
    return taken


def _fill(tokens: Sequence[int], start: int, keep_start: int, size: int) -> tuple[int, int]:
    total = sum(tokens[start : keep_start + 1])
    while start < keep_start and total > size:
        total -= tokens[start]
        start += 1
    end = keep_start + 1
    while end < len(tokens) and end - start < MAX_INPUTS and total + tokens[end] <= size:
        total += tokens[end]
        end += 1
    return start, end


def _cut(text: str, limit: int) -> list[str]:
    if estimate_tokens(text) <= limit or len(text) < 2:
        return [text]
    middle = len(text) // 2
    middle = text.rfind(" ", 1, middle) + 1 or middle
    left, right = text[:middle], text[middle:]
    if not left.strip() or not right.strip():
        return [text]  # spaces cost a model little, and a text of spaces alone has no vector
    return _cut(left, limit) + _cut(right, limit)
