"""The mapping bootstrapper on a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch
from indices import LETTERS, WordEncoder, load, make_index
from logs import warnings_told

from es_latechunk import Document, create_index, embed_documents, ingest, promote, raise_errors, search
from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.elastic.index.admin import delete_index, describe_index
from es_latechunk.elastic.index.template import QUANTIZATIONS, load_template
from es_latechunk.errors import IndexMismatchError, PreconditionError, ServerError, UsageError
from es_latechunk.late import EmbeddedChunks, Windows, embed_chunks
from es_latechunk.models import measured_pooling
from es_latechunk.types import PoolingOptions

pytestmark = pytest.mark.every_version


def template_file(tmp_path: Path, template: dict[str, Any]) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(template))
    return path


def test_creating_again_with_the_same_identity_is_fine(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    before = client.indices.get(index=index_name)[index_name]
    assert create_index(index_name, encoder=encoder, client=client, max_tokens=7) is False
    assert client.indices.get(index=index_name)[index_name] == before


def test_the_overlap_of_windows_is_recorded_and_used(client: Elasticsearch, index_name: str) -> None:
    """A text of many windows: what is stored is what the same overlap gives without a server."""
    text = " ".join(f"Sentence {number} stands here." for number in range(60))
    encoder = make_index(client, index_name, overlap=20)
    load(client, index_name, [Document("long", text)], encoder)
    assert describe_index(client, index_name)["overlap"] == 20
    embedded = embed_documents([Document("long", text)], encoder=encoder, max_tokens=7, overlap=20)
    for chunk in raise_errors(embedded):
        np.testing.assert_allclose(
            stored_vector(client, index_name, f"long#{chunk.ordinal}"), chunk.vector, atol=1e-6
        )
    assert create_index(index_name, encoder=encoder, client=client, max_tokens=7) is False, "it keeps its own"


def test_an_index_that_records_no_overlap_is_used_as_it_is(client: Elasticsearch, index_name: str) -> None:
    """It was made before overlaps were recorded: a quarter of the window, and nothing is embedded again."""
    text = " ".join(f"Sentence {number} stands here." for number in range(60))
    encoder = make_index(client, index_name)
    [recorded] = client.indices.get_mapping(index=index_name).values()
    meta = recorded["mappings"]["_meta"]
    assert meta["es_latechunk"].pop("overlap") == 0
    client.indices.put_mapping(index=index_name, meta=meta)
    load(client, index_name, [Document("long", text)], encoder)
    chunked = chunk_document(
        Document("long", text),
        chunker=make_chunker(tokenizer=encoder.tokenizer, max_tokens=7),
        tokenizer=encoder.tokenizer,
    )
    blocks = list(embed_chunks([chunked], encoder=encoder, windows=Windows(64, None)))
    vectors = np.concatenate([block.vectors for block in blocks if isinstance(block, EmbeddedChunks)])
    for ordinal, vector in enumerate(vectors):
        np.testing.assert_allclose(stored_vector(client, index_name, f"long#{ordinal}"), vector, atol=1e-6)
    assert create_index(index_name, encoder=encoder, client=client, max_tokens=7) is False
    with pytest.raises(IndexMismatchError, match=r"the overlap a quarter of the window .* is 8"):
        create_index(index_name, encoder=encoder, client=client, max_tokens=7, overlap=8)
    assert describe_index(client, index_name)["overlap"] is None
    report, _ = load(client, index_name, [Document("long", text)], encoder)
    assert (report.indexed, report.unchanged) == (0, len(vectors))


POOLING = PoolingOptions("blend", "sif", neighbour_share=0.2, late_window=24)


def test_an_index_has_the_pooling_that_it_records_also_after_a_document_changed(
    client: Elasticsearch, index_name: str
) -> None:
    """A changed sentence changes the vectors of the chunks around it too, which take a share of its own."""
    sentences = [f"Sentence {number} stands here." for number in range(40)]
    encoder = make_index(client, index_name, pooling=POOLING, overlap=6)
    for changed in (None, 20, 5):
        if changed is not None:
            sentences[changed] = "Another one replaces it."
        document = Document("long", " ".join(sentences))
        load(client, index_name, [document], encoder)
        embedded = embed_documents([document], encoder=encoder, max_tokens=7, pooling=POOLING, overlap=6)
        for chunk in raise_errors(embedded):
            stored = stored_vector(client, index_name, f"long#{chunk.ordinal}")
            np.testing.assert_allclose(stored, chunk.vector, atol=1e-6)
    facts = describe_index(client, index_name)
    assert [facts[name] for name in ("pooling", "token_weights", "neighbour_share", "late_window", "overlap")] == [
        "blend", "sif", 0.2, 24, 6
    ]  # fmt: skip
    assert create_index(index_name, encoder=encoder, client=client, max_tokens=7) is False, "it keeps its own"
    with pytest.raises(IndexMismatchError, match=r"pooling 'blend', the given setting is 'late'"):
        create_index(index_name, encoder=encoder, client=client, max_tokens=7, pooling="late")


def test_a_default_that_was_measured_later_leaves_an_index_as_it_is(
    client: Elasticsearch, index_name: str
) -> None:
    """Late pooling was the default of this model once, and such an index records nothing else."""
    weights = "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    text = " ".join(f"Sentence {number} stands here." for number in range(60))
    encoder = make_index(client, index_name, WordEncoder(window=256, weights=weights), pooling="late")
    load(client, index_name, [Document("long", text)], encoder)
    assert create_index(index_name, encoder=encoder, client=client, max_tokens=7) is False
    late = embed_documents([Document("long", text)], encoder=encoder, max_tokens=7, pooling="late")
    for chunk in raise_errors(late):
        stored = stored_vector(client, index_name, f"long#{chunk.ordinal}")
        np.testing.assert_allclose(stored, chunk.vector, atol=1e-6)
    new = make_index(client, f"{index_name}-new", encoder)
    facts = describe_index(client, f"{index_name}-new")
    assert (
        PoolingOptions(
            facts["pooling"], facts["token_weights"], facts["neighbour_share"], facts["late_window"]
        )
        == measured_pooling(new.identity).options
    )  # type: ignore[union-attr]
    assert describe_index(client, index_name)["pooling"] == "late"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token_weights", "idf"), ("neighbour_share", 1.5), ("neighbour_share", "0.3"), ("neighbour_share", True),
        ("late_window", 0), ("late_window", "96"), ("late_window", 65), ("late_window", True),
        ("embed_title", -0.1), ("embed_title", 1.5), ("embed_title", "0.1"), ("embed_title", True),
    ],
)  # fmt: skip
def test_a_pooling_that_no_index_can_have_is_refused(
    client: Elasticsearch, index_name: str, name: str, value: Any
) -> None:
    encoder = make_index(client, index_name)
    [recorded] = client.indices.get_mapping(index=index_name).values()
    meta = recorded["mappings"]["_meta"]
    meta["es_latechunk"][name] = value
    client.indices.put_mapping(index=index_name, meta=meta)
    with pytest.raises((IndexMismatchError, UsageError), match=rf"{name} '?{value}"):
        load(client, index_name, LETTERS, encoder)
    assert client.count(index=index_name)["count"] == 0


@pytest.mark.parametrize("overlap", [-1, True, "8", 33])
def test_an_overlap_that_no_window_can_have_is_refused(
    client: Elasticsearch, index_name: str, overlap: Any
) -> None:
    encoder = make_index(client, index_name)
    [recorded] = client.indices.get_mapping(index=index_name).values()
    meta = recorded["mappings"]["_meta"]
    meta["es_latechunk"]["overlap"] = overlap
    client.indices.put_mapping(index=index_name, meta=meta)
    with pytest.raises((IndexMismatchError, UsageError), match=f"overlap '?{overlap}"):
        load(client, index_name, LETTERS, encoder)


def stored_vector(client: Elasticsearch, name: str, identifier: str) -> list[float]:
    answer = client.search(
        index=name, query={"ids": {"values": [identifier]}}, fields=["content_embedding"], source=False
    )
    [hit] = answer["hits"]["hits"]
    return [float(value) for value in hit["fields"]["content_embedding"]]


@pytest.mark.parametrize(
    ("encoder", "options", "both"),
    [
        (
            WordEncoder(model="b/c", weights="sha256:other"),
            {},
            ["fake/words (sha256:words)", "b/c (sha256:other)"],
        ),
        (WordEncoder(window=32), {}, ["window 64", "32"]),
        (WordEncoder(document_prefix="passage: "), {}, ["document_prefix ''", "'passage: '"]),
        (WordEncoder(query_prefix="query: "), {}, ["query_prefix ''", "'query: '"]),
        (WordEncoder(), {"max_tokens": 9}, ["max_tokens 7", "9"]),
        (WordEncoder(), {"chunker": "tokens"}, ["chunker 'sentences'", "'tokens'"]),
        (WordEncoder(), {"pooling": "naive"}, ["pooling 'late'", "'naive'"]),
        (WordEncoder(), {"pooling": PoolingOptions("blend")}, ["pooling 'late'", "'blend'"]),
        (WordEncoder(), {"pooling": PoolingOptions(token_weights="sif")}, ["token_weights 'none'", "'sif'"]),
        (WordEncoder(), {"pooling": PoolingOptions(neighbour_share=0.3)}, ["neighbour_share 0.0", "0.3"]),
        (WordEncoder(), {"pooling": PoolingOptions(late_window=32)}, ["late_window None", "32"]),
        (WordEncoder(), {"pooling": PoolingOptions(embed_title=0.1)}, ["embed_title 0.0", "0.1"]),
        (WordEncoder(), {"overlap": 9}, ["overlap 0", "9"]),
    ],
)
def test_creating_again_with_another_identity_is_refused_naming_both(
    client: Elasticsearch, index_name: str, encoder: WordEncoder, options: dict[str, Any], both: list[str]
) -> None:
    make_index(client, index_name)
    before = client.indices.get(index=index_name)[index_name]
    with pytest.raises(IndexMismatchError) as refused:
        create_index(index_name, encoder=encoder, client=client, **{"max_tokens": 7, **options})
    assert all(value in str(refused.value) for value in [index_name, *both])
    assert client.indices.get(index=index_name)[index_name] == before


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ({}, {"quantization": "bbq_flat"}, ["content_embedding as int8_hnsw", "not as bbq_flat"]),
        ({"quantization": "int4"}, {}, ["content_embedding as int4_hnsw", "not as int8_hnsw"]),
        ({}, {"context_fields": False}, ["neighbours_1 as text", "not left out"]),
        ({"context_fields": False}, {}, ["neighbours_1 left out", "not as text"]),
    ],
)
def test_creating_again_with_other_fields_is_refused_naming_both(
    client: Elasticsearch, index_name: str, first: Any, second: Any, both: list[str]
) -> None:
    encoder = make_index(client, index_name, WordEncoder(dim=64), **first)
    with pytest.raises(IndexMismatchError) as refused:
        create_index(index_name, encoder=encoder, client=client, **{"max_tokens": 7, **second})
    assert all(value in str(refused.value) for value in [f"index {index_name}", *both])
    assert create_index(index_name, encoder=encoder, client=client, **{"max_tokens": 7, **first}) is False


def test_creating_again_in_another_language_is_refused(client: Elasticsearch, index_name: str) -> None:
    """The small build has no language analyzer, so the one of the index itself is used."""
    encoder = make_index(client, index_name, language="simple")
    with pytest.raises(IndexMismatchError, match=r"content as text \(simple\), not as text \("):
        create_index(index_name, encoder=encoder, client=client, max_tokens=7)


def test_the_same_weights_under_another_name_are_the_same_model(
    client: Elasticsearch, index_name: str
) -> None:
    make_index(client, index_name)
    copy = WordEncoder(model="/models/copy", revision="abc")
    assert create_index(index_name, encoder=copy, client=client, max_tokens=7) is False


def test_meta_records_the_model_and_how_texts_are_cut(client: Elasticsearch, index_name: str) -> None:
    make_index(client, index_name, WordEncoder(dim=32, document_prefix="d: ", query_prefix="q: "))
    meta = client.indices.get_mapping(index=index_name)[index_name]["mappings"]["_meta"]
    assert meta["es_latechunk"] == {
        "model": "fake/words",
        "weights": "sha256:words",
        "dimensions": 32,
        "window": 64,
        "document_prefix": "d: ",
        "query_prefix": "q: ",
        "document_task": "",
        "query_task": "",
        "assumed_mean_pooling": False,
        "assumed_matryoshka": False,
        "revision": None,
        "folder": None,
        "chunker": "sentences",
        "max_tokens": 7,
        "pooling": "late",
        "overlap": 0,
    }


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_every_quantization_is_created_loaded_and_searched(
    client: Elasticsearch, index_name: str, quantization: str
) -> None:
    encoder = make_index(client, index_name, WordEncoder(dim=64), quantization=quantization)
    report, errors = load(client, index_name, LETTERS, encoder)
    assert (report.indexed, errors) == (8, [])
    best = search("The city is old.", index=index_name, client=client, encoder=encoder, k=1)
    assert [hit.id for hit in best] == ["berlin#1"]
    assert describe_index(client, index_name)["index_type"] == QUANTIZATIONS[quantization]


def test_shards_and_replicas_reach_the_server(client: Elasticsearch, index_name: str) -> None:
    make_index(client, index_name, shards=3, replicas=2)
    settings = client.indices.get_settings(index=index_name)[index_name]["settings"]["index"]
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == ("3", "2")


def test_by_default_one_node_holds_one_shard_and_is_green(client: Elasticsearch, index_name: str) -> None:
    make_index(client, index_name)
    settings = client.indices.get_settings(index=index_name)[index_name]["settings"]["index"]
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == ("1", "0")


def test_our_mapping_takes_no_field_that_it_does_not_know(client: Elasticsearch, index_name: str) -> None:
    make_index(client, index_name)
    answer = client.options(ignore_status=400).index(index=index_name, document={"surprise": 1})
    assert "strict" in answer["error"]["type"]


def test_a_template_with_fields_aliases_and_an_analyzer_of_its_own(
    client: Elasticsearch, index_name: str, tmp_path: Path
) -> None:
    template = load_template()
    template["aliases"] = {f"{index_name}-alias": {}}
    template["settings"] = {"number_of_shards": 2}
    for field in ("content", "neighbours_1", "neighbours_2"):
        template["mappings"]["properties"][field]["analyzer"] = "whitespace"
    template["mappings"]["properties"]["team"] = {"type": "keyword"}
    encoder = make_index(client, index_name, template=template_file(tmp_path, template), shards=4)
    load(client, index_name, LETTERS, encoder)
    index = client.indices.get(index=index_name)[index_name]
    assert index["settings"]["index"]["number_of_shards"] == "4"
    assert index["mappings"]["properties"]["team"] == {"type": "keyword"}
    assert client.count(index=f"{index_name}-alias")["count"] == 8
    assert client.count(index=index_name, query={"match": {"content": "Spree."}})["count"] == 1


def test_what_the_server_refuses_is_said_in_its_words(client: Elasticsearch, index_name: str) -> None:
    with pytest.raises(UsageError, match="analyzer \\[nonsense\\] has not been configured in mappings"):
        make_index(client, index_name, language="nonsense")
    with pytest.raises(ServerError, match="Invalid index name \\[Upper\\], must be lowercase"):
        make_index(client, "Upper")


def test_an_index_that_records_no_model_is_refused(client: Elasticsearch, index_name: str) -> None:
    client.indices.create(index=index_name)
    with pytest.raises(IndexMismatchError, match=f"index {index_name}: its mapping records no model"):
        make_index(client, index_name)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"model": "m"}, "is incomplete"),
        (
            {
                "model": "m", "weights": None, "dimensions": 4, "window": 4,
                "chunker": "sentences", "max_tokens": 7, "pooling": "cls",
            },
            "records the pooling 'cls', which this version does not know",
        ),
        ("text", "is missing"),
    ],
)  # fmt: skip
def test_a_broken_record_is_refused(client: Elasticsearch, index_name: str, entry: Any, message: str) -> None:
    client.indices.create(index=index_name, mappings={"_meta": {"es_latechunk": entry}})
    with pytest.raises(IndexMismatchError, match=message):
        describe_index(client, index_name)


def test_an_index_is_described(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    facts = describe_index(client, index_name)
    assert (facts["index"], facts["chunks"], facts["documents"]) == (index_name, 8, 3)
    assert (facts["model"], facts["index_type"]) == ("fake/words", "int8_hnsw")
    assert facts["bytes"] > 0


def make_index_of_an_older_version(client: Elasticsearch, name: str, tmp_path: Path) -> WordEncoder:
    """An index whose fields for the neighbours' words have the names that they had at first."""
    template = (
        json.dumps(load_template()).replace('"neighbours_1"', '"near"').replace('"neighbours_2"', '"far"')
    )
    return make_index(client, name, template=template_file(tmp_path, json.loads(template)))


