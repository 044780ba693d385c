"""kNN search on a real server: hits, order, scores, filters, and the request in Dev Tools' syntax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch
from indices import LETTERS, WordEncoder, load, make_index

from es_latechunk import Document, Hit, embed_documents, search
from es_latechunk.elastic.search.query import SearchOptions
from es_latechunk.errors import IndexMismatchError, IndexNotFoundError, UsageError

pytestmark = pytest.mark.every_version

DOCUMENTS = [
    *LETTERS,
    Document(
        "a/b:c 1.txt", "Trams climb hills. Lakes freeze.", "Winter, old city", {"lang": "en", "year": 1999}
    ),
    Document(
        "42",
        "The city is old. The city is very old.",
        "",
        {"doc_id": "berlin", "draft": True, "source": "http://x/?a=b"},
    ),
]
QUERY = "The city is old."


@pytest.fixture(scope="module")
def loaded(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, str, WordEncoder]]:
    """An index with exact vectors, shared by this file's tests: they only read."""
    name = "searched"
    with Elasticsearch(elasticsearch_url) as client:
        encoder = make_index(client, name, quantization="none")
        load(client, name, DOCUMENTS, encoder)
        yield client, name, encoder
        client.indices.delete(index=name)


def find(loaded: Any, query: str = QUERY, **options: Any) -> list[Hit]:
    client, name, encoder = loaded
    return search(query, index=name, client=client, encoder=encoder, mode="knn", **options)


def test_a_hit_says_where_its_chunk_stands(loaded: Any) -> None:
    [hit] = find(loaded, k=1, filters=["doc_id=berlin"])
    assert hit.score > 0.9
    assert hit == Hit(
        "berlin#1", "berlin", 1, hit.score, 26, 42, "The city is old.", "Berlin", {"lang": "en"}
    )


@pytest.mark.parametrize("query", [QUERY, "hoch", "Trams", "nothing of this is there"])
def test_hits_are_the_exact_neighbours_with_their_cosine(loaded: Any, query: str) -> None:
    """Source of the formula: Elasticsearch scores cosine similarity as (1 + cosine) / 2."""
    encoder = loaded[2]
    [question] = encoder.encode_queries([query]).astype(np.float64)
    exact = {
        f"{chunk.doc_id}#{chunk.ordinal}": (1 + chunk.vector.astype(np.float64) @ question) / 2
        for chunk in embed_documents(DOCUMENTS, encoder=encoder, max_tokens=7)
    }
    hits = find(loaded, query, k=len(exact) + 5)
    assert [hit.id for hit in hits] == sorted(exact, key=lambda key: -exact[key])
    assert [hit.score for hit in hits] == pytest.approx(sorted(exact.values(), reverse=True), abs=1e-5)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_k_is_how_many(loaded: Any, k: int) -> None:
    everything = find(loaded, k=100)
    assert find(loaded, k=k) == everything[:k]


@pytest.mark.parametrize(
    ("filters", "doc_ids"),
    [
        (["doc_id=berlin"], {"berlin"}),
        (["doc_id=a/b:c 1.txt"], {"a/b:c 1.txt"}),
        (["doc_id=köln"], {"köln"}),
        (["lang=en"], {"berlin", "lisbon", "a/b:c 1.txt"}),
        (["metadata.lang=de"], {"köln"}),
        (["tags=dom"], {"köln"}),
        (["year=1999"], {"a/b:c 1.txt"}),
        (["draft=true"], {"42"}),
        (["metadata.doc_id=berlin"], {"42"}),
        (["title=old city"], {"a/b:c 1.txt"}),
        (["title=city old"], set()),
        (["content=climb"], {"lisbon", "a/b:c 1.txt"}),
        (["lang=en", "content=climb", "doc_id=lisbon"], {"lisbon"}),
        (["ordinal=2"], {"berlin", "lisbon"}),
        (["lang=EN"], set()),
        (["no-such-key=x"], set()),
        (["source=http://x/?a=b"], {"42"}),
    ],
)
def test_a_filter_leaves_what_fits(loaded: Any, filters: list[str], doc_ids: set[str]) -> None:
    hits = find(loaded, filters=filters, k=50)
    assert {hit.doc_id for hit in hits} == doc_ids


