"""Real nodes: started, used, stopped, killed, refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from click.testing import CliRunner, Result
from servers import HEAP, SMALLEST, free_port, java_for

from es_latechunk.cli import main
from es_latechunk.errors import NodeError
from es_latechunk.node import Node, node_status, running_node, start_node, stop_node
from es_latechunk.node.install import install
from es_latechunk.node.layout import HOME_VARIABLE

TWICE = "twice"


@pytest.fixture
def own_home(node_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tests' home, as the one that commands see; nodes that a test leaves running are stopped."""
    monkeypatch.setenv(HOME_VARIABLE, str(node_home))
    before = {path.name for path in (node_home / "nodes").glob("*")}
    yield node_home
    for path in (node_home / "nodes").glob("*"):
        if path.name not in before:
            stop_node(path.name)
            shutil.rmtree(path)


@pytest.fixture(scope="module")
def started_twice(node_home: Path) -> Iterator[list[dict[str, Any]]]:
    """A node that two commands started at the same moment: what each of them printed."""
    java = java_for(SMALLEST)
    arguments = [
        "--name",
        TWICE,
        "--elasticsearch-version",
        SMALLEST,
        "--java-home",
        str(java),
        "--heap",
        HEAP,
    ]
    program = [sys.executable, "-m", "es_latechunk", "node", "start", *arguments, "--json"]
    environment = {**os.environ, HOME_VARIABLE: str(node_home)}
    both = [subprocess.Popen(program, stdout=subprocess.PIPE, env=environment) for _ in range(2)]
    answers = [json.loads(one.communicate()[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    yield answers
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(node_home))
        stop_node(TWICE)


@pytest.fixture
def twice(started_twice: list[dict[str, Any]], own_home: Path) -> Node:
    node = node_status(TWICE)
    assert node is not None
    return node


def start(name: str, **options: object) -> Node:
    """A node of the smallest release, on the Java that pip brings."""
    settings = {"java_home": java_for(SMALLEST), "elasticsearch_version": SMALLEST, "heap": HEAP, **options}
    return start_node(name, **settings)  # type: ignore[arg-type]


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["node", *arguments])


def kill(node: Node) -> None:
    assert node.pid is not None
    os.kill(node.pid, signal.SIGKILL)
    while processes_of(node.home):
        time.sleep(0.05)


def test_the_node_is_a_real_elasticsearch(
    elasticsearch_node: Node, elasticsearch_url: str, server_version: str, index_name: str
) -> None:
    told = httpx.get(f"{elasticsearch_url}/_nodes/_local").json()
    assert [node["version"] for node in told["nodes"].values()] == [server_version]
    mapping = {
        "properties": {"v": {"type": "dense_vector", "dims": 2, "index_options": {"type": "int8_hnsw"}}}
    }
    assert httpx.put(f"{elasticsearch_url}/{index_name}", json={"mappings": mapping}).status_code == 200
    httpx.put(f"{elasticsearch_url}/{index_name}/_doc/1?refresh=true", json={"v": [1.0, 0.0]})
    query = {"knn": {"field": "v", "query_vector": [1.0, 0.0], "k": 1, "num_candidates": 10}}
    hits = httpx.post(f"{elasticsearch_url}/{index_name}/_search", json=query).json()["hits"]["hits"]
    assert [hit["_id"] for hit in hits] == ["1"]


def test_it_listens_on_this_machine_only_and_never_as_root(elasticsearch_node: Node) -> None:
    process = psutil.Process(elasticsearch_node.pid)
    listening = [one.laddr.ip for one in process.net_connections("tcp") if one.status == "LISTEN"]
    assert listening
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    assert process.uids().real != 0


def test_its_files_are_closed_to_others(elasticsearch_node: Node) -> None:
    home = elasticsearch_node.home
    for name in ("config", "data", "logs", "tmp"):
        assert (home / name).stat().st_mode & 0o077 == 0
    for name in ("node.json", "boot.log"):
        assert (home / name).stat().st_mode & 0o077 == 0


def test_starts_at_the_same_moment_make_one_node(started_twice: list[dict[str, Any]], twice: Node) -> None:
    assert started_twice[0] == started_twice[1] == twice.as_json()
    again = command("start", "--name", TWICE, "--json")
    assert (again.exit_code, again.stderr) == (0, f"node '{TWICE}' runs already\n")
    assert json.loads(again.stdout) == twice.as_json()


def test_two_nodes_run_side_by_side(twice: Node, elasticsearch_node: Node) -> None:
    assert elasticsearch_node.pid != twice.pid
    nodes = (twice, elasticsearch_node)
    names = [httpx.get(f"{node.url}/_cluster/health").json()["cluster_name"] for node in nodes]
    assert names == [f"es-latechunk-{node.name}" for node in nodes]
    listed = [json.loads(line) for line in command("status", "--json").stdout.splitlines()]
    assert {node.name for node in nodes} <= {node["name"] for node in listed if node["status"] == "running"}
    with pytest.raises(NodeError, match=r"several local nodes.* at .* at .*url"):
        running_node()
    with pytest.raises(NodeError, match=rf"runs already, as {SMALLEST} at {twice.url}; stop it first"):
        start(TWICE, port=free_port())
    with pytest.raises(NodeError, match=rf"port {twice.port} is in use by node '{TWICE}'"):
        start("third", port=twice.port)


def test_data_survives_stop_kill_and_start(twice: Node, index_name: str) -> None:
    httpx.put(f"{twice.url}/{index_name}/_doc/1?refresh=true", json={"text": "Berlin"})
    stopped = command("stop", "--name", TWICE, "--json")
    assert (stopped.exit_code, json.loads(stopped.stdout)["status"]) == (0, "stopped")
    assert processes_of(twice.home) == []

    second = start_node(TWICE, java_home=java_for(SMALLEST))
    assert (second.url, second.version) == (twice.url, SMALLEST), "the port and the version are remembered"
    assert httpx.get(f"{second.url}/{index_name}/_doc/1").json()["_source"] == {"text": "Berlin"}

    kill(second)
    killed = node_status(TWICE)
    assert killed is not None
    assert (killed.status, killed.pid) == ("died", None)
    third = start_node(TWICE, java_home=java_for(SMALLEST))
    assert httpx.get(f"{third.url}/{index_name}/_doc/1").json()["_source"] == {"text": "Berlin"}


def test_a_crash_at_boot_gives_the_logs_own_reason(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ES_JAVA_OPTS", "-XX:+NoSuchOption")
    with pytest.raises(
        NodeError, match=r"ended while starting: Unrecognized VM option 'NoSuchOption'.*boot\.log"
    ):
        start("crash")
    assert node_status("crash") is None, "a node that never ran is not remembered"


def test_what_the_server_throws_at_boot_is_the_reason(own_home: Path) -> None:
    # Elasticsearch wants to lock a file of this name.
    (own_home / "nodes" / "broken" / "data" / "node.lock").mkdir(parents=True)
    with pytest.raises(NodeError, match=r"ended while starting: \w+Exception: .*obtain node lock"):
        start("broken")
    assert processes_of(own_home / "nodes" / "broken") == []


def test_a_boot_that_takes_too_long_or_is_interrupted_leaves_no_process(own_home: Path) -> None:
    with pytest.raises(NodeError, match=r"not up after 1 s"):
        start("slow", timeout=1)
    assert processes_of(own_home / "nodes" / "slow") == []

    for number in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C, and the end of an ssh
        starting = being_started("slow", own_home)
        starting.send_signal(number)
        assert starting.wait() == 128 + number
        assert processes_of(own_home / "nodes" / "slow") == []


def being_started(name: str, home: Path) -> subprocess.Popen[str]:
    """A command that has begun to start a node, which does not yet answer."""
    program = "from es_latechunk.cli import main; main()"
    options = ["--name", name, "--java-home", str(java_for(SMALLEST)), "--port", str(free_port())]
    starting = subprocess.Popen(
        [sys.executable, "-c", program, "node", "start", *options], stderr=subprocess.PIPE, text=True
    )
    while not processes_of(home / "nodes" / name):
        assert starting.poll() is None
        time.sleep(0.05)
    return starting


def test_a_server_whose_start_was_killed_is_found_used_and_stopped(own_home: Path) -> None:
    starting = being_started("orphan", own_home)
    starting.kill()
    starting.wait()
    assert not (own_home / "nodes" / "orphan" / "tmp" / "pid").exists(), (
        "the case is a server without a pid file"
    )
    [found] = [
        json.loads(line) for line in command("status", "--name", "orphan", "--json").stdout.splitlines()
    ]
    assert found["status"] == "running"
    again = command("start", "--name", "orphan", "--json")
    assert (again.exit_code, again.stderr) == (0, "node 'orphan' runs already\n")
    assert httpx.get(f"{found['url']}/_cluster/health").status_code == 200
    assert command("stop", "--name", "orphan").exit_code == 0
    assert processes_of(own_home / "nodes" / "orphan") == []


def test_an_own_distribution_is_used_and_left_as_it_is(own_home: Path, tmp_path: Path) -> None:
    own = own_home / "own-distribution"
    shutil.copytree(install(own_home, SMALLEST, progress=lambda _: None), own)
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*") if path.is_file()}
    node = start("own", elasticsearch_version=None, elasticsearch_home=own)
    assert (node.version, node.elasticsearch_home) == (SMALLEST, own)
    stop_node("own")
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*") if path.is_file()} == before
    shutil.rmtree(own)


@pytest.mark.parametrize("arguments", [["stop", "--name", "nobody"], ["stop", "--name", "nobody", "--json"]])
def test_stopping_what_does_not_run_is_no_failure(own_home: Path, arguments: list[str]) -> None:
    stopped = command(*arguments)
    assert (stopped.exit_code, stopped.stdout) == (0, "")
    assert stopped.stderr == "node 'nobody' is not running\n"


def test_the_status_of_an_unknown_node_says_how_to_make_it(own_home: Path) -> None:
    shown = command("status", "--name", "nobody")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr == "error: no node is named 'nobody': es-latechunk node start --name nobody\n"


def cmdline(process: psutil.Process) -> list[str]:
    return process.info["cmdline"] or []


def processes_of(folder: Path) -> list[int]:
    """Living processes whose command line names the folder."""
    found = psutil.process_iter(["cmdline", "status", "pid"])
    return [
        one.info["pid"]
        for one in found
        if one.info["status"] != psutil.STATUS_ZOMBIE
        and any(f"{folder}/" in part and part.startswith("-D") for part in cmdline(one))
    ]
