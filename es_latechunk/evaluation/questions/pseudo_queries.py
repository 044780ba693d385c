"""Pseudo-queries from the documents themselves, for those who have no questions; no language model writes them.

A heading asks for its section, and a sentence for what stands around it. Both are taken out of the text that is
searched: otherwise the query would be found by its own words. Source: the inverse cloze task of Lee et al. 2019,
"Latent Retrieval for Weakly Supervised Open Domain Question Answering".

They are no questions of people. benchmarks/pseudo_queries.py compares the two; docs/evaluation.md has the figures.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from es_latechunk.chunking.blocks import find_blocks
from es_latechunk.chunking.chunkers import sentence_spans
from es_latechunk.chunking.sentences import TerminatorIds
from es_latechunk.evaluation.questions.read import Question
from es_latechunk.types import ChunkSpan, Document, Tokenizer

FEWEST_WORDS, MOST_WORDS = 8, 40  # of a sentence; shorter ones ask for nothing, longer ones are lists
FEWEST_WORDS_OF_HEADING = 2
APART = 6  # sentences between two that are taken out, so that a text stays readable
MARKS_OF_HEADING = "# \t"


@dataclass(frozen=True, slots=True)
class PseudoQueries:
    """The documents without what was taken out of them, and the queries with the places that answer them."""

    documents: Sequence[Document]
    questions: Sequence[Question]


@dataclass(frozen=True, slots=True)
class _Taken:
    """A part of a text that becomes a query, and the part around or after it that answers it."""

    document: int
    start: int
    end: int
    query: str
    answer: ChunkSpan


def make_pseudo_queries(
    documents: Sequence[Document], *, tokenizer: Tokenizer, count: int, seed: int = 0
) -> PseudoQueries:
    """Return at most `count` pseudo-queries, chosen at random but always the same ones for the same documents.

    `tokenizer` is an encoder's, which finds the ends of sentences. Another `seed` chooses other ones.
    """
    terminators = TerminatorIds(tokenizer)
    found = [
        taken
        for number, document in enumerate(documents)
        for taken in _candidates(number, document, tokenizer, terminators)
    ]
    rng = random.Random(seed)  # noqa: S311 - no secret
    chosen = sorted(rng.sample(range(len(found)), min(count, len(found))))
    by_document: dict[int, list[_Taken]] = {}
    for place in chosen:
        by_document.setdefault(found[place].document, []).append(found[place])
    shortened: list[Document] = []
    questions: list[Question] = []
    for number, document in enumerate(documents):
        taken = by_document.get(number, [])
        text, moved = _without(document.text, taken)
        shortened.append(replace(document, text=text, spans=None))
        for place, (one, answer) in enumerate(zip(taken, moved, strict=True)):
            name = f"{document.id}:{place}"
            asked = Question(name, one.query, document.id, (answer,), {document.id: 1}, pseudo=True)
            questions.append(asked)
    return PseudoQueries(shortened, questions)


def _candidates(
    number: int, document: Document, tokenizer: Tokenizer, terminators: TerminatorIds
) -> list[_Taken]:
    """Return what can be taken out of a text, in order; no two overlap, and no answer loses its own text."""
    text = document.text
    spans = sentence_spans(text, tokenizer.tokenize(text), terminators)
    blocks = find_blocks(text)
    headings = set(blocks.headings.tolist())
    begins = sorted({*blocks.paragraphs.tolist(), *headings, *blocks.bodies.tolist(), *blocks.lines.tolist()})
    breaks = set(begins)
    found: list[_Taken] = []
    last = -APART
    for place in range(len(spans) - 1):
        span, after = spans[place], spans[place + 1]
        words = text[span.start : span.end].strip(MARKS_OF_HEADING)
        length = len(words.split())
        if span.start in headings:
            if document.plain_text:  # it may be a comment, which asks for nothing
                continue
            if length >= FEWEST_WORDS_OF_HEADING and after.start not in headings:
                found.append(_Taken(number, span.start, after.start, words, after))
                last = place
            continue
        if place == 0 or place - last < APART or not FEWEST_WORDS <= length <= MOST_WORDS:
            continue
        before = spans[place - 1]
        # In the middle of a paragraph, so that what stands on both sides is about the same.
        if _broken(breaks, before.end, span.start) or _broken(breaks, span.end, after.start):
            continue
        found.append(_Taken(number, span.start, after.start, words, ChunkSpan(before.start, after.end)))
        last = place
    return found


def _broken(breaks: set[int], start: int, end: int) -> bool:
    return any(place in breaks for place in range(start, end + 1))


def _without(text: str, taken: Sequence[_Taken]) -> tuple[str, list[ChunkSpan]]:
    """Return the text without the parts, and where their answers are in it."""
    kept: list[str] = []
    reached = 0
    for one in taken:
        kept.append(text[reached : one.start])
        reached = one.end
    kept.append(text[reached:])

    def moved(position: int) -> int:
        return position - sum(min(one.end, position) - one.start for one in taken if one.start < position)

    return "".join(kept), [ChunkSpan(moved(one.answer.start), moved(one.answer.end)) for one in taken]
