"""An ingest on a Ray cluster: the index, the results and the report are those of one process, whatever dies."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faults
import psutil
import pytest
import ray_encoders
from commands import run, run_process
from elasticsearch import Elasticsearch
from faults import (
    SEED,
    Fault,
    Request,
    Reset,
    Rewrite,
    Status,
    WatchedProxy,
    assert_same,
    make_new,
    make_old,
    whole_new_chunks,
    whole_state,
)
from ray_encoders import (
    LINGER,
    POISON,
    PYTHONPATH,
    RELEASED,
    loader,
    ray_of_two_processors,
    started,
    wait_for,
)

from es_latechunk import Document, DocumentError, Index, IngestReport, IngestRun, RayCluster, connect, ingest
from es_latechunk.scale import parts

TWO = RayCluster(encoders=2)
SECRET = "c2VjcmV0LWtleS1vZi1hLXRlc3Q="


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    with ray_of_two_processors() as address:
        yield address


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SMALLEST_PART", 200)
    monkeypatch.setattr(parts, "LARGEST_PART", 200)


@pytest.fixture(scope="module")
def clean(elasticsearch_url: str) -> dict[str, Any]:
    """What one process leaves, and what it reports over the old version."""
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        make_new(client, "test-ray-clean")
        state = whole_state(client, "test-ray-clean")
        make_old(client, "test-ray-old")
        state["report"] = counted(faults.load_new(client, "test-ray-old"))
        client.indices.delete(index="test-ray-clean,test-ray-old")
    return state


def counted(report: IngestReport) -> dict[str, Any]:
    """A report without its times."""
    return {name: value for name, value in asdict(report).items() if name not in ("seconds", "stages")}


@pytest.mark.usefixtures("ray_address", "small_parts")
def test_two_encoders_leave_and_report_what_one_process_does(
    client: Elasticsearch, elasticsearch_url: str, clean: dict[str, Any], index_name: str, tmp_path: Path
) -> None:
    def source() -> Iterator[Document]:
        yield from faults.NEW[:20]
        wait_for(lambda: len(started(tmp_path)) == 2)
        yield from faults.NEW[20:]

    make_old(client, index_name)
    with connect(url=elasticsearch_url, api_key=SECRET) as ours:
        index = Index(index_name, client=ours, encoder=loader(tmp_path))
        report = index.ingest(source(), prune=True, cluster=TWO)
        assert counted(report) == clean["report"]
        assert_same(whole_state(client, index_name), clean)
        again = index.ingest(faults.NEW, prune=True, cluster=TWO)
    assert (again.indexed, again.unchanged, again.deleted, again.tokens) == (0, report.chunks, 0, 0)
    assert_same(whole_state(client, index_name), clean)
    assert places_of(SECRET) == []


def places_of(secret: str) -> list[Path]:
    """The log files of Ray, and the command lines of this machine's processes, that contain it."""
    from ray._private.worker import global_worker

    logs = [path for path in Path(global_worker.node.get_logs_dir_path()).rglob("*") if path.is_file()]
    assert logs
    found = []
    for path in (*logs, *Path("/proc").glob("[0-9]*/cmdline")):
        with suppress(OSError):  # a process that has ended meanwhile
            found += [path] if secret.encode() in path.read_bytes() else []
    return found


