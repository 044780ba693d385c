"""A load while a shard of its index has no copy, as after the restart of a node."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from elasticsearch import Elasticsearch
from faults import Fault, Request, WatchedProxy
from indices import load, made_up_documents, make_index, stored_chunks

from es_latechunk import Document, LateChunkError, connect
from es_latechunk.elastic import retry
from es_latechunk.elastic.connection import server_errors
from es_latechunk.elastic.index.contents import count
from es_latechunk.elastic.index.template import CHUNKS

LONG = made_up_documents(12)
SHORT = [Document(one.id, one.text[: len(one.text) // 2], one.title, one.metadata) for one in LONG]


RECOVERIES = "cluster.routing.allocation.node_initial_primaries_recoveries"


def take_away_a_shard(client: Elasticsearch, name: str) -> None:
    """Its shard 0 has to be opened again, and the node may not begin with it."""
    client.cluster.put_settings(persistent={RECOVERIES: 0})
    [node] = client.nodes.info()["nodes"]
    cancel = {"index": name, "shard": 0, "node": node, "allow_primary": True}
    client.cluster.reroute(commands=[{"cancel": cancel}])
    assert client.cluster.health(index=name)["status"] == "red"


@pytest.fixture
def give_it_back(client: Elasticsearch) -> Iterator[Callable[[], None]]:
    def give() -> None:
        client.cluster.put_settings(persistent={RECOVERIES: None})
        client.cluster.reroute()

    yield give
    give()


@pytest.mark.parametrize("prune", [False, True])
def test_documents_are_never_compared_with_a_part_of_the_index(
    client: Elasticsearch,
    elasticsearch_url: str,
    index_name: str,
    prune: bool,
    give_it_back: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "LONGEST_WAIT", 0.05)
    clean = f"{index_name}-clean"
    kept = SHORT[:8] if prune else SHORT
    for name in (index_name, clean):
        encoder = make_index(client, name, shards=2)
    load(client, index_name, LONG, encoder)
    load(client, clean, kept, encoder)
    since_taken = 0

    def watch(_: int, request: Request) -> Fault | None:
        nonlocal since_taken
        if since_taken:
            since_taken += 1
            # Long enough that a load which takes such an answer for whole would go on to write.
            if since_taken == 8 or "/_bulk" in request.path:
                give_it_back()
        elif "/_search" in request.path and (b"composite" in request.body) == prune:
            since_taken = 1
            take_away_a_shard(client, index_name)
        return None

    with WatchedProxy(elasticsearch_url, watch) as proxy, connect(url=proxy.url) as ours:
        report, errors = load(ours, index_name, kept, encoder, prune=prune, max_prune=1.0)
    assert since_taken >= 8
    assert errors == []
    assert stored_chunks(client, index_name) == stored_chunks(client, clean)
    assert report.deleted > 0


def test_a_count_is_never_that_of_a_part_of_the_index(
    client: Elasticsearch, index_name: str, give_it_back: Callable[[], None]
) -> None:
    encoder = make_index(client, index_name, shards=2)
    load(client, index_name, LONG, encoder)
    chunks = count(client, index_name, CHUNKS)
    assert chunks == len(stored_chunks(client, index_name))
    take_away_a_shard(client, index_name)
    assert client.count(index=index_name, query=CHUNKS)["count"] < chunks
    with pytest.raises(LateChunkError, match=index_name), server_errors(client, index_name):
        count(client, index_name, CHUNKS)
    give_it_back()
    client.cluster.health(index=index_name, wait_for_status="yellow", timeout="60s")
    assert count(client, index_name, CHUNKS) == chunks
