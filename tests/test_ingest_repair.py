"""What a crash leaves behind is repaired by the next run of the same command."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from indices import LETTERS, WordEncoder, load, make_index, stored_chunks

from es_latechunk import Document

pytestmark = pytest.mark.every_version


def delete_first(client: Elasticsearch, name: str) -> None:
    client.delete(index=name, id="berlin#0")


def delete_last(client: Elasticsearch, name: str) -> None:
    client.delete(index=name, id="berlin#2")


def delete_all_but_one(client: Elasticsearch, name: str) -> None:
    client.delete(index=name, id="berlin#0")
    client.delete(index=name, id="berlin#2")


def other_hash(client: Elasticsearch, name: str) -> None:
    client.update(index=name, id="berlin#1", doc={"doc_hash": "0" * 32})


def no_hash(client: Elasticsearch, name: str) -> None:
    client.update(index=name, id="berlin#1", doc={"doc_hash": None})


def surplus_of_an_older_version(client: Elasticsearch, name: str) -> None:
    source = {**client.get(index=name, id="berlin#2", source_exclude_vectors=False)["_source"]}
    client.index(index=name, id="berlin#7", document={**source, "ordinal": 7, "doc_hash": "1" * 32})


def surplus_of_the_same_version(client: Elasticsearch, name: str) -> None:
    source = {**client.get(index=name, id="berlin#2", source_exclude_vectors=False)["_source"]}
    client.index(index=name, id="berlin#3", document={**source, "ordinal": 3})


@pytest.mark.parametrize(
    "damage",
    [
        delete_first,
        delete_last,
        delete_all_but_one,
        other_hash,
        no_hash,
        surplus_of_an_older_version,
        surplus_of_the_same_version,
    ],
)
def test_a_half_written_document_is_written_again(
    client: Elasticsearch, index_name: str, damage: Callable[[Elasticsearch, str], None]
) -> None:
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    clean = stored_chunks(client, index_name)
    damage(client, index_name)
    assert stored_chunks(client, index_name) != clean
    report, errors = load(client, index_name, LETTERS, encoder)
    assert (report.documents, report.indexed, report.unchanged, errors) == (3, 3, 5, [])
    assert stored_chunks(client, index_name) == clean


class Killed(BaseException):
    """Stands for a kill: no error of ours, and nobody catches it."""


@pytest.mark.parametrize("at", [0, 1, 2, 17, 29])
def test_a_run_that_broke_off_is_finished_by_the_next_one(
    client: Elasticsearch, index_name: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("es_latechunk.elastic.write.bulk.BATCH_ACTIONS", 7)
    monkeypatch.setattr("es_latechunk.elastic.index.contents.LOOK_UP_DOCUMENTS", 4)
    documents = [Document(f"d{n}", f"Number {n} is one. " * (n % 5 + 1)) for n in range(30)]

    def broken() -> Any:
        for number, document in enumerate(documents):
            if number == at:
                raise Killed
            yield document

    encoder = make_index(client, index_name)
    with pytest.raises(Killed):
        load(client, index_name, broken(), encoder)
    report, errors = load(client, index_name, documents, encoder)
    assert (report.documents, report.failed, errors) == (30, 0, [])
    clean = f"{index_name}-clean"
    make_index(client, clean)
    load(client, clean, documents, encoder)
    assert stored_chunks(client, index_name) == stored_chunks(client, clean)


def interval(client: Elasticsearch, name: str) -> str | None:
    settings = client.indices.get_settings(index=name)[name]["settings"]["index"]
    value: str | None = settings.get("refresh_interval")
    return value


def meta(client: Elasticsearch, name: str) -> dict[str, Any]:
    entries: dict[str, Any] = client.indices.get_mapping(index=name)[name]["mappings"]["_meta"]
    return entries


@pytest.mark.parametrize("before", ["7s", "-1", None])
def test_the_refresh_interval_is_put_back(client: Elasticsearch, index_name: str, before: str | None) -> None:
    encoder = make_index(client, index_name)
    client.indices.put_settings(index=index_name, settings={"index": {"refresh_interval": before}})
    recorded = meta(client, index_name)
    during: list[str | None] = []

    def source() -> Any:
        during.append(interval(client, index_name))
        yield from LETTERS

    load(client, index_name, source(), encoder)
    assert during == ["-1"]
    assert interval(client, index_name) == before
    assert meta(client, index_name) == recorded
    assert client.count(index=index_name)["count"] == 8


@pytest.mark.parametrize("before", ["7s", None])
def test_after_a_crash_the_next_run_puts_it_back(
    client: Elasticsearch, index_name: str, before: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = make_index(client, index_name)
    recorded = meta(client, index_name)
    left_behind = {**recorded, "es_latechunk_load": {"refresh_interval": before}}
    client.indices.put_mapping(index=index_name, meta=left_behind)
    client.indices.put_settings(index=index_name, settings={"index": {"refresh_interval": "-1"}})
    with caplog.at_level(logging.WARNING):
        load(client, index_name, [], encoder)
    assert "an earlier load did not end" in caplog.text
    assert interval(client, index_name) == before
    assert meta(client, index_name) == recorded


def test_a_run_that_fails_puts_it_back_too(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)

    def broken() -> Any:
        yield LETTERS[0]
        raise Killed

    with pytest.raises(Killed):
        load(client, index_name, broken(), encoder)
    assert interval(client, index_name) is None
    assert list(meta(client, index_name)) == ["es_latechunk"]


def test_what_others_keep_in_meta_stays(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    recorded = {**meta(client, index_name), "owner": "me"}
    client.indices.put_mapping(index=index_name, meta=recorded)
    load(client, index_name, LETTERS, encoder)
    assert meta(client, index_name) == recorded


def test_vectors_come_back_the_same_after_a_repair(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    clean = stored_chunks(client, index_name)
    client.update(
        index=index_name, id="berlin#1", doc={"content_embedding": [1.0] + [0.0] * 15, "doc_hash": "x"}
    )
    load(client, index_name, LETTERS, WordEncoder())
    assert stored_chunks(client, index_name) == clean
