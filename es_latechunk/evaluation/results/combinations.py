"""What is compared and what came out: combinations of settings, their results, and the whole evaluation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from es_latechunk.elastic.search.query import Mode
from es_latechunk.errors import DocumentError
from es_latechunk.evaluation.questions.read import Question
from es_latechunk.evaluation.questions.relevance import Relevance
from es_latechunk.evaluation.results.measures import Interval, QuestionScores
from es_latechunk.evaluation.search.ranking import Found
from es_latechunk.evaluation.vectors.chunkings import Chunking
from es_latechunk.types import Encoder


@dataclass(frozen=True, slots=True)
class Combination:
    """One way to index and search; `pooling` is "" for BM25, which needs no vectors. None is the default.

    `index` is the name of a real index, or "" for exact scores in memory.
    """

    model: str
    window: int
    chunker: str
    max_tokens: int
    pooling: str
    token_weights: str
    neighbour_share: float
    late_window: int | None
    overlap: int | None
    pieces: int | None
    embed_title: float
    mode: Mode
    index: str = ""

    @property
    def vectors(self) -> str:
        """The pooling and its settings in words; "" for BM25. What is left out is the default."""
        words = [self.pooling, "" if self.token_weights == "none" else self.token_weights]  # noqa: S105
        words.append(f"neighbours={self.neighbour_share:g}" if self.neighbour_share else "")
        sizes = (("late-window", self.late_window), ("overlap", self.overlap), ("pieces", self.pieces))
        words += [f"{name}={value}" for name, value in sizes if value is not None]
        words.append(f"title={self.embed_title:g}" if self.embed_title else "")
        return " ".join(filter(None, words))

    @property
    def words(self) -> tuple[str, ...]:
        """The settings as words, in the order in which a table has them."""
        words = [
            self.model,
            str(self.window),
            self.chunker,
            str(self.max_tokens),
            *self.vectors.split(),
            self.mode,
        ]
        return (*words, f"index={self.index}") if self.index else tuple(words)

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True, slots=True)
class CombinationResult:
    """The measures of one combination, what it finds in all documents, and what it costs.

    `in_document` searches only the question's own document; it is None where relevance is by document. `tokens` is the
    number of tokens that the model reads to index the documents, `seconds` how long it took on the machine that
    computed the vectors, and `index_bytes` an estimate for an index with int8 vectors.
    """

    combination: Combination
    chunking: Chunking
    in_corpus: QuestionScores
    in_document: QuestionScores | None
    found: Found
    tokens: int
    seconds: float
    index_bytes: int

    @property
    def chunks(self) -> int:
        return sum(len(chunked.spans) for chunked in self.chunking.documents)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of all combinations on the same questions, and what could not be used."""

    questions: Sequence[Question]
    relevance: Relevance
    k: int
    results: Sequence[CombinationResult]
    errors: Sequence[DocumentError]

    @property
    def pseudo(self) -> bool:
        """True if a question was made from the text instead of asked by somebody."""
        return are_pseudo(self.questions)


@dataclass(frozen=True, slots=True)
class EvaluatedCombination:
    """One combination of settings: its measures, how much its nDCG@10 is above the baseline's, and what it costs.

    `in_document` searches only the question's own document; it is None where relevance is by document. `tokens` is the
    number of tokens that the model reads to index the documents, `seconds` how long it took on the machine that
    computed the vectors, and `index_bytes` an estimate for an index with int8 vectors.
    """

    combination: Combination
    encoder: Encoder
    in_corpus: QuestionScores
    in_document: QuestionScores | None
    in_corpus_difference: Interval
    in_document_difference: Interval | None
    chunks: int
    tokens: int
    seconds: float
    index_bytes: int

    @classmethod
    def of(
        cls, result: CombinationResult, in_corpus: Interval, in_document: Interval | None
    ) -> EvaluatedCombination:
        """Sum up a result and its differences to the baseline."""
        return cls(
            result.combination,
            result.chunking.encoder,
            result.in_corpus,
            result.in_document,
            in_corpus,
            in_document,
            result.chunks,
            result.tokens,
            result.seconds,
            result.index_bytes,
        )


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """All combinations, measured on the same questions, the baseline and the recommended one of them.

    `recommended` is None if the questions are too few, or made from the text; `recommendation` is the sentence that
    says what to do, with its interval. `errors` are the documents and questions that could not be used.
    """

    questions: Sequence[Question]
    relevance: Relevance
    k: int
    combinations: Sequence[EvaluatedCombination]
    baseline: EvaluatedCombination
    recommended: EvaluatedCombination | None
    recommendation: str
    errors: Sequence[DocumentError]


def are_pseudo(questions: Sequence[Question]) -> bool:
    """Return whether one of the questions was made from the text instead of asked by somebody."""
    return any(question.pseudo for question in questions)


def count_in_words(questions: Sequence[Question]) -> str:
    """Return how many questions of which kind there are, such as "300 pseudo-queries"."""
    return f"{len(questions)} {'pseudo-queries' if are_pseudo(questions) else 'questions'}"


def file_name(combination: Combination) -> str:
    """Return the combination as one word, for the name of a file."""
    return "_".join(re.sub(r"[^\w.-]+", "-", word) for word in combination.words)
