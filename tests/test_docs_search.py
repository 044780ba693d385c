"""The commands and the fusion by hand of docs/search.md, on a real server with the encoder of words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run, run_line
from elasticsearch import Elasticsearch
from indices import LETTERS, WordEncoder, load, make_index, rows_of

from es_latechunk.types import FloatArray

PAGE = (Path(__file__).parent.parent / "docs" / "search.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()
]
BY_HAND, RERANKING = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture
def notes(client: Elasticsearch, elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    encoder = make_index(client, "notes", WordEncoder())
    load(client, "notes", [replace(document, id=f"{document.id}.txt") for document in LETTERS], encoder)
    for place in ("cli.options.shared", "models.load"):
        monkeypatch.setattr(f"es_latechunk.{place}.load_recorded", lambda *_, **__: encoder)
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_encoder", lambda *_, **__: encoder)
    monkeypatch.setattr("es_latechunk.models.rerank.load_reranker", lambda *_, **__: Longest())
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    yield "notes"
    client.indices.delete(index="notes,shop", ignore_unavailable=True)


class Longest:
    """A reranker without a model: the longest chunk is the best."""

    name = "fake/longest"

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        return np.array([len(text) for text in texts], dtype=np.float32)


def test_the_page_can_be_followed(
    notes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in COMMANDS:
        shown = run_line(line)
        assert shown.strip() or "index create" in line or "ingest" in line, line
        assert "no hits" not in shown, line
    capsys.readouterr()
    exec(BY_HAND, {})  # noqa: S102
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    hits = rows_of("Which city is old?", "--index", notes)
    assert [(name, float(score)) for name, score in printed] == [
        (hit["id"], pytest.approx(hit["score"])) for hit in hits
    ]
    names: dict[str, Any] = {}
    exec(RERANKING, names)  # noqa: S102
    assert [hit.rerank_score for hit in names["hits"]] == sorted(
        (len(hit["content"]) for hit in hits), reverse=True
    )


def test_every_option_of_a_search_is_told() -> None:
    shown, *_ = run("search", "--help").stdout.partition("\nModel:")
    options = set(re.findall(r"^  (?:-., )?(--?[a-z][a-z-]*)", shown, re.M))
    assert {"-k", "--mode", "--filter"} <= options
    assert options - {"--help"} <= set(re.findall(r"--?[a-z][a-z-]*", PAGE))
