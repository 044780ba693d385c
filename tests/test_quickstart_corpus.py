"""The sample that ships with the package: its answers stand in it, and never name their subject."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

SAMPLE = files("es_latechunk") / "quickstart"


def articles() -> dict[str, dict[str, Any]]:
    lines = (SAMPLE / "articles.jsonl").read_text(encoding="utf8").splitlines()
    return {article["id"]: article for article in map(json.loads, lines)}


def relevant_sentences() -> list[tuple[str, str]]:
    queries = json.loads((SAMPLE / "queries.json").read_text(encoding="utf8"))
    return [(answer["doc_id"], answer["text"]) for query in queries for answer in query["relevant"]]


def test_every_article_is_complete_and_its_id_unique() -> None:
    lines = (SAMPLE / "articles.jsonl").read_text(encoding="utf8").splitlines()
    assert len(articles()) == len(lines) >= 10
    for article in articles().values():
        assert {"id", "title", "text", "topic", "lang"} == set(article)
        assert 150 <= len(article["text"].split()) <= 300
        assert article["text"].count("\n\n") >= 2


def test_the_subject_is_named_in_the_first_paragraph_alone() -> None:
    for article in articles().values():
        first, *rest = article["text"].split("\n\n")
        assert article["title"] in first
        assert not [paragraph for paragraph in rest if article["title"] in paragraph]


def test_every_answer_stands_in_its_article_after_the_first_paragraph() -> None:
    assert len(relevant_sentences()) >= 3
    for doc_id, sentence in relevant_sentences():
        assert sentence in articles()[doc_id]["text"].partition("\n\n")[2]
