"""Compare late with naive pooling for one query: chunks of an index or of a text, ranked both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson
from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool

from es_latechunk.elastic.index.identity import IndexIdentity, check_encoder
from es_latechunk.elastic.search.query import Mode, SearchOptions
from es_latechunk.errors import IndexMismatchError
from es_latechunk.evaluation.compare import rank_scores
from es_latechunk.serve.batcher import Job, Kind
from es_latechunk.serve.jobs import JobBuilder
from es_latechunk.serve.limits import RequestError
from es_latechunk.serve.passages import Shown, passage_in, pieces, shown_passage
from es_latechunk.serve.schemas import CompareRequest, SearchRequest
from es_latechunk.types import ChunkedDocument, EncoderIdentity, FloatArray, Hit, Pooling, PoolingOptions

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.elastic.search.searcher import Searcher


@dataclass(frozen=True, slots=True)
class Ranked:
    """A chunk with its cosine similarity to the query and its rank (from 1), late and naive; None if not ranked."""

    hit: Hit
    late: float | None
    naive: float | None
    late_rank: int | None
    naive_rank: int | None

    def facts(self) -> dict[str, Any]:
        """Return the chunk as a JSON row."""
        hit = self.hit
        return {
            "id": hit.id,
            "doc_id": hit.doc_id,
            "ordinal": hit.ordinal,
            "start": hit.start,
            "end": hit.end,
            "content": hit.content,
            "title": hit.title,
            "metadata": hit.metadata,
            "late": self.late,
            "naive": self.naive,
            "late_rank": self.late_rank,
            "naive_rank": self.naive_rank,
        }


def rank(hits: Sequence[Hit], late: Sequence[float | None], naive: Sequence[float | None]) -> list[Ranked]:
    """Return the hits with both cosines and both ranks."""
    rows = zip(hits, late, naive, _ranks(late), _ranks(naive), strict=True)
    return [Ranked(*row) for row in rows]


def best(ranked: Sequence[Ranked], pooling: Pooling, k: int) -> list[Ranked]:
    """Return the first k hits in the order of one pooling."""
    by_rank = {row.late_rank if pooling == "late" else row.naive_rank: row for row in ranked}
    return [by_rank[rank] for rank in range(1, k + 1) if rank in by_rank]


def _ranks(cosines: Sequence[float | None]) -> list[int | None]:
    known = {row: cosine for row, cosine in enumerate(cosines) if cosine is not None}
    ranks = dict(zip(known, rank_scores(list(known.values())), strict=True))
    return [ranks.get(row) for row in range(len(cosines))]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The chunks that an index found by its vectors and by words, best first, the indices, and how they were pooled."""

    late: Sequence[Hit]
    words: Sequence[Hit]
    names: str
    pooling: PoolingOptions


class Index:
    """An index or alias. It is looked up for each query, so that an alias may be switched; all calls block."""

    def __init__(self, client: Elasticsearch, name: str, encoder: EncoderIdentity) -> None:
        self.name = name
        self._client = client
        self._encoder = encoder

    def check(self) -> None:
        """Raise IndexMismatchError if the index does not contain late vectors of this model."""
        self._searcher(self.name, 1, None)

    def candidates(self, query: str, vector: FloatArray, count: int) -> Candidates:
        """Return the best `count` chunks by kNN and, if the text is indexed, as many by BM25.

        Raises ServerError, and IndexMismatchError if the index no longer fits the model.
        """
        searcher = self._searcher(self.name, count, None)
        names, pooling = ",".join(searcher.record.names), searcher.record.identity.pooling
        [late] = self._searcher(names, count, "knn").run([query], [vector])
        if searcher.mode == "knn":
            return Candidates(late.hits, (), names, pooling)
        [words] = self._searcher(names, count, "bm25").run([query], [None])
        return Candidates(late.hits, words.hits, names, pooling)

    def passages(self, found: Candidates, hits: Sequence[Hit], neighbours: int) -> list[Shown]:
        """Return the passage of each hit, with up to `neighbours` chunks on each side."""
        from es_latechunk.elastic.search.searcher import add_passages

        around = add_passages(self._searcher(found.names, 1, None), hits, neighbours)
        return [shown_passage(hit, hit.passage) for hit in around if hit.passage]

    def _searcher(self, name: str, count: int, mode: Mode | None) -> Searcher:
        # Imported here, so that a server without an index does not load Elasticsearch's client.
        from es_latechunk.elastic.search.searcher import Searcher

        searcher = Searcher(self._client, name, SearchOptions(k=count, mode=mode))
        identity = searcher.record.identity
        check_index(self.name, identity)
        check_encoder(self.name, identity.encoder, self._encoder)
        return searcher


