"""What the tests of searching share: a corpus of made-up sentences, and commands with the encoder of words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from commands import run
from elasticsearch import Elasticsearch
from indices import WordEncoder, load, make_index

from es_latechunk import Document

WORDS = (  # noqa: SIM905
    "harbour lamp river stone bridge winter garden tower market bread engine valley copper signal forest "
    "island mirror candle anchor pepper saddle ribbon hammer violin meadow pencil basket kettle lantern falcon"
).split()
QUERIES = ["copper tower", "winter garden by the river", "falcon", "bread market hammer violin"]


def made_up_documents(count: int = 24, sentences: int = 6) -> list[Document]:
    """Documents of so many sentences of five words; each sentence is a chunk of at most 7 tokens."""
    rng = np.random.default_rng(7)
    return [
        Document(
            f"doc-{number:02}",
            " ".join(f"{' '.join(rng.choice(WORDS, 5))}.".capitalize() for _ in range(sentences)),
            f"Title {number}",
            {"part": "odd" if number % 2 else "even", "date": f"2024-05-{number + 1:02}"},
        )
        for number in range(count)
    ]


@contextmanager
def made_up_index(url: str, name: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    """An index of the made-up documents, with its encoder, for tests that only read it."""
    with Elasticsearch(url) as client:
        encoder = make_index(client, name)
        load(client, name, made_up_documents(), encoder)
        yield client, encoder
        client.indices.delete(index=name)


def rows_of(*arguments: str, **options: Any) -> list[dict[str, Any]]:
    """The JSON rows that a search prints."""
    result = run("search", *arguments, "--json", **options)
    assert (result.exit_code, result.stderr) == (0, ""), result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]
