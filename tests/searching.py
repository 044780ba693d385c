"""What the tests of searching share: a corpus of made-up sentences, and commands with the encoder of words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from commands import run

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


def rows_of(*arguments: str, **options: Any) -> list[dict[str, Any]]:
    """The JSON rows that a search prints."""
    result = run("search", *arguments, "--json", **options)
    assert (result.exit_code, result.stderr) == (0, ""), result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]
