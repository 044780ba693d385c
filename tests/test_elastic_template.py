"""The index template as plain values: what is filled in, and what of a user's own is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from es_latechunk.elastic.index.identity import IndexIdentity
from es_latechunk.elastic.index.template import QUANTIZATIONS, index_body, load_template
from es_latechunk.errors import UsageError
from es_latechunk.types import EncoderIdentity, PoolingOptions


def identity(dimensions: int = 384) -> IndexIdentity:
    return IndexIdentity(EncoderIdentity("fake/model", "sha256:0", dimensions, 256), "sentences", 128)


def written(tmp_path: Path, template: Any) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(template))
    return path


def test_the_template_is_filled_in_and_stays_as_it_was() -> None:
    template = load_template()
    body = index_body(identity(), template=template, shards=3, replicas=2)
    assert template == load_template()
    assert body["settings"]["index"] == {
        **template["settings"]["index"],
        "number_of_shards": 3,
        "number_of_replicas": 2,
        "auto_expand_replicas": False,
    }
    assert body["mappings"]["properties"]["content_embedding"] == {
        "type": "dense_vector",
        "index": True,
        "similarity": "cosine",
        "dims": 384,
        "index_options": {"type": "int8_hnsw"},
    }
    assert IndexIdentity.from_meta(body["mappings"]["_meta"], "x") == identity()


def test_the_field_of_the_pieces_is_there_only_if_the_pooling_asks_for_it(tmp_path: Path) -> None:
    """An index without pieces has the mapping, the record and the hashes that it had before there were any."""
    plain = index_body(identity(), template=load_template())
    assert "pieces" not in plain["mappings"]["properties"]
    assert "pieces" not in plain["mappings"]["_meta"]["es_latechunk"]
    assert "pieces" not in identity().digest()
    own = replace(identity(), pooling=PoolingOptions(pieces=32))
    body = index_body(own, template=load_template(), quantization="bbq")
    assert body["mappings"]["properties"].pop("pieces") == {
        "type": "nested",
        "properties": {
            "start": {"type": "integer"},
            "end": {"type": "integer"},
            "vector": {
                "type": "dense_vector",
                "index": True,
                "similarity": "cosine",
                "dims": 384,
                "index_options": {"type": "bbq_hnsw"},
            },
        },
    }
    assert IndexIdentity.from_meta(body["mappings"]["_meta"], "x") == own
    assert '"pieces": 32' in own.digest()
    plain["mappings"]["properties"]["pieces"] = {"type": "keyword"}  # a field of the user's own
    assert index_body(identity(), template=plain)["mappings"]["properties"]["pieces"] == {"type": "keyword"}
    without = written(tmp_path, plain)
    with pytest.raises(UsageError, match="has no nested field pieces with the dense_vector vector"):
        index_body(own, template=load_template(without))


def test_replicas_follow_the_cluster_unless_they_are_given() -> None:
    settings = index_body(identity(), template=load_template())["settings"]["index"]
    assert (settings["number_of_shards"], settings["auto_expand_replicas"]) == (1, "0-1")


def test_without_context_fields_bm25_is_elasticsearchs_own() -> None:
    body = index_body(identity(), template=load_template(), context_fields=False)
    assert not {"neighbours_1", "neighbours_2"} & body["mappings"]["properties"].keys()
    assert body["mappings"]["_source"]["excludes"] == []
    assert body["settings"]["index"]["similarity"] == {}


def test_a_language_is_the_analyzer_of_every_text_field() -> None:
    properties = index_body(identity(), template=load_template(), language="german")["mappings"]["properties"]
    analyzers = {name: field["analyzer"] for name, field in properties.items() if field["type"] == "text"}
    assert analyzers == dict.fromkeys(
        ("content", "neighbours_1", "neighbours_2", "title", "headings"), "german"
    )


def test_the_neighbours_words_are_cut_like_the_chunks_own() -> None:
    template = load_template()
    template["mappings"]["properties"]["content"]["analyzer"] = "simple"
    properties = index_body(identity(), template=template)["mappings"]["properties"]
    assert [
        properties[field]["analyzer"]
        for field in ("content", "neighbours_1", "neighbours_2", "title", "headings")
    ] == ["simple"] * 5


def test_a_title_keeps_the_analyzer_that_a_template_names_for_it() -> None:
    template = load_template()
    template["mappings"]["properties"]["title"]["analyzer"] = "simple"
    properties = index_body(identity(), template=template)["mappings"]["properties"]
    assert [properties[field]["analyzer"] for field in ("content", "title")] == ["chunk_text", "simple"]


@pytest.mark.parametrize(
    "settings",
    [
        {"number_of_shards": 5, "auto_expand_replicas": "0-all"},
        {"index.number_of_shards": 5, "index.number_of_replicas": 7},
        {"index": {"number_of_shards": 5, "number_of_replicas": 7}},
        {},
    ],
)
def test_options_take_the_place_of_a_template_s_settings(settings: dict[str, Any]) -> None:
    template = {**load_template(), "settings": settings}
    body = index_body(identity(), template=template, shards=2, replicas=0)
    assert body["settings"] == {
        "index": {"number_of_shards": 2, "number_of_replicas": 0, "auto_expand_replicas": False}
    }


def test_a_template_s_own_parts_stay(tmp_path: Path) -> None:
    template = load_template()
    template["mappings"]["_meta"] = {"owner": "me"}
    template["mappings"]["properties"]["content"]["analyzer"] = "whitespace"
    template["mappings"]["properties"]["content_embedding"]["index_options"] = {"type": "hnsw", "m": 32}
    template["mappings"]["properties"]["extra"] = {"type": "keyword"}
    body = index_body(identity(), template=load_template(written(tmp_path, template)))
    properties = body["mappings"]["properties"]
    assert properties["content"]["analyzer"] == "whitespace"
    assert properties["extra"] == {"type": "keyword"}
    assert properties["content_embedding"]["index_options"] == {"type": "hnsw", "m": 32}
    assert body["mappings"]["_meta"]["owner"] == "me"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: [], "is not an object"),
        (lambda t: {**t, "mappings": []}, 'its "mappings" is not an object'),
        (lambda t: {**t, "settings": 3}, 'its "settings" is not an object'),
        (lambda t: {**t, "settings": {"index": []}}, 'its "settings.index" is not an object'),
        (lambda t: {**t, "mappings": {**t["mappings"], "_meta": 7}}, 'its "mappings._meta" is not an object'),
        (
            lambda t: {"template": t, "index_patterns": ["a*"]},
            "has index_patterns, template besides settings",
        ),
        (lambda t: {}, "lacks the fields content (text), content_embedding (dense_vector), doc_id (keyword)"),
        (
            lambda t: {
                "mappings": {"properties": {**t["mappings"]["properties"], "doc_id": {"type": "text"}}}
            },
            "lacks the fields doc_id (keyword)",
        ),
    ],
)
def test_a_template_that_cannot_work_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = written(tmp_path, change(load_template()))
    with pytest.raises(UsageError) as refused:
        load_template(path)
    assert str(refused.value).startswith(f"template {path}: {message}")


def test_a_template_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read \\(No such file"):
        load_template(tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        load_template(tmp_path / "broken.json")
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UsageError, match="is not JSON"):
        load_template(tmp_path / "latin.json")


def test_other_dims_than_the_model_s_are_refused_with_both() -> None:
    template = load_template()
    template["mappings"]["properties"]["content_embedding"]["dims"] = 768
    with pytest.raises(UsageError, match="content_embedding has 768 dims, model fake/model gives 384"):
        index_body(identity(), template=template)


@pytest.mark.parametrize(
    ("quantization", "dimensions", "message"),
    [
        ("bbq", 63, "quantization bbq needs at least 64 dimensions, the model gives 63; choose int8"),
        ("bbq_flat", 63, "quantization bbq_flat needs at least 64 dimensions"),
        (
            "int4",
            65,
            "quantization int4 needs an even number of dimensions, the model gives 65; choose int8",
        ),
        ("int4_flat", 65, "quantization int4_flat needs an even number of dimensions"),
        ("int16", 64, "quantization int16 is not known; choose one of int8, int4, bbq, none"),
    ],
)
def test_a_quantization_that_cannot_work_is_refused(quantization: str, dimensions: int, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        index_body(identity(dimensions), template=load_template(), quantization=quantization)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_the_index_type_is_always_said(quantization: str) -> None:
    body = index_body(identity(64), template=load_template(), quantization=quantization)
    kind = body["mappings"]["properties"]["content_embedding"]["index_options"]["type"]
    assert kind == QUANTIZATIONS[quantization]
