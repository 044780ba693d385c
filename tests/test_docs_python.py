"""The examples of docs/python.md, run one after the other as a reader would, on a real server."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest
from elasticsearch import Elasticsearch
from serving import running

import es_latechunk
from es_latechunk.types import FloatArray

PAGE = Path(__file__).parent.parent / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


class Shortest:
    """A reranker without a model: the shortest chunk is the best."""

    name = "fake/shortest"

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        return np.array([-len(text) for text in texts], dtype=np.float32)


def test_the_examples_run(
    elasticsearch_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shortest: es_latechunk.Reranker = Shortest()
    monkeypatch.setattr("es_latechunk.models.rerank.load_reranker", lambda _: shortest)
    names: dict[str, Any] = {}
    printed: list[list[str]] = []
    try:
        for block in BLOCKS:
            exec(block.replace("http://localhost:9200", elasticsearch_url), names)  # noqa: S102
            printed.append(capsys.readouterr().out.splitlines())
            if "app = " in block:
                with running(names["app"]) as url:
                    answered = httpx.get(f"{url}/search", params={"q": "the capital of Norway"}, timeout=120)
    finally:
        with Elasticsearch(elasticsearch_url) as client:
            client.indices.delete(index=["cities", "capitals-000001"], ignore_unavailable=True)
    assert answered.json()[0]["document"] == "oslo"
    made = {
        type(names[name]) for name in ("chunk", "result", "run", "plan", "hit", "done", "index", "evaluated")
    }
    assert made == {
        es_latechunk.ChunkVector,
        es_latechunk.SearchResult,
        es_latechunk.IngestRun,
        es_latechunk.IngestPlan,
        es_latechunk.Hit,
        es_latechunk.Promotion,
        es_latechunk.Index,
        es_latechunk.EvaluationReport,
    }
    (
        chunks,
        failed,
        report,
        shown,
        progress,
        plan,
        found,
        clause,
        many,
        reranked,
        verified,
        evaluated,
        at_once,
        loaded,
        _,
        swapped,
        by_hand,
    ) = printed
    assert [line.split()[:2] for line in chunks] == [
        ["berlin", "0"],
        ["berlin", "1"],
        ["oslo", "0"],
        ["oslo", "1"],
    ]
    assert all(line.endswith("(384,)") for line in chunks)
    assert failed[0].startswith("failed: blank: ")
    assert failed[1:] == ["berlin 0", "oslo 0"]
    assert report == ["2 4 4 0 0"]
    assert shown == ["4 sentence-transformers/all-MiniLM-L6-v2"]
    assert sorted(line.rpartition(" ")[0] for line in progress[:3]) == [
        "berlin unchanged",
        "empty failed",
        "madrid indexed",
    ]
    assert re.fullmatch(r"[1-9]\d*/[1-9]\d*", progress[2].split()[2])
    assert progress[3].startswith("empty - ")
    assert plan == ["0 4 1"]
    assert found[0].split()[1] == "berlin"
    assert sorted(clause) == [
        "madrid Madrid is the capital of Spain. The city lies on a high plain.",
        "oslo Oslo is the capital of Norway. The city lies by the fjord.",
    ]
    assert many == ["a city by the fjord -> oslo", "a city on a plain -> madrid"]
    assert reranked == ["oslo -27.0"]
    assert verified == ["1.0 2 0"]
    *rows, advice = evaluated
    assert [row.rpartition(" ")[0].rpartition(" ")[0].strip() for row in rows] == 2 * [
        "bm25",
        "late knn",
        "late hybrid",
        "naive knn",
        "naive hybrid",
    ]
    assert advice == "1 question is too few for a recommendation; use at least 20, better a hundred."
    assert [line.split()[0] for line in at_once] == ["oslo", "madrid"]
    assert loaded == [*(f"row {number} indexed 3" for number in range(3)), "3 3"]
    assert swapped == ["capitals-000001 2", "oslo"]
    assert sorted(line.split()[1] for line in by_hand) == ["berlin#0", "berlin#1"]


def test_the_page_lists_each_function_with_its_parameters() -> None:
    rows = re.findall(r"^\| `(\w+)\((.*?)\)` \|.*\| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    listed = {
        name: [*parameters.split(", "), *re.findall(r"`(\w+)`", keywords)]
        for name, parameters, keywords in rows
    }
    functions = {name: getattr(es_latechunk, name) for name in es_latechunk.__all__}
    assert {name: [name for name in parameters if name] for name, parameters in listed.items()} == {
        name: list(inspect.signature(function).parameters)
        for name, function in functions.items()
        if inspect.isfunction(function)
    }


@pytest.mark.parametrize(
    "values",
    [
        es_latechunk.Mode,
        es_latechunk.Fusion,
        es_latechunk.Pooling,
        es_latechunk.TokenWeights,
        es_latechunk.Dtype,
        es_latechunk.EngineName,
        es_latechunk.Outcome,
        es_latechunk.Relevance,
    ],
    ids=str,
)
def test_the_page_names_each_value_of_a_literal(values: Any) -> None:
    assert [value for value in get_args(values) if f'"{value}"' not in PAGE.read_text("utf-8")] == []


def test_every_public_name_is_on_the_page() -> None:
    named = set(re.findall(r"\w+", PAGE.read_text("utf-8")))
    assert set(es_latechunk.__all__) - named == set()


def test_every_public_name_is_used_by_a_test() -> None:
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert set(es_latechunk.__all__) - set(re.findall(r"\w+", tests)) == set()


def test_the_errors_that_are_named_exist() -> None:
    named = set(re.findall(r"`(\w+Error)`", PAGE.read_text("utf-8")))
    assert {
        name for name in named if not issubclass(getattr(es_latechunk, name), es_latechunk.LateChunkError)
    } == set()
    assert {name for name in es_latechunk.__all__ if name.endswith("Error")} == named
