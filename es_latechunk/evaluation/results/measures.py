"""nDCG@10, recall@k and MRR@k per question, by ir-measures (trec_eval), and intervals of their differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from es_latechunk.errors import PreconditionError

NDCG_CUTOFF = 10
RESAMPLES = 10_000
RESAMPLES_AT_ONCE = 500
CONFIDENCE = 95  # per cent

# Of each question, by its id: the relevant items with their grades, and the items that were found with their scores.
Qrels = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Mapping[str, float]]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QuestionScores:
    """The measures (Q,) of each question: nDCG@10, recall@k and the reciprocal rank of the first relevant hit."""

    ndcg: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    mrr: npt.NDArray[np.float64]

    MEASURES = ("ndcg", "recall", "mrr")


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference, and the middle 95 % (or another share) of the means of resampled questions."""

    mean: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """True if the interval holds 0: other questions of the same kind might turn the sign."""
        return self.low <= 0 <= self.high


def check_installed() -> None:
    """Raise PreconditionError if the extra is missing, before anything is computed."""
    try:
        import ir_measures  # noqa: F401
        import regex  # noqa: F401
        import scipy  # noqa: F401
    except ImportError as error:
        raise PreconditionError(
            f"evaluate needs the package {error.name}; install it: pip install 'es-latechunk[evaluate]'"
        ) from error


def measure(run: Run, qrels: Qrels, questions: Sequence[str], *, k: int) -> QuestionScores:
    """Return the measures of a run that holds at most `k` hits per question; 0 for a question without hits."""
    import ir_measures

    ndcg, recall, mrr = ir_measures.nDCG @ NDCG_CUTOFF, ir_measures.R @ k, ir_measures.RR
    values = {which: dict.fromkeys(questions, 0.0) for which in (ndcg, recall, mrr)}
    for each in ir_measures.iter_calc([ndcg, recall, mrr], qrels, run):
        values[each.measure][each.query_id] = each.value
    arrays = (np.array([values[which][one] for one in questions]) for which in (ndcg, recall, mrr))
    return QuestionScores(*arrays)


def intervals(differences: Values, *, confidence: float = CONFIDENCE, seed: int = 0) -> list[Interval]:
    """Return the interval of each row of differences (C, Q), by the percentile bootstrap over questions.

    `confidence` is in per cent. Every row is resampled with the same questions (paired). Source: Sakai 2006,
    "Evaluating Evaluation Metrics based on the Bootstrap"; the percentile interval is Efron's.
    """
    rows, count = differences.shape
    if not count:
        return [Interval(0.0, 0.0, 0.0)] * rows
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES // RESAMPLES_AT_ONCE):
        picks = rng.integers(count, size=(RESAMPLES_AT_ONCE, count), dtype=np.int32)
        picks += np.arange(RESAMPLES_AT_ONCE, dtype=np.int32)[:, None] * count
        drawn = np.bincount(picks.ravel(), minlength=RESAMPLES_AT_ONCE * count)
        means.append(differences @ drawn.reshape(RESAMPLES_AT_ONCE, count).T / count)
    tail = (100 - confidence) / 2
    low, high = np.percentile(np.concatenate(means, axis=1), [tail, 100 - tail], axis=1)
    return [
        Interval(float(mean), float(lower), float(upper))
        for mean, lower, upper in zip(differences.mean(axis=1), low, high, strict=True)
    ]


def write_run(path: Path, run: Run, name: str) -> None:
    """Write a run in TREC's format: question, Q0, item, rank, score, name. Ids must not contain whitespace."""
    lines = (
        f"{_word(question)} Q0 {_word(item)} {rank} {score!r} {name}"
        for question, found in run.items()
        for rank, (item, score) in enumerate(found.items(), 1)
    )
    _write(path, lines)


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Write judgements in TREC's format: question, 0, item, grade."""
    lines = (
        f"{_word(question)} 0 {_word(item)} {grade}"
        for question, relevant in qrels.items()
        for item, grade in relevant.items()
    )
    _write(path, lines)


def _word(text: str) -> str:
    """Return an id as one word: TREC's files are divided by whitespace."""
    return "".join(f"%{ord(c):02X}" if c.isspace() or c == "%" else c for c in text)


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
