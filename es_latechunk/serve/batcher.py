"""Batches across concurrent requests: one thread owns the encoder, and all requests wait for it."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import numpy as np

from es_latechunk.errors import DocumentError
from es_latechunk.late import embed_chunks
from es_latechunk.serve.limits import RequestError, busy
from es_latechunk.types import ChunkedDocument, FloatArray, PoolingOptions, TokenEncoder

# Requests that arrive within this time share a batch; a single request has to wait this much longer.
GATHER_SECONDS = 0.003
BATCHES_PER_ROUND = 4

# How the texts of a job are embedded: as queries, or as documents with this pooling.
Kind = PoolingOptions | Literal["query"]
LATE, NAIVE = PoolingOptions("late"), PoolingOptions("naive")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """The documents of one request, which gets one vector per chunk. A query is a document of one chunk."""

    documents: Sequence[ChunkedDocument]
    kind: Kind = LATE

    @property
    def tokens(self) -> int:
        return sum(len(chunked.tokens) for chunked in self.documents)

    @property
    def chunks(self) -> int:
        return sum(len(chunked.spans) for chunked in self.documents)


def embed_jobs(encoder: TokenEncoder, jobs: Sequence[Job]) -> list[FloatArray]:
    """Return the vectors (chunks, dim) of each job; they are the same as if the job were encoded alone."""
    vectors: dict[int, FloatArray] = {}
    for kind in dict.fromkeys(job.kind for job in jobs):
        alike = [number for number, job in enumerate(jobs) if job.kind == kind]
        together = _embed(encoder, list(chain(*(jobs[number].documents for number in alike))), kind)
        ends = np.cumsum([jobs[number].chunks for number in alike])
        vectors.update(zip(alike, np.split(together, ends[:-1]), strict=True))
    return [vectors[number] for number in range(len(jobs))]


def _embed(encoder: TokenEncoder, documents: Sequence[ChunkedDocument], kind: Kind) -> FloatArray:
    if kind == "query":
        return encoder.encode_queries([chunked.document.text for chunked in documents])
    rows = []
    for block in embed_chunks(documents, encoder=encoder, pooling=kind):
        if isinstance(block, DocumentError):
            raise block
        rows.append(block.vectors)
    return np.concatenate(rows)


@dataclass(frozen=True, slots=True)
class _Waiting:
    job: Job
    answer: asyncio.Future[FloatArray] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Batcher:
    """Encodes jobs in the order in which they arrive, in rounds of a few batches.

    `on_round` is called with the number of jobs of each round.
    """

    def __init__(
        self, encoder: TokenEncoder, *, queue_tokens: int, on_round: Callable[[int], None] = lambda jobs: None
    ) -> None:
        self._encoder = encoder
        self._queue_tokens = queue_tokens
        self._on_round = on_round
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self.tokens = 0  # of the jobs that wait or are being encoded

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Encode jobs while the block runs."""
        with ThreadPoolExecutor(1, thread_name_prefix="encoder") as thread:
            work = asyncio.create_task(self._work(thread))
            try:
                yield
            finally:
                work.cancel()

    async def embed(self, job: Job) -> FloatArray:
        """Return the vectors (chunks, dim); RequestError 503 if the queue is full, 500 if the encoder fails."""
        if self.tokens and self.tokens + job.tokens > self._queue_tokens:
            raise busy(f"{self.tokens} tokens wait already and at most {self._queue_tokens} may")
        waiting = _Waiting(job)
        self.tokens += job.tokens
        try:
            self._queue.put_nowait(waiting)
            return await waiting.answer
        finally:
            self.tokens -= job.tokens

    async def _work(self, thread: ThreadPoolExecutor) -> None:
        while True:
            first = await self._queue.get()
            await asyncio.sleep(GATHER_SECONDS)
            round_ = self._gather(first)
            if round_:
                self._on_round(len(round_))
                await self._encode(round_, thread)

    def _gather(self, first: _Waiting) -> list[_Waiting]:
        """Return `first` and the jobs after it, without those that nobody waits for any more."""
        gathered, room = [first], BATCHES_PER_ROUND * self._encoder.batch_tokens - first.job.tokens
        while room > 0 and not self._queue.empty():
            gathered.append(self._queue.get_nowait())
            room -= gathered[-1].job.tokens
        return [waiting for waiting in gathered if not waiting.answer.done()]

    async def _encode(self, round_: list[_Waiting], thread: ThreadPoolExecutor) -> None:
        jobs = [waiting.job for waiting in round_]
        encoding = asyncio.wrap_future(thread.submit(embed_jobs, self._encoder, jobs))
        await asyncio.wait([encoding])
        error = encoding.exception()
        if error is None:
            for waiting, vectors in zip(round_, encoding.result(), strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(vectors)
        elif len(round_) == 1:
            self._fail(round_[0], error)
        else:  # any of them may be the cause, and the others must not fail with it
            for waiting in round_:
                await self._encode([waiting], thread)

    def _fail(self, waiting: _Waiting, error: BaseException) -> None:
        # The error's message is left out, because it may quote the user's text.
        trace = "".join(traceback.format_tb(error.__traceback__))
        logger.error("encoding failed with %s\n%s", type(error).__name__, trace)
        if not waiting.answer.done():
            message = (
                f"the model failed on this request ({type(error).__name__}); the server's log says where"
            )
            waiting.answer.set_exception(RequestError(500, message))
