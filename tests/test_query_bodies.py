"""Every request that a search can send, against Elasticsearch's own description of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from es_latechunk.elastic.index.identity import IndexIdentity
from es_latechunk.elastic.index.template import CONTEXT_FIELDS, index_body, load_template, text_fields
from es_latechunk.elastic.search.query import FUSIONS, QueryBuilder, SearchOptions
from es_latechunk.errors import UsageError
from es_latechunk.types import EncoderIdentity

MODEL = IndexIdentity(EncoderIdentity("fake/model", "sha256:0", 3, 256), "sentences", 128)
SCHEMA = Path(__file__).parents[2] / "shared/data/elasticsearch_api/request-bodies.strict.schema.json"
PROPERTIES = index_body(MODEL, template=load_template())["mappings"]["properties"]
TEXTS = text_fields(PROPERTIES)
VECTOR = np.array([0.1, -0.25, 1 / 3], dtype=np.float32)
FILTERS = ("lang=en", "ordinal>=2", "doc_id=[a,b]", "title=old city", "title=[a,b]")
OPTIONS = [
    SearchOptions(),
    SearchOptions(k=3, num_candidates=40, similarity=0.4, oversample=2.5, filters=FILTERS),
    SearchOptions(highlight=True),
    SearchOptions(collapse=True, filters=FILTERS[:1]),
]


@pytest.fixture(scope="module")
def check() -> Callable[[str, Any], None]:
    schema = json.loads(SCHEMA.read_text("utf-8"))

    def validate(operation: str, body: Any) -> None:
        target = {**schema, "$ref": f"#/$defs/request.{operation}"}
        jsonschema.Draft202012Validator(target).validate(body)

    return validate


def bodies(options: SearchOptions, *, context: bool = True) -> dict[str, dict[str, Any]]:
    fields = TEXTS if context else TEXTS - set(CONTEXT_FIELDS)
    knn, bm25 = (QueryBuilder(PROPERTIES, fields, replace(options, mode=mode)) for mode in ("knn", "bm25"))
    hybrid = QueryBuilder(PROPERTIES, fields, options)
    return {
        "knn": knn.knn("old city", VECTOR, size=options.k),
        "bm25": bm25.bm25("old city", size=options.k),
        "hybrid knn": hybrid.knn("old city", VECTOR, size=options.candidates()),
        "hybrid bm25": hybrid.bm25("old city", size=options.candidates()),
        "server": hybrid.server_fusion("old city", VECTOR),
    }


@pytest.mark.skipif(not SCHEMA.exists(), reason="needs ../shared")
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("context", [True, False])
def test_every_body_is_as_the_api_has_it(
    check: Callable[[str, Any], None], options: SearchOptions, context: bool
) -> None:
    found = bodies(options, context=context)
    for body in found.values():
        check("search", body)
    header = {"index": ["a", "b"], "allow_partial_search_results": False}
    check("msearch", [header, found["hybrid bm25"], header, found["hybrid knn"]])


@pytest.mark.skipif(not SCHEMA.exists(), reason="needs ../shared")
def test_the_check_can_fail(check: Callable[[str, Any], None]) -> None:
    body = bodies(SearchOptions())["knn"]
    body["knn"]["candidates"] = 3
    with pytest.raises(Exception, match="candidates"):
        check("search", body)


def test_a_knn_body_in_full() -> None:
    body = bodies(OPTIONS[1])["knn"]
    assert body["knn"].pop("filter") == [
        {"term": {"metadata.lang": "en"}},
        {"range": {"ordinal": {"gte": "2"}}},
        {"terms": {"doc_id": ["a", "b"]}},
        {"match_phrase": {"title": "old city"}},
        {"bool": {"should": [{"match_phrase": {"title": "a"}}, {"match_phrase": {"title": "b"}}]}},
    ]
    assert np.array_equal(np.array(body["knn"].pop("query_vector"), dtype=np.float32), VECTOR)
    assert body == {
        "knn": {
            "field": "content_embedding",
            "k": 3,
            "num_candidates": 40,
            "similarity": 0.4,
            "rescore_vector": {"oversample": 2.5},
        },
        "size": 3,
        "_source": ["doc_id", "ordinal", "start", "end", "content", "title", "metadata", "headings"],
    }


def test_the_server_s_fusion_weighs_as_ours() -> None:
    linear = bodies(SearchOptions(k=7, bm25_weight=0.7))["server"]["retriever"]["linear"]
    assert [(part["weight"], part["normalizer"]) for part in linear["retrievers"]] == [
        (0.7, "minmax"),
        (0.3, "minmax"),
    ]
    assert linear["rank_window_size"] == linear["retrievers"][1]["retriever"]["knn"]["k"] == 500


def test_words_are_looked_for_in_each_field_that_is_analyzed_like_the_content() -> None:
    assert bodies(SearchOptions())["bm25"]["query"] == {
        "combined_fields": {
            "query": "old city",
            "fields": ["content^10", "neighbours_1^2", "neighbours_2^1", "title^5", "headings^2"],
        }
    }
    assert bodies(SearchOptions(), context=False)["bm25"]["query"] == {
        "combined_fields": {"query": "old city", "fields": ["content^1", "title^1", "headings^1"]}
    }
    plain = QueryBuilder(PROPERTIES, frozenset({"content"}), SearchOptions())
    assert plain.bm25("old city", size=3)["query"] == {"match": {"content": {"query": "old city"}}}


@pytest.mark.parametrize(
    ("title", "fields"),
    [
        ({"type": "text", "analyzer": "chunk_text"}, TEXTS),
        ({"type": "text"}, TEXTS - {"title"}),
        ({"type": "text", "analyzer": "chunk_text", "search_analyzer": "simple"}, TEXTS - {"title"}),
        ({"type": "text", "analyzer": "chunk_text", "index": False}, TEXTS - {"title"}),
        ({"type": "keyword"}, TEXTS - {"title"}),
    ],
)
def test_a_title_of_another_analyzer_is_not_searched(title: dict[str, Any], fields: frozenset[str]) -> None:
    """Elasticsearch would refuse the whole search."""
    assert text_fields({**PROPERTIES, "title": title}) == fields


@pytest.mark.parametrize(
    ("properties", "mode"),
    [(PROPERTIES, "hybrid"), ({"content": {"type": "keyword"}}, "knn"), ({}, "knn")],
)
def test_hybrid_is_the_default_where_there_is_text(properties: dict[str, Any], mode: str) -> None:
    assert QueryBuilder(properties, frozenset(), SearchOptions()).mode == mode
    assert QueryBuilder(properties, frozenset(), SearchOptions(mode="bm25")).mode == "bm25"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bm25_weight": 1.01}, "bm25_weight 1.01 is not between 0 and 1"),
        ({"bm25_weight": float("nan")}, "bm25_weight nan is not"),
        ({"similarity": -1.5}, "similarity -1.5 is not a cosine"),
        ({"oversample": 0.5}, "oversample 0.5 is not between 1 and 10"),
        ({"oversample": 10}, "oversample 10 is not between 1 and 10"),
        ({"collapse": True, "fusion": "server"}, "collapse works with fusion convex or rrf"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SearchOptions(**options).check()


def test_a_fusion_says_nothing_of_a_single_mode() -> None:
    for fusion in FUSIONS:
        SearchOptions(mode="bm25", fusion=fusion, collapse=True).check()
