"""What one combination is better by than another, question by question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from es_latechunk.chunking import DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS
from es_latechunk.errors import UsageError, setting
from es_latechunk.evaluation.results.combinations import CombinationResult, Evaluation
from es_latechunk.evaluation.results.measures import Interval, Values, intervals
from es_latechunk.models import measured_pooling

# The settings of a new index and of a plain search, for a model that nobody measured.
DEFAULTS = {
    "chunker": DEFAULT_CHUNKER,
    "max_tokens": DEFAULT_MAX_TOKENS,
    "pooling": "late",
    "token_weights": "none",
    "neighbour_share": 0.0,
    "late_window": None,
    "overlap": None,
    "pieces": None,
    "embed_title": 0.0,
    "mode": "hybrid",
    "index": "",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """How much nDCG@10 is above that of another combination; `in_document` is None where relevance is by document."""

    in_corpus: Interval
    in_document: Interval | None


def nearest_to_defaults(results: Sequence[CombinationResult]) -> CombinationResult:
    """Return the result whose settings are those of a new index and a plain search, as far as they were measured."""

    def agreeing(result: CombinationResult) -> int:
        defaults = dict(DEFAULTS)
        if measured := measured_pooling(result.chunking.encoder.identity):
            defaults |= {**asdict(measured.options), "overlap": measured.overlap}
        return sum(getattr(result.combination, name) == value for name, value in defaults.items())

    return max(results, key=agreeing)


def find_baseline(evaluation: Evaluation, words: str | None) -> CombinationResult:
    """Return the first combination that has all the words, such as "naive 128 hybrid", or that with most defaults.

    Raises UsageError, with all combinations, if none has them.
    """
    if not words:
        return nearest_to_defaults(evaluation.results)
    wanted = words.replace(",", " ").split()
    for result in evaluation.results:
        if set(wanted) <= set(result.combination.words):
            return result
    known = "; ".join(str(result.combination) for result in evaluation.results)
    raise UsageError(f"{setting('baseline')} {words!r}: no combination has these words; there are: {known}")


def differences(results: Sequence[CombinationResult], baseline: CombinationResult) -> list[Difference]:
    """Return how much each result is above the baseline, with 95 % intervals over the same questions."""
    corpus = intervals(_matrix(results) - baseline.in_corpus.ndcg)
    if baseline.in_document is None:
        return [Difference(one, None) for one in corpus]
    own = np.array([result.in_document.ndcg for result in results if result.in_document is not None])
    document = intervals(own - baseline.in_document.ndcg)
    return [Difference(one, other) for one, other in zip(corpus, document, strict=True)]


def _matrix(results: Sequence[CombinationResult]) -> Values:
    return np.array([result.in_corpus.ndcg for result in results])
