"""The tour through an index in docs/kibana.md: every request is sent as it stands there, and its answer read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import run
from elasticsearch import Elasticsearch
from indices import LETTERS, WordEncoder, load, make_index

TOUR = Path(__file__).parent.parent / "docs" / "kibana.md"
REQUESTS = re.findall(
    r"^```console\n(\w+) (\S+)\n(.*?)^```", TOUR.read_text("utf-8"), re.MULTILINE | re.DOTALL
)
PLACEHOLDER = [0.031, -0.052, 0.017]
INDEX = "notes"
QUERY = "The city is old."


@pytest.fixture(scope="module")
def notes(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    documents = [replace(document, id=f"{document.id}.txt") for document in LETTERS]
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.delete(index=INDEX, ignore_unavailable=True)
        encoder = make_index(client, INDEX)
        load(client, INDEX, documents, encoder)
        yield client, encoder
        client.indices.delete(index=INDEX)


def ids(answer: Any) -> list[str]:
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def mapping(answer: Any) -> None:
    assert answer[INDEX]["mappings"]["_meta"]["es_latechunk"]["model"] == "fake/words"
    assert answer[INDEX]["mappings"]["properties"]["content_embedding"]["dims"] == 16


def count(answer: Any) -> None:
    assert answer["count"] == 8


def chunks_of_documents(answer: Any) -> None:
    rows = answer["aggregations"]["documents"]["buckets"]
    assert {row["key"]: row["doc_count"] for row in rows} == {"berlin.txt": 3, "lisbon.txt": 3, "köln.txt": 2}
    assert all(row["doc_count"] == row["chunk_count"]["value"] for row in rows)


def chunks_in_order(answer: Any) -> None:
    sources = [hit["_source"] for hit in answer["hits"]["hits"]]
    assert [source["ordinal"] for source in sources] == [0, 1, 2]
    text = LETTERS[0].text
    assert [source["content"] for source in sources] == [text[row["start"] : row["end"]] for row in sources]


def one_chunk(answer: Any) -> None:
    assert (answer["_id"], answer["_source"]["content"]) == ("berlin.txt#1", QUERY)


def vector(answer: Any) -> None:
    [hit] = answer["hits"]["hits"]
    assert len(hit["fields"]["content_embedding"]) == 16


def words(answer: Any) -> None:
    assert ids(answer) == ["berlin.txt#1"]


def nearest(answer: Any) -> None:
    assert (ids(answer)[0], len(ids(answer))) == ("berlin.txt#1", 3)
    assert answer["hits"]["hits"][0]["_score"] > 0.9


def nearest_of_each_document(answer: Any) -> None:
    assert [hit["_source"]["doc_id"] for hit in answer["hits"]["hits"]] == ["berlin.txt", "lisbon.txt"]


def size_on_disk(answer: Any) -> None:
    [row] = answer
    assert (row["index"], row["health"], row["docs.count"]) == (INDEX, "green", "8")


CHECKS: list[Callable[[Any], None]] = [
    mapping,
    count,
    chunks_of_documents,
    chunks_in_order,
    one_chunk,
    vector,
    words,
    nearest,
    nearest_of_each_document,
    size_on_disk,
]


def test_every_request_has_a_check() -> None:
    assert len(REQUESTS) == len(CHECKS) == TOUR.read_text("utf-8").count("```console")


@pytest.mark.parametrize("number", range(len(CHECKS)), ids=[check.__name__ for check in CHECKS])
def test_a_request_of_the_tour(notes: tuple[Elasticsearch, WordEncoder], number: int) -> None:
    client, encoder = notes
    method, path, text = REQUESTS[number]
    body = json.loads(text) if text else None
    if body and "knn" in body:
        assert body["knn"]["query_vector"] == PLACEHOLDER
        body["knn"]["query_vector"] = encoder.encode_queries([QUERY])[0].tolist()
    headers = {"accept": "application/json", "content-type": "application/json"}
    CHECKS[number](client.perform_request(method, path, headers=headers, body=body).body)


def test_the_command_that_prints_a_request(
    notes: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("es_latechunk.cli.options.load_recorded", lambda *_, **__: notes[1])
    [command] = re.findall(r'^es-latechunk search "(.+)" (.+)$', TOUR.read_text("utf-8"), re.MULTILINE)
    shown = run("search", command[0], *command[1].split(), "--url", elasticsearch_url).stdout
    head, _, body = shown.partition("\n")
    assert head == f"POST /{INDEX}/_search"
    assert len(json.loads(body)["knn"]["query_vector"]) == 16
