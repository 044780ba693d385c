"""The configuration's text, the state on disk, and the reasons read from a boot's output."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml

from es_latechunk.errors import NodeError, UsageError
from es_latechunk.node import all_nodes, node_status, running_node, stop_node
from es_latechunk.node.account import Account
from es_latechunk.node.config import (
    heap_megabytes,
    jvm_options,
    make_certificates,
    make_user,
    security_settings,
    server_settings,
    settings_text,
)
from es_latechunk.node.java import JavaRuntime
from es_latechunk.node.layout import (
    HOME_VARIABLE,
    Node,
    NodeFolder,
    home,
    load,
    node_folder,
    save,
    write_atomically,
)
from es_latechunk.node.prepare import Wanted, choose_port, choose_software, occupant
from es_latechunk.node.process import reason

SHIPPED = """## JVM configuration
-XX:+UseG1GC
20-:--add-modules=jdk.incubator.vector
-XX:+HeapDumpOnOutOfMemoryError
-Xlog:gc*,gc+age=trace,safepoint:file=gc.log
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeFolder:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    made = node_folder("default")
    made.tmp.mkdir(parents=True)
    return made


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port that a program which speaks no HTTP listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def node_in(folder: NodeFolder, *, port: int = 9200, version: str = "9.5.0") -> Node:
    return Node(
        name=folder.name,
        url=f"http://127.0.0.1:{port}",
        version=version,
        java=Path("/jdk"),
        elasticsearch_home=Path("/es"),
        home=folder.root,
    )


def test_the_server_listens_on_this_machine_only(tmp_path: Path) -> None:
    odd = NodeFolder(tmp_path / 'a "b": #c ä')
    settings = yaml.safe_load(settings_text(server_settings(odd, 9205, elasticsearch_home=tmp_path)))
    assert settings["network.host"] == "127.0.0.1"
    assert settings["http.port"] == 9205
    assert settings["path.data"] == str(odd.data)
    assert settings["discovery.type"] == "single-node"


def test_security_is_off_unless_asked_for_and_then_covers_both_ports() -> None:
    assert security_settings(secure=False) == {"xpack.security.enabled": False}
    secure = security_settings(secure=True)
    assert secure["xpack.security.enabled"] is True
    assert secure["xpack.security.http.ssl.enabled"] is True
    assert secure["xpack.security.transport.ssl.enabled"] is True


@pytest.mark.parametrize(
    "modules", [frozenset({"java.base"}), frozenset({"java.base", "jdk.incubator.vector"})]
)
def test_jvm_options_ask_for_vector_instructions_only_where_java_has_them(modules: frozenset[str]) -> None:
    options = jvm_options(SHIPPED, java=JavaRuntime(Path("/j"), "25", modules), heap=512).splitlines()
    assert ("20-:--add-modules=jdk.incubator.vector" in options) == ("jdk.incubator.vector" in modules)
    assert {"-Xms512m", "-Xmx512m", "-XX:+UseG1GC"} <= set(options)
    assert not any("gc.log" in option or "HeapDump" in option for option in options)


def test_the_heap_fits_the_machine() -> None:
    assert 512 <= heap_megabytes(None) <= 1024
    assert heap_megabytes("768m") == 768
    assert heap_megabytes("1G") == 1024
    for wrong in ("768", "0m", "-1g", "1.5g", "m", ""):
        with pytest.raises(UsageError, match="768m or 2g"):
            heap_megabytes(wrong)
    with pytest.raises(UsageError, match=r"'900000g'.* has \d+ MB"):
        heap_megabytes("900000g")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "-x", "a b", "x" * 65, "ä", "a\n"])
def test_a_node_name_is_a_folder_name(name: str) -> None:
    with pytest.raises(UsageError, match="node name"):
        node_folder(name)


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert home() == Path("/data/es-latechunk")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert home() == Path("/home/ann/.local/share/es-latechunk")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert home() == Path("/var/lib/es-latechunk")
    monkeypatch.setenv(HOME_VARIABLE, "/elsewhere")
    assert home() == Path("/elsewhere")


def test_an_unknown_node_is_none_and_stopping_it_does_nothing(folder: NodeFolder) -> None:
    assert node_status("default") is None
    assert stop_node("default") is None
    assert (all_nodes(), running_node()) == ([], None)


def test_state_survives_and_is_its_owners_alone(folder: NodeFolder) -> None:
    save(folder, node_in(folder))
    assert node_status() == node_in(folder)
    assert folder.state.stat().st_mode & 0o777 == 0o600
    assert set(node_in(folder).as_json()) == {"name", "url", "version", "pid", "java", "home", "status"}


def test_a_process_id_that_another_program_has_now_is_not_the_node(folder: NodeFolder) -> None:
    save(folder, node_in(folder))
    folder.pid.write_text(str(os.getpid()))
    node = load(folder)
    assert node is not None
    assert (node.status, node.pid) == ("died", None)
    assert stop_node() is None
    assert psutil.pid_exists(os.getpid())


