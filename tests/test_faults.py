"""The fault suite: whatever ends a load, the next run of the same command ends in the state of a clean one.

Kills and faults come at points drawn from a seed, which is printed where a test fails.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import faults
import pytest
from elasticsearch import Elasticsearch
from faults import (
    NEW,
    SEED,
    CutAnswer,
    Delay,
    Fault,
    Hang,
    LostAnswer,
    Request,
    Reset,
    Rewrite,
    Status,
    WatchedProxy,
    assert_same,
    load_new,
    make_new,
    make_old,
    whole_new_chunks,
    whole_state,
)

from es_latechunk import connect
from es_latechunk.elastic.index.contents import IndexedDocument
from es_latechunk.errors import LateChunkError

KILLS, STORMS, LOSSES = 20, 5, 5
STARTING = 4  # requests before the load begins: a server that is not there at all is told at once


@pytest.fixture(autouse=True)
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    faults.use_small_requests(monkeypatch.setattr)


@pytest.fixture(scope="module")
def clean(elasticsearch_url: str) -> dict[str, Any]:
    """The state after one run, with nothing before it and no fault; and the requests of a run over the old one."""
    with (
        Elasticsearch(elasticsearch_url, request_timeout=60) as client,
        pytest.MonkeyPatch.context() as patch,
    ):
        faults.use_small_requests(patch.setattr)
        make_new(client, "test-faults-clean")
        state = whole_state(client, "test-faults-clean")
        make_old(client, "test-faults-old")
        with WatchedProxy(elasticsearch_url, lambda *_: None) as proxy:
            with connect(url=proxy.url) as counted:
                load_new(counted, "test-faults-old")
            state["requests"] = len(proxy.requests)
        client.indices.delete(index="test-faults-clean")
        client.indices.delete(index="test-faults-old")
    assert {row["doc_id"] for row in state["chunks"].values()} == {document.id for document in NEW}
    return state


def seeded(what: str, number: int) -> random.Random:
    return random.Random(f"{SEED} {what} {number}")  # noqa: S311 - no secret, and it must come again


def drawn(what: str, number: int, points: range) -> tuple[random.Random, int]:
    """A point in each of equal parts of `points`, so that all of a run is met; and what else is drawn for it."""
    parts = {"kill": KILLS, "loss": LOSSES}[what]
    source = seeded(what, number)
    first = points[len(points) * number // parts]
    last = points[len(points) * (number + 1) // parts - 1]
    point = source.randint(first, last)
    print(f"seed {SEED}, {what} {number}: at request {point} of {points.stop}")
    return source, point


@pytest.mark.parametrize("number", range(KILLS))
def test_a_kill_at_any_point(
    client: Elasticsearch, elasticsearch_url: str, clean: dict[str, Any], index_name: str, number: int
) -> None:
    """kill -9 of the ingester, just before the server gets a request or just after it has done it."""
    source, point = drawn("kill", number, range(clean["requests"]))
    done_already = source.random() < 0.5
    running: list[subprocess.Popen[bytes]] = []

    def kill(_: Any = None) -> None:
        running[0].kill()
        running[0].wait()

    def watch(at: int, _: Request) -> Fault | None:
        if at != point:
            return None
        if done_already:
            return Rewrite(kill)
        kill()
        return Reset()

    make_old(client, index_name)
    with WatchedProxy(elasticsearch_url, watch) as proxy:
        running.append(subprocess.Popen([sys.executable, faults.__file__, proxy.url, index_name]))
        assert running[0].wait(120) == -signal.SIGKILL
    load_new(client, index_name)
    assert_same(whole_state(client, index_name), clean)


def test_a_chunk_missing_and_one_left_over_do_not_make_a_whole() -> None:
    assert IndexedDocument("d", chunks=3, chunk_count=3, last_ordinal=2, doc_hash="h").is_whole("h")
    assert not IndexedDocument("d", chunks=3, chunk_count=3, last_ordinal=3, doc_hash="h").is_whole("h")


def some_items_rejected(source: random.Random) -> Rewrite:
    def change(answer: Any) -> None:
        for item in answer["items"]:
            if source.random() < 0.3:
                result = next(iter(item.values()))
                cause = {"type": "es_rejected_execution_exception", "reason": "queue is full"}
                result.update(status=429, error=cause)

    return Rewrite(change)


def storm(source: random.Random, request: Request) -> Fault:
    """What a bad day has: before the server, behind it, in the middle of an answer, slow, and item by item."""
    if "_bulk" in request.path and source.random() < 0.3:
        return some_items_rejected(source)
    return source.choice(
        [
            Reset(),
            LostAnswer(),
            CutAnswer(share=source.random()),
            CutAnswer(share=source.random(), announced=False),
            Delay(0.05),
            Status(source.choice([429, 502, 503, 504])),
        ]
    )


@pytest.mark.parametrize("number", range(STORMS))
def test_a_storm_is_ridden_out(
    client: Elasticsearch, elasticsearch_url: str, clean: dict[str, Any], index_name: str, number: int
) -> None:
    """Every third request of a load meets a fault; the run ends well, and its report is that of a quiet one."""
    print(f"seed {SEED}, storm {number}")
    source = seeded("storm", number)

    def watch(at: int, request: Request) -> Fault | None:
        return storm(source, request) if at >= STARTING and source.random() < 0.3 else None

    make_old(client, index_name)
    with WatchedProxy(elasticsearch_url, watch) as proxy, connect(url=proxy.url) as stormy:
        report = load_new(stormy, index_name)
        assert len(proxy.requests) > clean["requests"]
    assert_same(whole_state(client, index_name), clean)
    assert (report.documents, report.chunks, report.failed) == (len(NEW), len(clean["chunks"]), 0)


@pytest.mark.parametrize("number", range(LOSSES))
def test_a_server_that_is_lost_for_good(
    client: Elasticsearch, elasticsearch_url: str, clean: dict[str, Any], index_name: str, number: int
) -> None:
    """From a point on nothing comes through; the run gives up and says so, and a later one repairs all."""
    source, point = drawn("loss", number, range(clean["requests"]))
    last = source.choice([Reset(), LostAnswer(), CutAnswer(), Status(503), Status(429)])
    make_old(client, index_name)
    with WatchedProxy(elasticsearch_url, lambda at, _: last if at >= point else None) as proxy:
        with connect(url=proxy.url) as lost, pytest.raises(LateChunkError) as told:
            load_new(lost, index_name, retry_for=0)
        assert proxy.url in str(told.value) or index_name in str(told.value)
    load_new(client, index_name)
    assert_same(whole_state(client, index_name), clean)


@pytest.fixture
def source_file(tmp_path: Path) -> Path:
    path = tmp_path / "new.jsonl"
    rows = ({"id": d.id, "text": d.text, "title": d.title, "metadata": d.metadata} for d in NEW)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("number", "method", "path", "nth"),
    [
        (signal.SIGINT, "PUT", "/_bulk", 4),
        (signal.SIGHUP, "PUT", "/_bulk", 9),
        (signal.SIGINT, "POST", "/_search", 2),
        (signal.SIGTERM, "POST", "/_aliases", 1),  # owning the index
        (signal.SIGINT, "PUT", "/_mapping", 1),  # noting who loads, and what was there
        (signal.SIGTERM, "PUT", "/_settings", 1),  # switching refreshes off
        (signal.SIGTERM, "PUT", "/_settings", 2),  # setting back
        (signal.SIGINT, "PUT", "/_mapping", 2),  # taking the note away
    ],
)
def test_a_signal_finishes_the_request_and_reports(
    client: Elasticsearch, elasticsearch_url: str, clean: dict[str, Any], index_name: str, source_file: Path,
    number: int, method: str, path: str, nth: int,
) -> None:  # fmt: skip
    running: list[subprocess.Popen[str]] = []
    seen: list[int] = []

    def watch(at: int, request: Request) -> Fault | None:
        if (request.method, request.path.partition("?")[0].endswith(path)) != (method, True):
            return None
        seen.append(at)
        if len(seen) != nth:
            return None
        running[0].send_signal(number)
        return Delay(0.2)

    make_old(client, index_name)
    with WatchedProxy(elasticsearch_url, watch) as proxy:
        words = ["ingest", source_file, "--index", index_name, "--prune", "--json", "--url", proxy.url]
        running.append(
            subprocess.Popen(
                [sys.executable, faults.__file__, *words],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"},
            )
        )  # fmt: skip
        stdout, stderr = running[0].communicate(timeout=120)
    assert running[0].returncode == 128 + number, stderr
    assert "Traceback" not in stderr
    assert stderr.endswith("interrupted\n")
    state = whole_state(client, index_name)
    assert (state["mappings"], state["settings"]) == (clean["mappings"], clean["settings"])
    [report] = [json.loads(line) for line in stdout.splitlines()]
    assert report["indexed"] == whole_new_chunks(state["chunks"])
    if path == "/_bulk":
        assert len(seen) == nth, "no request follows the one in flight"
        assert 0 < report["indexed"] < len(clean["chunks"])
    load_new(client, index_name)
    assert_same(whole_state(client, index_name), clean)


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_while_the_server_hangs_ends_soon(
    client: Elasticsearch, elasticsearch_url: str, clean: dict[str, Any], index_name: str, source_file: Path,
    signals: int,
) -> None:  # fmt: skip
    """Each request would be waited for for a minute, and each repeated for two. A second signal waits for nothing."""
    running: list[subprocess.Popen[str]] = []
    hanging = threading.Event()

    def watch(at: int, request: Request) -> Fault | None:
        if not hanging.is_set() and "/_bulk" not in request.path:
            return None
        hanging.set()
        return Hang(released)

    released = threading.Event()
    make_old(client, index_name)
    with WatchedProxy(elasticsearch_url, watch) as proxy:
        words = ["ingest", source_file, "--index", index_name, "--prune", "--json", "--url", proxy.url]
        running.append(
            subprocess.Popen(
                [sys.executable, faults.__file__, *words],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"},
            )
        )  # fmt: skip
        assert hanging.wait(60)
        for _ in range(signals):
            running[0].send_signal(signal.SIGINT)
            time.sleep(0.5)
        try:
            stdout, stderr = running[0].communicate(timeout=45 if signals == 1 else 8)
        finally:
            released.set()
    assert running[0].returncode == 128 + signal.SIGINT, stderr
    assert "its settings are not restored" in stderr
    assert "Traceback" not in stderr
    assert stderr.endswith("interrupted\n")
    assert json.loads(stdout)["indexed"] == 0
    load_new(client, index_name)
    assert_same(whole_state(client, index_name), clean)
