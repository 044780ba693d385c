"""Weights of tokens by how frequent they are: a frequent word says little about what a chunk is about.

Smooth inverse frequency gives a token t the weight a / (a + p(t)), where p(t) is its probability. Source: Arora et al.
2017, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings".

The probabilities are those of English words in general, not of the texts in an index: the same text then has the same
vector in every index, in whatever order and at whatever time documents come. docs/quality.md has the difference.
"""

from __future__ import annotations

from functools import cached_property
from importlib import resources

import numpy as np

from es_latechunk.types import FloatArray, IntArray, Tokenizer

A = 1e-3
WORDS = "frequent_words.txt"


class SifWeights:
    """The weight of each token of a tokenizer. A token that is in no frequent word weighs 1."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self, ids: IntArray) -> FloatArray:
        """Return the weights (T,) of token ids (T,), each above 0 and at most 1."""
        known = np.minimum(ids, len(self._by_id) - 1)  # ids beyond the table are no frequent word's
        weights: FloatArray = self._by_id[known]
        return weights

    @cached_property
    def _by_id(self) -> FloatArray:
        words = frequent_words()
        forms = {**{word.capitalize(): p for word, p in words.items()}, **words}
        # A space stands before each word, as in a text: some vocabularies have another token for a word without one.
        text = ". " + " ".join(forms)
        tokens = self._tokenizer.tokenize(text)
        starts = np.cumsum([2, *(len(word) + 1 for word in forms)])[:-1]
        word = np.searchsorted(starts, tokens.offsets[:, 1] - 1, side="right") - 1
        probability = np.zeros(int(tokens.ids.max(initial=0)) + 2)
        within = word >= 0
        np.maximum.at(probability, tokens.ids[within], np.array(list(forms.values()))[word[within]])
        return (A / (A + probability)).astype(np.float32)


def frequent_words() -> dict[str, float]:
    """Return the probability of each frequent English word and punctuation mark, the most frequent first."""
    text = resources.files(__package__).joinpath(WORDS).read_text(encoding="utf-8")
    words = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        frequency, *equally_frequent = line.split()
        words.update(dict.fromkeys(equally_frequent, 10 ** (float(frequency) - 9)))
    return words
