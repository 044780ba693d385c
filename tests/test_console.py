"""`search --console`: what is printed, pasted into an HTTP request, finds what the command finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from commands import run
from devtools import requests_of, send
from elasticsearch import Elasticsearch
from hypothesis import given
from hypothesis import strategies as st
from indices import QUERIES, WordEncoder, made_up_documents, made_up_index, make_index, rows_of

from es_latechunk.elastic.console import console_msearch, console_request, render_json
from es_latechunk.elastic.search.fusion import convex_sum
from es_latechunk.elastic.search.query import DEFAULT_BM25_WEIGHT
from es_latechunk.elastic.search.searcher import read_candidates

pytestmark = pytest.mark.every_version

INDEX = "consoled"


@pytest.fixture(scope="module")
def filled(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    with made_up_index(elasticsearch_url, INDEX) as both:
        yield both


@pytest.fixture(autouse=True)
def model(
    filled: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: filled[1])
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)


def printed(*arguments: str, fused_here: bool = False) -> str:
    """The printed request; stderr says, and only then, that our fusion is not part of it."""
    result = run("search", *arguments, "--index", INDEX, "--console")
    assert result.exit_code == 0
    assert ("es-latechunk fuses them afterwards" in result.stderr) == fused_here == bool(result.stderr)
    return result.stdout


def hits_of(answer: Any) -> list[tuple[str, float, str]]:
    return [(row["_id"], row["_score"], row["_source"]["content"]) for row in answer["hits"]["hits"]]


def found(rows: list[dict[str, Any]]) -> list[tuple[str, float, str]]:
    return [(row["id"], row["score"], row["content"]) for row in rows]


OPTIONS = [[], ["-k", "3", "--filter", "part=odd", "--filter", "ordinal<4"], ["--collapse", "--highlight"]]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("mode", ["knn", "bm25"])
def test_a_single_mode(filled: tuple[Elasticsearch, WordEncoder], mode: str, options: list[str]) -> None:
    asked = [QUERIES[1], "--mode", mode, *options]
    text = printed(*asked)
    assert text.startswith(f"POST /{INDEX}/_search\n{{\n")
    hits = hits_of(send(filled[0], text))
    assert hits
    assert hits == found(rows_of(*asked, "--index", INDEX))


@pytest.mark.parametrize("options", OPTIONS[:2])
def test_hybrid_is_both_searches_in_one_request(
    filled: tuple[Elasticsearch, WordEncoder], options: list[str]
) -> None:
    text = printed(QUERIES[1], *options, fused_here=True)
    assert text.startswith(f"POST /{INDEX}/_msearch\n{{}}\n{{")
    answers = send(filled[0], text)["responses"]
    bm25, knn = map(read_candidates, answers)
    contents = {chunk: content for answer in answers for chunk, _, content in hits_of(answer)}
    rows = rows_of(QUERIES[1], *options, "--index", INDEX)
    fused = convex_sum(bm25, knn, bm25_weight=DEFAULT_BM25_WEIGHT, limit=500)[: len(rows)]
    assert [(one.id, one.score, contents[one.id]) for one in fused] == found(rows)


def test_numbers_stay_on_one_line(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    lines = printed(QUERIES[0], "--mode", "knn").splitlines()
    [line] = [line for line in lines if '"query_vector"' in line]
    assert len(json.loads(line.partition(": ")[2].rstrip(","))) == filled[1].dim
    assert len(lines) < 30


def test_nothing_is_sent(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    """The server's fusion prints too, where the server that is at hand lacks it."""
    assert '"linear"' in printed(QUERIES[0], "--fusion", "server")


def test_a_name_is_quoted() -> None:
    assert console_request("GET", "a b<c>/_search").startswith("GET /a%20b%3Cc%3E/_search")
    assert console_msearch("a/b", [{}]) == "POST /a%2Fb/_msearch\n{}\n{}"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(values)
def test_any_json_reads_back_as_it_was(value: Any) -> None:
    assert json.loads(render_json(value)) == value
    [_, _, line] = console_msearch("a", [{"value": value}]).split("\n")
    assert json.loads(line) == {"value": value}


def test_the_tour_through_an_index_can_be_pasted(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    client, encoder = filled
    shown = run("index", "show", INDEX, "--console")
    assert (shown.exit_code, shown.stderr) == (0, "")
    blocks = shown.stdout.rstrip("\n").split("\n\n")
    assert all(block.startswith("# ") for block in blocks)
    answers = [send(client, request) for request in requests_of(shown.stdout)]
    mapping, count, counts, [size], chunks, vector, nearest, collapsed, words, both = answers
    assert mapping[INDEX]["mappings"]["_meta"]["es_latechunk"]["model"] == "fake/words"
    assert (count["count"], size["docs.count"]) == (144, "144")
    rows = counts["aggregations"]["documents"]["buckets"]
    assert {(row["doc_count"], row["chunk_count"]["value"]) for row in rows} == {(6, 6)}
    sources = [hit["_source"] for hit in chunks["hits"]["hits"]]
    [document] = [one for one in made_up_documents() if one.id == "doc-00"]
    assert [row["content"] for row in sources] == [
        document.text[row["start"] : row["end"]] for row in sources
    ]
    [own] = vector["hits"]["hits"]
    assert len(own["fields"]["content_embedding"]) == encoder.dim
    assert (
        own["_id"] == hits_of(nearest)[0][0] == hits_of(collapsed)[0][0] == hits_of(words)[0][0] == "doc-00#0"
    )
    assert len({hit["_source"]["doc_id"] for hit in collapsed["hits"]["hits"]}) == 10
    assert [hits_of(answer) for answer in both["responses"]] == [hits_of(words), hits_of(nearest)]


def test_the_tour_of_an_empty_index_is_short(client: Elasticsearch, index_name: str) -> None:
    make_index(client, index_name)
    shown = run("index", "show", index_name, "--console").stdout
    assert shown.count("\n# ") == 3
    for request in requests_of(shown):
        send(client, request)
