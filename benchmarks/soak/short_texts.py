"""The documents of the soak: short texts, cut at seeded places from those of ../shared/data, and none of them twice."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from es_latechunk import Document, raise_errors, read_documents

DATA = Path(__file__).parents[3] / "shared" / "data"
SOURCES = (DATA / "squad_dev" / "documents.jsonl", DATA / "chunking_evaluation" / "corpus")
FEWEST_WORDS, MOST_WORDS = 12, 30  # about 15 to 45 tokens


def made(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file: an id, a title, a text, and some metadata."""
    texts = [
        (document.title or document.id, words)
        for document in raise_errors(read_documents([str(path) for path in SOURCES]))
        if len(words := document.text.split()) > MOST_WORDS
    ]
    weights = [len(words) for _, words in texts]
    drawn = random.Random(seed)  # noqa: S311 - documents, no secret
    known: set[str] = set()
    while len(known) < count:
        [(title, words)] = drawn.choices(texts, weights)
        length = drawn.randint(FEWEST_WORDS, MOST_WORDS)
        first = drawn.randrange(len(words) - length)
        text = " ".join(words[first : first + length])
        if text not in known:
            number = len(known)
            known.add(text)
            yield {"id": f"document-{number:06d}", "title": title, "text": text, "word": first}


def write(rows: Iterator[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read(path: Path) -> Iterator[Document]:
    """The documents, as every load reads them."""
    yield from raise_errors(read_documents([str(path)]))
