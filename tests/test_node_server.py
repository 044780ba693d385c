"""Real nodes: started, used, stopped, killed, refused."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from click.testing import CliRunner, Result
from servers import HEAP, SMALLEST, free_port, java_for

from es_latechunk.cli import main
from es_latechunk.errors import NodeError
from es_latechunk.node import Node, node_status, running_node, start_node, stop_node
from es_latechunk.node.distribution import install
from es_latechunk.node.places import HOME_VARIABLE


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


def test_data_survives_stop_kill_and_start(own_home: Path, index_name: str) -> None:
    first = start("keeps")
    httpx.put(f"{first.url}/{index_name}/_doc/1?refresh=true", json={"text": "Berlin"})
    stopped = command("stop", "--name", "keeps", "--json")
    assert (stopped.exit_code, json.loads(stopped.stdout)["status"]) == (0, "stopped")
    assert processes_of(first.home) == []

    second = start_node("keeps", java_home=java_for(SMALLEST))
    assert (second.url, second.version) == (first.url, SMALLEST), "the port and the version are remembered"
    assert httpx.get(f"{second.url}/{index_name}/_doc/1").json()["_source"] == {"text": "Berlin"}

    kill(second)
    killed = node_status("keeps")
    assert killed is not None
    assert (killed.status, killed.pid) == ("died", None)
    third = start_node("keeps", java_home=java_for(SMALLEST))
    assert httpx.get(f"{third.url}/{index_name}/_doc/1").json()["_source"] == {"text": "Berlin"}


def test_two_nodes_run_side_by_side_and_a_second_start_says_so(own_home: Path) -> None:
    one = start("one", port=free_port())
    again = command("start", "--name", "one", "--json")
    assert (again.exit_code, again.stderr) == (0, "node 'one' runs already\n")
    assert json.loads(again.stdout) == one.as_json()

    other = start("other")
    assert other.pid != one.pid
    assert {httpx.get(f"{node.url}/_cluster/health").json()["cluster_name"] for node in (one, other)} == {
        "es-latechunk-one",
        "es-latechunk-other",
    }
    listed = [json.loads(line) for line in command("status", "--json").stdout.splitlines()]
    assert {"one", "other"} <= {node["name"] for node in listed if node["status"] == "running"}
    with pytest.raises(NodeError, match=r"several local nodes.*one at.*other at.*--url"):
        running_node()
    with pytest.raises(NodeError, match=rf"runs already, as {SMALLEST} at {one.url}; stop it first"):
        start("one", port=free_port())
    with pytest.raises(NodeError, match=rf"port {one.port} is in use by node 'one'"):
        start("third", port=one.port)


def test_starts_at_the_same_moment_make_one_node(own_home: Path) -> None:
    java = java_for(SMALLEST)
    arguments = ["--name", "twice", "--elasticsearch-version", SMALLEST, "--java-home", str(java), "--json"]
    program = [sys.executable, "-c", "from es_latechunk.cli import main; main()", "node", "start", *arguments]
    both = [subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    answers = [json.loads(one.communicate()[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert answers[0] == answers[1]


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

    program = "from es_latechunk.cli import main; main()"
    java = str(java_for(SMALLEST))
    starting = subprocess.Popen(
        [sys.executable, "-c", program, "node", "start", "--name", "slow", "--java-home", java],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not processes_of(own_home / "nodes" / "slow"):
        assert starting.poll() is None
        time.sleep(0.05)
    starting.send_signal(signal.SIGINT)
    assert starting.wait() == 130
    assert processes_of(own_home / "nodes" / "slow") == []


def test_an_own_distribution_is_used_and_left_as_it_is(own_home: Path, tmp_path: Path) -> None:
    own = own_home / "own-distribution"
    shutil.copytree(install(own_home, SMALLEST, progress=lambda _: None), own)
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*") if path.is_file()}
    node = start("own", elasticsearch_version=None, elasticsearch_home=own)
    assert (node.version, node.elasticsearch_home) == (SMALLEST, own)
    stop_node("own")
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*") if path.is_file()} == before
    shutil.rmtree(own)


def test_a_secure_node_asks_for_its_password_over_tls(own_home: Path) -> None:
    shown = command("start", "--name", "secure", "--secure", "--json", *smallest())
    assert shown.exit_code == 0, shown.stderr
    node = node_status("secure")
    assert node is not None
    password = node.password() or ""
    assert len(password) >= 24
    assert json.loads(shown.stdout)["password_file"] == str(node.password_file)
    told = shown.stdout + shown.stderr + command("status", "--name", "secure").stdout
    assert password not in told
    assert not any(
        password in part for process in psutil.process_iter(["cmdline"]) for part in cmdline(process)
    )
    assert node.password_file is not None
    assert node.password_file.stat().st_mode & 0o077 == 0

    trusted = ssl.create_default_context(cafile=str(node.ca_certs))

    def asked(**options: object) -> int:
        return httpx.get(f"{node.url}/_cluster/health", verify=trusted, **options).status_code  # type: ignore[arg-type]

    assert asked() == 401
    assert asked(auth=(node.username, "wrong")) == 401
    assert asked(auth=(node.username, password)) == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(node.url)

    with pytest.raises(NodeError, match="secure; stop it first"):
        start_node("secure", secure=False)


@pytest.mark.parametrize("arguments", [["stop", "--name", "nobody"], ["stop", "--name", "nobody", "--json"]])
def test_stopping_what_does_not_run_is_no_failure(own_home: Path, arguments: list[str]) -> None:
    stopped = command(*arguments)
    assert (stopped.exit_code, stopped.stdout) == (0, "")
    assert stopped.stderr == "node 'nobody' is not running\n"


def test_the_status_of_an_unknown_node_says_how_to_make_it(own_home: Path) -> None:
    shown = command("status", "--name", "nobody")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr == "error: no node is named 'nobody': es-latechunk node start --name nobody\n"


def smallest() -> list[str]:
    return ["--elasticsearch-version", SMALLEST, "--java-home", str(java_for(SMALLEST)), "--heap", HEAP]


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
