"""The process of a cluster that encodes: it takes parts of the documents through all stages, and writes them.

What it runs is what one machine runs: `changed_documents` and `written`.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

from es_latechunk.errors import LateChunkError, PreconditionError
from es_latechunk.ingest_stages import HashedDocument, changed_documents, written
from es_latechunk.models import EncoderLoader
from es_latechunk.report import DocumentResult, IngestCounts
from es_latechunk.scale.parts import Part
from es_latechunk.target import Target, open_target
from es_latechunk.threads import Interrupt, check_interrupt

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.elastic.index.ownership import IndexState


@dataclass(frozen=True, slots=True)
class SentLoad:
    """What a process needs to take part in a load that another one has opened; `alias` is that of its ownership."""

    client: Elasticsearch
    index: IndexState
    alias: str | None
    encoder: EncoderLoader | None
    retry_for: float


@dataclass(frozen=True, slots=True)
class OpenedEncoder:
    """What an encoder says of itself once it has opened the index and the model.

    `precision` and `engine` are as in the report of an ingest; `batch_tokens` is what its hardware takes at once, 0 if
    the model is hosted.
    """

    version: str
    precision: str
    engine: str
    batch_tokens: int


@dataclass(frozen=True, slots=True)
class PartReport:
    """The result of each document of a part, and their counts; with an `error`, of those before it."""

    results: list[DocumentResult] = field(default_factory=list)
    counts: IngestCounts = field(default_factory=IngestCounts)
    error: LateChunkError | None = None


@dataclass(frozen=True, slots=True)
class PartProgress:
    """Those counts of a part under way that a progress bar shows, as in IngestProgress."""

    planned_documents: int = 0
    planned_characters: int = 0
    planned_tokens: int = 0
    encoded_tokens: float = 0.0


class EncoderProcess:
    """A Ray actor. `sent` is a pickled SentLoad, which contains the credentials: Ray shows arguments nowhere."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent
        self._interrupt = Interrupt()
        self._is_stopped = False
        self._is_under_way = False
        self._loading = PartReport()

    def open(self, is_under_way: bool) -> OpenedEncoder | LateChunkError:
        """Open the index and the model; an error that ends the load is returned, as everything here.

        `is_under_way`: another encoder of this load has reached the server, so one that does not answer now is waited
        for, as in the middle of the load. Before that, its address is more often wrong on this machine.
        """
        self._is_under_way = is_under_way
        try:
            encoder = self._target.encoder
            return OpenedEncoder(
                version=version("es-latechunk"),
                precision=getattr(encoder, "precision", "hosted"),
                engine=getattr(encoder, "engine", "hosted"),
                batch_tokens=getattr(encoder, "batch_tokens", 0),
            )
        except LateChunkError as error:
            return error

    def load(self, part: Part) -> PartReport:
        """Compare, chunk, embed and write the documents of a part."""
        report = self._loading = PartReport()
        try:
            if not self._is_stopped:
                self._interrupt.run(lambda: self._load(part, report))
        except KeyboardInterrupt:
            pass  # the process that asked for it ends the load
        except LateChunkError as error:
            return PartReport(report.results, report.counts, error)
        return report

    def _load(self, part: Part, report: PartReport) -> None:
        from es_latechunk.elastic.write.session import join_session

        load, target, counts = self._load_of, self._target, report.counts
        session = join_session(load.client, load.index, load.alias)
        changed = changed_documents(_interruptible(part.documents), target, session, counts.clock)
        for result in written(changed, target, session, counts, repeated=part.repeated):
            report.results.append(result)  # one by one: those before an error or an interrupt count

    def progress(self) -> PartProgress:
        """Return how far the part is that is being loaded; called meanwhile."""
        counts = self._loading.counts
        return PartProgress(*(getattr(counts, name) for name in PartProgress.__slots__))

    def stop(self) -> None:
        """End the part that is being loaded after the request in flight, and begin no other; called meanwhile.

        The part ends as by Ctrl-C on one machine, through the same code, also while it waits for the next attempt.
        """
        self._is_stopped = True
        self._interrupt.ask()

    @cached_property
    def _load_of(self) -> SentLoad:
        try:
            load: SentLoad = pickle.loads(self._sent)  # noqa: S301 - our own process made it
        except Exception as error:  # whatever a module that is missing here, or is another version, raises
            raise PreconditionError(
                f"an encoder of the cluster cannot read what it is to do ({type(error).__name__}: {error}); install "
                "the same packages on every machine, also those of your own encoder function"
            ) from error
        return load

    @cached_property
    def _target(self) -> Target:
        load = self._load_of
        return open_target(
            load.client,
            load.index,
            load.encoder,
            retry_for=load.retry_for,
            retry_unreachable=self._is_under_way,
        )


def _interruptible(documents: Iterable[HashedDocument]) -> Iterator[HashedDocument]:
    for document in documents:
        check_interrupt()
        yield document
