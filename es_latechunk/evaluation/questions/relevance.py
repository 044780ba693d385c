"""Which chunks or documents answer a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from es_latechunk.errors import UsageError, setting
from es_latechunk.evaluation.questions.read import Question
from es_latechunk.types import ChunkedDocument

Relevance = Literal["span", "document"]
RELEVANCES: tuple[Relevance, ...] = get_args(Relevance)


def choose_relevance(questions: Sequence[Question], wanted: Relevance | None) -> Relevance:
    """Return the relevance that was asked for, or else spans if all questions have them, and documents if none has."""
    if wanted is not None and wanted not in RELEVANCES:
        raise UsageError(
            f"{setting('relevance')}: {wanted!r} is not known; choose one of {', '.join(RELEVANCES)}"
        )
    with_spans = sum(bool(question.answers) for question in questions)
    if wanted == "document" or (not with_spans and wanted is None):
        return "document"
    if with_spans < len(questions):
        raise UsageError(
            f"{setting('questions')}: {len(questions) - with_spans} of {len(questions)} have no answer spans; add "
            f"them, or use {setting('relevance')} document"
        )
    return "span"


def relevant_chunks(question: Question, chunked: ChunkedDocument) -> list[int]:
    """Return the ordinals of the chunks that overlap an answer of the question, in rising order.

    A chunk counts whatever its size is, so that different chunkings of the same text can be compared.
    """
    starts = np.array([span.start for span in chunked.spans])
    ends = np.array([span.end for span in chunked.spans])
    found = np.zeros(len(starts), dtype=np.bool_)
    for answer in question.answers:
        found |= (starts < answer.end) & (answer.start < ends)
    return [int(ordinal) for ordinal in np.flatnonzero(found)]


def chunk_qrels(
    questions: Sequence[Question], documents: Mapping[str, ChunkedDocument]
) -> dict[str, dict[str, int]]:
    """Return the relevant chunks of each question, with grade 1, by their `_id`s."""
    qrels = {}
    for question in questions:
        ordinals = relevant_chunks(question, documents[question.doc_id])
        qrels[question.id] = {f"{question.doc_id}#{ordinal}": 1 for ordinal in ordinals}
    return qrels


def document_qrels(questions: Sequence[Question]) -> dict[str, dict[str, int]]:
    """Return the relevant documents of each question, with their grades."""
    return {question.id: dict(question.documents) for question in questions}
