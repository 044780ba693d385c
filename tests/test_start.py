"""With a model that is known here, no command of every day imports torch or transformers, which take seconds.

Nor do they import the HTTP libraries that Elasticsearch's client would use only on request, nor what OpenVINO reports
each import of itself with, nor its converter of models, nor the libraries of stores and of Parquet where none is read.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import sys
from es_latechunk.cli import main
try:
    main(sys.argv[1:])
finally:
    heavy = (
        "torch",
        "transformers",
        "httpx",
        "requests",
        "pyarrow",
        "openvino_telemetry",
        "openvino.tools.ovc",
        "fsspec",
        "s3fs",
        "ray",
    )
    print("heavy:", *(name for name in heavy if name in sys.modules), file=sys.stderr)
"""
TEXT = "Berlin is large. It grew after 1871. The city has many lakes."


def heavy(*command: str) -> list[str]:
    """What of these a command has imported in a process of its own; it must do its work."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *command], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or "ingest" in command or "create" in command
    *_, last = done.stderr.splitlines()
    assert last.startswith("heavy:")
    return last.split()[1:]


@pytest.fixture
def document(tmp_path: Path) -> str:
    (tmp_path / "city.txt").write_text(TEXT)
    return str(tmp_path / "city.txt")


@pytest.mark.parametrize("command", ["chunk", "embed"])
def test_without_a_server(command: str, document: str) -> None:
    assert heavy(command, document) == []


def test_the_node_needs_nothing_of_what_installs_one_until_it_is_installed() -> None:
    code = "import sys, es_latechunk.node; print(*{'httpx', 'jgo'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


def test_torch_is_there_when_it_is_asked_for(document: str) -> None:
    """What the others do not import can be seen by this probe."""
    assert heavy("embed", document, "--engine", "torch") == ["torch"]


def test_with_a_server(
    elasticsearch_url: str, index_name: str, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    assert heavy("index", "create", index_name) == []
    assert heavy("ingest", document, "--index", index_name) == []
    for mode in ("knn", "bm25", "hybrid"):
        assert heavy("search", "a city", "--index", index_name, "--mode", mode) == []


def test_what_was_hidden_can_be_imported_afterwards() -> None:
    script = """
from es_latechunk.hidden_imports import hidden_imports
with hidden_imports("elastic_transport", "httpx"):
    import elastic_transport
    try:
        import httpx
    except ImportError:
        print("hidden")
import httpx
with hidden_imports("httpx", "json"), hidden_imports("other", "httpx"):
    import httpx, json
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "hidden\n"), done.stderr
