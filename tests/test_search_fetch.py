"""A search's second step: the winners' fields in answers of a bounded size, and no document of two versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from faults import Fault, Request, Rewrite, Status, WatchedProxy
from indices import LETTERS, QUERIES, WORDS, WordEncoder, load, made_up_documents, make_index, stored_chunks

from es_latechunk import Document, connect, search
from es_latechunk.elastic.search import fetch
from es_latechunk.elastic.search.query import SearchOptions
from es_latechunk.elastic.search.searcher import Searcher
from es_latechunk.elastic.write import bulk
from es_latechunk.errors import IndexMismatchError, PreconditionError, ServerError, TooMuchError

MODES = ("knn", "bm25", "hybrid")
LARGE = 32_000  # characters of metadata


def large_documents() -> list[Document]:
    notes = {f"note{number}": "x" * 4_000 for number in range(LARGE // 4_000)}
    return [
        Document(document.id, document.text, document.title, {**document.metadata, **notes})
        for document in made_up_documents()
    ]


@pytest.fixture(scope="module")
def large(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        encoder = make_index(client, "large")
        load(client, "large", large_documents(), encoder)
        yield client, encoder
        client.indices.delete(index="large")


@pytest.mark.parametrize("mode", MODES)
def test_the_server_sends_the_fields_of_the_winners_alone(
    large: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, mode: Any
) -> None:
    """144 chunks are looked at to show three: the answers hold three times the metadata, not 288 times."""
    sizes: list[int] = []

    def measured(_: int, request: Request) -> Fault | None:
        if "_msearch" not in request.path:
            return None
        return Rewrite(lambda answer: sizes.append(len(json.dumps(answer))))

    with WatchedProxy(elasticsearch_url, measured) as proxy, connect(url=proxy.url) as client:
        hits = search(QUERIES[0], index="large", client=client, encoder=large[1], k=3, mode=mode)
    assert len(hits) == 3
    assert all(len(hit.metadata["note0"]) == 4_000 for hit in hits)
    assert len(sizes) == 2
    assert 3 * LARGE < sum(sizes) < 5 * LARGE


def too_large(request: Request, most: int) -> bool:
    """Whether a search of chunks by id asks for more of them than so many."""
    bodies = [json.loads(line) for line in request.body.decode().splitlines()]
    return any(len(body.get("post_filter", {}).get("ids", {}).get("values", [])) > most for body in bodies)


@pytest.mark.parametrize("whole", [True, False])
def test_an_answer_that_is_too_large_for_the_server_is_asked_for_in_parts(
    large: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, whole: bool
) -> None:
    """As a circuit breaker refuses: the request, or one search of it."""
    kind, reason = "circuit_breaking_exception", "[parent] Data too large, data for [<http_request>]"

    def refuse(answer: Any) -> None:
        answer["responses"] = [{"status": 429, "error": {"type": kind, "reason": reason}}]

    def watch(_: int, request: Request) -> Fault | None:
        if "_msearch" not in request.path or not too_large(request, 3):
            return None
        return Status(429, kind, reason) if whole else Rewrite(refuse)

    with WatchedProxy(elasticsearch_url, watch) as proxy, connect(url=proxy.url) as client:
        found = search(QUERIES[0], index="large", client=client, encoder=large[1], k=10)
    assert found == search(QUERIES[0], index="large", client=large[0], encoder=large[1], k=10)
    assert len(found) == 10


def test_one_chunk_that_is_too_large_is_an_error(
    large: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str
) -> None:
    def watch(_: int, request: Request) -> Fault | None:
        large_one = "_msearch" in request.path and too_large(request, 0)
        return Status(429, "circuit_breaking_exception", "Data too large") if large_one else None

    with (
        WatchedProxy(elasticsearch_url, watch) as proxy,
        connect(url=proxy.url) as client,
        pytest.raises(TooMuchError, match="Data too large"),
    ):
        search(QUERIES[0], index="large", client=client, encoder=large[1], k=10)


def test_many_queries_with_large_metadata(
    large: tuple[Elasticsearch, WordEncoder],
    elasticsearch_url: str,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: large[1])
    path = tmp_path / "queries.txt"
    path.write_text("\n".join(f"{first} {second}" for first in WORDS for second in WORDS[:4]))
    result = run("search", "--from-file", path, "--index", "large", "--json", "--url", elasticsearch_url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 10 * 4 * len(WORDS)


def test_a_document_is_found_whole_or_not_at_all_while_it_is_replaced(
    client: Elasticsearch, elasticsearch_url: str, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each request of a load somebody refreshes and searches: no document has hits of two versions."""
    monkeypatch.setattr(bulk, "BATCH_ACTIONS", 3)
    encoder = make_index(client, index_name)

    def versions(sentences: int, word: str) -> list[Document]:
        one = " ".join(f"The {word} lies at place {number}." for number in range(sentences))
        return [Document(f"d{number}", one, "", {"version": word}) for number in range(4)]

    load(client, index_name, versions(6, "harbour"), encoder)
    reader = Elasticsearch(elasticsearch_url)
    seen: list[set[tuple[str, str]]] = []
    mixed = 0

    def look(_: int, request: Request) -> Fault | None:
        nonlocal mixed
        if "_bulk" not in request.path:
            return None
        client.indices.refresh(index=index_name)
        stored = {
            (row["doc_id"], row["metadata"]["version"]) for row in stored_chunks(client, index_name).values()
        }
        mixed += len(stored) > len({doc_id for doc_id, _ in stored})
        for mode in MODES:
            hits = search(
                "lies at place", index=index_name, client=reader, encoder=encoder, k=50,
                mode=mode,  # type: ignore[arg-type]
            )  # fmt: skip
            versions_found = {(hit.doc_id, str(hit.metadata["version"])) for hit in hits}
            assert len(versions_found) == len({doc_id for doc_id, _ in versions_found})
            for doc_id, version in versions_found:
                count = sum(hit.doc_id == doc_id for hit in hits)
                assert count == (6 if version == "harbour" else 4), "all of a version"
            seen.append(versions_found)
        return None

    failures: list[BaseException] = []

    def watch(at: int, request: Request) -> Fault | None:
        try:
            return look(at, request)
        except AssertionError as error:
            failures.append(error)
            return None

    with WatchedProxy(elasticsearch_url, watch) as proxy, connect(url=proxy.url) as watched:
        load(watched, index_name, versions(4, "lamp"), encoder)
    reader.close()
    assert failures == []
    assert mixed > 3, "the index itself does show both versions in between"
    assert any(len(found) < 4 for found in seen), "and a document is left out meanwhile"
    assert {version for found in seen for _, version in found} == {"harbour", "lamp"}


