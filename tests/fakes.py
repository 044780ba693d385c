"""An encoder that can be checked by hand: words are tokens, a token's vector tells where it stood."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from es_latechunk.late import embed_chunks
from es_latechunk.types import (
    ChunkedDocument,
    ChunkSpan,
    Document,
    EncoderIdentity,
    FloatArray,
    IntArray,
    Tokens,
)


class WordTokenizer:
    """Every word and every mark is a token; ids are handed out in the order of appearance."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    @property
    def pieces(self) -> Mapping[int, str]:
        return {number: word for word, number in self._ids.items()}

    def tokenize(self, text: str) -> Tokens:
        found = list(re.finditer(r"\w+|[^\w\s]", text))
        ids = [self._ids.setdefault(match[0], len(self._ids)) for match in found]
        offsets = [match.span() for match in found]
        return Tokens(np.array(ids, dtype=np.int32), np.array(offsets, dtype=np.int32).reshape(-1, 2))


class PositionEncoder:
    """The vector of a token: (1, its id, its place in the window, the sum of all ids in the window)."""

    def __init__(self, *, window: int = 16, batch_tokens: int = 64) -> None:
        self.tokenizer = WordTokenizer()
        self.window_tokens = window
        self.batch_tokens = batch_tokens
        self.batches: list[list[int]] = []

    dim = 4
    identity = EncoderIdentity(model="fake/position", weights="sha256:fake", dimensions=4, window=16)

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        self.batches.append([len(window) for window in windows])
        return [
            np.stack(
                [
                    np.ones(len(window)),
                    window,
                    np.arange(len(window)),
                    np.full(len(window), int(window.sum())),
                ],
                axis=1,
            ).astype(np.float32)
            for window in windows
        ]

    def finish(self, pooled: FloatArray) -> FloatArray:
        return pooled

    def encode_documents(self, texts: Sequence[str]) -> FloatArray:
        rows = [block.vectors for block in embed_chunks(map(self._whole, texts), encoder=self)]
        return np.concatenate(rows)

    def encode_queries(self, texts: Sequence[str]) -> FloatArray:
        return self.encode_documents(texts)

    def _whole(self, text: str) -> ChunkedDocument:
        document = Document(id=text, text=text)
        return ChunkedDocument(document, (ChunkSpan(0, len(text)),), self.tokenizer.tokenize(text))
