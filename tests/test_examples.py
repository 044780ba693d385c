"""Each file of examples/, run as it stands: scripts, the cells of the notebook, and the requests for Dev Tools."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import nbformat
import numpy as np
import pytest
from devtools import requests_of, send
from elasticsearch import Elasticsearch
from nbclient import NotebookClient
from traitlets.config import Config

from es_latechunk import create_index, ingest, load_encoder, raise_errors, read_documents

ROOT = Path(__file__).parent.parent
QUESTION = "How many people live in Oslo?"


def run(example: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "examples" / example), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class Chat(BaseHTTPRequestHandler):
    """A chat server that answers with the last line of the prompt."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = asked["messages"][-1]["content"].splitlines()[-1]
        body = json.dumps({"choices": [{"message": {"content": f"You asked: {answer}"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def chat_url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_the_examples_run_one_after_the_other(
    client: Elasticsearch, index_name: str, elasticsearch_url: str, chat_url: str
) -> None:
    server = ("--index", index_name, "--url", elasticsearch_url)
    ingested = run("ingest_folder.py", str(ROOT / "notes"), *server)
    assert "oslo.md: indexed" in ingested
    assert ingested.rstrip().endswith(" 0 documents failed")
    assert "oslo.md: unchanged" in run("ingest_folder.py", str(ROOT / "notes"), *server)
    best, *others = run("knn_search.py", QUESTION, *server).splitlines()
    assert "oslo.md: " in best
    assert others
    prompt = run("hybrid_rag.py", QUESTION, *server)
    assert "About 700,000 people" in prompt
    assert prompt.rstrip().endswith(f"Question: {QUESTION}")
    answered = run("hybrid_rag.py", QUESTION, *server, "--chat-url", chat_url)
    assert f"You asked: Question: {QUESTION}" in answered
    assert "[1] oslo.md#" in answered


def test_the_cells_of_the_notebook_run_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a kernel of Jupyter, as a reader runs them; it talks over sockets in a folder, as free ports can be taken."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(ROOT / "examples" / "late_next_to_naive.ipynb", as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code), "saved with its outputs"
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which is too long for the name of a socket
        sockets = Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}})
        where = {"metadata": {"path": str(ROOT / "examples")}}
        NotebookClient(notebook, config=sockets, resources=where, timeout=600, startup_timeout=300).execute()
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.get("name") for output in outputs} == {"stdout"}, outputs
    lines = "".join(output.text for output in outputs).splitlines()
    assert lines[0].startswith("10 documents, ")
    assert "lisbon: About 550,000 people live inside" in lines[3]
    assert lines[3].split()[0] == "1"
    assert lines[-1].endswith("mean of 1/rank")


@pytest.fixture
def notes(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    """The index that the file for Dev Tools asks, under its own name."""
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        client.indices.delete(index="notes", ignore_unavailable=True)
        encoder = load_encoder()
        create_index("notes", encoder=encoder, client=client)
        documents = raise_errors(read_documents([ROOT / "notes"]))
        assert ingest(documents, index="notes", encoder=encoder, client=client).failed == 0
        yield client
        client.indices.delete(index="notes")


def test_the_requests_for_dev_tools_are_answered(notes: Elasticsearch) -> None:
    requests = requests_of((ROOT / "examples" / "dev_tools.console").read_text("utf-8"))
    mapping, count, counts, chunks, words, nearest, tagged, both, [size] = (
        send(notes, request) for request in requests
    )
    assert mapping["notes"]["mappings"]["_meta"]["es_latechunk"]["dimensions"] == 384
    assert (count["count"], size["docs.count"]) == (6, "6")
    rows = counts["aggregations"]["documents"]["buckets"]
    assert all(row["doc_count"] == row["chunk_count"]["value"] for row in rows)
    assert [hit["_id"] for hit in chunks["hits"]["hits"]] == ["oslo.md#0"]
    assert {answer["hits"]["hits"][0]["_id"] for answer in (words, nearest, *both["responses"])} == {
        "oslo.md#0"
    }
    assert {hit["_source"]["doc_id"] for hit in tagged["hits"]["hits"]} == {"lamp-brass", "chair-oak"}


def test_the_vector_for_dev_tools_is_that_of_its_question() -> None:
    text = (ROOT / "examples" / "dev_tools.console").read_text("utf-8")
    [question] = re.findall(r'^# Vectors: kNN with the vector of "(.+)"$', text, re.MULTILINE)
    vectors = {tuple(json.loads(vector)) for vector in re.findall(r'"query_vector": (\[.*?\])', text)}
    [vector] = vectors
    [encoded] = load_encoder().encode_queries([question])
    assert np.dot(encoded, vector) > 0.999


def test_every_example_is_run() -> None:
    told = Path(__file__).read_text(encoding="utf8")
    told += (ROOT / "tests" / "test_plan.py").read_text(encoding="utf8")  # reads rayjob.yaml
    assert [file.name for file in (ROOT / "examples").iterdir() if file.name not in told] == []
