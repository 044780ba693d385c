"""The README's examples, run as a reader would: every `sh` and `python` block, in order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run_line
from elasticsearch import Elasticsearch

from es_latechunk.quickstart import notes_folder

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return [str(block) for block in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the notes that ship, as in a clone."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(notes_folder(), folder / "notes")
    return folder


@pytest.fixture
def environment(elasticsearch_url: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ELASTICSEARCH_")}
    return {**clean, "PATH": path, "ELASTICSEARCH_URL": elasticsearch_url}


@pytest.fixture
def no_indices_left(elasticsearch_url: str):  # type: ignore[no-untyped-def]
    yield
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.delete(index="notes,cities", ignore_unavailable=True)


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.usefixtures("no_indices_left")
def test_the_commands_of_the_readme_work_in_order(
    folder: Path, environment: dict[str, str], elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first block in a shell, as a reader does; the others here, where the model is loaded already."""
    first, *others = blocks("sh")
    index = run(["sh", "-e", "-c", first], folder, environment)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    output = ["".join(run_line(line) for line in block.splitlines()) for block in others]
    filtered, nightly, spans, console = output
    assert "berlin.txt#0" in index
    assert '"doc_id": "b1"' in filtered
    assert "berlin.txt" not in filtered
    assert '"indexed": 0' in nightly
    assert "would write 0 chunks" in nightly
    assert "3.6 million" in spans
    assert "naive" in spans
    assert console.startswith("POST /notes/_msearch\n{}")


@pytest.mark.usefixtures("no_indices_left")
def test_the_python_of_the_readme_works(folder: Path, environment: dict[str, str]) -> None:
    (code,) = blocks("python")
    printed = run([sys.executable, "-c", f"{code}\nprint(report, hits)"], folder, environment)
    assert "berlin 0 Berlin lies on the Spree. The city has 3.6 million inhabitants. (384,)" in printed
    assert "failed=0" in printed
    assert "3.6 million" in printed


def test_links_in_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text("utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_the_calls_that_contributing_reads_aloud_visit_files_and_functions_that_exist() -> None:
    root = README.parent
    page = (root / "CONTRIBUTING.md").read_text("utf-8").partition("read aloud\n")[2].partition("\n## ")[0]
    calls = re.split(r"^`\w+\(.*\)`:$", page, flags=re.MULTILINE)[1:]
    assert len(calls) == 2
    for call in calls:
        steps = re.findall(r"^\d+\. `([\w/]+\.py)`: ((?:`\w+`,? )+)", call, re.MULTILINE)
        assert len(steps) == len(re.findall(r"^\d+\. ", call, re.MULTILINE))
        assert len({file for file, _ in steps}) == len(steps), "a file is visited twice"
        for file, names in steps:
            code = (root / "es_latechunk" / file).read_text("utf-8")
            for name in re.findall(r"\w+", names):
                assert re.search(rf"^(?:def|class) {name}\b", code, re.MULTILINE), f"{file} has no {name}"