def test_a_filter_is_applied_before_the_search(loaded: Any) -> None:
    """Not to the k nearest afterwards: the only chunk that fits is found, however far it is."""
    assert [hit.id for hit in find(loaded, k=1, num_candidates=1, filters=["content=Dom"])] == ["köln#1"]


@pytest.mark.parametrize("text", ["nonsense", "=x", " = "])
def test_a_filter_without_field_and_value_is_refused(loaded: Any, text: str) -> None:
    with pytest.raises(UsageError, match="has no field and value; write field=value"):
        find(loaded, filters=[text])


@pytest.mark.parametrize(
    ("options", "candidates"),
    [
        (SearchOptions(), 500),
        (SearchOptions(k=1), 500),
        (SearchOptions(k=60), 600),
        (SearchOptions(k=5000), 10_000),
        (SearchOptions(k=10_000), 10_000),
        (SearchOptions(k=10, num_candidates=10), 10),
        (SearchOptions(k=10, num_candidates=10_000), 10_000),
    ],
)
def test_the_number_of_candidates(options: SearchOptions, candidates: int) -> None:
    assert options.candidates() == candidates


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k 0 is not between 1 and 10000"),
        ({"k": 10_001}, "k 10001 is not between 1 and 10000"),
        ({"k": 10, "num_candidates": 9}, "num_candidates 9 is not between k 10 and 10000"),
        ({"k": 10, "num_candidates": 10_001}, "num_candidates 10001 is not between k 10 and 10000"),
    ],
)
def test_numbers_out_of_bounds_are_refused(loaded: Any, options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find(loaded, **options)


@pytest.mark.parametrize("query", ["", " \n"])
def test_an_empty_query_is_refused(loaded: Any, query: str) -> None:
    with pytest.raises(UsageError, match="the query is empty"):
        find(loaded, query)


def test_an_index_that_is_missing_or_not_ours_is_refused(client: Elasticsearch, index_name: str) -> None:
    with pytest.raises(IndexNotFoundError, match=f"index {index_name} does not exist .* index create"):
        search(QUERY, index=index_name, client=client, encoder=WordEncoder())
    client.indices.create(index=index_name)
    with pytest.raises(IndexMismatchError, match="its mapping records no model"):
        search(QUERY, index=index_name, client=client, encoder=WordEncoder())


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            WordEncoder(model="b/c", weights="sha256:other"),
            r"fake/words \(sha256:words\), .* b/c \(sha256:other\)",
        ),
        (WordEncoder(window=32), "window 64, the given setting is 32"),
        (WordEncoder(query_prefix="q: "), "query_prefix '', the given setting is 'q: '"),
        (WordEncoder(dim=8), "dimensions 16, the given setting is 8"),
    ],
)
def test_one_model_per_index(loaded: Any, encoder: WordEncoder, message: str) -> None:
    """Invariant 7, from the side of the search."""
    with pytest.raises(IndexMismatchError, match=message):
        search(QUERY, index=loaded[1], client=loaded[0], encoder=encoder)
    assert encoder.tokens_encoded == 0


def test_an_alias_over_two_indices_of_one_model_is_searched(client: Elasticsearch, index_name: str) -> None:
    for number, document in enumerate(LETTERS[:2]):
        encoder = make_index(client, f"{index_name}-{number}")
        load(client, f"{index_name}-{number}", [document], encoder)
        client.indices.put_alias(index=f"{index_name}-{number}", name=index_name)
    hits = find((client, index_name, encoder), "Lisbon lies on the Tagus.", k=6)
    assert (hits[0].id, len(hits)) == ("lisbon#0", 6)
    make_index(client, f"{index_name}-2", WordEncoder(window=32))
    client.indices.put_alias(index=f"{index_name}-2", name=index_name)
    with pytest.raises(IndexMismatchError, match="window 64, the given setting is 32"):
        search(QUERY, index=index_name, client=client, encoder=encoder)