@pytest.mark.usefixtures("ray_address", "small_parts")
@pytest.mark.parametrize("number", range(2))
def test_an_encoder_that_is_killed_at_any_point_changes_nothing(
    client: Elasticsearch,
    elasticsearch_url: str,
    clean: dict[str, Any],
    index_name: str,
    tmp_path: Path,
    number: int,
) -> None:
    """kill -9 of one of them, just before the server gets a bulk request of either, or just after it has done it."""
    source = random.Random(f"{SEED} ray {number}")  # noqa: S311 - no secret, and it must come again
    point, done_already = source.randint(0, 5), source.random() < 0.5
    print(f"seed {SEED}, number {number}: at bulk request {point}")
    bulk_requests = 0

    def kill(_: Any = None) -> None:
        os.kill(source.choice(started(tmp_path)), signal.SIGKILL)

    def watch(_: int, request: Request) -> Fault | None:
        nonlocal bulk_requests
        if "/_bulk" not in request.path:
            return None
        bulk_requests += 1
        if bulk_requests != point + 1:
            return None
        if done_already:
            return Rewrite(kill)
        kill()
        return Reset()

    make_old(client, index_name)
    with WatchedProxy(elasticsearch_url, watch) as proxy, connect(url=proxy.url) as ours:
        report = ingest(
            faults.NEW, index=index_name, client=ours, encoder=loader(tmp_path), prune=True, cluster=TWO
        )
    assert bulk_requests > point
    assert counted(report) == clean["report"]
    assert_same(whole_state(client, index_name), clean)


@pytest.mark.usefixtures("ray_address", "small_parts")
def test_an_encoder_that_is_replaced_waits_for_a_server_that_restarts(
    client: Elasticsearch,
    elasticsearch_url: str,
    clean: dict[str, Any],
    index_name: str,
    tmp_path: Path,
) -> None:
    """The server is away just when its successor opens the index: that is a fault of the load, not of an address."""
    killed: list[int] = []
    refused = 0

    def watch(_: int, request: Request) -> Fault | None:
        nonlocal refused
        if "/_bulk" in request.path and not killed:
            killed.append(started(tmp_path)[0])
            os.kill(killed[0], signal.SIGKILL)
            return Reset()
        if killed and request.method == "GET" and refused < 2:
            refused += 1
            return Reset()
        return None

    make_old(client, index_name)
    with WatchedProxy(elasticsearch_url, watch) as proxy, connect(url=proxy.url) as ours:
        report = ingest(
            faults.NEW, index=index_name, client=ours, encoder=loader(tmp_path), prune=True, cluster=TWO
        )
    assert refused == 2
    assert counted(report) == clean["report"]
    assert_same(whole_state(client, index_name), clean)


@pytest.mark.usefixtures("ray_address", "small_parts")
def test_a_document_that_kills_its_encoders_is_named_and_the_others_are_written(
    client: Elasticsearch,
    elasticsearch_url: str,
    clean: dict[str, Any],
    index_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "MOST_DEATHS", 1)  # each costs the start of a process
    make_old(client, index_name)
    bad = Document("bad", f"A text with {POISON} in it.")
    unreadable = DocumentError("missing.pdf", "cannot be read")
    source = [*faults.NEW[:3], bad, faults.NEW[0], *faults.NEW[3:20], unreadable, *faults.NEW[20:]]
    with connect(url=elasticsearch_url) as ours:
        report = ingest(source, index=index_name, client=ours, encoder=loader(tmp_path), cluster=TWO)
    failures = {error.document: error for error in report.failures}
    assert set(failures) == {"bad", faults.NEW[0].id, "missing.pdf"}
    assert "the encoders of the cluster that had it ended, 1 in a row" in failures["bad"].cause
    assert failures["bad"].source == bad, "it goes into --dead-letter"
    assert "used before" in failures[faults.NEW[0].id].cause
    assert report.documents == len(faults.NEW)
    found = whole_state(client, index_name)["chunks"]
    written = {key: row for key, row in found.items() if key in clean["chunks"]}
    assert {row["doc_id"] for row in found.values()} - {row["doc_id"] for row in written.values()} == {
        document.id for document in faults.OLD
    } - {document.id for document in faults.NEW}
    assert set(written) == set(clean["chunks"])


