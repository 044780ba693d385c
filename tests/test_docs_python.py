"""The examples of docs/python.md, run one after the other as a reader would, on a real server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from es_latechunk import errors

PAGE = Path(__file__).parent.parent / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_examples_run(elasticsearch_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    printed: list[list[str]] = []
    try:
        for block in BLOCKS:
            exec(block.replace("http://localhost:9200", elasticsearch_url), names)  # noqa: S102
            printed.append(capsys.readouterr().out.splitlines())
    finally:
        with Elasticsearch(elasticsearch_url) as client:
            client.indices.delete(index="cities", ignore_unavailable=True)
    chunks, report, found, by_hand = printed
    assert [line.split()[:2] for line in chunks] == [
        ["berlin", "0"],
        ["berlin", "1"],
        ["oslo", "0"],
        ["oslo", "1"],
    ]
    assert all(line.endswith("(384,)") for line in chunks)
    assert report == ["2 4 4 0 0"]
    assert found[0].split()[1] == "berlin"
    assert sorted(line.split()[1] for line in by_hand) == ["berlin#0", "berlin#1"]


def test_the_errors_that_are_named_exist() -> None:
    named = set(re.findall(r"`(\w+Error)`", PAGE.read_text("utf-8")))
    assert len(named) == 5
    assert all(issubclass(getattr(errors, name), errors.LateChunkError) for name in named)
