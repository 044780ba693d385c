"""A load on a cluster, seen from the process that was started: it deals parts to encoders, and counts.

An encoder that is lost is replaced, and its parts are dealt again: chunks have the same ids and contents whoever
writes them, and whenever. Nothing is collected here but the results of the parts that have just ended.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from es_latechunk.documents import SourceDocuments, printable
from es_latechunk.errors import (
    DocumentError,
    LateChunkError,
    PreconditionError,
    ServerError,
    UsageError,
    setting,
)
from es_latechunk.ingest_stages import HashedDocument, failed_result
from es_latechunk.late.embed import LOOK_AHEAD_BATCHES
from es_latechunk.models import EncoderLoader
from es_latechunk.report import DocumentResult, IngestCounts
from es_latechunk.scale.cluster import (
    MOST_LOSSES_IN_A_ROW,
    WAKE_SECONDS,
    RayCluster,
    check_version,
    count_encoders,
    count_readers,
    is_loss,
    joined,
    load_cloudpickle,
)
from es_latechunk.scale.encoder import EncoderProcess, OpenedEncoder, PartProgress, PartReport, SentLoad
from es_latechunk.scale.parts import PARTS_PER_ENCODER, Part, WaitingParts
from es_latechunk.scale.readers import ReaderAnswer, Readers
from es_latechunk.threads import check_interrupt
from es_latechunk.types import Document, Encoder

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.elastic.write.session import LoadSession

CHARACTERS_PER_TOKEN = 4  # of English text
STOP_SECONDS = 10.0  # what an interrupted encoder may take for its request in flight, which has less itself
PROGRESS_SECONDS = 1.0
NOTHING = PartProgress()
NOTE_SECONDS = 30.0
MOST_FAILED_STARTS = 5
log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Handle:
    """An encoder of the cluster: Ray's handle of its process, and the parts that it has, oldest first."""

    actor: Any
    parts: deque[Part] = field(default_factory=deque)
    is_open: bool = False
    waits_for_server: bool = False
    shown: PartProgress = NOTHING

    def is_free(self, waiting: WaitingParts) -> bool:
        """True if it may get another part.

        Behind a very long document nothing waits, and at the end of the source nothing waits behind anything: the
        encoder that is done first gets what is left, which is worth the moment without a part.
        """
        return self.is_open and (
            not self.parts
            or (
                not waiting.ended
                and len(self.parts) < PARTS_PER_ENCODER
                and all(part.characters <= 2 * waiting.largest for part in self.parts)
            )
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    """The answer of an encoder's process to `open` (the part is None), to `load` or to `progress`."""

    handle: _Handle
    actor: Any
    part: Part | None
    future: Future[Any]

    @property
    def is_late(self) -> bool:
        """True if the process was replaced since; its parts were dealt again."""
        return self.handle.actor is not self.actor


class ClusterLoad:
    """The encoders of one load on a cluster. Raises UsageError for what cannot be sent to other processes."""

    def __init__(
        self,
        cluster: RayCluster,
        *,
        client: Elasticsearch,
        encoder: Encoder | EncoderLoader | None,
        retry_for: float,
    ) -> None:
        cluster.check_installed()
        if isinstance(encoder, Encoder):
            raise UsageError(
                f"{setting('encoder')}: a loaded encoder cannot be sent to the encoders of a cluster; give a function "
                "that loads it there, or leave it out for the model that the index records"
            )
        self._cluster = cluster
        self._pickled = load_cloudpickle()
        self._retry_for = retry_for
        self._encoder = encoder
        self._check_sendable(client, encoder)
        self._opened: list[OpenedEncoder] = []

    def _check_sendable(self, client: Elasticsearch, encoder: EncoderLoader | None) -> None:
        for name, value, instead in (
            ("client", client, "give one made by es_latechunk.connect(), or leave it out"),
            ("encoder", encoder, "give a function without such values, such as one of a module"),
        ):
            try:
                self._pickled(value)
            except Exception as error:
                cause = " ".join(str(error).split())
                raise UsageError(
                    f"{setting(name)}: cannot be sent to the encoders of a cluster ({cause}); {instead}"
                ) from error

    @property
    def precision(self) -> str:
        """What the encoders said of themselves, as in the report of an ingest."""
        return ", ".join(sorted({opened.precision for opened in self._opened})) or "not used"

    @property
    def engine(self) -> str:
        """What computed the token vectors in the encoders."""
        return ", ".join(sorted({opened.engine for opened in self._opened})) or "not used"

    def results(
        self,
        documents: Iterable[Document | DocumentError],
        hashed: Callable[[Iterable[Document | DocumentError]], Iterator[HashedDocument | DocumentResult]],
        session: LoadSession,
        counts: IngestCounts,
    ) -> Iterator[DocumentResult]:
        """Yield the result of each document, in the order in which the encoders end; all are counted before.

        `hashed` is the stage that hashes the documents. What `read_documents` gives is read by the cluster; any other
        source is read here. An interrupt, or an error that ends the run, lets each encoder finish its request in flight
        and counts it.
        """
        alias = session.ownership.alias if session.ownership else None
        sent = self._pickled(SentLoad(session.client, session.index, alias, self._encoder, self._retry_for))
        with joined(self._cluster) as ray:
            crew = _Crew(ray, self._cluster, sent, self._opened)
            count = count_readers(self._cluster, crew.count)
            readers = None
            if count and isinstance(documents, SourceDocuments):
                readers = Readers(ray, count, crew.answers, counts.clock)
                documents = documents.read_by(readers.read_ahead)
            try:
                run = _Run(crew, readers, counts)
                yield from run.results(counts.clock.timed("read", hashed(documents)))
            finally:
                crew.end()


class _Crew:
    """The encoders' processes: they are started, replaced, asked and ended here."""

    def __init__(self, ray: Any, cluster: RayCluster, sent: bytes, opened: list[OpenedEncoder]) -> None:
        self._ray = ray
        self._actor_class = ray.remote(
            num_cpus=cluster.encoder_cpus,
            num_gpus=cluster.encoder_gpus,
            max_restarts=0,
            enable_task_events=False,  # Ray would keep a record of each call, up to 100,000 of them
            concurrency_groups={"load": 1, "control": 1},
        )(_with_groups(ray))
        self._sent = sent
        self._opened = opened
        self.answers: SimpleQueue[_Answer | ReaderAnswer] = SimpleQueue()
        self.count = count_encoders(ray, cluster)
        self.resources = cluster.resources
        self.handles = [_Handle(None) for _ in range(self.count)]
        for handle in self.handles:
            self.start(handle)

    def start(self, handle: _Handle) -> None:
        """Start the process of an encoder, in the place of one that is lost, and have it open index and model."""
        if handle.actor is not None:
            # It may be cut off and alive: it must not write beside its successor.
            self._ray.kill(handle.actor)
        handle.is_open = False
        handle.parts.clear()
        handle.actor = self._actor_class.remote(self._sent)
        self.open(handle)

    @property
    def is_under_way(self) -> bool:
        """True if an encoder has reached the server."""
        return bool(self._opened)

    def open(self, handle: _Handle) -> None:
        """Have an encoder open index and model; it waits for the server if another encoder has reached it."""
        handle.waits_for_server = self.is_under_way
        self._ask(handle, None, handle.actor.open.remote(handle.waits_for_server))

    def deal(self, handle: _Handle, part: Part) -> None:
        """Give a part to an encoder."""
        handle.parts.append(part)
        self._ask(handle, part, handle.actor.load.remote(part))

    def check_alive(self) -> None:
        """Raise PreconditionError if the cluster's process on this machine has ended: nothing can be started then."""
        own = self._ray.get_runtime_context().get_node_id()
        if not any(node["Alive"] for node in self._ray.nodes() if node["NodeID"] == own):
            raise PreconditionError(
                "the Ray cluster ended on this machine (its raylet); start it, and run the same command again"
            )

    def ask_progress(self) -> None:
        """Ask each encoder how far its part is."""
        for handle in self.handles:
            if handle.parts:
                self._ask(handle, handle.parts[0], handle.actor.progress.remote())

    def _ask(self, handle: _Handle, part: Part | None, answer: Any) -> None:
        # A queue that this thread waits at, instead of ray.get: within that, SIGTERM would be taken for Ctrl-C.
        answers, actor = self.answers, handle.actor
        answer.future().add_done_callback(lambda future: answers.put(_Answer(handle, actor, part, future)))

    def is_loss(self, error: BaseException) -> bool:
        """See `is_loss` of cluster.py."""
        return is_loss(self._ray, error)

    def opened(self, handle: _Handle, encoder: OpenedEncoder) -> None:
        """Note that an encoder is open; refuse one of another version of this package."""
        check_version("an encoder of the cluster", encoder.version)
        self._opened.append(encoder)
        if len({one.precision for one in self._opened}) > 1:
            log.warning(
                "the encoders differ in precision, so equal texts may differ in the last digits of their vectors"
            )
        handle.is_open = True

    def interrupt(self) -> None:
        """Ask every encoder that has a part to end it after its request in flight."""
        for handle in self.handles:
            if handle.parts:
                handle.actor.stop.remote()

    def end(self) -> None:
        """End all of the processes."""
        for handle in self.handles:
            self._ray.kill(handle.actor)


def _with_groups(ray: Any) -> type[EncoderProcess]:
    """Return the class of the actors: `progress` and `stop` are answered while `load` runs."""

    class RayEncoder(EncoderProcess):
        open = ray.method(concurrency_group="load")(EncoderProcess.open)
        load = ray.method(concurrency_group="load")(EncoderProcess.load)
        progress = ray.method(concurrency_group="control")(EncoderProcess.progress)
        stop = ray.method(concurrency_group="control")(EncoderProcess.stop)

    return RayEncoder


class _Run:
    """Reads the source as the encoders need it, deals it, and counts what comes back."""

    def __init__(self, crew: _Crew, readers: Readers | None, counts: IngestCounts) -> None:
        self._crew = crew
        self._readers = readers
        self._counts = counts
        self._waiting = WaitingParts(crew.count)
        self._losses_in_a_row = 0
        self._may_deal = True
        self._stopped = False
        self._asked_at = time.monotonic()
        self._note_at = time.monotonic() + NOTE_SECONDS

    def results(self, documents: Iterator[HashedDocument | DocumentResult]) -> Iterator[DocumentResult]:
        """See ClusterLoad.results."""
        try:
            yield from self._deal_all(documents)
        except GeneratorExit:
            raise
        except BaseException:
            yield from self._stop()
            raise
        finally:
            for _ in self._stop():
                pass

    def _deal_all(self, documents: Iterator[HashedDocument | DocumentResult]) -> Iterator[DocumentResult]:
        waiting = self._waiting
        while not (waiting.ended and waiting.empty and not self._busy):
            may_read = not waiting.ended and not waiting.full and (not self._readers or self._readers.ready)
            yield from self._take(wait=not may_read)
            self._deal()
            if not may_read:
                continue
            item = next(documents, None)
            if item is None:
                waiting.ended = True
            elif isinstance(item, DocumentResult):
                self._counts.seen_documents += 1
                self._counts.add(item)
                yield item
            else:
                waiting.add(item)

    @property
    def _busy(self) -> bool:
        return any(handle.parts for handle in self._crew.handles)

    def _deal(self) -> None:
        if not (self._may_deal and self._waiting.ready):
            return
        # The one with the fewest parts first, so that none has two while another has none.
        free = [handle for handle in self._crew.handles if handle.is_free(self._waiting)]
        for handle in sorted(free, key=lambda handle: len(handle.parts)):
            if not self._waiting.ready:
                return
            self._crew.deal(handle, self._waiting.next_part())
        self._may_deal = any(handle.is_free(self._waiting) for handle in free)

    def _take(self, *, wait: bool) -> Iterator[DocumentResult]:
        """Handle an answer if there is one; `wait` for it, but wake up now and then."""
        check_interrupt()
        if time.monotonic() - self._asked_at >= PROGRESS_SECONDS:
            self._asked_at = time.monotonic()
            self._crew.ask_progress()
        answer = self._next_answer(wait=wait)
        if answer is None:
            self._note_waiting()
            return
        if answer.is_late:
            return
        error = answer.future.exception()
        if error is None and isinstance(progress := answer.future.result(), PartProgress):
            if answer.part in answer.handle.parts:
                self._show(answer.handle, progress)
            return
        self._may_deal = True
        if error is not None:
            if not self._crew.is_loss(error):
                raise error
            yield from self._replace(answer.handle, error)
        elif answer.part is None:
            self._open(answer.handle, answer.future.result())
        else:
            report: PartReport = answer.future.result()
            self._losses_in_a_row = 0
            yield from self._count(answer.handle, answer.part, report)
            if report.error is not None:
                raise report.error

    def _next_answer(self, *, wait: bool) -> _Answer | None:
        """Return the next answer of an encoder; the readers take theirs."""
        if self._readers and self._readers.deferred:
            encoder: _Answer = self._readers.deferred.popleft()
            return encoder
        try:
            answer = self._crew.answers.get(block=wait, timeout=WAKE_SECONDS)
        except Empty:
            return None
        if isinstance(answer, _Answer):
            return answer
        if self._readers:
            self._readers.take(answer)
        return None

    def _count(self, handle: _Handle, part: Part, report: PartReport) -> Iterator[DocumentResult]:
        handle.parts.remove(part)
        self._show(handle, NOTHING)
        self._counts.merge(report.counts)
        yield from report.results

    def _show(self, handle: _Handle, progress: PartProgress) -> None:
        """Have the counts show a part that is not done; what they showed of the encoder's part before is taken back."""
        for name in PartProgress.__slots__:
            change = getattr(progress, name) - getattr(handle.shown, name)
            setattr(self._counts, name, getattr(self._counts, name) + change)
        handle.shown = progress

    def _open(self, handle: _Handle, opened: OpenedEncoder | LateChunkError) -> None:
        if isinstance(opened, ServerError) and self._crew.is_under_way and not handle.waits_for_server:
            self._crew.open(handle)  # another encoder has reached the server meanwhile
            return
        if isinstance(opened, LateChunkError):
            raise opened
        self._crew.opened(handle, opened)
        at_once = LOOK_AHEAD_BATCHES * opened.batch_tokens * CHARACTERS_PER_TOKEN
        self._waiting.largest = max(self._waiting.largest, at_once)

    def _replace(self, handle: _Handle, error: BaseException) -> Iterator[DocumentResult]:
        """Start another encoder in the place of one that is lost, and deal its parts again."""
        self._losses_in_a_row += 1
        cause = _in_one_line(error)
        if self._losses_in_a_row >= (MOST_LOSSES_IN_A_ROW if handle.is_open else MOST_FAILED_STARTS):
            raise PreconditionError(
                f"the encoders of the cluster end before they have done anything, {self._losses_in_a_row} in a row "
                f"({cause}); see the logs of Ray, and whether each has enough memory for the model"
            )
        log.info("an encoder of the cluster was lost (%s); what it had is done again", cause)
        parts = list(handle.parts)
        self._show(handle, NOTHING)
        self._crew.start(handle)
        if not parts:
            return
        first, *rest = parts
        again = first.after_death()
        # An encoder begins its parts one after the other; but an answer that it had given may be lost with it.
        self._waiting.put_back([*again, *(replace(part, repeated=True) for part in rest)])
        if not again:
            [(document, _)] = first.documents
            told = (
                f"the encoders of the cluster that had it ended, {first.deaths + 1} in a row ({cause}); give them more "
                "memory, or leave it out"
            )
            result = failed_result(DocumentError(printable(document.id), told), document)
            self._counts.seen_documents += 1
            self._counts.add(result)
            yield result

    def _note_waiting(self) -> None:
        """Say now and then that no encoder runs, and why this may be; end if none ever will."""
        if any(handle.is_open for handle in self._crew.handles):
            self._note_at = time.monotonic() + NOTE_SECONDS
            return
        self._crew.check_alive()
        if time.monotonic() >= self._note_at:
            self._note_at = time.monotonic() + NOTE_SECONDS
            log.warning(
                "no encoder runs yet: the Ray cluster has no room for %s, or the model is still being loaded; waiting",
                self._crew.resources,
            )

    def _stop(self) -> Iterator[DocumentResult]:
        """Let each encoder that has a part finish its request in flight, count that, and yield the results."""
        if self._stopped:
            return
        self._stopped = True
        if self._readers:
            self._readers.end()
        self._crew.interrupt()
        until = time.monotonic() + STOP_SECONDS
        while self._busy and time.monotonic() < until:
            answer = self._next_answer(wait=True)
            if answer is None or answer.is_late or answer.part is None:
                continue
            report = None if answer.future.exception() else answer.future.result()
            if isinstance(report, PartReport):
                yield from self._count(answer.handle, answer.part, report)
            elif report is None and answer.part in answer.handle.parts:
                answer.handle.parts.remove(answer.part)
        if self._busy:
            log.warning("not every encoder ended in time: what the others wrote last is not in the report")


def _in_one_line(error: BaseException) -> str:
    """The first and the last line of Ray's error: what happened, and why; without the causes that Ray guesses."""
    told = str(error).partition(" Some common causes include")[0]
    lines = [" ".join(line.split()) for line in told.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys((lines[0], lines[-1]))) if lines else type(error).__name__
