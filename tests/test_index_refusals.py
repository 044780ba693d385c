"""What concerns the whole index ends a load at once, with its cause; and what passes at its start is ridden out."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from faults import FaultProxy, LostAnswer, Reset, Status
from indices import LETTERS, load, make_index
from test_ownership import doing, interval, many, small

from es_latechunk import Document, connect, search
from es_latechunk.elastic import retry
from es_latechunk.elastic.example_requests import example_requests
from es_latechunk.elastic.index.admin import describe_index
from es_latechunk.elastic.index.from_index import read_index
from es_latechunk.errors import IndexMismatchError, IndexRefusedError, PreconditionError

BERLIN, LISBON, KOELN = LETTERS


@pytest.mark.parametrize("block", ["blocks.write", "blocks.read_only", "blocks.read_only_allow_delete"])
def test_a_blocked_index_is_refused_before_anything_is_encoded(
    client: Elasticsearch, index_name: str, block: str
) -> None:
    encoder = make_index(client, index_name)
    client.indices.put_settings(index=index_name, settings={"index": {block: True}})
    try:
        with pytest.raises(
            PreconditionError, match=rf"is blocked for writing \(index\.{block}\); .*remove the block"
        ):
            load(client, index_name, LETTERS, encoder)
    finally:
        client.indices.put_settings(index=index_name, settings={"index": {block: None}})
    assert encoder.tokens_encoded == 0


def test_a_closed_index_is_said_to_be_closed(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    client.indices.close(index=index_name)
    closed = f"index {index_name}: is closed; open it with: POST"
    with pytest.raises(PreconditionError, match=closed):
        load(client, index_name, LETTERS, encoder)
    with pytest.raises(PreconditionError, match=closed):
        search("Spree", index=index_name, client=client, encoder=encoder)
    with pytest.raises(PreconditionError, match=closed):
        describe_index(client, index_name)
    with pytest.raises(PreconditionError, match=closed):
        list(read_index(index_name, client=client))


def test_a_source_index_that_keeps_no_source_is_refused_once(client: Elasticsearch, index_name: str) -> None:
    client.indices.create(index=index_name, mappings={"_source": {"enabled": False}})
    for number in range(3):
        client.index(index=index_name, id=str(number), document={"content": "text"}, refresh=True)
    with pytest.raises(PreconditionError, match=f"index {index_name}: keeps no _source, so its texts"):
        list(read_index(index_name, client=client))


def test_the_source_index_is_opened_through_what_passes(
    client: Elasticsearch, elasticsearch_url: str, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "LONGEST_WAIT", 0.05)
    client.index(index=index_name, id="1", document={"content": "text"}, refresh=True)
    with FaultProxy(elasticsearch_url) as proxy, connect(url=proxy.url) as proxied:
        for fault in (Status(429), Reset(), Status(503)):
            proxy.fail(fault, path="_pit")
        read = list(read_index(index_name, client=proxied))
    assert read == [Document("1", "text")]


def test_what_others_have_written_does_not_end_a_prune_or_the_tour(
    client: Elasticsearch, index_name: str
) -> None:
    encoder = make_index(client, index_name)
    client.index(index=index_name, id="a", document={"content": "text", "ordinal": 0}, refresh=True)
    client.index(index=index_name, id="b", document={"doc_id": "b", "content": "text"}, refresh=True)
    assert "GET /" in example_requests(client, index_name)
    report, errors = load(client, index_name, LETTERS, encoder, prune=True)
    assert (report.documents, report.deleted, errors) == (3, 0, [])


@pytest.mark.parametrize(
    ("block", "cause"),
    [("blocks.write", "blocked by.*write"), ("blocks.read_only_allow_delete", "disk usage")],
)
def test_a_block_during_a_load_ends_it_with_its_cause(
    client: Elasticsearch, elasticsearch_url: str, index_name: str, monkeypatch: pytest.MonkeyPatch,
    block: str, cause: str,
) -> None:  # fmt: skip
    """The second is how Elasticsearch says that a disk is full: with the status 429, which else would pass."""
    encoder = small(monkeypatch)
    make_index(client, index_name, encoder)

    def blocked() -> None:
        client.indices.put_settings(index=index_name, settings={"index": {block: True}})

    with FaultProxy(elasticsearch_url) as proxy, connect(url=proxy.url) as proxied:
        with pytest.raises(IndexRefusedError, match=rf"accepts no chunk at all \(.*{cause}") as refused:
            load(proxied, index_name, doing(many(), 10, blocked), encoder)  # type: ignore[arg-type]
        sent = len(proxy.seen("/_bulk"))
    assert index_name in str(refused.value)
    assert encoder.tokens_encoded < 10 * len(many()) / 2, "what comes after is not encoded"
    assert sent < len(many()) / 2
    client.indices.put_settings(index=index_name, settings={"index": {block: None}})
    assert interval(client, index_name) is None


BLOCKED = "blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark]"


@pytest.mark.parametrize("path", ["/_aliases", "/_mapping", "/_settings", "/_bulk"])
@pytest.mark.parametrize("status", [403, 429])
def test_a_block_of_whole_requests_is_neither_repeated_nor_taken_for_a_lacking_right(
    client: Elasticsearch, elasticsearch_url: str, index_name: str, path: str, status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    encoder = make_index(client, index_name)
    with FaultProxy(elasticsearch_url) as proxy, connect(url=proxy.url) as proxied:
        proxy.fail(
            Status(status, "cluster_block_exception", BLOCKED), path=path, method=METHODS.get(path, "PUT")
        )
        with pytest.raises(
            PreconditionError, match=r"is blocked \(blocked by.*; free disk space or remove the"
        ):
            load(proxied, index_name, LETTERS, encoder)
    assert "no right" not in caplog.text


METHODS = {"/_aliases": "POST"}


def test_attempts_that_go_on_are_told_once(
    client: Elasticsearch, elasticsearch_url: str, index_name: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, "es_latechunk")
    monkeypatch.setattr(retry, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(retry, "LOG_AFTER", 0.0)
    encoder = make_index(client, index_name)
    with FaultProxy(elasticsearch_url) as proxy, connect(url=proxy.url) as proxied:
        proxy.fail(Status(429, reason="queue is full"), times=3, path="/_bulk")
        load(proxied, index_name, LETTERS, encoder)
    told = [record.getMessage() for record in caplog.records if "so far" in record.getMessage()]
    assert told == [
        f"{proxy.url}: did not take a request of 8 actions so far (429: queue is full); trying for 120 s in all"
    ]


def test_an_index_that_requires_a_routing_is_refused(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, f"{index_name}-first")
    mappings = client.indices.get_mapping(index=f"{index_name}-first")[f"{index_name}-first"]["mappings"]
    client.indices.create(index=index_name, mappings={**mappings, "_routing": {"required": True}},
                          settings=analysis(client, f"{index_name}-first"))  # fmt: skip
    with pytest.raises(IndexMismatchError, match="requires a routing, and chunks have none"):
        load(client, index_name, LETTERS, encoder)


def analysis(client: Elasticsearch, name: str) -> dict[str, Any]:
    settings: dict[str, Any] = client.indices.get_settings(index=name)[name]["settings"]["index"]
    return {"analysis": settings["analysis"]}


def test_the_requests_that_open_a_load_are_ridden_out_too(
    client: Elasticsearch, elasticsearch_url: str, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "LONGEST_WAIT", 0.05)
    encoder = make_index(client, index_name)
    with FaultProxy(elasticsearch_url) as proxy, connect(url=proxy.url) as proxied:
        for status in (429, 503, 429):
            proxy.fail(Status(status))
        proxy.fail(Status(503), path="_nodes")
        report, errors = load(proxied, index_name, LETTERS, encoder)
    assert (report.documents, errors) == (3, [])


def test_deleted_counts_the_truth_where_answers_are_lost(
    client: Elasticsearch, elasticsearch_url: str, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "LONGEST_WAIT", 0.05)
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    with FaultProxy(elasticsearch_url) as proxy, connect(url=proxy.url) as proxied:
        proxy.fail(LostAnswer(), times=2, path="/_bulk")
        shorter = Document("berlin", "Berlin lies on the Spree.", "Berlin", {"lang": "en"})
        report, _ = load(proxied, index_name, [shorter, LISBON, KOELN], encoder)
    assert (report.indexed, report.deleted) == (1, 2)