def sleeping(*arguments: str) -> subprocess.Popen[bytes]:
    """A process with these words in its command line, which a signal ends."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", *arguments])


def test_what_a_killed_start_has_left_behind_is_found_and_stopped(folder: NodeFolder) -> None:
    """Before there is a pid file: the launcher, and then the server."""
    save(folder, node_in(folder))
    reader = sleeping("-f", str(folder.pid))  # tail -f
    launcher = sleeping("-d", "-p", str(folder.pid))
    try:
        found = node_status()
        assert found is not None
        assert (found.status, found.pid) == ("running", launcher.pid)
        server = sleeping(f"-Djava.io.tmpdir={folder.tmp}")
        folder.pid.write_text(str(server.pid))
        assert running_node() == replace(node_in(folder), status="running", pid=server.pid)
        stopped = stop_node()
        assert stopped is not None
        assert (stopped.status, stopped.pid) == ("stopped", None)
        assert {launcher.wait(), server.wait()} == {-signal.SIGTERM}
        assert reader.poll() is None
    finally:
        for process in (reader, launcher, server):
            process.kill()
            process.wait()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"url": 1}'])
def test_a_damaged_state_names_its_file(folder: NodeFolder, text: str) -> None:
    folder.state.write_text(text)
    with pytest.raises(NodeError, match=r"node\.json: damaged"):
        node_status()


def test_a_write_replaces_a_planted_link_instead_of_following_it(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "file").symlink_to(victim)
    write_atomically(tmp_path / "file", "new")
    assert victim.read_text() == "mine"
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file").is_symlink()


def test_a_port_in_use_names_who_has_it(folder: NodeFolder, busy_port: int) -> None:
    assert occupant(busy_port) == "another program"
    with pytest.raises(NodeError, match=rf"port {busy_port} is in use by another program.*port"):
        choose_port("default", busy_port, None)


def test_a_further_node_takes_a_port_that_no_other_node_has(folder: NodeFolder) -> None:
    save(folder, node_in(folder, port=9201))
    chosen = choose_port("second", None, None)
    assert 9201 < chosen < 9300
    assert choose_port("second", None, node_in(folder, port=chosen)) == chosen


def test_the_servers_environment_holds_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", "secret")
    shown = Account(None).run(["/usr/bin/env"]).stdout
    assert "PATH=" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            "[INFO ] starting\n[ERROR][o.e.b.Elasticsearch] [default] fatal exception while booting "
            "Elasticsearchjava.lang.IllegalArgumentException: unknown setting [foo.bar] please check\n\tat x\n"
            "ERROR: Elasticsearch died while starting up, with exit code 1\n",
            "IllegalArgumentException: unknown setting [foo.bar] please check",
        ),
        (
            "java.lang.RuntimeException: starting java failed with [1]\noutput:\n\nerror:\n"
            "Unrecognized VM option 'Bogus'\nError: Could not create the Java Virtual Machine.\n",
            "Unrecognized VM option 'Bogus'",
        ),
        (
            "The minimum required Java version is 21; yours is 17\n",
            "The minimum required Java version is 21; yours is 17",
        ),
        ("ERROR: no permission\n", "no permission"),
        ("something\nunheard of\n", "unheard of"),
        ("", "it wrote nothing"),
    ],
)
def test_the_reason_for_a_failed_boot_is_the_telling_line(log: str, expected: str) -> None:
    assert reason(log) == expected


def test_data_of_a_later_version_is_not_opened_by_an_earlier_one(tmp_path: Path, folder: NodeFolder) -> None:
    own = tmp_path / "own"
    (own / "lib").mkdir(parents=True)
    (own / "lib" / "elasticsearch-9.2.4.jar").touch()
    with pytest.raises(
        NodeError, match=r"'default' holds data of Elasticsearch 9\.5\.0, which 9\.2\.4 cannot read"
    ):
        choose_software(Wanted(elasticsearch_home=own), node_in(folder), progress=print)
    with pytest.raises(UsageError, match="not both"):
        choose_software(Wanted(elasticsearch_home=own, elasticsearch_version="9.2.4"), None, progress=print)


def test_a_secure_node_keeps_its_user_and_certificates(folder: NodeFolder) -> None:
    folder.config.mkdir()
    make_certificates(folder, Account(None))
    first = {path: path.read_text() for path in (folder.ca_certs, folder.config / "server.key")}
    make_certificates(folder, Account(None))
    assert {path: path.read_text() for path in first} == first
    (folder.config / "users").write_text("latechunk:hash\n")
    folder.password.write_text("kept\n")
    make_user(folder, Account(None), elasticsearch_home=Path("/nowhere"), environment={})
    assert folder.password.read_text() == "kept\n"
    secure = replace(
        node_in(folder), username="latechunk", ca_certs=folder.ca_certs, password_file=folder.password
    )
    save(folder, secure)
    assert load(folder) == secure
    assert secure.password() == "kept"
    assert "kept" not in str(secure.as_json())
