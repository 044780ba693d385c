"""The index that the page searches: the lists of a query, the passages of its hits, and example queries."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from es_latechunk.elastic.index.identity import check_encoder
from es_latechunk.elastic.search.query import SearchOptions
from es_latechunk.serve.passages import Shown, shown_passage
from es_latechunk.types import EncoderIdentity, FloatArray, Hit, ListScore, PoolingOptions

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.elastic.search.fusion import Candidate
    from es_latechunk.elastic.search.searcher import Searcher

EXAMPLES = 3
EXAMPLE_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class RankedList:
    """The score and the rank (from 1) of each chunk in a list, by the chunk's id; `pooling` is that of its vectors."""

    name: str
    pooling: PoolingOptions
    scores: Mapping[str, ListScore]

    def best(self, hits: Mapping[str, Hit], k: int) -> list[Hit]:
        """Return the first k chunks of the list that are among `hits`."""
        found = sorted(self.scores.keys() & hits.keys(), key=lambda name: self.scores[name].rank)
        return [hits[name] for name in found[:k]]


@dataclass(frozen=True, slots=True)
class Found:
    """What an index found for a query.

    `lists` are its own vectors, named by their pooling, and the hybrid search if the text is indexed. `bm25` has the
    scores of the words in that search. `hits` are the best chunks of all these. All were read by one `searcher`, so
    that an alias may be switched meanwhile.
    """

    searcher: Searcher
    hits: Mapping[str, Hit]
    lists: tuple[RankedList, ...]
    bm25: Mapping[str, ListScore]

    @property
    def pooling(self) -> PoolingOptions:
        """The pooling of the index's vectors."""
        return self.searcher.record.identity.pooling


class Index:
    """An index or alias. It is looked up once per query, so that an alias may be switched; all calls block."""

    def __init__(self, client: Elasticsearch, name: str, encoder: EncoderIdentity) -> None:
        self.name = name
        self._client = client
        self._encoder = encoder

    def check(self) -> None:
        """Raise IndexMismatchError if the index does not contain vectors of this model."""
        self._searcher(SearchOptions())

    def find(self, query: str, vector: FloatArray, *, k: int, candidates: int) -> Found:
        """Search as `es-latechunk search` does for k hits, and fetch the best `candidates` chunks of each list.

        Raises ServerError, and IndexMismatchError if the index no longer fits the model.
        """
        # As many as that search looks at, for the ranks and the fused scores to be the same.
        looked_at = SearchOptions(k=k).candidates()
        searcher = self._searcher(SearchOptions(k=max(k, candidates), num_candidates=looked_at))
        ranked = searcher.rank(query, vector)
        pooling = searcher.record.identity.pooling
        knn = _one_list(ranked, "knn") if searcher.mode == "hybrid" else ranked
        bm25 = _one_list(ranked, "bm25") if searcher.mode == "hybrid" else []
        # Elasticsearch's score is (1 + cosine) / 2.
        cosines = {name: replace(one, score=2 * one.score - 1) for name, one in _scores(knn).items()}
        lists = [RankedList(pooling.pooling, pooling, cosines)]
        if searcher.mode == "hybrid":
            lists.append(RankedList("hybrid", pooling, _scores(ranked)))
        shown = searcher.show(query, [knn, bm25, ranked])
        return Found(searcher, {hit.id: hit for hits in shown for hit in hits}, tuple(lists), _scores(bm25))

    def passages(self, found: Found, hits: Sequence[Hit], neighbours: int) -> dict[str, Shown]:
        """Return the passage of each hit by its id, with up to `neighbours` chunks on each side."""
        from es_latechunk.elastic.search.searcher import add_passages

        around = add_passages(found.searcher, hits, neighbours)
        return {hit.id: shown_passage(hit, hit.passage) for hit in around if hit.passage}

    def examples(self) -> list[str]:
        """Return example queries, from the titles and headings of a few documents."""
        return list(dict.fromkeys(map(example_query, self._searcher(SearchOptions()).sample(EXAMPLES))))

    def _searcher(self, options: SearchOptions) -> Searcher:
        # Imported here, so that a server without an index does not load Elasticsearch's client.
        from es_latechunk.elastic.search.searcher import Searcher

        searcher = Searcher(self._client, self.name, options)
        check_encoder(self.name, searcher.record.identity.encoder, self._encoder)
        return searcher


def _one_list(ranked: Sequence[Candidate], name: str) -> list[Candidate]:
    """Return the candidates of one of the lists that were fused, in its order and with its scores."""
    found = [(score, one) for one in ranked if one.scores and (score := one.scores[name])]
    return [replace(one, score=score.score) for score, one in sorted(found, key=lambda pair: pair[0].rank)]


def _scores(candidates: Sequence[Candidate]) -> dict[str, ListScore]:
    """Return the score and the rank of each candidate by its id, the best one of those that share an id."""
    ranked = reversed(list(enumerate(candidates, 1)))
    return {one.id: ListScore(one.score, rank) for rank, one in ranked}


def example_query(hit: Hit) -> str:
    """Return the title of a chunk's document and the heading above the chunk, or else the chunk's first words."""
    names = dict.fromkeys(" ".join(name.split()) for name in (hit.title, *hit.headings[-1:]))
    words = " ".join(filter(None, names)) or " ".join(hit.content.split())
    return textwrap.shorten(words, EXAMPLE_CHARACTERS, placeholder="") or words[:EXAMPLE_CHARACTERS]
