"""Commands in front of a real server: what they print, and how they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from commands import error_of, run
from elasticsearch import Elasticsearch
from indices import WordEncoder, load, make_index

from es_latechunk import Document

pytestmark = pytest.mark.every_version

HIT_KEYS = ["id", "doc_id", "ordinal", "score", "start", "end", "content", "title", "metadata"]
REPORT_KEYS = {"documents", "chunks", "indexed", "unchanged", "deleted", "failed", "tokens", "seconds"}
STAGES = ["read", "chunk", "encode", "write"]


@pytest.fixture
def encoder(elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch) -> WordEncoder:
    """The encoder of words in the place of every model; the server is named by the environment."""
    encoder = WordEncoder(query_prefix="")
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_encoder", lambda *_, **__: encoder)
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: encoder)
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    return encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "berlin.md").write_text(
        "# Berlin\n\nBerlin lies on the Spree. The city is old. It has many lakes."
    )
    (folder / "more.jsonl").write_text(
        '{"id": 1, "text": "Trams climb the hills.", "lang": "en"}\n{"id": 2, "text": "Der Dom ist hoch."}\n'
    )
    return folder


def rows(result: Result) -> list[dict[str, Any]]:
    assert (result.exit_code, result.stderr.count("error")) == (0, 0), result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_from_a_folder_to_hits(
    client: Elasticsearch, index_name: str, encoder: WordEncoder, folder: Path
) -> None:
    created = run("index", "create", index_name, "--max-tokens", "7", "--quantization", "none")
    assert (created.exit_code, created.stdout) == (0, "")
    assert created.stderr.splitlines() == [
        "nobody has measured which pooling is best for fake/words, so it is late pooling; compare them on your own "
        "questions with: es-latechunk evaluate",
        f"index {index_name} created: fake/words, 16 dimensions, late pooling",
    ]

    [report] = rows(run("ingest", folder, "--index", index_name, "--json"))
    assert set(report) >= REPORT_KEYS
    assert list(report["stages"]) == STAGES
    assert min(report["stages"].values()) >= 0
    assert (report["documents"], report["failed"], report["indexed"]) == (3, 0, report["chunks"])
    assert client.count(index=index_name)["count"] == report["chunks"]

    [again] = rows(run("ingest", folder, "--index", index_name, "--json"))
    assert (again["indexed"], again["unchanged"], again["tokens"]) == (0, report["chunks"], 0)

    hits = rows(
        run("search", "The city is old.", "--index", index_name, "--mode", "knn", "-k", "3", "--json")
    )
    assert [list(hit)[: len(HIT_KEYS)] for hit in hits] == [HIT_KEYS] * 3
    assert hits[0]["content"] == "The city is old."
    assert (hits[0]["doc_id"], hits[0]["title"]) == ("berlin.md", "Berlin")

    [filtered] = rows(run("search", "x", "--index", index_name, "--filter", "lang=en", "--json"))
    assert (filtered["doc_id"], filtered["metadata"]) == ("1", {"lang": "en"})


def test_an_index_shows_the_pooling_that_was_chosen(
    client: Elasticsearch, index_name: str, encoder: WordEncoder
) -> None:
    settings = (
        "--pooling",
        "blend",
        "--token-weights",
        "sif",
        "--neighbour-share",
        "0.2",
        "--embed-title",
        "0.1",
        "--late-window",
        "24",
    )
    created = run("index", "create", index_name, *settings)
    in_words = (
        "blend pooling, windows of 24 tokens, sif token weights, a share of 0.2 from the neighbours, "
        "a share of 0.1 from the title"
    )
    assert created.stderr.splitlines() == [
        f"index {index_name} created: fake/words, 16 dimensions, {in_words}"
    ]
    shown = run("index", "show", index_name).stdout.splitlines()
    for line in (
        "pooling             blend",
        "token_weights       sif",
        "neighbour_share     0.2",
        "late_window         24",
        "embed_title         0.1",
    ):
        assert line in shown
    again = run("index", "create", index_name)
    assert (again.exit_code, in_words in again.stderr) == (0, True), "it keeps its own"
    refused = error_of(run("index", "create", index_name, *settings[:-1], "32"), 2)
    assert "late_window 24" in refused
    assert "32" in refused


def test_what_a_person_reads(
    client: Elasticsearch, index_name: str, encoder: WordEncoder, folder: Path
) -> None:
    run("index", "create", index_name, "--max-tokens", "7", "--overlap", "11")
    ingested = run("ingest", folder, "--index", index_name)
    assert (ingested.exit_code, ingested.stdout) == (0, "")
    assert "3 documents, " in ingested.stderr
    [stages] = re.findall(r"^seconds by stage .*: (.*)$", ingested.stderr, re.MULTILINE)
    assert re.sub(r" \d+\.\d", "", stages).split(", ") == STAGES
    found = run("search", "Dom", "--index", index_name, "--mode", "knn", "-k", "1")
    assert (found.exit_code, found.stderr) == (0, "")
    assert "Der Dom ist hoch." in " ".join(found.stdout.split())
    shown = run("index", "show", index_name)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "fake/words" in shown.stdout
    assert re.search(r"^overlap +11$", shown.stdout, re.MULTILINE)


CLIPBOARD, CLEAR, TURNED = "\x1b]52;c;ZXZpbA==\x07", "\x9b2J", "\u202e"


def test_what_a_terminal_would_obey_is_shown_and_in_json_is_as_it_was(
    client: Elasticsearch, index_name: str, encoder: WordEncoder, tmp_path: Path
) -> None:
    hostile = Document(f"a{CLEAR}\nb", f"Words {CLIPBOARD} and {TURNED} more {CLEAR} here.", "Title")
    make_index(client, index_name, encoder, max_tokens=50)
    load(client, index_name, [hostile], encoder)
    source = tmp_path / "hostile.jsonl"
    source.write_text(json.dumps({"id": hostile.id, "text": hostile.text}))
    queries = tmp_path / "queries.txt"
    queries.write_text(f"more {CLEAR} words", encoding="utf-8")
    to_index = ("--index", index_name)
    for words in (
        ["search", "words", *to_index],
        ["search", "words", *to_index, "--highlight", "--mode", "bm25"],
        ["search", "words", *to_index, "--neighbours", "1"],
        ["search", "--from-file", queries, *to_index],
        ["search", f"words {CLEAR}", *to_index, "--console", "--mode", "bm25"],
        ["index", "show", index_name, "--console"],
        ["compare", source, "--query", "words"],
    ):
        printed = run(*words)
        assert (printed.exit_code, printed.stderr) == (0, ""), words
        assert "\\u009b2J" in printed.stdout, words
        assert printed.stdout.replace("\n", "").replace("\t", "").isprintable(), words
    [hit] = rows(run("search", "words", *to_index, "--json"))
    assert (hit["doc_id"], hit["content"]) == (hostile.id, hostile.text)


def test_bad_documents_are_named_and_the_others_are_written(
    client: Elasticsearch, index_name: str, encoder: WordEncoder, folder: Path
) -> None:
    make_index(client, index_name, encoder)
    (folder / "empty.txt").write_bytes(b"")
    with (folder / "more.jsonl").open("a") as more:
        more.write('broken\n{"id": 3}\n{"id": 1, "text": "Again."}\n{"id": "a\\nb", "text": ""}\n')
    result = run("ingest", folder, "--index", index_name, "--json")
    assert result.exit_code == 1
    [report] = [json.loads(line) for line in result.stdout.splitlines()]
    assert (report["documents"], report["failed"]) == (3, 5)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 5
    for named in (
        "empty.txt:",
        "more.jsonl:3:",
        'more.jsonl:4: (id "3")',
        "1: its id was used",
        '(id "a\\nb") is empty',
    ):
        assert sum(named in line for line in lines) == 1
    assert client.count(index=index_name)["count"] == report["chunks"]


COMMANDS = {
    "show": ["index", "show", "{index}"],
    "delete": ["index", "delete", "{index}", "--yes"],
    "search": ["search", "words", "--index", "{index}"],
    "ingest": ["ingest", "{folder}", "--index", "{index}"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_an_index_that_is_missing(
    client: Elasticsearch, index_name: str, encoder: WordEncoder, folder: Path, command: list[str]
) -> None:
    message = error_of(run(*(word.format(index=index_name, folder=folder) for word in command)), 2)
    assert f"index {index_name} does not exist" in message
    assert f"es-latechunk index create {index_name}" in message


@pytest.mark.parametrize("command", ["search", "ingest"])
def test_an_index_of_another_model(
    client: Elasticsearch, index_name: str, encoder: WordEncoder, folder: Path, command: str
) -> None:
    make_index(client, index_name, WordEncoder(model="other/model", weights="sha256:else"))
    result = run(*(word.format(index=index_name, folder=folder) for word in COMMANDS[command]))
    assert (result.exit_code, result.stdout) == (2, "")
    [message] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "other/model (sha256:else)" in message
    assert "fake/words (sha256:words)" in message
    assert client.count(index=index_name)["count"] == 0


def test_an_index_of_another_model_is_not_created_again(
    client: Elasticsearch, index_name: str, encoder: WordEncoder
) -> None:
    make_index(client, index_name, WordEncoder(model="other/model", weights="sha256:else"))
    message = error_of(run("index", "create", index_name), 2)
    assert "other/model (sha256:else)" in message
    assert "fake/words (sha256:words)" in message


def test_creating_twice_is_fine_and_says_so(
    client: Elasticsearch, index_name: str, encoder: WordEncoder
) -> None:
    created, again = (rows(run("index", "create", index_name, "--json"))[0] for _ in range(2))
    assert created == {"index": index_name, "created": True, "model": "fake/words", "dimensions": 16}
    assert again == {**created, "created": False}


def test_deleting_asks(client: Elasticsearch, index_name: str, encoder: WordEncoder) -> None:
    make_index(client, index_name, encoder)
    refused = run("index", "delete", index_name, input="n\n")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"Delete index {index_name} with 0 chunks?" in refused.stderr
    assert client.indices.exists(index=index_name)
    agreed = run("index", "delete", index_name, input="y\n")
    assert (agreed.exit_code, agreed.stdout) == (0, "")
    assert not client.indices.exists(index=index_name)


def test_shown_facts_are_json(client: Elasticsearch, index_name: str, encoder: WordEncoder) -> None:
    make_index(client, index_name, encoder)
    [facts] = rows(run("index", "show", index_name, "--json"))
    assert (facts["index"], facts["chunks"], facts["documents"]) == (index_name, 0, 0)
    assert (facts["model"], facts["max_tokens"]) == ("fake/words", 7)


@pytest.mark.parametrize("options", [["-k", "0"], ["-k", "5", "--num-candidates", "4"], ["--filter", "x"]])
def test_a_search_that_cannot_work(
    client: Elasticsearch, index_name: str, encoder: WordEncoder, options: list[str]
) -> None:
    make_index(client, index_name, encoder)
    error_of(run("search", "words", "--index", index_name, *options), 2)


def test_an_empty_query(client: Elasticsearch, index_name: str, encoder: WordEncoder) -> None:
    make_index(client, index_name, encoder)
    assert "the query is empty" in error_of(run("search", " ", "--index", index_name), 2)


def test_no_hits_is_no_error(client: Elasticsearch, index_name: str, encoder: WordEncoder) -> None:
    make_index(client, index_name, encoder)
    assert rows(run("search", "words", "--index", index_name, "--json")) == []
    assert run("search", "words", "--index", index_name).exit_code == 0


def test_a_mapping_of_the_user_s_own(
    client: Elasticsearch, index_name: str, encoder: WordEncoder, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    path.write_text("{}")
    assert "lacks the fields content (text)" in error_of(
        run("index", "create", index_name, "--mapping", path), 2
    )
    assert "cannot be read" in error_of(run("index", "create", index_name, "--mapping", tmp_path / "none"), 2)
    assert not client.indices.exists(index=index_name)


def test_the_real_model(client: Elasticsearch, index_name: str, elasticsearch_url: str) -> None:
    """Late chunking at work: the second sentence never names the city."""
    server = ["--index", index_name, "--url", elasticsearch_url]
    assert run("index", "create", index_name, "--max-tokens", "16", *server[2:]).exit_code == 0
    source = "\n".join(
        json.dumps(
            {"id": name, "text": f"{name} is a city on the river {river}. It has about {people} inhabitants."}
        )
        for name, river, people in [
            ("Berlin", "Spree", "four million"),
            ("Bamberg", "Regnitz", "eighty thousand"),
        ]
    )
    ingested = run("ingest", "-", *server, "--json", input=source)
    assert ingested.exit_code == 0, ingested.stderr
    assert json.loads(ingested.stdout)["chunks"] == 4
    found = run("search", "How many people live in Bamberg?", *server, "--mode", "knn", "-k", "2", "--json")
    assert (found.exit_code, found.stderr) == (0, "")
    assert {json.loads(line)["doc_id"] for line in found.stdout.splitlines()} == {"Bamberg"}


def test_a_wrong_setting_that_is_found_while_reading_prints_no_report_of_nothing(
    client: Elasticsearch, index_name: str, encoder: WordEncoder, folder: Path
) -> None:
    make_index(client, index_name, encoder)
    for options in ([], ["--json"]):
        refused = run("ingest", folder, "--index", index_name, "--exclude", "!", *options)
        assert "--exclude: a pattern is not valid" in error_of(refused, 2)
