"""An index for asyncio: the methods of `Index`, each run in a thread, so that the event loop is never blocked.

Elasticsearch's own asynchronous client is not used. The model computes in a thread in any case, and so the code that
searches and ingests is the same for both.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from es_latechunk.dry_run import IngestPlan
from es_latechunk.index import GIVEN, Index
from es_latechunk.ingest import DEFAULT_MAX_PRUNE, IngestKeywords, IngestRun
from es_latechunk.keywords import keywords_of
from es_latechunk.models import EncoderLoader
from es_latechunk.report import DocumentResult, IngestProgress, IngestReport
from es_latechunk.search import SearchKeywords, SearchResult, search_many
from es_latechunk.threads import Call, Interrupt, Interrupted, Workers, result_of
from es_latechunk.types import DEFAULT_RETRY_FOR, Document, Encoder, Hit

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch
    from typing_extensions import Unpack

    from es_latechunk.errors import DocumentError

CALLS_AT_ONCE = 10  # as many as Elasticsearch's client has connections

T = TypeVar("T")


class AsyncIndex:
    """`Index` for asyncio: the same methods, keywords and errors; each method is awaited.

    `client` and `encoder` are those of `Index`. The constructor asks nothing and loads nothing: that happens in a
    thread, at the first call or by `async with`, whose end closes the connections of a client that was not given.

    Ten calls run at once, and others wait for their turn; each ingest has a thread of its own beside them.

    If a search is cancelled, it returns at once; its thread ends a little later, and the result is dropped. If an
    ingest is cancelled, it waits until the request under way is answered and the settings of the index are restored,
    seconds at most if the server answers; the same ingest, run again, continues from there.
    """

    def __init__(
        self,
        name: str,
        *,
        client: Elasticsearch | None = None,
        encoder: Encoder | EncoderLoader | None = None,
    ) -> None:
        self.name = name
        self._client = client
        self._given = encoder
        self._opened: Index | None = None
        self._opening = Lock()
        self._workers: Workers[Any] = Workers(CALLS_AT_ONCE)
        weakref.finalize(self, self._workers.end)

    async def __aenter__(self) -> AsyncIndex:
        await self._call(self._index)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to Elasticsearch, unless the client was given."""
        if self._client is None and self._opened is not None:
            await self._call(self._opened.client.close)

    async def encoder(self) -> Encoder:
        """Return the encoder of the index; it is loaded at the first use."""
        return await self._call(lambda: self._index().encoder)

    @keywords_of(search_many, given=GIVEN)
    async def search(self, query: str, **keywords: Unpack[SearchKeywords]) -> list[Hit]:
        """Return the best chunks for a query, best first, from this index with its client and its encoder."""
        return await self._call(lambda: self._index().search(query, **keywords))

    @keywords_of(search_many, given=GIVEN)
    async def search_many(
        self, queries: Iterable[str], **keywords: Unpack[SearchKeywords]
    ) -> AsyncIterator[SearchResult]:
        """Yield the best chunks for each of many queries, from this index with its client and its encoder."""
        results = await self._call(lambda: self._index().search_many(queries, **keywords))
        while (result := await self._call(lambda: next(results, None))) is not None:
            yield result

    @keywords_of(IngestRun, given=GIVEN)
    async def ingest(
        self,
        documents: Iterable[Document | DocumentError] | AsyncIterable[Document | DocumentError],
        **keywords: Unpack[IngestKeywords],
    ) -> IngestReport:
        """Write every new or changed document into this index, and return the report, which lists what failed."""
        source = _for_a_thread(documents)
        run = await self._call(lambda: self._index().start_ingest(source, **keywords))
        with _own_thread() as thread:
            await _interruptible(thread, lambda: deque(run, maxlen=0))
        return run.report

    @keywords_of(IngestRun, given=GIVEN)
    async def start_ingest(
        self,
        documents: Iterable[Document | DocumentError] | AsyncIterable[Document | DocumentError],
        **keywords: Unpack[IngestKeywords],
    ) -> AsyncIngestRun:
        """Return an ingest into this index to iterate over, which yields the result of each document."""
        source = _for_a_thread(documents)
        return AsyncIngestRun(await self._call(lambda: self._index().start_ingest(source, **keywords)))

    async def dry_run(
        self,
        documents: Iterable[Document | DocumentError] | AsyncIterable[Document | DocumentError],
        *,
        retry_for: float = DEFAULT_RETRY_FOR,
        prune: bool = False,
        max_prune: float = DEFAULT_MAX_PRUNE,
    ) -> IngestPlan:
        """Return what an ingest would do; nothing is written. `retry_for`, `prune` and `max_prune` as in `ingest`."""
        source = _for_a_thread(documents)
        run = await self._call(
            lambda: self._index().dry_run(source, retry_for=retry_for, prune=prune, max_prune=max_prune)
        )
        with _own_thread() as thread:
            return await _interruptible(thread, lambda: run.plan)

    async def show(self) -> dict[str, Any]:
        """Return the counts, size in bytes, vector index type, and what the mapping records about the vectors."""
        return await self._call(lambda: self._index().show())

    def _index(self) -> Index:
        with self._opening:
            self._opened = self._opened or Index(self.name, client=self._client, encoder=self._given)
            return self._opened

    async def _call(self, function: Callable[[], T]) -> T:
        """Run `function` in one of the threads. A cancelled task does not wait for it."""
        return await asyncio.wrap_future(_submit(self._workers, function).future)


