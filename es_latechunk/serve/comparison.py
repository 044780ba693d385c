"""Late next to naive for one query: the same chunks in both orders, to be read side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson
from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool

from es_latechunk.serve.batcher import Job, Kind
from es_latechunk.serve.desk import Desk
from es_latechunk.serve.limits import RequestError
from es_latechunk.serve.passages import Shown, passage_in, pieces
from es_latechunk.serve.protocols import CompareAsk, SearchAsk
from es_latechunk.serve.ranks import Ranked, best, rank
from es_latechunk.types import ChunkedDocument, FloatArray, Hit

if TYPE_CHECKING:
    from es_latechunk.serve.index import Index

# A server that hangs shall not hold the threads that every other request needs.
ASKED_AT_ONCE = 8

Embed = Callable[[Job], Awaitable[FloatArray]]
T = TypeVar("T")


class Comparison:
    """Answers with two lists of hits and their passages. All that it encodes goes through `embed`."""

    def __init__(self, desk: Desk, embed: Embed, index: Index | None) -> None:
        self._desk = desk
        self._embed = embed
        self._index = index
        self._asking = CapacityLimiter(ASKED_AT_ONCE)

    async def in_text(self, body: bytes) -> bytes:
        """The chunks of the text that comes along, exactly and without an index."""
        ask = CompareAsk.model_validate_json(body)
        [chunked] = (await run_in_threadpool(self._desk.compare, ask)).documents
        question = await self._question(ask.query)
        [late], [naive] = await asyncio.gather(
            self._cosines([chunked], "late", question), self._cosines([chunked], "naive", question)
        )
        ranked = rank(_chunks(chunked), late.tolist(), naive.tolist())
        passages = {
            row.hit.id: passage_in(chunked.document.text, chunked.spans, row.hit.ordinal, ask.neighbours)
            for row in ranked
        }
        return await self._answer(ask, question, ranked, passages)

    async def in_index(self, body: bytes) -> bytes:
        """The chunks that the index finds by late vectors and by words, in late's order and in naive's."""
        ask, index = SearchAsk.model_validate_json(body), self._index
        if index is None:
            raise RequestError(404, "no index is served here; start with: es-latechunk serve --index NAME")
        question = await self._question(ask.query)
        found = await self._ask(lambda: index.candidates(ask.query, question, ask.candidates))
        late = {hit.id: 2 * hit.score - 1 for hit in found.late}
        hits = list({hit.id: hit for hit in (*found.late, *found.words)}.values())
        ranked = rank(hits, [late.get(hit.id) for hit in hits], await self._naive(hits, question))
        listed = (*best(ranked, "late", ask.k), *best(ranked, "naive", ask.k))
        shown = list({row.hit.id: row.hit for row in listed}.values())
        passages = await self._ask(lambda: index.passages(found, shown, ask.neighbours))
        around = {hit.id: passage for hit, passage in zip(shown, passages, strict=True)}
        return await self._answer(ask, question, ranked, around)

    async def _ask(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._asking)

    async def _question(self, query: str) -> FloatArray:
        job = await run_in_threadpool(self._desk.question, query)
        return (await self._embed(job)).reshape(-1)

    async def _naive(self, hits: Sequence[Hit], question: FloatArray) -> list[float | None]:
        """Cosines of the texts alone; None for one that has a token only next to its neighbours."""
        cut = await run_in_threadpool(self._desk.whole, [hit.content for hit in hits])
        cosines = iter(await self._cosines([one for one in cut if len(one.tokens)], "late", question))
        return [float(next(cosines)[0]) if len(one.tokens) else None for one in cut]

    async def _cosines(
        self, documents: Sequence[ChunkedDocument], kind: Kind, question: FloatArray
    ) -> list[FloatArray]:
        """For each document, the cosines (chunks,) of its chunks to the query."""
        if not documents:
            return []
        job = self._desk.with_few_tokens(Job(documents, kind))
        cosines = (await self._embed(job)) @ question
        return np.split(cosines, np.cumsum([len(chunked.spans) for chunked in documents])[:-1])

    async def _answer(
        self,
        ask: SearchAsk | CompareAsk,
        question: FloatArray,
        ranked: Sequence[Ranked],
        passages: Mapping[str, Shown],
    ) -> bytes:
        late, naive = await asyncio.gather(
            self._rows(best(ranked, "late", ask.k), "late", question, passages),
            self._rows(best(ranked, "naive", ask.k), "naive", question, passages),
        )
        facts = {"query": ask.query, "model": self._desk.model, "candidates": len(ranked)}
        return orjson.dumps({**facts, "late": late, "naive": naive})

    async def _rows(
        self, ranked: Sequence[Ranked], kind: Kind, question: FloatArray, passages: Mapping[str, Shown]
    ) -> list[dict[str, Any]]:
        """The rows of one list, with its own vectors' similarity for each sentence."""
        texts = list(dict.fromkeys(passages[row.hit.id].text for row in ranked))
        cut = await run_in_threadpool(lambda: list(map(self._desk.sentences, texts)))
        cosines = await self._cosines(cut, kind, question)
        known = {text: (one.spans, near) for text, one, near in zip(texts, cut, cosines, strict=True)}
        shown = [passages[row.hit.id] for row in ranked]
        return [
            {**row.facts(), "passage": pieces(passage, *known[passage.text])}
            for row, passage in zip(ranked, shown, strict=True)
        ]


def _chunks(chunked: ChunkedDocument) -> list[Hit]:
    text, name = chunked.document.text, chunked.document.id
    return [
        Hit(
            f"{name}#{ordinal}", name, ordinal, 0.0, span.start, span.end, text[span.start : span.end], "", {}
        )
        for ordinal, span in enumerate(chunked.spans)
    ]
