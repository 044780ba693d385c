"""A real Elasticsearch for the tests: one node a release for the whole session, started when first asked for.

ES_LATECHUNK_TEST_VERSIONS=9.2.4 limits the versions; without it they are all that a Java here can run.
"""

import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from es_latechunk.node import Node, start_node, stop_node
from es_latechunk.node.install import install
from es_latechunk.node.java import RELEASES, best_runtime, bundled_runtime, find_runtimes
from es_latechunk.node.layout import HOME_VARIABLE, locked

SMALLEST = "9.2.4"
HEAP = "512m"


@cache
def versions_here() -> list[str]:
    """The releases to test on, oldest first."""
    if limited := os.environ.get("ES_LATECHUNK_TEST_VERSIONS"):
        return limited.split(",")
    runtimes = find_runtimes()
    return [version for version in reversed(RELEASES) if best_runtime(runtimes, version)]


def java_for(version: str) -> Path | None:
    """The oldest release runs on the Java that pip brings, as it does for people who have no other."""
    return bundled_runtime() if version == SMALLEST else None


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def node_home() -> Iterator[Path]:
    """A home for nodes that is the tests' own, where the account that root's server runs as can go."""
    home = Path(tempfile.mkdtemp(prefix="es-latechunk-"))
    home.chmod(0o711)
    # Several runs at the same moment, on a machine that has no release yet, shall fetch it once.
    with locked(Path(tempfile.gettempdir()) / "es-latechunk-tests.lock"):
        for version in versions_here():
            install(home, version, progress=lambda _: None)
    yield home
    shutil.rmtree(home)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The newest release for every test, and all of them for what depends on the release (`every_version`)."""
    if "server_version" in metafunc.fixturenames:
        every = metafunc.definition.get_closest_marker("every_version")
        versions = versions_here() if every else versions_here()[-1:]
        metafunc.parametrize("server_version", versions, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server_version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def nodes(node_home: Path) -> Iterator[Callable[[str], Node]]:
    """Gives the session's node of a release; all are stopped at the end, whatever the tests did.

    Not a node a parameter: pytest would stop and start one wherever tests of several releases alternate.
    """
    running: dict[str, Node] = {}

    def node(version: str) -> Node:
        if version not in running:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(HOME_VARIABLE, str(node_home))
                running[version] = start_node(
                    f"tests-{version}",
                    port=free_port(),  # another run of the tests on this machine looks for a port as well
                    elasticsearch_version=version,
                    java_home=java_for(version),
                    heap=HEAP,
                )
        return running[version]

    yield node
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(node_home))
        for one in running.values():
            stop_node(one.name)


@pytest.fixture(scope="session")
def elasticsearch_node(server_version: str, nodes: Callable[[str], Node]) -> Node:
    return nodes(server_version)


@pytest.fixture(scope="session")
def elasticsearch_url(elasticsearch_node: Node) -> str:
    return elasticsearch_node.url


@pytest.fixture
def index_name() -> str:
    """A name that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"