@pytest.mark.parametrize("mode", MODES)
def test_what_is_left_out_makes_room_for_what_comes_after_it(
    client: Elasticsearch, index_name: str, mode: Any
) -> None:
    """Half of a document, as a kill leaves it, takes no place among the hits."""
    encoder = make_index(client, index_name)
    documents = [
        Document(f"d{n}", f"The copper tower of town {n}. It is a tower of copper.") for n in range(8)
    ]
    load(client, index_name, documents, encoder)
    for number in range(4):
        client.delete(index=index_name, id=f"d{number}#1", refresh=True)
    hits = search("copper tower", index=index_name, client=client, encoder=encoder, k=6, mode=mode)
    assert len(hits) == 6
    assert {hit.doc_id for hit in hits} <= {"d4", "d5", "d6", "d7"}


@pytest.mark.parametrize("mode", MODES)
def test_a_foreign_document_is_named_and_left_out(
    client: Elasticsearch, index_name: str, mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    row = stored_chunks(client, index_name)["berlin#0"]
    stranger = {"content": row["content"], "content_embedding": row["content_embedding"]}
    client.index(index=index_name, id="stranger", document=stranger, refresh=True)
    hits = search(
        "Berlin lies on the Spree",
        index=index_name,
        client=client,
        encoder=encoder,
        k=3,
        mode=mode,
        highlight=True,
    )
    assert [hit.doc_id for hit in hits][:1] == ["berlin"]
    assert len(hits) == 3
    assert (
        f"index {index_name}: stranger is not a chunk of es-latechunk (it has no doc_id, ordinal"
        in caplog.text
    )
    found = search(
        "Berlin lies on the Spree",
        index=index_name,
        client=client,
        encoder=encoder,
        k=3,
        mode=mode,
        collapse=True,
    )
    assert {hit.doc_id for hit in found} == {"berlin", "lisbon", "köln"} or mode == "bm25"


@pytest.mark.every_version
@pytest.mark.parametrize("mode", MODES)
def test_the_server_is_asked_for_no_stored_field_of_the_candidates(
    large: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, mode: Any
) -> None:
    """`_id` is one: each candidate would be unpacked, with its large metadata."""
    asked: list[dict[str, Any]] = []

    def watch(_: int, request: Request) -> Fault | None:
        if "_msearch" in request.path:
            asked.extend(json.loads(line) for line in request.body.decode().splitlines())
        return None

    with WatchedProxy(elasticsearch_url, watch) as proxy, connect(url=proxy.url) as client:
        hits = search(
            QUERIES[0], index="large", client=client, encoder=large[1], k=3, mode=mode, collapse=True
        )
    assert len({hit.doc_id for hit in hits}) == 3
    candidates = [body for body in asked if "size" in body and "post_filter" not in body]
    assert len(candidates) == (2 if mode == "hybrid" else 1)
    for body in candidates:
        lean = body.get("collapse", {}).get("inner_hits", body)
        assert {body["stored_fields"], lean["stored_fields"]} == {"_none_"}
        assert "_source" not in body.keys() | lean.keys()


@pytest.mark.parametrize("collapse", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_a_copy_of_a_chunk_under_another_id_is_left_out(
    client: Elasticsearch, index_name: str, mode: Any, collapse: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It has the document and the ordinal of a chunk, so only its `_id` tells the two apart."""
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    row = stored_chunks(client, index_name)["berlin#1"]
    client.index(index=index_name, id="a copy", document={**row, "ordinal": 2}, refresh=True)
    hits = search(
        "The city is old.",
        index=index_name,
        client=client,
        encoder=encoder,
        k=8,
        mode=mode,
        collapse=collapse,
    )
    ids = [hit.id for hit in hits] + [inner.id for hit in hits for inner in hit.inner_hits or ()]
    assert len(set(ids)) == len(ids)
    assert "a copy" not in ids
    assert (
        "a copy is not a chunk of es-latechunk (its _id is not that of its doc_id and ordinal)" in caplog.text
    )


WHOLE = {
    "doc_id": "a",
    "ordinal": 0,
    "start": 2,
    "end": 5,
    "content": "abc",
    "title": "T",
    "metadata": {"k": 1},
}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"doc_id": None}, "its doc_id is a NoneType"),
        ({"doc_id": ["a", "b"]}, "its doc_id is a list"),
        ({"ordinal": "0"}, "its ordinal is a str"),
        ({"content": ["abc"]}, "its content is a list"),
        ({"doc_id": "other"}, "its _id is not that of its doc_id and ordinal"),
        ({"ordinal": 1}, "its _id is not that of its doc_id and ordinal"),
        ({"end": 6}, "its content is not as long as its start and end say"),
        ({"start": -1, "end": 2}, "its content is not as long as its start and end say"),
    ],
)
def test_what_is_nearly_a_chunk_is_left_out_too(
    changes: dict[str, Any], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"_index": "i", "_id": "a#0", "_score": 1.0}
    assert fetch.read_hit({**row, "_source": WHOLE}) is not None
    assert fetch.read_hit({**row, "_source": {**WHOLE, **changes}}) is None
    assert f"index i: a#0 is not a chunk of es-latechunk ({fault})" in caplog.text


def test_a_title_or_metadata_that_is_none_is_empty() -> None:
    row = {"_index": "i", "_id": "a#0", "_score": 1.0, "_source": {**WHOLE, "title": None, "metadata": [1]}}
    hit = fetch.read_hit(row)
    assert hit is not None
    assert (hit.title, hit.metadata) == ("", {})


def test_the_same_id_in_two_indices_behind_an_alias_is_two_hits(
    client: Elasticsearch, index_name: str
) -> None:
    first, second = f"{index_name}-1", f"{index_name}-2"
    for name in (first, second):
        encoder = make_index(client, name)
        load(client, name, LETTERS, encoder)
        client.indices.put_alias(index=name, name=f"{index_name}-both")
    hits = search("Berlin lies on the Spree", index=f"{index_name}-both", client=client, encoder=encoder, k=2)
    assert [hit.id for hit in hits] == ["berlin#0", "berlin#0"]


def test_an_index_that_keeps_no_source_is_refused(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, f"{index_name}-first")
    index = client.indices.get(index=f"{index_name}-first")[f"{index_name}-first"]
    settings = {"analysis": index["settings"]["index"]["analysis"]}
    mappings = {**index["mappings"], "_source": {"enabled": False}}
    client.indices.create(index=index_name, mappings=mappings, settings=settings)
    with pytest.raises(IndexMismatchError, match="keeps no _source"):
        search("x", index=index_name, client=client, encoder=encoder)
    with pytest.raises(PreconditionError, match="keeps no _source"):
        fetch.read_hit({"_index": index_name, "_id": "a#0", "_score": 1.0})


@pytest.mark.parametrize(
    "words",
    [
        ["index", "create", ""],
        ["index", "show", ""],
        ["index", "delete", " ", "--yes"],
        ["search", "x", "--index", ""],
        ["ingest", "README.md", "--index", " "],
        ["ingest", "--from-index", "", "--index", "x"],
    ],
)
def test_an_empty_name_is_refused(elasticsearch_url: str, words: list[str], index_name: str) -> None:
    """To Elasticsearch it would mean every index."""
    with Elasticsearch(elasticsearch_url) as client:
        make_index(client, index_name)
        message = error_of(run(*words, "--url", elasticsearch_url), 2)
        assert "empty" in message or "needs either" in message
        assert client.indices.exists(index=index_name)
        client.indices.delete(index=index_name)


def test_an_empty_answer_is_told_as_such(
    elasticsearch_url: str, client: Elasticsearch, index_name: str
) -> None:
    """What a proxy between may send: 200, and nothing else."""
    from faults import CutAnswer

    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    with WatchedProxy(elasticsearch_url, lambda *_: CutAnswer(0.0, announced=False)) as proxy:
        with (
            connect(url=proxy.url) as empty,
            pytest.raises(ServerError, match="cut off or not JSON"),
        ):
            search("x", index=index_name, client=empty, encoder=encoder)
        for words in (
            ["index", "show", index_name],
            ["index", "delete", index_name, "--yes"],
            ["search", "x", "--index", index_name],
        ):
            assert "cut off or not JSON" in error_of(run(*words, "--url", proxy.url), 2)


def test_searching_again_asks_the_server_twice(
    large: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str
) -> None:
    with (
        WatchedProxy(elasticsearch_url, lambda *_: None) as proxy,
        connect(url=proxy.url) as client,
    ):
        searcher = Searcher(client, "large", SearchOptions(k=3))
        before = len(proxy.requests)
        vectors = searcher.encode(QUERIES, large[1])
        found = searcher.run(QUERIES, vectors)
        assert [len(one.hits) for one in found] == [3] * len(QUERIES)
        assert len(proxy.requests) - before == 2