class AsyncIngestRun:
    """One run of an ingest, for `async for`, which yields the result of each document; `report` has the counts so far.

    All of it happens in one thread, so that the documents may come from something that belongs to one thread. To leave
    the loop early, iterate within `contextlib.aclosing(aiter(run))`: at its end the settings of the index are restored.
    """

    def __init__(self, run: IngestRun) -> None:
        self._run = run

    @property
    def index(self) -> str:
        """The name of the index that is written; if an alias was given, that of the index behind it."""
        return self._run.index

    @property
    def encoder(self) -> Encoder:
        """The encoder that makes the vectors."""
        return self._run.encoder

    @property
    def precision(self) -> str:
        """Where and in what precision the model runs, such as "bfloat16 on cpu"; "hosted" if it is a service."""
        return self._run.precision

    @property
    def engine(self) -> str:
        """What computes the token vectors: "openvino", "torch" or "hosted"."""
        return self._run.engine

    @property
    def progress(self) -> IngestProgress:
        """The running counts, which change while the run is under way."""
        return self._run.progress

    @property
    def report(self) -> IngestReport:
        """The counts so far."""
        return self._run.report

    async def __aiter__(self) -> AsyncGenerator[DocumentResult, None]:
        with _own_thread() as thread:
            results = iter(self._run)
            try:
                while (result := await _interruptible(thread, lambda: next(results, None))) is not None:
                    yield result
            finally:
                await _until_ended(_submit(thread, results.close))


@contextmanager
def _own_thread() -> Iterator[Workers[Any]]:
    thread: Workers[Any] = Workers(1)
    try:
        yield thread
    finally:
        thread.end()


def _submit(workers: Workers[Any], function: Callable[[], T]) -> Call[T]:
    """Let a thread run `function`, with the context variables of this task."""
    return workers.submit(partial(copy_context().run, function))


async def _interruptible(thread: Workers[Any], function: Callable[[], T]) -> T:
    """Run `function` in the thread. If this task is cancelled, interrupt the thread, and wait until it has ended."""
    interrupt = Interrupt()
    return await _until_ended(_submit(thread, partial(interrupt.run, function)), interrupt.ask)


async def _until_ended(call: Call[T], on_cancel: Callable[[], None] = lambda: None) -> T:
    """Wait until a call has ended. If this task is cancelled, `on_cancel` is called, and the wait goes on.

    The CancelledError is raised at the end. However often the task is cancelled meanwhile (anyio does it again and
    again), the thread is interrupted once: a second time would interrupt its cleaning up.
    """
    ended = asyncio.wrap_future(call.future)
    cancelled: asyncio.CancelledError | None = None
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError as error:
            if cancelled is None:
                on_cancel()
            cancelled = cancelled or error
    if cancelled is None:
        return ended.result()
    failure = ended.exception()
    raise cancelled from None if isinstance(failure, Interrupted) else failure


def _for_a_thread(documents: Iterable[T] | AsyncIterable[T]) -> Iterable[T]:
    """Return documents that a thread can iterate over."""
    if not isinstance(documents, AsyncIterable):
        return documents
    return _read_in_loop(documents, asyncio.get_running_loop())


def _read_in_loop(items: AsyncIterable[T], loop: asyncio.AbstractEventLoop) -> Iterator[T]:
    """Yield the items in a thread; each is read by the event loop, when it is asked for."""
    iterator = aiter(items)
    end = object()

    async def read_one() -> Any:
        return await anext(iterator, end)

    while True:
        reading = asyncio.run_coroutine_threadsafe(read_one(), loop)
        try:
            item = result_of(reading)
        except Interrupted:
            reading.cancel()
            raise
        if item is end:
            return
        yield item
