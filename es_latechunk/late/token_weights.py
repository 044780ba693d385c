"""Weights of tokens by how frequent they are: a frequent token says little about what a chunk is about.

Smooth inverse frequency gives a token t the weight a / (a + p(t)), where p(t) is its probability. Source: Arora et al.
2017, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings".

The probability follows Zipf's law: that of the token with rank r in the vocabulary is 1 / (r * (1 + 1/2 + ... + 1/V)).
Vocabularies list punctuation marks and single characters first, then the others about by their frequency. So the
weights need no corpus, whose growth would change them: the same text has the same vector in every index, in whatever
order and at whatever time documents come. docs/quality.md compares them with weights that were counted.
"""

from __future__ import annotations

import re
from functools import cached_property

import numpy as np

from es_latechunk.types import FloatArray, IntArray, Tokenizer

A = 1e-3
# Places that BERT's and Gemma's vocabularies keep free; no text has such a token.
_UNUSED = re.compile(r"\[unused\d+\]|<unused\d+>")


class SifWeights:
    """The weight of each token of a tokenizer. A token that has no text of its own weighs 1."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self, ids: IntArray) -> FloatArray:
        """Return the weights (T,) of token ids (T,), each above 0 and at most 1."""
        known = np.minimum(ids, len(self._by_id) - 1)  # ids beyond the table have no text of their own
        weights: FloatArray = self._by_id[known]
        return weights

    @cached_property
    def _by_id(self) -> FloatArray:
        pieces = self._tokenizer.pieces
        # A vocabulary is long, and an embedding of one short text waits for this: "in" is faster than the pattern.
        used = (id_ for id_, text in pieces.items() if not ("unused" in text and _UNUSED.fullmatch(text)))
        ranked = np.sort(np.fromiter(used, dtype=int))
        inverse = 1 / np.arange(1, len(ranked) + 1)
        probability = np.zeros(int(ranked.max(initial=-1)) + 2)
        probability[ranked] = inverse / inverse.sum()
        return (A / (A + probability)).astype(np.float32)
