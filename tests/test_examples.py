"""Each file of examples/, run as it stands: the notes into an index, kNN by hand, and a prompt for a chat server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

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


def test_every_example_is_run() -> None:
    told = Path(__file__).read_text(encoding="utf8")
    assert [file.name for file in (ROOT / "examples").glob("*.py") if f'"{file.name}"' not in told] == []
