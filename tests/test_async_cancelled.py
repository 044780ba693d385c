"""Searches and ingests that are cancelled: what returns at once, and what is restored before it returns."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import faults
import pytest
from asynchronous import PATIENCE, HeldEncoder, assert_released, be_patient, is_cancelled, run, until
from elasticsearch import Elasticsearch
from faults import NEW, SEED, Fault, FaultProxy, Request, Reset, WatchedProxy
from indices import LETTERS, QUERIES, WordEncoder, load, made_up_index, make_index, stored_chunks

from es_latechunk import AsyncIndex, Document, Index, IngestRun, connect
from es_latechunk.async_index import CALLS_AT_ONCE
from es_latechunk.elastic import retry
from es_latechunk.elastic.index import ownership
from es_latechunk.threads import Interrupt, pause

INDEX = "async-cancelled"
CANCELLATIONS = 6
STARTING = 4  # requests before the load begins


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


@pytest.fixture(scope="module")
def filled(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    with made_up_index(elasticsearch_url, INDEX) as both:
        yield both


def refresh_interval(client: Elasticsearch, name: str) -> str | None:
    settings = client.indices.get_settings(index=name)[name]["settings"]["index"]
    interval: str | None = settings.get("refresh_interval")
    return interval


def test_a_cancelled_search_returns_at_once_and_its_thread_is_free_when_it_ends(
    filled: tuple[Elasticsearch, WordEncoder],
) -> None:
    encoder = HeldEncoder()

    async def main() -> None:
        index = AsyncIndex(INDEX, client=filled[0], encoder=encoder)
        running = [asyncio.create_task(index.search(QUERIES[0])) for _ in range(CALLS_AT_ONCE)]
        await until(lambda: encoder.begun == CALLS_AT_ONCE)
        waiting = asyncio.create_task(index.search(QUERIES[1]))
        last = asyncio.create_task(index.search(QUERIES[2]))
        await asyncio.sleep(0)
        for task in (*running, waiting):
            task.cancel()
            assert await is_cancelled(task)
        assert (encoder.begun, encoder.done, last.done()) == (CALLS_AT_ONCE, 0, False)
        encoder.let_go.set()
        expected = Index(INDEX, client=filled[0], encoder=WordEncoder()).search(QUERIES[2])
        assert await last == expected
        # The one that was cancelled before its turn was never run.
        assert encoder.done == CALLS_AT_ONCE + 1

    run(main())


def test_the_event_loop_is_free_during_an_ingest_which_ends_though_the_model_does_not(
    client: Elasticsearch, index_name: str
) -> None:
    encoder = HeldEncoder()
    make_index(client, index_name, encoder)
    encoder.batch_tokens = 16  # so that the model runs in a thread beside the reading

    async def main() -> None:
        index = AsyncIndex(index_name, client=client, encoder=encoder)
        ingest = asyncio.create_task(index.ingest(LETTERS))
        await until(lambda: encoder.begun > 0)
        for _ in range(100):
            await asyncio.sleep(0)
        ingest.cancel()
        assert await is_cancelled(ingest)
        assert encoder.done == 0
        assert_released(client, index_name)
        encoder.let_go.set()
        report = await index.ingest(LETTERS)
        assert report.documents == 3

    run(main())


def test_an_ingest_that_waits_for_its_source_can_be_cancelled(client: Elasticsearch, index_name: str) -> None:
    """The source is interrupted too, and never taken for one that has ended: prune would remove the rest."""
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    waiting, ended = threading.Event(), threading.Event()

    async def source() -> AsyncIterator[Document]:
        yield LETTERS[0]
        try:
            waiting.set()
            await asyncio.sleep(PATIENCE)
        finally:
            ended.set()

    async def main() -> None:
        index = AsyncIndex(index_name, client=client, encoder=encoder)
        ingest = asyncio.create_task(index.ingest(source(), prune=True, max_prune=1))
        await until(waiting.is_set)
        ingest.cancel()
        assert await is_cancelled(ingest)
        await until(ended.is_set)

    run(main())
    assert len(stored_chunks(client, index_name)) == 8
    assert_released(client, index_name)


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Is set when a load pauses, before another attempt or while another load owns the index."""
    event = threading.Event()

    def tell(seconds: float) -> None:
        event.set()
        pause(seconds)

    monkeypatch.setattr(retry, "pause", tell)
    monkeypatch.setattr(ownership, "pause", tell)
    return event


def test_an_ingest_that_waits_for_another_load_can_be_cancelled(
    client: Elasticsearch, index_name: str, paused: threading.Event
) -> None:
    encoder = make_index(client, index_name)
    other = iter(IngestRun(LETTERS, index=index_name, client=client, encoder=encoder))
    next(other)

    async def main() -> None:
        index = AsyncIndex(index_name, client=client, encoder=encoder)
        ingest = asyncio.create_task(index.ingest(LETTERS, wait=True))
        await until(paused.is_set)
        ingest.cancel()
        assert await is_cancelled(ingest)
        assert len(ownership.read_state(client, index_name).owners) == 1

    run(main())
    assert len(list(other)) == 2
    assert_released(client, index_name)