def test_an_index_whose_neighbours_words_are_not_searched_says_so_once(
    client: Elasticsearch, index_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = make_index_of_an_older_version(client, index_name, tmp_path)
    load(client, index_name, [Document("a", "one two three")], encoder)
    for _ in range(2):
        assert search("two", index=index_name, client=client, encoder=encoder)
    [message] = warnings_told(caplog)
    assert message.startswith(f"index {index_name}: its fields near and far ")
    assert "es-latechunk index create" in message
    assert "es-latechunk ingest --alias" in message


def test_a_new_index_for_an_alias_has_the_fields_of_today(
    client: Elasticsearch, index_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = make_index_of_an_older_version(client, f"{index_name}-old", tmp_path)
    client.indices.put_alias(index=f"{index_name}-old", name=index_name)
    ingest(
        [Document("a", "one two. Three four five six seven.")],
        alias=index_name,
        client=client,
        encoder=encoder,
    )
    promote(index_name, client=client)
    caplog.clear()
    [hit] = search("two", index=index_name, client=client, mode="bm25", encoder=encoder, collapse=True)
    assert hit.doc_id == "a"
    mapping = next(iter(client.indices.get_mapping(index=index_name).values()))["mappings"]
    assert mapping["_source"]["excludes"] == ["neighbours_1", "neighbours_2"]
    assert mapping["properties"].keys() == load_template()["mappings"]["properties"].keys() - {"pieces"}
    assert warnings_told(caplog) == []


def test_only_one_index_that_is_named_is_deleted(client: Elasticsearch, index_name: str) -> None:
    make_index(client, index_name)
    make_index(client, f"{index_name}-2")
    client.indices.put_alias(index=f"{index_name}*", name=f"{index_name}-both")
    for name in (
        f"{index_name}*",
        "_all",
        f"{index_name}-both",
        f"{index_name},{index_name}-2",
        "test-missing",
    ):
        with pytest.raises(PreconditionError):
            delete_index(client, name)
    assert len(client.indices.get(index=f"{index_name}*")) == 2
    delete_index(client, index_name)
    assert list(client.indices.get(index=f"{index_name}*")) == [f"{index_name}-2"]
