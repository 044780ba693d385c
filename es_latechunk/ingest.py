"""The ingest: what a run is opened with, what it yields, and how it ends. `ingest_stages` has the way of a document."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, TypedDict

from es_latechunk.bootstrap import stage_index
from es_latechunk.documents import SeenIds
from es_latechunk.errors import DocumentError, UsageError, WriteError, setting
from es_latechunk.ingest_stages import (
    HashedDocument,
    changed_documents,
    count_stale,
    hashed_documents,
    interfered,
    pruned,
    written,
)
from es_latechunk.keywords import keywords_of
from es_latechunk.models import EncoderLoader
from es_latechunk.report import DocumentResult, IngestCounts, IngestProgress, IngestReport
from es_latechunk.target import open_target
from es_latechunk.types import DEFAULT_RETRY_FOR, Document, Encoder

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch
    from typing_extensions import Unpack

    from es_latechunk.elastic.write.session import LoadSession
    from es_latechunk.scale import ClusterLoad, RayCluster

DEFAULT_MAX_PRUNE = 0.5


class IngestKeywords(TypedDict, total=False):
    """The keywords of IngestRun that concern the run; IngestRun explains them."""

    retry_for: float
    prune: bool
    max_prune: float
    wait: bool
    cluster: RayCluster | None


class IngestRun:
    """One run of an ingest. Iterating over it yields the result of each document; `report` has the counts so far.

    New and changed documents are written, and the chunks that a shorter version no longer has are removed. A document
    that cannot be used has its error as its result, and the run continues. Chunks are cut and pooled as the index
    records. Only one load at a time can write an index.

    - `index`: an index or an alias. It is resolved once: if an alias moves during the run, the run continues with the
      index that it began with, and ends with a WriteError, because what it wrote is not behind the alias.
    - `alias`: instead of `index`. A new index is filled with exactly the source, and `promote` swaps the alias to it.
    - `client`: without one, the cluster is that of ELASTICSEARCH_URL, or the local node.
    - `encoder`: the index's own encoder, or a function that loads it from what the index records (None for the first
      index of an alias). Without one, the model that the index records is loaded.
    - `retry_for`: the seconds for which a failed request is retried.
    - `prune`: at the end, remove the documents that the source no longer has, unless a document of the source failed.
    - `max_prune`: the share of the index's documents (0 to 1) that pruning may remove. PreconditionError is raised if
      it would remove more, or if the source gave no document.
    - `wait`: wait until another load of the index ends, instead of raising IndexBusyError.
    - `cluster`: the processes of this Ray cluster read what `read_documents` gives, encode and write. They need a
      `client` that `connect` has made (or none), and an `encoder` that is a function (or none).

    Looking up the index and loading the encoder raise IndexNotFoundError, and IndexMismatchError if the encoder is not
    the index's own; nothing is written then. Writing raises WriteError if the cluster fails for `retry_for` seconds, or
    the index accepts nothing, is deleted or taken over.
    """

    def __init__(
        self,
        documents: Iterable[Document | DocumentError],
        *,
        index: str | None = None,
        alias: str | None = None,
        client: Elasticsearch | None = None,
        encoder: Encoder | EncoderLoader | None = None,
        retry_for: float = DEFAULT_RETRY_FOR,
        prune: bool = False,
        max_prune: float = DEFAULT_MAX_PRUNE,
        wait: bool = False,
        cluster: RayCluster | None = None,
    ) -> None:
        from es_latechunk.elastic.connection import connect
        from es_latechunk.elastic.retry import retry_transient
        from es_latechunk.elastic.write.session import resolve

        check_shares(retry_for, max_prune)
        self._documents = documents
        self._alias = alias
        self._client = client or connect()
        self._retry_for = retry_for
        self._prune = prune or alias is not None
        self._max_prune = 1.0 if alias is not None else max_prune
        self._wait = wait
        self._counts = IngestCounts()
        self._cluster = _open_cluster(cluster, self._client, encoder, retry_for)
        if alias is not None and index is None:
            index, encoder = retry_transient(
                lambda: stage_index(alias, client=self._client, encoder=encoder),
                retry_for=retry_for,
                retry_unreachable=False,
            )
        elif index is None or alias is not None:
            raise UsageError(f"ingest needs either {setting('index')} or {setting('alias')}")
        self._name = index
        self._index = retry_transient(
            lambda: resolve(self._client, self._name), retry_for=retry_for, retry_unreachable=False
        )
        self._target = open_target(self._client, self._index, encoder, retry_for=retry_for)

    @property
    def index(self) -> str:
        """The name of the index that is written; if an alias was given, that of the index behind it."""
        return self._index.name

    @property
    def encoder(self) -> Encoder:
        """The encoder that makes the vectors."""
        return self._target.encoder

    @property
    def precision(self) -> str:
        """Where and in what precision the model runs, such as "bfloat16 on cpu"; "hosted" if it is a service."""
        return str(getattr(self._cluster or self.encoder, "precision", "hosted"))

    @property
    def engine(self) -> str:
        """What computes the token vectors: "openvino", "torch" or "hosted"."""
        return str(getattr(self._cluster or self.encoder, "engine", "hosted"))

    @property
    def progress(self) -> IngestProgress:
        """The running counts, which change while the run is under way."""
        return self._counts

    @property
    def report(self) -> IngestReport:
        """The counts so far."""
        return self._counts.report()

    def __iter__(self) -> Generator[DocumentResult, None, None]:
        from es_latechunk.elastic.index.admin import single_index
        from es_latechunk.elastic.retry import retry_transient
        from es_latechunk.elastic.write.alias import record_fill
        from es_latechunk.elastic.write.session import open_session

        client, retry_for = self._client, self._retry_for
        with (
            SeenIds() as seen,
            open_session(client, self._index, retry_for=retry_for, wait=self._wait) as session,
        ):
            if self._alias:
                record_fill(session, self._alias, chunks=None, failed=0)
            for result in self._results(session, seen):
                if result.error:
                    seen.clear_hash(result.doc_id)
                yield result
            if self._alias:
                record_fill(session, self._alias, chunks=self.report.chunks, failed=self.report.failed)
        now = retry_transient(lambda: single_index(client, self._name), retry_for=retry_for)
        if now != self.index:
            raise WriteError(
                f"{self._name}: stood for {self.index} when this load began, and stands for {now} now; what was "
                f"written is in {self.index}: run the same command again"
            )

    def _results(self, session: LoadSession, seen: SeenIds) -> Iterator[DocumentResult]:
        target, counts = self._target, self._counts

        def hashed(
            documents: Iterable[Document | DocumentError],
        ) -> Iterator[HashedDocument | DocumentResult]:
            return hashed_documents(documents, seen, target.vectors)

        if self._cluster:
            yield from self._cluster.results(self._documents, hashed, session, counts)
        else:
            changed = changed_documents(hashed(self._documents), target, session, counts.clock)
            yield from written(changed, target, session, counts)
        if session.ownership is None:
            for result in interfered(target, session, seen):
                counts.documents -= 1
                counts.add(result)
                yield result
        if self._prune and count_stale(target, session, seen, counts.failed, max_share=self._max_prune)[0]:
            yield from pruned(target, session, seen, counts)


@keywords_of(IngestRun)
def ingest(
    documents: Iterable[Document | DocumentError],
    *,
    index: str | None = None,
    alias: str | None = None,
    client: Elasticsearch | None = None,
    encoder: Encoder | EncoderLoader | None = None,
    **keywords: Unpack[IngestKeywords],
) -> IngestReport:
    """Write every new or changed document, and return the report, which lists what failed."""
    run = IngestRun(documents, index=index, alias=alias, client=client, encoder=encoder, **keywords)
    for _ in run:
        pass
    return run.report


def check_shares(retry_for: float, max_prune: float) -> None:
    """Raise a UsageError for a negative time, or a share that is not between 0 and 1."""
    if not retry_for >= 0:
        raise UsageError(f"{setting('retry_for')} {retry_for}: give seconds, 0 or more")
    if not 0 <= max_prune <= 1:
        raise UsageError(f"{setting('max_prune')} {max_prune} is not a share; give 0 to 1")


def _open_cluster(
    cluster: RayCluster | None,
    client: Elasticsearch,
    encoder: Encoder | EncoderLoader | None,
    retry_for: float,
) -> ClusterLoad | None:
    """Refuse what cannot be sent to a cluster before anything is asked or started."""
    if cluster is None:
        return None
    from es_latechunk.scale import ClusterLoad

    return ClusterLoad(cluster, client=client, encoder=encoder, retry_for=retry_for)
