"""Compare poolings for one query: chunks of an index or of a text, in several orders, passage by passage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import orjson
from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool

from es_latechunk.evaluation.compare import rank_scores
from es_latechunk.serve.batcher import LATE, NAIVE, Job, Kind
from es_latechunk.serve.index import Index, RankedList
from es_latechunk.serve.jobs import JobBuilder
from es_latechunk.serve.limits import RequestError
from es_latechunk.serve.passages import Shown, passage_in, pieces
from es_latechunk.serve.schemas import CompareRequest, SearchRequest
from es_latechunk.types import ChunkedDocument, ChunkSpan, FloatArray, Hit, ListScore, PoolingOptions

# A cluster that hangs must not occupy the threads that all other requests need.
MAX_CONCURRENT_SEARCHES = 8

Embed = Callable[[Job], Awaitable[FloatArray]]
Passages = Callable[[Sequence[Hit]], Awaitable[Mapping[str, Shown]]]
T = TypeVar("T")


class Comparison:
    """Computes lists of hits with their passages. All texts are encoded by `embed`."""

    def __init__(self, builder: JobBuilder, embed: Embed, index: Index | None) -> None:
        self._builder = builder
        self._embed = embed
        self._index = index
        self._asking = CapacityLimiter(MAX_CONCURRENT_SEARCHES)

    async def in_text(self, body: bytes) -> bytes:
        """Compare the chunks of the text in the request, exactly and without an index."""
        request = CompareRequest.model_validate_json(body)
        [chunked] = (await run_in_threadpool(self._builder.compare, request)).documents
        question = await self._question(request.query)
        [late], [naive] = await asyncio.gather(
            self._cosines([chunked], LATE, question), self._cosines([chunked], NAIVE, question)
        )
        hits = {hit.id: hit for hit in _chunks(chunked)}
        lists = [_ranked("late", LATE, hits, late.tolist()), _ranked("naive", NAIVE, hits, naive.tolist())]

        async def passages(shown: Sequence[Hit]) -> Mapping[str, Shown]:
            text, spans = chunked.document.text, chunked.spans
            return {hit.id: passage_in(text, spans, hit.ordinal, request.neighbours) for hit in shown}

        return await self._answer(request, question, hits, lists, {}, passages)

    async def in_index(self, body: bytes) -> bytes:
        """Compare the chunks that the index finds by its vectors, by words, and by both."""
        request, index = SearchRequest.model_validate_json(body), self._served_index
        question = await self._question(request.query)
        found = await self._ask(
            lambda: index.find(request.query, question, k=request.k, candidates=request.candidates)
        )
        lists = list(found.lists)
        if found.pooling.pooling != "naive":  # else they are naive vectors already
            naive = await self._naive(list(found.hits.values()), question)
            lists.insert(1, _ranked("naive", NAIVE, found.hits, naive))

        async def passages(shown: Sequence[Hit]) -> Mapping[str, Shown]:
            return await self._ask(lambda: index.passages(found, shown, request.neighbours))

        return await self._answer(request, question, found.hits, lists, {"bm25": found.bm25}, passages)

    async def examples(self) -> dict[str, Any]:
        """Return example queries for the index."""
        return {"queries": await self._ask(self._served_index.examples)}

    @property
    def _served_index(self) -> Index:
        if self._index is None:
            raise RequestError(404, "no index is served here; start with: es-latechunk serve --index NAME")
        return self._index

    async def _ask(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._asking)

    async def _question(self, query: str) -> FloatArray:
        job = await run_in_threadpool(self._builder.question, query)
        return (await self._embed(job)).reshape(-1)

    async def _naive(self, hits: Sequence[Hit], question: FloatArray) -> list[float | None]:
        """Return the cosines of the texts alone; None for a text without a token of its own."""
        cut = await run_in_threadpool(self._builder.whole, [hit.content for hit in hits])
        cosines = iter(await self._cosines([one for one in cut if len(one.tokens)], LATE, question))
        return [float(next(cosines)[0]) if len(one.tokens) else None for one in cut]

    async def _cosines(
        self, documents: Sequence[ChunkedDocument], kind: Kind, question: FloatArray
    ) -> list[FloatArray]:
        """Return, for each document, the cosines (chunks,) of its chunks to the query."""
        if not documents:
            return []
        job = self._builder.with_few_tokens(Job(documents, kind))
        cosines = (await self._embed(job)) @ question
        return np.split(cosines, np.cumsum([len(chunked.spans) for chunked in documents])[:-1])

    async def _answer(
        self,
        request: SearchRequest | CompareRequest,
        question: FloatArray,
        hits: Mapping[str, Hit],
        lists: Sequence[RankedList],
        components: Mapping[str, Mapping[str, ListScore]],
        passages: Passages,
    ) -> bytes:
        """Return the lists as JSON; each hit has its score and rank in all of them, and in the `components` of one."""
        best = {one.name: one.best(hits, request.k) for one in lists}
        shown = await passages(list({hit.id: hit for found in best.values() for hit in found}.values()))
        texts: dict[PoolingOptions, dict[str, None]] = {}  # of lists with the same pooling, each text once
        for one in lists:
            of_pooling = texts.setdefault(one.pooling, {})
            of_pooling.update(dict.fromkeys(shown[hit.id].text for hit in best[one.name]))
        sentences = await asyncio.gather(
            *(self._sentences(list(of_pooling), pooling, question) for pooling, of_pooling in texts.items())
        )
        shaded = dict(zip(texts, sentences, strict=True))
        scores = {**{one.name: one.scores for one in lists}, **components}

        def row(hit: Hit, pooling: PoolingOptions) -> dict[str, Any]:
            passage = shown[hit.id]
            return {**_facts(hit, scores), "passage": pieces(passage, *shaded[pooling][passage.text])}

        answered = [
            {
                "name": one.name,
                "pooling": str(one.pooling),
                "hits": [row(hit, one.pooling) for hit in best[one.name]],
            }
            for one in lists
        ]
        facts = {"query": request.query, "model": self._builder.model, "candidates": len(hits)}
        return orjson.dumps({**facts, "lists": answered})

    async def _sentences(
        self, texts: Sequence[str], pooling: PoolingOptions, question: FloatArray
    ) -> dict[str, tuple[tuple[ChunkSpan, ...], FloatArray]]:
        """Return the sentences of each text, with their cosines to the query as if each were a chunk."""
        cut = await run_in_threadpool(lambda: list(map(self._builder.sentences, texts)))
        cosines = await self._cosines(cut, pooling, question)
        return {text: (one.spans, near) for text, one, near in zip(texts, cut, cosines, strict=True)}


def _ranked(
    name: str, pooling: PoolingOptions, hits: Iterable[str], cosines: Sequence[float | None]
) -> RankedList:
    """Return the list of the chunks that have a cosine, by their ids."""
    known = {hit: cosine for hit, cosine in zip(hits, cosines, strict=True) if cosine is not None}
    ranks = rank_scores(list(known.values()))
    scores = {hit: ListScore(cosine, rank) for (hit, cosine), rank in zip(known.items(), ranks, strict=True)}
    return RankedList(name, pooling, scores)


def _facts(hit: Hit, scores: Mapping[str, Mapping[str, ListScore]]) -> dict[str, Any]:
    """Return a hit as a JSON row, with its score and rank in each list; null for a list that it is not in."""
    found = {name: of_list.get(hit.id) for name, of_list in scores.items()}
    return {
        "id": hit.id,
        "doc_id": hit.doc_id,
        "ordinal": hit.ordinal,
        "start": hit.start,
        "end": hit.end,
        "content": hit.content,
        "title": hit.title,
        "headings": hit.headings,
        "metadata": hit.metadata,
        "scores": {name: one and {"score": one.score, "rank": one.rank} for name, one in found.items()},
    }


def _chunks(chunked: ChunkedDocument) -> list[Hit]:
    text, name = chunked.document.text, chunked.document.id
    return [
        Hit(
            f"{name}#{ordinal}", name, ordinal, 0.0, span.start, span.end, text[span.start : span.end], "", {}
        )
        for ordinal, span in enumerate(chunked.spans)
    ]