@pytest.mark.usefixtures("ray_address", "small_parts")
def test_a_very_long_document_does_not_hold_up_the_others(
    client: Elasticsearch, elasticsearch_url: str, clean: dict[str, Any], index_name: str, tmp_path: Path
) -> None:
    """Its encoder waits in the middle of it until all of the others are written; the progress shows it meanwhile."""
    words = "A sentence of seven words and more. "
    long = Document("long", f"{words * 40} Here some {LINGER} longer. {words * 40}")
    make_old(client, index_name)
    done = []
    with connect(url=elasticsearch_url) as ours:
        load = IngestRun(
            [*faults.NEW[:5], long, *faults.NEW[5:]],
            index=index_name,
            client=ours,
            encoder=loader(tmp_path),
            cluster=TWO,
        )
        planned = []

        def release() -> None:
            wait_for(
                lambda: len(done) == len(faults.NEW) and load.progress.planned_tokens > load.report.tokens
            )
            planned.append(load.progress.planned_documents)
            (tmp_path / RELEASED).touch()

        threading.Thread(target=release, daemon=True).start()
        for result in load:
            done.append(result.doc_id)
    assert (done[-1], load.report.failed) == ("long", 0)
    assert planned == [load.progress.planned_documents]
    assert load.progress.planned_tokens == load.report.tokens == pytest.approx(load.progress.encoded_tokens)
    assert set(done[:-1]) == {document.id for document in faults.NEW}
    assert set(clean["chunks"]) <= set(whole_state(client, index_name)["chunks"])


def test_the_command_fills_an_alias_with_the_real_model(
    client: Elasticsearch, elasticsearch_url: str, ray_address: str, index_name: str, tmp_path: Path
) -> None:
    """Two documents, one of which the mapping refuses; then the same without a cluster has nothing to do."""
    folder, letters = tmp_path / "notes", tmp_path / "failed.ndjson"
    folder.mkdir()
    (folder / "a.txt").write_text("A lamp stands in the harbour. It is old.", encoding="utf-8")
    (folder / "b.jsonl").write_text('{"id": "b", "text": "A bad date.", "when": "never"}\n', encoding="utf-8")
    words = ["ingest", folder, "--alias", index_name, "--url", elasticsearch_url, "--json"]
    first = run(
        "index", "create", f"{index_name}-000001", "--url", elasticsearch_url, "--metadata", "when=date"
    )
    assert first.exit_code == 0, first.stderr
    client.indices.put_alias(index=f"{index_name}-000001", name=index_name)
    on_ray = ["--cluster", "ray", "--ray-address", ray_address, "--encoders", "1", "--dead-letter", letters]
    done = run_process(*words, *on_ray)
    assert done.returncode == 1
    failed, pruned, filled = done.stderr.splitlines()
    assert failed.startswith("error: b: its metadata when is 'never'")
    assert pruned.startswith("warning: prune: 1 documents of the source failed")
    assert filled.startswith(f"index {index_name}-000002 is filled")
    [report] = map(json.loads, done.stdout.splitlines())
    assert (report["documents"], report["failed"], report["indexed"]) == (1, 1, 1)
    assert " on cpu" in report["precision"]
    assert report["engine"] == "openvino"
    assert json.loads(letters.read_text("utf-8"))["id"] == "b"
    again = run(*words)
    assert (again.exit_code, json.loads(again.stdout)["unchanged"]) == (1, 1)


