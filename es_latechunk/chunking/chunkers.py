"""The three chunkers: by sentences, by paragraphs, and by tokens alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from es_latechunk.chunking.blocks import find_blocks
from es_latechunk.chunking.packing import Kind, Unit, cut_long, find_units, full_pieces, join, pack
from es_latechunk.chunking.sentences import TerminatorIds, sentence_ends
from es_latechunk.chunking.tables import table_boundaries
from es_latechunk.chunking.token_positions import TokenPositions, find_token_positions
from es_latechunk.errors import UsageError
from es_latechunk.types import Chunker, ChunkSpan, Tokenizer, Tokens

# Half of the 256 tokens at which the default model was trained, and about the size of a paragraph.
DEFAULT_MAX_TOKENS = 128
DEFAULT_CHUNKER: Final = "sentences"


def make_chunker(
    name: str = DEFAULT_CHUNKER, *, tokenizer: Tokenizer, max_tokens: int = DEFAULT_MAX_TOKENS
) -> Chunker:
    """Make the chunker called `name`, whose chunks have at most `max_tokens` tokens of `tokenizer`.

    Raises UsageError for an unknown name or a `max_tokens` below 1.
    """
    if name not in CHUNKERS:
        raise UsageError(f"chunker: {name!r} is not one of {', '.join(CHUNKERS)}; choose one of these")
    if max_tokens < 1:
        raise UsageError(f"max tokens: {max_tokens} is below 1; give the size of a chunk in tokens, e.g. 128")
    return CHUNKERS[name](TerminatorIds(tokenizer), max_tokens)


@dataclass(frozen=True, slots=True)
class SentenceChunker:
    """Merges whole sentences up to `max_tokens` tokens; a longer sentence is cut between words."""

    terminators: TerminatorIds
    max_tokens: int

    def split(self, text: str, tokens: Tokens) -> list[ChunkSpan]:
        """Return the chunks in order, without whitespace at their ends; see `types.Chunker.split`."""
        positions = find_token_positions(text, tokens)
        units = _sentences(text, tokens, positions, self.terminators, self.max_tokens)
        return _spans(text, _pack(units, positions, self.max_tokens))


@dataclass(frozen=True, slots=True)
class ParagraphChunker:
    """Merges whole paragraphs up to `max_tokens` tokens; a longer paragraph is cut between sentences."""

    terminators: TerminatorIds
    max_tokens: int

    def split(self, text: str, tokens: Tokens) -> list[ChunkSpan]:
        """Return the chunks in order, without whitespace at their ends; see `types.Chunker.split`."""
        positions = find_token_positions(text, tokens)
        units: list[Unit] = []
        for paragraph in join(
            _sentences(text, tokens, positions, self.terminators, self.max_tokens), kind=Kind.PARAGRAPH
        ):
            whole = paragraph[0]._replace(end=paragraph[-1].end)
            fits = positions.length(whole.start, whole.end) <= self.max_tokens
            units += [whole] if fits else paragraph
        return _spans(text, _pack(units, positions, self.max_tokens))


@dataclass(frozen=True, slots=True)
class TokenChunker:
    """Cuts after every `max_tokens` tokens, or at the last word boundary before."""

    terminators: TerminatorIds  # unused: all chunkers are made in the same way
    max_tokens: int

    def split(self, text: str, tokens: Tokens) -> list[ChunkSpan]:
        """Return the chunks in order, without whitespace at their ends; see `types.Chunker.split`."""
        positions = find_token_positions(text, tokens)
        starts = list(full_pieces(positions, max_tokens=self.max_tokens))
        return _spans(text, positions.first[starts[1:]].tolist())


CHUNKERS: dict[str, Callable[[TerminatorIds, int], Chunker]] = {
    "sentences": SentenceChunker,
    "paragraphs": ParagraphChunker,
    "tokens": TokenChunker,
}


def _sentences(
    text: str, tokens: Tokens, positions: TokenPositions, terminators: TerminatorIds, max_tokens: int
) -> list[Unit]:
    if not len(positions):
        return []
    blocks = find_blocks(text)
    ends = sentence_ends(text, tokens, terminators)
    tables = table_boundaries(text, ends, positions, max_tokens=max_tokens)
    return find_units(
        positions,
        [
            (tables.sentence_ends, Kind.SENTENCE),
            (tables.cells, Kind.SENTENCE),
            (tables.lines, Kind.LINE),
            (tables.bodies, Kind.BODY),
            (blocks.lines, Kind.LINE),
            (blocks.paragraphs, Kind.PARAGRAPH),
            (blocks.headings, Kind.PARAGRAPH),
            (blocks.bodies, Kind.BODY),
        ],
    )


def sentence_spans(text: str, tokens: Tokens, terminators: TerminatorIds) -> tuple[ChunkSpan, ...]:
    """Return every sentence, heading and list item of a text, without the whitespace at both ends."""
    blocks = find_blocks(text)
    begins = (blocks.paragraphs, blocks.headings, blocks.bodies, blocks.lines)
    cuts = np.unique(np.concatenate([sentence_ends(text, tokens, terminators), *begins]))
    bounds = [0, *cuts.tolist(), len(text)]
    spans = (trimmed(text, start, end) for start, end in pairwise(bounds))
    return tuple(span for span in spans if span.start < span.end)


def _pack(units: Sequence[Unit], positions: TokenPositions, max_tokens: int) -> list[int]:
    return pack(list(cut_long(units, positions, max_tokens=max_tokens)), positions, max_tokens=max_tokens)


def _spans(text: str, starts: Sequence[int]) -> list[ChunkSpan]:
    """Return the spans between the starts, without whitespace at their ends; none is empty."""
    bounds = [0, *starts, len(text)]
    spans = (trimmed(text, start, end) for start, end in pairwise(bounds))
    return [span for span in spans if span.start < span.end]


def trimmed(text: str, start: int, end: int) -> ChunkSpan:
    """Return the span [start, end) without the whitespace at both ends."""
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return ChunkSpan(start, start + len(part.strip()))
