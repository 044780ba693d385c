"""The index behind the page: its nearest chunks for a query, and the passages around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elasticsearch import Elasticsearch

from es_latechunk.elastic.identity import IndexIdentity, check_encoder
from es_latechunk.elastic.passages import add_passages
from es_latechunk.elastic.query import Mode, SearchOptions
from es_latechunk.elastic.search import Searcher
from es_latechunk.errors import IndexMismatchError
from es_latechunk.serve.passages import Shown, shown_passage
from es_latechunk.types import EncoderIdentity, FloatArray, Hit


@dataclass(frozen=True, slots=True)
class Candidates:
    """What an index found: chunks by late vectors and by words, best first, and where they are."""

    late: Sequence[Hit]
    words: Sequence[Hit]
    names: str


class Index:
    """An index or alias, looked up for each query, so that an alias may change. Blocks while it asks."""

    def __init__(self, client: Elasticsearch, name: str, encoder: EncoderIdentity) -> None:
        self.name = name
        self._client = client
        self._encoder = encoder

    def check(self) -> None:
        """Raise IndexMismatchError where the index does not have this model's late vectors."""
        self._searcher(self.name, 1, None)

    def candidates(self, query: str, vector: FloatArray, count: int) -> Candidates:
        """The best `count` chunks by kNN, and as many by BM25 where the chunks' text is indexed.

        Raises ServerError, and IndexMismatchError where the index no longer fits the model.
        """
        searcher = self._searcher(self.name, count, None)
        names = ",".join(searcher.record.names)
        [late] = self._searcher(names, count, "knn").run([query], [vector])
        if searcher.mode == "knn":
            return Candidates(late.hits, (), names)
        [words] = self._searcher(names, count, "bm25").run([query], [None])
        return Candidates(late.hits, words.hits, names)

    def passages(self, found: Candidates, hits: Sequence[Hit], neighbours: int) -> list[Shown]:
        """The passage of each hit, with up to `neighbours` chunks on each side."""
        around = add_passages(self._searcher(found.names, 1, None), hits, neighbours)
        return [shown_passage(hit, hit.passage) for hit in around if hit.passage]

    def _searcher(self, name: str, count: int, mode: Mode | None) -> Searcher:
        searcher = Searcher(self._client, name, SearchOptions(k=count, mode=mode))
        identity = searcher.record.identity
        check_index(self.name, identity)
        check_encoder(self.name, identity.encoder, self._encoder)
        return searcher


def check_index(name: str, identity: IndexIdentity) -> None:
    """Refuse an index whose own vectors are naive already (IndexMismatchError)."""
    if identity.pooling != "late":
        raise IndexMismatchError(
            f"index {name}: was made with {identity.pooling} pooling, so it has no late vectors to compare; serve an "
            "index made with late pooling, or none"
        )
