"""Tokenising a text as it stands behind a prefix, so that its tokens are the ones the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from es_latechunk.types import IntArray, Tokenizer, Tokens


class PrefixedTokenizer:
    """Gives a text's own tokens, cut as they are cut behind `prefix` (a `Tokenizer`).

    A byte-level vocabulary has one token for "Berlin" and another for " Berlin": behind "search_document: "
    the first word is the second kind. A token that begins in the prefix and ends in the text is the text's.
    Every window begins with the same `prefix_ids`: where a text begins with what takes no space along, as
    Chinese does, the token of the prefix's last space is left out.
    """

    def __init__(self, tokenizer: Tokenizer, prefix: str) -> None:
        self._tokenizer = tokenizer
        self.prefix = prefix

    @property
    def pieces(self) -> Mapping[int, str]:
        return self._tokenizer.pieces

    @property
    def prefix_ids(self) -> IntArray:
        """The prefix's tokens (P,), as they stand before a word."""
        if not self.prefix:
            return np.zeros(0, dtype=np.int32)
        tokens = self._tokenizer.tokenize(f"{self.prefix}a")
        return tokens.ids[: self._own(tokens)]

    def tokenize(self, text: str) -> Tokens:
        """Tokens of `text` alone; offsets count from the start of `text`."""
        if not self.prefix:
            return self._tokenizer.tokenize(text)
        tokens = self._tokenizer.tokenize(self.prefix + text)
        own = self._own(tokens)
        offsets = np.maximum(tokens.offsets[own:] - len(self.prefix), 0)
        return Tokens(tokens.ids[own:], offsets.astype(np.int32), tokens.unknown_id)

    def _own(self, tokens: Tokens) -> int:
        """The number of tokens that end within the prefix."""
        return int(np.count_nonzero(tokens.offsets[:, 1] <= len(self.prefix)))
