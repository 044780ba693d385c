"""An index for asyncio on a real server: its answers and errors, and an event loop that is never blocked."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from asynchronous import PATIENCE, HeldEncoder, assert_released, be_patient, run, until
from elasticsearch import Elasticsearch
from indices import LETTERS, QUERIES, WordEncoder, load, made_up_index, make_index, stored_chunks

from es_latechunk import AsyncIndex, Document, Index, IndexNotFoundError, UsageError, connect
from es_latechunk.async_index import CALLS_AT_ONCE

INDEX = "async"
SEARCHES = 50


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


@pytest.fixture(scope="module")
def filled(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    with made_up_index(elasticsearch_url, INDEX) as both:
        yield both


def test_fifty_searches_at_once_give_the_answers_of_one_after_the_other(
    filled: tuple[Elasticsearch, WordEncoder],
) -> None:
    client, encoder = filled
    asked = [
        (f"{QUERIES[number % 4]} {number % 7}", {"mode": ("knn", "bm25", "hybrid")[number % 3], "k": 5})
        for number in range(SEARCHES)
    ]
    index = Index(INDEX, client=client, encoder=encoder)
    expected = [index.search(query, **keywords) for query, keywords in asked]  # type: ignore[arg-type]

    async def main() -> list[Any]:
        async with AsyncIndex(INDEX, client=client, encoder=encoder) as index:
            searches = (index.search(query, **keywords) for query, keywords in asked)  # type: ignore[arg-type]
            return await asyncio.gather(*searches)

    assert run(main()) == expected
    assert all(len(hits) == 5 for hits in expected)


def test_the_other_methods_give_the_answers_of_an_index(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    client, encoder = filled
    index = Index(INDEX, client=client, encoder=encoder)

    async def main() -> None:
        async with AsyncIndex(INDEX, client=client, encoder=encoder) as same:
            assert await same.show() == index.show()
            assert await same.encoder() is encoder
            found = [result async for result in same.search_many(QUERIES, k=3)]
            expected = list(index.search_many(QUERIES, k=3))
            assert [(one.query, one.hits) for one in found] == [(one.query, one.hits) for one in expected]
            plan = await same.dry_run(LETTERS, prune=True, max_prune=1)
            expected_plan = index.dry_run(LETTERS, prune=True, max_prune=1).plan
            assert (plan.to_index, plan.documents_to_delete) == (8, 24)
            assert (plan.chunks, plan.to_delete) == (expected_plan.chunks, expected_plan.to_delete)

    run(main())


def test_the_errors_are_those_of_an_index(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    async def main() -> None:
        index = AsyncIndex("test-none", client=filled[0])
        for call in (index.search("a"), index.ingest([]), index.show(), index.encoder()):
            with pytest.raises(IndexNotFoundError, match="index test-none does not exist"):
                await call
        with pytest.raises(UsageError, match="k -1"):
            await index.search("a", k=-1)
        with pytest.raises(UsageError, match="max_prune 7 is not a share"):
            await index.start_ingest([], max_prune=7)

    run(main())


def test_a_client_of_its_own_is_made_in_a_thread_and_closed(
    filled: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The constructor asks nothing and loads nothing; a client that was given stays open."""
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    closed: list[Any] = []
    monkeypatch.setattr(Elasticsearch, "close", lambda client: closed.append(client))
    made_in: list[threading.Thread] = []

    def connect_here() -> Elasticsearch:
        made_in.append(threading.current_thread())
        return connect()

    monkeypatch.setattr("es_latechunk.elastic.connection.connect", connect_here)

    async def main() -> None:
        index = AsyncIndex(INDEX)
        assert made_in == []
        async with index:
            assert [one for one in made_in if one is not threading.main_thread()] == made_in != []
            assert (await index.show())["chunks"] == 144
        assert len(closed) == 1
        async with AsyncIndex(INDEX, client=filled[0]) as index:
            await index.show()
        assert len(closed) == 1

    run(main())


def test_the_event_loop_is_free_while_as_many_searches_as_allowed_wait_for_the_model(
    filled: tuple[Elasticsearch, WordEncoder],
) -> None:
    encoder = HeldEncoder()

    async def main() -> None:
        index = AsyncIndex(INDEX, client=filled[0], encoder=encoder)
        searches = [asyncio.create_task(index.search(QUERIES[0])) for _ in range(CALLS_AT_ONCE + 5)]
        await until(lambda: encoder.begun == CALLS_AT_ONCE)
        for _ in range(100):
            await asyncio.sleep(0)
        assert (encoder.begun, encoder.done) == (CALLS_AT_ONCE, 0)
        encoder.let_go.set()
        found = await asyncio.gather(*searches)
        assert all(hits == found[0] for hits in found)
        assert encoder.done == len(searches)

    run(main())


def test_threads_end_with_the_index_they_belong_to(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    before = set(threading.enumerate())

    async def main() -> set[threading.Thread]:
        index = AsyncIndex(INDEX, client=filled[0], encoder=filled[1])
        assert await index.search(QUERIES[0])
        return set(threading.enumerate()) - before

    threads = run(main())
    assert len(threads) >= CALLS_AT_ONCE
    gc.collect()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)


async def some_letters() -> AsyncIterator[Document]:
    for letter in LETTERS:
        await asyncio.sleep(0)
        yield letter


@pytest.mark.parametrize("source", [lambda: LETTERS, some_letters], ids=["iterable", "async iterable"])
def test_an_ingest_writes_what_a_sync_one_writes(
    client: Elasticsearch, index_name: str, source: Callable[[], Any]
) -> None:
    encoder = make_index(client, index_name)
    clean = f"{index_name}-clean"
    make_index(client, clean)
    load(client, clean, LETTERS, encoder)

    async def main() -> None:
        index = AsyncIndex(index_name, client=client, encoder=encoder)
        report = await index.ingest(source())
        assert (report.documents, report.chunks, report.indexed) == (3, 8, 8)
        again = await index.start_ingest(source())
        results = [(result.doc_id, result.outcome) async for result in again]
        assert results == [(letter.id, "unchanged") for letter in LETTERS]
        assert (again.index, again.encoder) == (index_name, encoder)
        assert (again.report.unchanged, again.progress.seen_documents) == (8, 3)
        assert (await index.dry_run(source())).unchanged == 8

    run(main())
    assert stored_chunks(client, index_name) == stored_chunks(client, clean)
    assert_released(client, index_name)


def test_an_async_source_is_read_in_the_event_loop_as_needed(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    request = ContextVar[str]("request")
    read_in = []

    async def source() -> AsyncIterator[Document]:
        for number in range(600):
            read_in.append((threading.current_thread(), request.get()))
            yield Document(f"d{number}", f"Document number {number} has a few words.")

    async def main() -> int:
        request.set("r1")
        index = AsyncIndex(index_name, client=client, encoder=encoder)
        first = 0
        async for _ in await index.start_ingest(source()):
            first = first or len(read_in)
        return first

    assert 0 < run(main()) < 600
    assert read_in == [(threading.main_thread(), "r1")] * 600


def test_the_error_of_a_source_ends_the_ingest_and_is_raised(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)

    async def source() -> AsyncIterator[Document]:
        yield LETTERS[0]
        raise OSError("the disk is gone")

    async def main() -> None:
        index = AsyncIndex(index_name, client=client, encoder=encoder)
        with pytest.raises(OSError, match="the disk is gone"):
            await index.ingest(source(), prune=True)
        with pytest.raises(OSError, match="the disk is gone"):
            async for _ in await index.start_ingest(source(), prune=True):
                pass

    run(main())
    assert_released(client, index_name)
