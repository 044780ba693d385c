"""Cut a document into chunks, or check those that it brings along, and find the chunk of each token."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from es_latechunk.chunking.chunkers import trimmed
from es_latechunk.chunking.headings import heading_paths
from es_latechunk.chunking.token_positions import code_points, first_visible_characters, visible_characters
from es_latechunk.errors import DocumentError
from es_latechunk.types import ChunkedDocument, Chunker, ChunkSpan, Document, IntArray, Tokenizer, Tokens


def token_owner(spans: Sequence[ChunkSpan], text: str, tokens: Tokens) -> IntArray:
    """Return the index (T,) int32 of the chunk that owns each token; there is at least one span, and they are in order.

    The owner is the chunk that contains the first visible character of the token. A token of nothing but whitespace
    has the same owner as the token before it; at the beginning of the text, that is the first chunk.
    """
    number, first = first_visible_characters(visible_characters(code_points(text)), tokens)
    starts = np.array([span.start for span in spans])
    owner = np.zeros(len(tokens), dtype=np.int32)
    owner[number] = np.maximum(np.searchsorted(starts, first, side="right") - 1, 0)
    # Both token and chunk numbers rise along the text, so a running maximum fills the gaps.
    return np.maximum.accumulate(owner)


_SURROGATE = re.compile("[\ud800-\udfff]")


def chunk_document(document: Document, *, chunker: Chunker, tokenizer: Tokenizer) -> ChunkedDocument:
    """Cut a document into chunks, each with at least one token.

    If the document has spans, they are checked and used instead of the chunker. A span without a token is merged into
    its neighbour. Raises DocumentError for a text without any token, for a text that is not valid Unicode, and for
    spans that are out of order, overlap, lie outside the text or leave a part of it out.
    """
    text = document.text
    if not text.strip():
        raise DocumentError(document.id, "its text is empty; leave the document out or give it text")
    if broken := _SURROGATE.search(text):
        raise DocumentError(
            document.id,
            f"character {broken.start()} is U+{ord(broken.group()):04X}, half of a surrogate pair, which no "
            "Unicode text may hold; read the text with its right encoding",
        )
    if document.spans is not None:
        _check_spans(document, document.spans)
    tokens = tokenizer.tokenize(text)
    if not len(tokens):
        raise DocumentError(
            document.id,
            f"the tokenizer gives no token for its {len(text)} characters; choose a model that knows them",
        )
    spans = document.spans if document.spans is not None else tuple(chunker.split(text, tokens))
    merged = merge_tokenless(spans, text, tokens)
    paths = ((),) * len(merged) if document.plain_text else heading_paths(text, merged)
    return ChunkedDocument(document, merged, tokens, paths)


def merge_tokenless(spans: Sequence[ChunkSpan], text: str, tokens: Tokens) -> tuple[ChunkSpan, ...]:
    """Merge each span without a token into the span before it; at the beginning, into the span after it."""
    owned = np.bincount(token_owner(spans, text, tokens), minlength=len(spans)) > 0
    merged: list[ChunkSpan] = []
    start = spans[0].start
    for span, has_token in zip(spans, owned.tolist(), strict=True):
        if has_token:
            merged.append(ChunkSpan(span.start if merged else start, span.end))
        elif merged:
            merged[-1] = ChunkSpan(merged[-1].start, span.end)
    return tuple(merged)


def _check_spans(document: Document, spans: Sequence[ChunkSpan]) -> None:
    text, reached = document.text, 0
    for number, span in enumerate(spans):
        named = f"chunk {number} [{span.start}, {span.end})"
        if not 0 <= span.start < span.end <= len(text):
            raise DocumentError(
                document.id,
                f"{named} is empty or not inside the text of {len(text)} characters; "
                "give 0 <= start < end <= length, in code points",
            )
        if span.start < reached:
            raise DocumentError(
                document.id,
                f"{named} begins before the end of the chunk before it ({reached}); "
                "give chunks in order, without overlap",
            )
        _check_gap(document, reached, span.start)
        reached = span.end
    _check_gap(document, reached, len(text))


def _check_gap(document: Document, start: int, end: int) -> None:
    left_out = trimmed(document.text, start, end)
    if left_out.start < left_out.end:
        raise DocumentError(
            document.id,
            f"characters [{left_out.start}, {left_out.end}) are in no chunk; "
            "give chunks that leave out nothing but whitespace",
        )
