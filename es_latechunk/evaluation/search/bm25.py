"""BM25 in memory, with a chunk's neighbours, title and headings: what Elasticsearch computes for our indices.

Written here because no library expresses it: Elasticsearch sums a word's frequency over five fields (BM25F), takes the
largest of their document frequencies, and keeps lengths in one byte. `tests/test_evaluation_search.py` compares it with
a real node. Sources: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework"; Lucene's CombinedFieldQuery,
BM25Similarity and SmallFloat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from es_latechunk.elastic.index.template import load_template
from es_latechunk.elastic.search.query import CONTEXT_WEIGHTS
from es_latechunk.evaluation.vectors.chunkings import ChunkText
from es_latechunk.types import FloatArray

# Lucene's set for the English language.
STOPWORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their "  # noqa: SIM905
    "then there these they this to was will with".split()
)
# Where Lucene's lower case, letter by letter, differs from Python's.
LOWER_CASE = str.maketrans({"İ": "i", "Σ": "σ"})
LONGEST_WORD = 255  # characters; the standard tokenizer cuts what is longer
EXACT_LENGTHS = 24  # Lucene keeps shorter lengths exactly, and four significant bits of the rest
SIGNIFICANT_BITS = 4


@cache
def _word_pattern() -> Any:
    """Return the words of Unicode's UAX 29, as Lucene's standard tokenizer finds them."""
    import regex

    tail = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]*"
    letters = rf"(?:[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]{tail})+"
    digits = rf"(?:\p{{WB=Numeric}}{tail})+"
    hebrew = r"(?<=\p{WB=Hebrew_Letter})\p{WB=Double_Quote}(?=\p{WB=Hebrew_Letter})"
    between_letters = rf"(?:[\p{{WB=MidLetter}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{tail}|{hebrew})"
    between_digits = rf"[\p{{WB=MidNum}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{tail}"
    joiner = rf"(?:\p{{WB=ExtendNumLet}}{tail})"
    word = (
        rf"(?:(?:{letters}(?:{between_letters}{letters})*|{digits}(?:{between_digits}{digits})*)+"
        rf"|(?:\p{{WB=Katakana}}{tail})+)"
    )
    alone = rf"[\p{{Ideographic}}\p{{Script=Hiragana}}\p{{Extended_Pictographic}}]{tail}"
    return regex.compile(rf"{joiner}*{word}(?:{joiner}+{word})*{joiner}*|\p{{LB=SA}}+|{alone}", regex.V1)


def analyse(text: str) -> list[str]:
    """Return the words of a text as the analyzer of our index template gives them: lower case, without stopwords."""
    words = [word.translate(LOWER_CASE).lower() for word in _word_pattern().findall(text)]
    if any(len(word) > LONGEST_WORD for word in words):
        words = [word[i : i + LONGEST_WORD] for word in words for i in range(0, len(word), LONGEST_WORD)]
    return [word for word in words if word not in STOPWORDS]


class ContextualBM25:
    """Scores all chunks for any query. `documents` holds the chunks of each document, in order.

    `field_weights`, `k1` (by default, that of our indices) and `analyser`, from a text to its words, can be others, to
    measure what they are worth.
    """

    def __init__(
        self,
        documents: Iterable[Sequence[ChunkText]],
        *,
        field_weights: Mapping[str, int] = CONTEXT_WEIGHTS,
        k1: float | None = None,
        analyser: Callable[[str], list[str]] = analyse,
    ) -> None:
        from scipy import sparse

        self._analyse = analyser
        self._ids: dict[str, int] = {}
        content, title, headings = _Counts(self._ids), _Counts(self._ids), _Counts(self._ids)
        document_of: list[int] = []
        for number, chunks in enumerate(documents):
            for chunk in chunks:
                content.add(analyser(chunk.content))
                title.add(analyser(chunk.title))
                headings.add([word for heading in chunk.headings for word in analyser(heading)])
                document_of.append(number)
        shape = (len(document_of), len(self._ids))
        own, titles, above = (
            sparse.csr_array((np.array(each.values, dtype=np.float64), each.columns, each.ends), shape=shape)
            for each in (content, title, headings)
        )
        around = [_neighbours(np.array(document_of), distance) @ own for distance in (1, 2)]
        fields = dict(zip(CONTEXT_WEIGHTS, [own, *around, titles, above], strict=True))
        self._weights = _weights(
            [(weight, fields[name]) for name, weight in field_weights.items()], k1
        ).T.tocsr()

    def scores(self, queries: Sequence[str]) -> FloatArray:
        """Return the scores (queries, chunks) float32; 0 if a chunk and its context have none of the words."""
        from scipy import sparse

        columns: list[int] = []
        ends = [0]
        for query in queries:
            columns += [self._ids[word] for word in self._analyse(query) if word in self._ids]
            ends.append(len(columns))
        ones = np.ones(len(columns))
        asked = sparse.csr_array((ones, columns, ends), shape=(len(queries), self._weights.shape[0]))
        scores: FloatArray = (asked @ self._weights).toarray().astype(np.float32)
        return scores


class _Counts:
    """The words of one field of each chunk, as the columns and values of a sparse matrix; `ids` are the columns."""

    def __init__(self, ids: dict[str, int]) -> None:
        self._ids = ids
        self.columns: list[int] = []
        self.values: list[int] = []
        self.ends = [0]

    def add(self, words: Iterable[str]) -> None:
        counts = Counter(self._ids.setdefault(word, len(self._ids)) for word in words)
        self.columns += counts.keys()
        self.values += counts.values()
        self.ends.append(len(self.columns))


def _neighbours(document_of: npt.NDArray[np.intp], distance: int) -> Any:
    """Return a matrix (N, N) that adds up the rows of the chunks at a distance in the same document."""
    from scipy import sparse

    rows = np.arange(max(0, len(document_of) - distance))
    rows = rows[document_of[rows] == document_of[rows + distance]]
    ones = np.ones(2 * len(rows))
    first, second = np.concatenate([rows, rows + distance]), np.concatenate([rows + distance, rows])
    return sparse.csr_array((ones, (first, second)), shape=(len(document_of), len(document_of)))


def _weights(weighted: Sequence[tuple[int, Any]], k1: float | None) -> Any:
    """Return the weight (N, V) of each word in each chunk: idf * tf / (tf + k1 * (1 - b + b * length / average)).

    `weighted` are the fields with their weights.
    """
    boosts, fields = [float(weight) for weight, _ in weighted], [field for _, field in weighted]
    similarity = load_template()["settings"]["index"]["similarity"]["default"]
    k1, b = similarity["k1"] if k1 is None else k1, similarity["b"]
    lengths = [np.asarray(field.sum(axis=1)).ravel() for field in fields]
    count = max(np.count_nonzero(length) for length in lengths)
    found_in = np.max([np.asarray((field > 0).sum(axis=0)).ravel() for field in fields], axis=0)
    idf = np.log1p((count - found_in + 0.5) / (found_in + 0.5))
    length = stored_length(
        sum(boost * stored_length(own) for boost, own in zip(boosts, lengths, strict=True))
    )
    average = sum(boost * own.sum() for boost, own in zip(boosts, lengths, strict=True)) / max(count, 1)
    weights = sum(boost * field for boost, field in zip(boosts, fields, strict=True)).tocsr()
    norm = k1 * (1 - b + b * length / (average or 1.0))
    rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    weights.data = idf[weights.indices] * weights.data / (weights.data + norm[rows])
    return weights


def stored_length(length: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return lengths as Lucene keeps them, in one byte: exactly below 24, else with four significant bits."""
    whole = np.rint(np.asarray(length, dtype=np.float64))
    rest = np.maximum(whole - EXACT_LENGTHS, 0)
    step = 2.0 ** np.maximum(np.floor(np.log2(np.maximum(rest, 1))) - SIGNIFICANT_BITS + 1, 0)
    return np.where(whole < EXACT_LENGTHS, whole, EXACT_LENGTHS + np.floor(rest / step) * step)