@pytest.mark.parametrize("own_cluster", [False, True])
def test_a_signal_finishes_the_requests_in_flight_and_reports(
    client: Elasticsearch,
    elasticsearch_url: str,
    ray_address: str,
    clean: dict[str, Any],
    index_name: str,
    tmp_path: Path,
    own_cluster: bool,
) -> None:
    """SIGTERM; or Ctrl-C in a terminal, which all processes of the command get, those of its own Ray cluster too."""
    source, folder = tmp_path / "new.jsonl", tmp_path / "encoders"
    source.write_text("".join(json.dumps(row_of(document)) + "\n" for document in faults.NEW))
    folder.mkdir()
    words = [
        "ingest",
        source,
        "--index",
        index_name,
        "--prune",
        "--json",
        "--cluster",
        "ray",
        "--encoders",
        "2",
    ]
    words += [] if own_cluster else ["--ray-address", ray_address]
    command = [sys.executable, ray_encoders.__file__, folder, *words]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "COLUMNS": "200"}
    running: list[subprocess.Popen[str]] = []
    priorities: set[int] = set()
    bulk_requests = 0

    def watch(_: int, request: Request) -> Fault | None:
        nonlocal bulk_requests
        if "/_bulk" not in request.path:
            return None
        bulk_requests += 1
        if bulk_requests == 4:
            priorities.update(os.getpriority(os.PRIO_PROCESS, pid) for pid in started(folder))
            if own_cluster:
                os.killpg(running[0].pid, signal.SIGINT)
            else:
                running[0].send_signal(signal.SIGTERM)
        # What comes after that is held off, however long the signal takes on a busy machine.
        return Status(503) if bulk_requests > 4 else None

    make_old(client, index_name)
    with WatchedProxy(elasticsearch_url, watch) as proxy:
        running.append(
            subprocess.Popen(
                [*map(str, command), "--url", proxy.url],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
            )
        )  # fmt: skip
        stdout, stderr = running[0].communicate(timeout=480)
    assert running[0].returncode == 128 + (signal.SIGINT if own_cluster else signal.SIGTERM), stderr
    assert stderr.splitlines() == ["interrupted"]
    if own_cluster:
        assert priorities == {os.getpriority(os.PRIO_PROCESS, 0)}, "as one process would have"
    state = whole_state(client, index_name)
    assert (state["mappings"], state["settings"]) == (clean["mappings"], clean["settings"])
    [report] = [json.loads(line) for line in stdout.splitlines()]
    assert report["indexed"] == whole_new_chunks(state["chunks"]) < clean["report"]["indexed"]
    faults.load_new(client, index_name)
    assert_same(whole_state(client, index_name), clean)


def test_a_ray_cluster_that_ends_is_named_and_the_next_run_finishes(
    client: Elasticsearch, elasticsearch_url: str, clean: dict[str, Any], index_name: str, tmp_path: Path
) -> None:
    """kill -9 of the raylet, without which no encoder can be replaced."""
    source, folder = tmp_path / "new.jsonl", tmp_path / "encoders"
    source.write_text("".join(json.dumps(row_of(document)) + "\n" for document in faults.NEW))
    folder.mkdir()
    words = ["ingest", source, "--index", index_name, "--prune", "--cluster", "ray", "--encoders", "1"]
    command = [sys.executable, ray_encoders.__file__, folder, *words]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "COLUMNS": "200"}
    # Ray looks often for what has ended, so that the test does not wait for it.
    environment |= {"RAY_health_check_period_ms": "200", "RAY_health_check_failure_threshold": "2"}
    running: list[subprocess.Popen[str]] = []
    killed: list[int] = []

    def watch(_: int, request: Request) -> Fault | None:
        if "/_bulk" in request.path and not killed:
            for child in psutil.Process(running[0].pid).children():
                if child.name() == "raylet":
                    killed.append(child.pid)
                    child.kill()
        return Status(503) if killed and "/_bulk" in request.path else None

    make_old(client, index_name)
    with WatchedProxy(elasticsearch_url, watch) as proxy:
        running.append(
            subprocess.Popen(
                [*map(str, command), "--url", proxy.url], stderr=subprocess.PIPE, text=True, env=environment
            )
        )  # fmt: skip
        _, stderr = running[0].communicate(timeout=480)
    assert killed
    assert running[0].returncode == 2, stderr
    assert "error: the Ray cluster ended on this machine" in stderr
    faults.load_new(client, index_name)
    assert_same(whole_state(client, index_name), clean)


def row_of(document: Document) -> dict[str, Any]:
    return {"id": document.id, "text": document.text, "title": document.title, **document.metadata}
