"""The process of a cluster that encodes: it takes parts of the documents through all stages, and writes them.

What it runs is what one machine runs: `changed_documents` and `written`.
"""

from __future__ import annotations

import ctypes
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

from es_latechunk.errors import LateChunkError, PreconditionError
from es_latechunk.ingest_stages import changed_documents, written
from es_latechunk.models import EncoderLoader
from es_latechunk.report import DocumentResult, IngestCounts
from es_latechunk.scale.parts import Part
from es_latechunk.target import Target, open_target

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
        self._interruption = Interruption()
        self._loading = PartReport()

    def open(self) -> OpenedEncoder | LateChunkError:
        """Open the index and the model; an error that ends the load is returned, as everything here."""
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
            with self._interruption.possible():
                self._load(part, report)
        except KeyboardInterrupt:
            pass  # the process that asked for it ends the load
        except LateChunkError as error:
            return PartReport(report.results, report.counts, error)
        return report

    def _load(self, part: Part, report: PartReport) -> None:
        from es_latechunk.elastic.write.session import join_session

        load, target, counts = self._load_of, self._target, report.counts
        session = join_session(load.client, load.index, load.alias)
        changed = changed_documents(part.documents, target, session, counts.clock)
        for result in written(changed, target, session, counts, repeated=part.repeated):
            report.results.append(result)  # one by one: those before an error or an interrupt count

    def progress(self) -> PartProgress:
        """Return how far the part is that is being loaded; called meanwhile."""
        counts = self._loading.counts
        return PartProgress(*(getattr(counts, name) for name in PartProgress.__slots__))

    def stop(self) -> None:
        """End the part that is being loaded after the request in flight, and begin no other; called meanwhile."""
        self._interruption.interrupt()

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
        return open_target(load.client, load.index, load.encoder, retry_for=load.retry_for)


class Interruption:
    """Raises KeyboardInterrupt in the thread that loads, when another thread asks for it.

    So a load that is stopped from afar does what Ctrl-C does on one machine, through the same code: the request in
    flight is finished and counted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._asked = False

    @contextmanager
    def possible(self) -> Iterator[None]:
        """Let the block be interrupted; it does not begin if that was asked for already."""
        with self._lock:
            if self._asked:
                raise KeyboardInterrupt
            self._thread = threading.get_ident()
        try:
            yield
        finally:
            with self._lock:
                # An exception that was set and not raised yet must not be raised in Ray's code.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread or 0), None)
                self._thread = None

    def interrupt(self) -> None:
        """Interrupt the block now, and every later one before it begins."""
        with self._lock:
            self._asked = True
            if self._thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread), ctypes.py_object(KeyboardInterrupt)
                )
