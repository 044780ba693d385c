"""The sample that ships with the package: ten short articles of our own, and three questions about them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ARTICLES = FOLDER / "articles.jsonl"
MAX_TOKENS = 48  # the articles are short: a chunk should be a sentence or two, so that context matters


@dataclass(frozen=True, slots=True)
class SampleQuery:
    """A question, the article that answers it, and the sentence that does."""

    query: str
    doc_id: str
    answer: str


def notes_folder() -> Path:
    """Return the folder of a few notes to try the commands on: in an installed package, or at the top of a checkout."""
    package = FOLDER.parent
    installed = package / "notes"
    return installed if installed.is_dir() else package.parent / "notes"


def sample_queries() -> list[SampleQuery]:
    """The questions, the one to compare first."""
    rows = json.loads((FOLDER / "queries.json").read_text(encoding="utf-8"))
    return [
        SampleQuery(row["query"], row["relevant"][0]["doc_id"], row["relevant"][0]["text"]) for row in rows
    ]