def check_index(name: str, identity: IndexIdentity) -> None:
    """Raise IndexMismatchError if the vectors of the index are naive, so that there is nothing to compare."""
    if identity.pooling.pooling == "naive":
        raise IndexMismatchError(
            f"index {name}: was made with {identity.pooling}, so it has no late vectors to compare; serve an "
            "index made with late or blend pooling, or none"
        )


# A cluster that hangs must not occupy the threads that all other requests need.
MAX_CONCURRENT_SEARCHES = 8

Embed = Callable[[Job], Awaitable[FloatArray]]
T = TypeVar("T")


class Comparison:
    """Computes two lists of hits with their passages. All texts are encoded by `embed`."""

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
            self._cosines([chunked], "late", question), self._cosines([chunked], "naive", question)
        )
        ranked = rank(_chunks(chunked), late.tolist(), naive.tolist())
        passages = {
            row.hit.id: passage_in(chunked.document.text, chunked.spans, row.hit.ordinal, request.neighbours)
            for row in ranked
        }
        return await self._answer(request, question, ranked, passages, PoolingOptions())

    async def in_index(self, body: bytes) -> bytes:
        """Compare the chunks that the index finds by late vectors and by words."""
        request, index = SearchRequest.model_validate_json(body), self._index
        if index is None:
            raise RequestError(404, "no index is served here; start with: es-latechunk serve --index NAME")
        question = await self._question(request.query)
        found = await self._ask(lambda: index.candidates(request.query, question, request.candidates))
        # Elasticsearch's score is (1 + cosine) / 2.
        late = {hit.id: 2 * hit.score - 1 for hit in found.late}
        hits = list({hit.id: hit for hit in (*found.late, *found.words)}.values())
        ranked = rank(hits, [late.get(hit.id) for hit in hits], await self._naive(hits, question))
        listed = (*best(ranked, "late", request.k), *best(ranked, "naive", request.k))
        shown = list({row.hit.id: row.hit for row in listed}.values())
        passages = await self._ask(lambda: index.passages(found, shown, request.neighbours))
        around = {hit.id: passage for hit, passage in zip(shown, passages, strict=True)}
        return await self._answer(request, question, ranked, around, found.pooling)

    async def _ask(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._asking)

    async def _question(self, query: str) -> FloatArray:
        job = await run_in_threadpool(self._builder.question, query)
        return (await self._embed(job)).reshape(-1)

    async def _naive(self, hits: Sequence[Hit], question: FloatArray) -> list[float | None]:
        """Return the cosines of the texts alone; None for a text without a token of its own."""
        cut = await run_in_threadpool(self._builder.whole, [hit.content for hit in hits])
        cosines = iter(await self._cosines([one for one in cut if len(one.tokens)], "late", question))
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
        ranked: Sequence[Ranked],
        passages: Mapping[str, Shown],
        pooling: PoolingOptions,
    ) -> bytes:
        late, naive = await asyncio.gather(
            self._rows(best(ranked, "late", request.k), "late", question, passages),
            self._rows(best(ranked, "naive", request.k), "naive", question, passages),
        )
        facts = {"query": request.query, "model": self._builder.model, "candidates": len(ranked)}
        # The list called late has the index's own vectors, which need not be plain late ones.
        facts["pooling"] = str(pooling)
        return orjson.dumps({**facts, "late": late, "naive": naive})

    async def _rows(
        self, ranked: Sequence[Ranked], kind: Kind, question: FloatArray, passages: Mapping[str, Shown]
    ) -> list[dict[str, Any]]:
        """Return the rows of one list; the similarity of each sentence is by the same pooling as the list."""
        texts = list(dict.fromkeys(passages[row.hit.id].text for row in ranked))
        cut = await run_in_threadpool(lambda: list(map(self._builder.sentences, texts)))
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
