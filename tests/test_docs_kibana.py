"""The tour through an index in docs/kibana.md: every request is sent as it stands there, and its answer read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from commands import run
from elasticsearch import Elasticsearch
from indices import LETTERS, WordEncoder, load, make_index

from es_latechunk.elastic.search.query import CONTEXT_WEIGHTS, QueryBuilder, SearchOptions

TOUR = Path(__file__).parent.parent / "docs" / "kibana.md"
REQUESTS, LICENSED = (
    re.findall(rf"^```{fence}\n(\w+) (\S+)\n(.*?)^```", TOUR.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for fence in ("console", "console licensed")
)
SCHEMA = Path(__file__).parents[2] / "shared/data/elasticsearch_api/request-bodies.strict.schema.json"
OPERATIONS = {"PUT": "indices-create", "POST": "search"}
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


def words_and_nearest(answer: Any) -> None:
    found, near = answer["responses"]
    assert ids(found)[0] == "berlin.txt#1"
    assert set(ids(found)[1:]) == {"berlin.txt#0", "berlin.txt#2"}  # they see its words
    nearest(near)


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
    words_and_nearest,
    size_on_disk,
]


def test_every_request_has_a_check() -> None:
    assert len(REQUESTS) == len(CHECKS)
    assert len(REQUESTS) + len(LICENSED) == TOUR.read_text("utf-8").count("```console")


def filled_in(line: str, encoder: WordEncoder) -> Any:
    body = json.loads(line)
    if "knn" in body:
        assert body["knn"]["query_vector"] == PLACEHOLDER
        body["knn"]["query_vector"] = encoder.encode_queries([QUERY])[0].tolist()
    return body


@pytest.mark.parametrize("number", range(len(CHECKS)), ids=[check.__name__ for check in CHECKS])
def test_a_request_of_the_tour(notes: tuple[Elasticsearch, WordEncoder], number: int) -> None:
    client, encoder = notes
    method, path, text = REQUESTS[number]
    many = path.endswith("_msearch")
    bodies = [filled_in(part, encoder) for part in (text.splitlines() if many else [text]) if part]
    kind = "application/x-ndjson" if many else "application/json"
    headers = {"accept": "application/json", "content-type": kind}
    body = bodies if many else next(iter(bodies), None)
    CHECKS[number](client.perform_request(method, path, headers=headers, body=body).body)


@pytest.mark.skipif(not SCHEMA.exists(), reason="needs ../shared")
@pytest.mark.parametrize(("method", "path", "text"), LICENSED)
def test_a_request_that_needs_a_licence_fits_the_description(method: str, path: str, text: str) -> None:
    schema = json.loads(SCHEMA.read_text("utf8"))
    check = jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/request.{OPERATIONS[method]}"})
    check.validate(json.loads(text))
    assert path.endswith("/_search") == (method == "POST")
    assert list(check.iter_errors({**json.loads(text), "unheard_of": 1}))


def test_what_the_server_would_fuse_is_what_the_command_asks() -> None:
    [fused] = [json.loads(text) for _, _, text in LICENSED if "linear" in text]
    options = SearchOptions(num_candidates=100)
    built = QueryBuilder({}, frozenset(CONTEXT_WEIGHTS), options).server_fusion(
        "old city", np.array(PLACEHOLDER)
    )
    assert fused["retriever"] == built["retriever"]


def test_the_command_that_prints_a_request(
    notes: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: notes[1])
    [command] = re.findall(r'^es-latechunk search "(.+)" (.+)$', TOUR.read_text("utf-8"), re.MULTILINE)
    shown = run("search", command[0], *command[1].split(), "--url", elasticsearch_url).stdout
    head, _, body = shown.partition("\n")
    assert head == f"POST /{INDEX}/_search"
    assert len(json.loads(body)["knn"]["query_vector"]) == 16
