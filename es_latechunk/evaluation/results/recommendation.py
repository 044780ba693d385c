"""What to do after an evaluation, in one sentence, with the interval that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from es_latechunk.evaluation.results.combinations import Combination, CombinationResult, Evaluation
from es_latechunk.evaluation.results.measures import CONFIDENCE, Interval, Values, intervals

# With fewer, the bootstrap sees too few different questions: its intervals are too narrow.
FEWEST_QUESTIONS = 20
SEARCHES = {"knn": "kNN search", "bm25": "BM25 search", "hybrid": "hybrid search"}


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The combination to use, or None if the questions are too few to choose one, or nobody's.

    `sentence` says what to do and how sure that is. `gain` is how much the best combination is above the baseline; the
    interval allows for the choice of the best one among several.
    """

    chosen: CombinationResult | None
    sentence: str
    gain: Interval | None = None


def recommend(evaluation: Evaluation, baseline: CombinationResult) -> Recommendation:
    """Choose the combination with the best nDCG@10 in-corpus, if it is above the baseline by more than noise.

    The best of many looks better than it is, as it was chosen for it. So its interval is made wider: with N - 1 other
    combinations, it leaves out (100 - 95) / (N - 1) per cent. Source: Bonferroni's correction.
    A real index, which exists already, is shown beside them and not chosen.
    """
    results = [result for result in evaluation.results if not result.combination.index or result is baseline]
    others = [result for result in results if result is not baseline]
    count = len(evaluation.questions)
    if evaluation.pseudo:
        return Recommendation(
            None,
            "No recommendation: pseudo-queries do not rank the poolings as people's questions do; write down at least "
            f"{FEWEST_QUESTIONS} questions, better a hundred.",
        )
    if count < FEWEST_QUESTIONS:
        return Recommendation(
            None,
            f"{count} question{' is' if count == 1 else 's are'} too few for a recommendation; "
            f"use at least {FEWEST_QUESTIONS}, better a hundred.",
        )
    kept = described(baseline.combination, results)
    if not others:
        return Recommendation(
            baseline,
            f"Only one combination was measured, {kept}: there is none to choose.",
        )
    best = max(others, key=_mean)
    gain = _difference(best, baseline, comparisons=len(others))
    chosen = best if gain.low > 0 else baseline
    name, amount = described(best.combination, results), shown(gain)
    if chosen is best:
        sentence = (
            f"Use {name}: nDCG@10 in-corpus is {_mean(best):.3f}, {amount} above {kept}"
            f"{_in_document(best, baseline)}."
        )
    elif gain.is_noise:
        sentence = f"Keep {kept}: the difference to the best other, {name}, is within noise, {amount}."
    else:
        sentence = f"Keep {kept}: the best other, {name}, is worse, {amount}."
    return Recommendation(chosen, " ".join([sentence, *_pooling_verdict(chosen, results)]), gain)


def _mean(result: CombinationResult) -> float:
    return float(result.in_corpus.ndcg.mean())


def _difference(one: CombinationResult, other: CombinationResult, *, comparisons: int = 1) -> Interval:
    return _interval(one.in_corpus.ndcg - other.in_corpus.ndcg, comparisons)


def _interval(differences: Values, comparisons: int = 1) -> Interval:
    [found] = intervals(differences[None], confidence=100 - (100 - CONFIDENCE) / comparisons)
    return found


def _in_document(best: CombinationResult, baseline: CombinationResult) -> str:
    if best.in_document is None or baseline.in_document is None:
        return ""
    inside = _interval(best.in_document.ndcg - baseline.in_document.ndcg)
    return f"; in-document {shown(inside)}{', within noise' if inside.is_noise else ''}"


def _pooling_verdict(chosen: CombinationResult, results: Sequence[CombinationResult]) -> list[str]:
    """Compare late with naive pooling, at the chosen chunks and search, if both were measured there."""

    def rest(combination: Combination) -> Combination:
        plain: dict[str, Any] = {
            "pooling": "",
            "token_weights": "none",
            "neighbour_share": 0.0,
            "embed_title": 0.0,
        }
        return replace(combination, **plain, late_window=None, overlap=None)

    same = [one for one in results if rest(one.combination) == rest(chosen.combination)]
    late = next((one for one in same if one.combination.pooling == "late"), None)
    naive = next((one for one in same if one.combination.pooling == "naive"), None)
    if late is None or naive is None:
        return []
    gain = _difference(late, naive)
    if gain.is_noise:
        return [f"Between late and naive pooling, the difference is within noise here: late {shown(gain)}."]
    if gain.mean > 0:
        return [f"Late pooling is better here: {shown(gain)} above naive."]
    return [f"Naive pooling is better here: late is at {shown(gain)}."]


def described(combination: Combination, results: Sequence[CombinationResult]) -> str:
    """Return the combination in words; a setting that all results share is left out, if it is not needed."""

    def differs(name: str) -> bool:
        return len({getattr(result.combination, name) for result in results}) > 1

    where = [f"of index {combination.index}"] if combination.index else []
    words = [SEARCHES[combination.mode], *where, f"over {combination.max_tokens}-token chunks"]
    if differs("chunker"):
        words.append(f"of {combination.chunker}")
    if combination.pooling:
        details = []
        if combination.token_weights != "none":  # noqa: S105
            details.append(f"{combination.token_weights} token weights")
        if combination.neighbour_share:
            details.append(f"neighbour share {combination.neighbour_share:g}")
        if combination.late_window is not None:
            details.append(f"late window {combination.late_window}")
        if combination.overlap is not None:
            details.append(f"overlap {combination.overlap}")
        if combination.pieces is not None:
            details.append(f"pieces of {combination.pieces} tokens")
        if combination.embed_title:
            details.append(f"title share {combination.embed_title:g}")
        if differs("window"):
            details.append(f"window {combination.window}")
        if differs("model"):
            details.append(f"model {combination.model}")
        words.append(f"with {combination.pooling} vectors")
        words += [f"({', '.join(details)})"] if details else []
    return " ".join(words)


def shown(interval: Interval) -> str:
    """Return an interval as +.031 (+.010 to +.050)."""
    return f"{signed(interval.mean)} ({signed(interval.low)} to {signed(interval.high)})"


def signed(value: float) -> str:
    """Return a number between -1 and 1 with its sign and three digits."""
    return f"{value:+.3f}".replace("0.", ".", 1)
