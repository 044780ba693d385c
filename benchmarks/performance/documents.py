"""The documents of the benchmark: made of paragraphs of this repository's own pages, or those of a folder."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from es_latechunk import Document, raise_errors, read_documents
from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.types import Tokenizer

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs" / "performance.md"  # made by this benchmark, which must not change what it reads
MAX_TOKENS = 128  # per chunk
SHORT, MIDDLE, LONG = 150, 2_000, 10_000  # tokens per document; short ones have this many at most
SHORTEST = 40  # characters of a paragraph or sentence
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Piece:
    """A paragraph or a sentence, with its number of tokens."""

    text: str
    tokens: int


def read_texts(folder: Path | None) -> list[Document]:
    """The documents of a folder, or the pages of this repository."""
    pages = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]
    return list(
        raise_errors(read_documents([folder] if folder else [page for page in pages if page != GENERATED]))
    )


def prose(texts: Sequence[Document], tokenizer: Tokenizer, *, sentences: bool = False) -> list[Piece]:
    """The paragraphs (or sentences) that are plain sentences: no tables, code or headings."""
    found: list[str] = []
    for document in texts:
        for block in re.split(r"\n\s*\n", document.text):
            text = " ".join(block.split())
            if re.match(r"[A-Z`*\[]", text) and not text.startswith("```") and text.endswith((".", ":", ")")):
                found += SENTENCE_END.split(text) if sentences else [text]
    pieces = [Piece(text, len(tokenizer.tokenize(text))) for text in found if len(text) >= SHORTEST]
    if not pieces:
        raise SystemExit(
            "the documents have no paragraph of plain sentences to make documents of; choose other ones"
        )
    return pieces


def made(pieces: Sequence[Piece], sizes: Iterator[int], name: str, seed: int) -> Iterator[Document]:
    """Documents of pieces drawn at random, each with at least as many tokens as its size says, without end."""
    drawn = random.Random(seed)  # noqa: S311 - documents, no secret
    for number, size in enumerate(sizes):
        chosen, tokens = [], 0
        while tokens < size:
            piece = drawn.choice(pieces)
            chosen.append(piece.text)
            tokens += piece.tokens
        yield Document(f"{name}-{number:06d}", "\n\n".join(chosen))


def sizes(name: str, seed: int = 0) -> Iterator[int]:
    """Sizes in tokens without end: short, long, or a mix, to which short, middle and long ones give as many tokens."""
    drawn = random.Random(f"{name} {seed}")  # noqa: S311 - sizes, no secret
    given = {"short": {SHORT: 0}, "long": {LONG: 0}, "mix": {LONG: 0, MIDDLE: 0, SHORT: 0}}[name]
    while True:
        kind = min(given, key=lambda kind: given[kind])
        size = drawn.randint(SHORT // 10, SHORT) if kind == SHORT else kind
        given[kind] += size
        yield size


def write_documents(
    documents: Iterator[Document], tokenizer: Tokenizer, path: Path, tokens: int
) -> dict[str, int]:
    """Write documents as JSONL until they have so many tokens (0: all), with the spans of our chunks; count them."""
    chunker = make_chunker("sentences", tokenizer=tokenizer, max_tokens=MAX_TOKENS)
    counts = {"documents": 0, "tokens": 0, "chunks": 0}
    with path.open("w", encoding="utf-8") as file:
        for document in documents:
            chunked = chunk_document(document, chunker=chunker, tokenizer=tokenizer)
            spans = [(span.start, span.end) for span in chunked.spans]
            row = {"id": document.id, "text": document.text, "spans": spans}
            file.write(json.dumps(row) + "\n")
            counts["documents"] += 1
            counts["tokens"] += len(chunked.tokens)
            counts["chunks"] += len(spans)
            if tokens and counts["tokens"] >= tokens:
                break
    return counts