def test_an_ingest_that_repeats_a_request_can_be_cancelled(
    client: Elasticsearch, elasticsearch_url: str, index_name: str, paused: threading.Event
) -> None:
    encoder = make_index(client, index_name)

    async def main(proxied: Elasticsearch) -> None:
        index = AsyncIndex(index_name, client=proxied, encoder=encoder)
        ingest = asyncio.create_task(index.ingest(LETTERS, retry_for=10 * PATIENCE))
        await until(paused.is_set)
        ingest.cancel()
        assert await is_cancelled(ingest)

    with FaultProxy(elasticsearch_url) as proxy, connect(url=proxy.url) as proxied:
        proxy.fail(Reset(), times=1_000_000, path="/_bulk")
        run(main(proxied))
    assert_released(client, index_name)


def test_a_loop_over_an_ingest_can_be_left(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)

    async def main() -> None:
        index = AsyncIndex(index_name, client=client, encoder=encoder)
        ingest = await index.start_ingest(LETTERS)
        async with aclosing(aiter(ingest)) as results:
            async for _ in results:
                assert refresh_interval(client, index_name) == "-1"
                break
        assert_released(client, index_name)

    run(main())


class Cancellation:
    """Cancels a task at one request, and lets the request pass when the thread has been told of it."""

    def __init__(self, point: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.task: asyncio.Task[Any] | None = None
        self._point = point
        self.told = threading.Event()
        ask = Interrupt.ask

        def told(interrupt: Interrupt) -> None:
            ask(interrupt)
            self.told.set()

        monkeypatch.setattr(Interrupt, "ask", told)

    def watch(self, at: int, _: Request) -> Fault | None:
        if at == self._point:
            assert self.task is not None
            self.task.get_loop().call_soon_threadsafe(self.task.cancel)
            assert self.told.wait(PATIENCE)
        return None


async def ingest_all(index: AsyncIndex) -> None:
    await index.ingest(NEW, prune=True)


async def iterate_over_all(index: AsyncIndex) -> None:
    async for _ in await index.start_ingest(NEW, prune=True):
        pass


@pytest.fixture(scope="module")
def clean(elasticsearch_url: str) -> dict[str, Any]:
    """The state after a run that nothing ended, and the number of its requests over the old version."""
    with Elasticsearch(elasticsearch_url) as client, pytest.MonkeyPatch.context() as patch:
        be_patient(patch)
        faults.use_small_requests(patch.setattr)
        faults.make_old(client, "test-async-clean")
        with WatchedProxy(elasticsearch_url, lambda *_: None) as proxy:
            with connect(url=proxy.url) as counted:
                faults.load_new(counted, "test-async-clean")
            requests = len(proxy.requests)
        state = faults.whole_state(client, "test-async-clean")
        client.indices.delete(index="test-async-clean")
    return {**state, "requests": requests}


@pytest.mark.parametrize("number", range(CANCELLATIONS))
def test_an_ingest_that_is_cancelled_at_any_point_is_completed_by_another(
    client: Elasticsearch, elasticsearch_url: str, clean: dict[str, Any], index_name: str, number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """At requests drawn from a seed, one in each of equal parts of the run."""
    faults.use_small_requests(monkeypatch.setattr)
    points = range(STARTING, clean["requests"])
    source = random.Random(f"{SEED} {number}")  # noqa: S311 - no secret, and it must come again
    part = slice(len(points) * number // CANCELLATIONS, len(points) * (number + 1) // CANCELLATIONS)
    point = source.choice(points[part])
    print(f"seed {SEED}, cancellation {number}: at request {point} of {points.stop}")
    cancellation = Cancellation(point, monkeypatch)

    async def main(cancelled: Elasticsearch) -> None:
        index = AsyncIndex(index_name, client=cancelled, encoder=faults.encoder())
        ingest = (ingest_all, iterate_over_all)[number % 2]
        cancellation.task = asyncio.create_task(ingest(index))
        assert await is_cancelled(cancellation.task)

    faults.make_old(client, index_name)
    with WatchedProxy(elasticsearch_url, cancellation.watch) as proxy:
        with connect(url=proxy.url) as cancelled:
            run(main(cancelled))
        written_after = [one for one in proxy.requests[point + 1 :] if "_bulk" in one.path]
    assert len(written_after) <= 1
    assert_released(client, index_name)
    faults.load_new(client, index_name)
    faults.assert_same(faults.whole_state(client, index_name), clean)


def test_a_task_that_is_cancelled_again_and_again_still_restores_the_settings(
    client: Elasticsearch, elasticsearch_url: str, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As anyio does it, and so do the frameworks that are built on it."""
    encoder = make_index(client, index_name)
    cancellation = Cancellation(STARTING + 5, monkeypatch)

    async def main(cancelled: Elasticsearch) -> None:
        index = AsyncIndex(index_name, client=cancelled, encoder=encoder)
        cancellation.task = asyncio.create_task(index.ingest(LETTERS))
        await until(cancellation.told.is_set)
        while not cancellation.task.done():
            cancellation.task.cancel()
            await asyncio.sleep(0)
        assert await is_cancelled(cancellation.task)

    with (
        WatchedProxy(elasticsearch_url, cancellation.watch) as proxy,
        connect(url=proxy.url) as cancelled,
    ):
        run(main(cancelled))
    assert_released(client, index_name)
