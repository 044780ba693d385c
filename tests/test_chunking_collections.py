"""The chunkers on whole collections in eight languages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_models import TOKENIZERS

from es_latechunk.chunking import CHUNKERS, chunk_document, make_chunker
from es_latechunk.types import Document

DATA = Path(__file__).parents[2] / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared")


def documents() -> Iterator[Document]:
    for path in sorted((DATA / "chunking_evaluation" / "corpus").glob("*.txt")):
        yield Document(path.name, path.read_text(encoding="utf-8"))
    for collection in ("squad_dev", "xquad"):
        with (DATA / collection / "documents.jsonl").open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                yield Document(f"{collection}/{row['id']}", row["text"])


@pytest.mark.parametrize("name", list(CHUNKERS))
def test_chunks_put_back_by_offsets_give_the_text_again(name: str) -> None:
    tokenizer = TOKENIZERS["mini_lm"]
    chunker = make_chunker(name, tokenizer=tokenizer)
    seen = 0
    for document in documents():
        blank = [character if character.isspace() else "" for character in document.text]
        for span in chunk_document(document, chunker=chunker, tokenizer=tokenizer).spans:
            assert not any(blank[span.start : span.end][:: span.end - span.start])
            blank[span.start : span.end] = document.text[span.start : span.end]
        assert "".join(blank) == document.text
        seen += 1
    assert seen == 5 + 48 + 98
