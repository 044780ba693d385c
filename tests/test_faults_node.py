"""kill -9 of the server in the middle of a load: ridden out when it comes back in time, repaired when not."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import faults
import pytest
from elasticsearch import Elasticsearch
from faults import Fault, Request, WatchedProxy, assert_same, load_new, make_new, make_old, whole_state
from servers import HEAP, java_for, versions_here

from es_latechunk import connect
from es_latechunk.errors import WriteError
from es_latechunk.node import Node, node_status, start_node, stop_node
from es_latechunk.node.layout import HOME_VARIABLE

NAME = "tests-killed"


@pytest.fixture
def own_node(node_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    faults.use_small_requests(monkeypatch.setattr)
    monkeypatch.setenv(HOME_VARIABLE, str(node_home))
    version = versions_here()[-1]
    yield start_node(NAME, elasticsearch_version=version, java_home=java_for(version), heap=HEAP)
    stop_node(NAME)


def kill(node: Node) -> None:
    assert node.pid is not None
    os.kill(node.pid, signal.SIGKILL)
    while (now := node_status(NAME)) and now.pid:
        time.sleep(0.02)


def test_a_server_killed_during_bulk(own_node: Node) -> None:
    with Elasticsearch(own_node.url, request_timeout=60) as client:
        for name in ("ridden-out", "given-up"):
            make_old(client, name)
        make_new(client, "clean")
        clean = whole_state(client, "clean")
        restarted = threading.Thread(target=lambda: start_node(NAME))

        def kill_and_restart(at: int, request: Request) -> Fault | None:
            if "_bulk" in request.path and len(proxy.seen("_bulk")) == 3:
                kill(own_node)
                restarted.start()
            return None

        with (
            WatchedProxy(own_node.url, kill_and_restart) as proxy,
            connect(url=proxy.url) as lost,
        ):
            report = load_new(lost, "ridden-out", retry_for=300)
        restarted.join()
        assert_same(whole_state(client, "ridden-out"), clean)
        assert (report.failed, report.chunks) == (0, len(clean["chunks"]))

        again = node_status(NAME)
        assert again is not None

        def kill_for_good(at: int, request: Request) -> Fault | None:
            if "_bulk" in request.path and len(proxy.seen("_bulk")) == 4:
                kill(again)
            return None

        with (
            WatchedProxy(own_node.url, kill_for_good) as proxy,
            connect(url=proxy.url) as lost,
            pytest.raises(WriteError, match="run the same command again"),
        ):
            load_new(lost, "given-up", retry_for=0.5)
        assert start_node(NAME).url == own_node.url
        load_new(client, "given-up")
        assert_same(whole_state(client, "given-up"), clean)
