"""The sample that ships with the package: its answers stand in it, and never name their subject."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from commands import run, run_line
from elasticsearch import Elasticsearch

from es_latechunk import raise_errors, read_documents
from es_latechunk.node import Node
from es_latechunk.quickstart import notes_folder, sample_queries

ROOT = Path(__file__).parent.parent
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


@pytest.fixture
def quickstart(
    client: Elasticsearch, elasticsearch_url: str, elasticsearch_node: Node, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The lines that `quickstart` prints, on the node of the tests."""
    monkeypatch.setattr("es_latechunk.node.running_node", lambda *_: elasticsearch_node)
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    done = run("quickstart")
    assert (done.exit_code, done.stderr) == (0, "")
    yield done.stdout.splitlines()
    client.indices.delete(index="quickstart,notes", ignore_unavailable=True)


def test_the_printed_commands_run_and_the_searches_find_the_answers_first(
    quickstart: list[str], client: Elasticsearch
) -> None:
    commands = [line.strip().removeprefix("$ ") for line in quickstart if line.strip().startswith("$ ")]
    activate = next(line for line in commands if not line.startswith("es-latechunk"))
    assert re.fullmatch(r"\. \S+/bin/activate|export PATH=\S+:\$PATH", activate)
    asked = [line for line in commands if " search " in line and "quickstart" in line]
    shown = " ".join(" ".join(quickstart).split())
    assert len(asked) == len(sample_queries())
    for sample, command in zip(sample_queries(), asked, strict=True):
        first = json.loads(run_line(f"{command} --json").splitlines()[0])
        assert sample.query in command
        assert first["doc_id"] == sample.doc_id
        assert sample.answer in first["content"]
        assert sample.answer in shown, "the answer is on the screen"
    for command in commands:
        # The node of the tests stays, and what the quickstart made is needed until the end.
        if command.startswith("es-latechunk") and " node " not in command and " delete " not in command:
            run_line(command)
    assert client.count(index="notes")["count"] > 0
    assert "oslo.md" in run_line(commands[-3])


def test_the_notes_say_what_the_commands_of_the_readme_ask() -> None:
    documents = {document.id: document for document in raise_errors(read_documents([notes_folder()]))}
    assert {"berlin.txt", "oslo.md", "lisbon.md", "lamp-brass"} <= set(documents)
    for city in ("berlin.txt", "oslo.md", "lisbon.md"):
        text = documents[city].text
        assert "capital" in text.split(".")[0]
        answer = next(
            sentence for sentence in text.split("\n") if "0,000" in sentence or "million" in sentence
        )
        assert documents[city].text.count("capital") == 1
        assert "capital" not in answer, "the sentence with the number does not name its city"
