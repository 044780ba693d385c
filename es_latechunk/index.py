"""An index that is opened once: its methods are the functions of this package with the index filled in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any

from es_latechunk.dry_run import DryRun
from es_latechunk.ingest import DEFAULT_MAX_PRUNE, IngestKeywords, IngestRun, ingest
from es_latechunk.keywords import keywords_of
from es_latechunk.models import EncoderLoader, choose_encoder
from es_latechunk.report import IngestReport
from es_latechunk.search import SearchKeywords, SearchResult, search, search_many
from es_latechunk.types import DEFAULT_RETRY_FOR, Document, Encoder, EncoderIdentity, Hit

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch
    from typing_extensions import Unpack

    from es_latechunk.errors import DocumentError

GIVEN = ("index", "alias", "client", "encoder")  # what an Index fills in


class Index:
    """An index or alias, with its client and the encoder that it records.

    Without a `client`, the cluster is that of ELASTICSEARCH_URL, or the local node. The encoder is loaded when it is
    first needed, and kept, so that a query takes milliseconds. `encoder` may be a function that loads it from what the
    index records. The name is resolved at each call, so an alias may move in between; an encoder that is not the
    index's own is refused (IndexMismatchError).
    """

    def __init__(
        self,
        name: str,
        *,
        client: Elasticsearch | None = None,
        encoder: Encoder | EncoderLoader | None = None,
    ) -> None:
        from es_latechunk.elastic.connection import connect

        self.name = name
        self.client = client or connect()
        self._given = encoder
        self._loaded: Encoder | None = None
        self._loading = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # A load on a cluster sends `_load` to its encoders; a model that is loaded here stays here.
        return _open_index, (self.name, self.client, self._given)

    @property
    def encoder(self) -> Encoder:
        """The encoder of the index; it is loaded at the first use."""
        from es_latechunk.elastic.index.admin import read_identity

        return self._loaded or self._load(read_identity(self.client, self.name).encoder)

    def _load(self, recorded: EncoderIdentity | None) -> Encoder:
        with self._loading:  # a model is large: threads that search at the same time share one
            self._loaded = self._loaded or choose_encoder(self._given, recorded)
            return self._loaded

    @keywords_of(search_many, given=GIVEN)
    def search(self, query: str, **keywords: Unpack[SearchKeywords]) -> list[Hit]:
        """Return the best chunks for a query, best first, from this index with its client and its encoder."""
        return search(query, index=self.name, client=self.client, encoder=self._load, **keywords)

    @keywords_of(search_many, given=GIVEN)
    def search_many(
        self, queries: Iterable[str], **keywords: Unpack[SearchKeywords]
    ) -> Iterator[SearchResult]:
        """Yield the best chunks for each of many queries, from this index with its client and its encoder."""
        return search_many(queries, index=self.name, client=self.client, encoder=self._load, **keywords)

    @keywords_of(IngestRun, given=GIVEN)
    def ingest(
        self, documents: Iterable[Document | DocumentError], **keywords: Unpack[IngestKeywords]
    ) -> IngestReport:
        """Write every new or changed document into this index, and return the report, which lists what failed."""
        return ingest(documents, index=self.name, client=self.client, encoder=self._load, **keywords)

    @keywords_of(IngestRun, given=GIVEN)
    def start_ingest(
        self, documents: Iterable[Document | DocumentError], **keywords: Unpack[IngestKeywords]
    ) -> IngestRun:
        """Return an ingest into this index to iterate over, which yields the result of each document."""
        return IngestRun(documents, index=self.name, client=self.client, encoder=self._load, **keywords)

    def dry_run(
        self,
        documents: Iterable[Document | DocumentError],
        *,
        retry_for: float = DEFAULT_RETRY_FOR,
        prune: bool = False,
        max_prune: float = DEFAULT_MAX_PRUNE,
    ) -> DryRun:
        """Return what an ingest would do; nothing is written. `retry_for`, `prune` and `max_prune` as in `ingest`."""
        return DryRun(
            documents,
            index=self.name,
            client=self.client,
            encoder=self._load,
            retry_for=retry_for,
            prune=prune,
            max_prune=max_prune,
        )

    def show(self) -> dict[str, Any]:
        """Return the counts, size in bytes, vector index type, and what the mapping records about the vectors."""
        from es_latechunk.elastic.index.admin import describe_index

        return describe_index(self.client, self.name)


def _open_index(name: str, client: Elasticsearch, encoder: Encoder | EncoderLoader | None) -> Index:
    return Index(name, client=client, encoder=encoder)
