"""The processes of a cluster that read: parts of the source, ahead of their turn, each part in one process.

What they read comes to the process that was started in the order of the list, as if it had read all itself. So the same
documents win where ids are used twice, lines have the same numbers, and errors and notes come in the same order.
"""

from __future__ import annotations

import logging
import pickle
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from queue import Empty, SimpleQueue
from typing import Any

from es_latechunk.documents import Item, PartReading, printable
from es_latechunk.documents.blocks import BytesRead, Event, read_blocks, replay, size_of
from es_latechunk.documents.options import Reading
from es_latechunk.documents.parts import FilePart, Lines, PartEnd
from es_latechunk.documents.sources import SourceFile
from es_latechunk.errors import DocumentError, LateChunkError, PreconditionError
from es_latechunk.scale.cluster import MOST_LOSSES_IN_A_ROW, WAKE_SECONDS, check_version, is_loss
from es_latechunk.scale.parts import MOST_DEATHS
from es_latechunk.stages import StageClock, StageSeconds
from es_latechunk.threads import check_interrupt
from es_latechunk.types import Document

RANGE_BYTES = 32 * 1024 * 1024  # of a large file that one process reads
TASK_BYTES, TASK_FILES = 256 * 1024, 32  # small files are read several at a time
TASKS_PER_READER = 4  # that are dealt, or were read and wait for their turn
WAITING_PER_READER = 262_144  # characters that wait for their turn before a reader ahead of its turn pauses
MOST_LINE = 1_000  # listed items that wait
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """A part of what a reader has read, where, by which version of this package, and in how many seconds."""

    events: Sequence[Event]
    seconds: float
    machine: str
    version: str


class ReaderProcess:
    """A Ray actor that reads the parts of a task, a block for each call. `sent` is a pickled Reading."""

    def __init__(self, sent: bytes) -> None:
        self._reading: Reading = pickle.loads(sent)  # noqa: S301 - our own process made it
        self._blocks: Iterator[list[Event]] = iter(())

    def begin(self, parts: Sequence[FilePart], skip: int) -> ReadBlock | LateChunkError:
        """Read the first block of a task; see `read_blocks`."""
        self._blocks = read_blocks(parts, self._reading, skip)
        return self.read_on()

    def read_on(self) -> ReadBlock | LateChunkError:
        """Read the next block."""
        started, machine = time.perf_counter(), socket.gethostname()
        try:
            events = next(self._blocks, [])
        except ImportError as error:
            return PreconditionError(
                f"a reader of the cluster on {machine} lacks a library ({error}); install the same packages on every "
                "machine"
            )
        except LateChunkError as error:
            return error
        return ReadBlock(events, time.perf_counter() - started, machine, version("es-latechunk"))


@dataclass(slots=True, eq=False)
class _Task:
    """Parts that one reader reads in order, and what has come of them.

    `ended` parts are read to their ends, and `came` events of the next one; `passed` parts were passed on.
    """

    is_here: bool
    parts: list[FilePart] = field(default_factory=list)
    events: deque[Event] = field(default_factory=deque)
    is_closed: bool = False  # no more parts are added
    ended: int = 0
    came: int = 0
    passed: int = 0
    deaths: int = 0

    @property
    def is_read(self) -> bool:
        return self.is_closed and self.ended == len(self.parts)

    @property
    def is_full(self) -> bool:
        last = self.parts[-1]
        return (
            len(self.parts) >= TASK_FILES
            or not last.size  # of a web server: nobody knows how much it is
            or sum(part.size for part in self.parts) >= TASK_BYTES
        )

    def add(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, PartEnd):
            self.ended, self.came, self.deaths = self.ended + 1, 0, 0
        elif not isinstance(event, BytesRead):
            self.came += 1


@dataclass(slots=True, eq=False)
class _Reader:
    """A reader: Ray's handle of its process, its task, and whether it is reading now."""

    is_here: bool
    actor: Any = None
    task: _Task | None = None
    is_asked: bool = False


@dataclass(frozen=True, slots=True)
class ReaderAnswer:
    """What a reader has answered."""

    reader: _Reader
    actor: Any
    future: Any


class Readers:
    """The readers of one load. They need no processors of their own, as they wait whenever the encoders have enough.

    Files of this machine are read by `count` processes on this machine, and what is at addresses by as many anywhere in
    the cluster. `answers` is the queue of all answers; those of others are left in `deferred`.
    """

    def __init__(self, ray: Any, count: int, answers: SimpleQueue[Any], clock: StageClock) -> None:
        self._ray = ray
        self._answers = answers
        self._clock = clock
        self.deferred: deque[Any] = deque()
        self._count = count
        self._readers: list[_Reader] = []
        self._sent = b""  # before the first document is asked for
        self._items: Iterator[Item] = iter(())
        self._is_listed = False
        self._line: deque[tuple[Item, _Task | None]] = deque()
        self._tasks: deque[_Task] = deque()  # those whose parts are not all passed on, in order
        self._undealt: deque[_Task] = deque()
        self._waiting = 0  # characters
        self._failed_file: object = None
        self._losses_in_a_row = 0
        self._has_ended = False

    def read_ahead(
        self, items: Iterator[Item], reading: Reading
    ) -> Iterator[tuple[Item, PartReading | None]]:
        """Yield the items in order, each part with its reading: see ReadAhead."""
        self._items, self._sent = self._divided(items, reading), pickle.dumps(reading.silent())
        lines = Lines()
        while True:
            self._read_on()
            if not self._line:
                return
            item, task = self._line.popleft()
            if task is None or not isinstance(item, FilePart):
                yield item, None
                continue
            passed = task.passed + 1
            if item.file is not self._failed_file:
                yield item, self._documents(item, task, lines, reading)
            while task.passed < passed:  # what nobody has asked for
                self._pass_on(task)
            if task.is_read and task.passed == len(task.parts):
                self._tasks.popleft()
                for event in task.events:  # a BytesRead
                    replay(event, reading)
                    self._waiting -= size_of(event)

    def _divided(self, items: Iterator[Item], reading: Reading) -> Iterator[Item]:
        for item in items:
            if not isinstance(item, FilePart) or not item.kind:
                yield item
                continue
            if isinstance(item.file, SourceFile):  # the readers may be in another folder
                item = replace(item, file=replace(item.file, path=item.file.path.absolute()))
            for part in item.ranges(RANGE_BYTES, reading):
                if part.file is self._failed_file:
                    break
                yield part

    def _documents(self, part: FilePart, task: _Task, lines: Lines, reading: Reading) -> PartReading:
        while True:
            event = replay(self._pass_on(task), reading)
            if isinstance(event, PartEnd):
                lines.end(part, event)
                if event.error:
                    self._failed_file = part.file  # its other parts would not have been read either
                return event
            if event is not None:
                yield lines.numbered(part, event)

    def _pass_on(self, task: _Task) -> Event:
        while not task.events:
            self._read_on()
            self._wait()
        event = task.events.popleft()
        self._waiting -= size_of(event)
        task.passed += isinstance(event, PartEnd)
        return event

    @property
    def ready(self) -> bool:
        """True if the next document is here, or if it is for this process to find out whether there is one."""
        if not self._sent:
            return True
        self._read_on()
        return self._is_next_here or self._first_unread is None

    @property
    def _is_next_here(self) -> bool:
        """True if a document has come whose turn it is."""
        for task in self._tasks:
            if any(isinstance(event, Document | DocumentError) for event in task.events):
                return True
            if not task.is_read:
                return False
        return False

    def _read_on(self) -> None:
        """List what there is room for, deal it, and have the readers read on that may."""
        self._list()
        for reader in self._readers:
            self._ask(reader)
        while self._undealt and (free := self._free_reader(self._undealt[0].is_here)):
            free.task = self._undealt.popleft()
            self._begin(free, free.task)

    def _list(self) -> None:
        most = TASKS_PER_READER * self._count
        while not self._is_listed and len(self._tasks) < most and len(self._line) < MOST_LINE:
            item = next(self._items, None)
            if item is None:
                self._is_listed = True
            elif not isinstance(item, FilePart) or not item.kind:
                self._line.append((item, None))
            else:
                is_here = isinstance(item.file, SourceFile)
                task = self._tasks[-1] if self._tasks else None
                if task is None or task.is_closed or task.is_here != is_here:
                    self._close()
                    task = _Task(is_here)
                    self._tasks.append(task)
                task.parts.append(item)
                self._line.append((item, task))
                if task.is_full:
                    self._close()
        if self._is_listed or self._first_unread is (self._tasks[-1] if self._tasks else None):
            self._close()

    def _close(self) -> None:
        """Let the task to which parts are added be dealt."""
        if self._tasks and not self._tasks[-1].is_closed:
            self._tasks[-1].is_closed = True
            self._undealt.append(self._tasks[-1])

    @property
    def _first_unread(self) -> _Task | None:
        return next((task for task in self._tasks if not task.is_read), None)

    def _free_reader(self, is_here: bool) -> _Reader | None:
        readers = [reader for reader in self._readers if reader.is_here is is_here]
        free = next((reader for reader in readers if reader.task is None), None)
        if free is None and len(readers) < self._count:
            free = _Reader(is_here)
            self._start(free)
            self._readers.append(free)
        return free

    def _start(self, reader: _Reader) -> None:
        strategies, node = self._ray.util.scheduling_strategies, self._ray.get_runtime_context().get_node_id()
        where = strategies.NodeAffinitySchedulingStrategy(node, soft=False) if reader.is_here else "SPREAD"
        actor_class = self._ray.remote(num_cpus=0, max_restarts=0, scheduling_strategy=where)(ReaderProcess)
        reader.actor = actor_class.remote(self._sent)

    def _begin(self, reader: _Reader, task: _Task) -> None:
        self._answer(reader, reader.actor.begin.remote(task.parts[task.ended :], task.came))

    def _ask(self, reader: _Reader) -> None:
        """Have a reader read on until enough waits; the first of them also if the next document is missing."""
        task = reader.task
        if task is None or reader.is_asked:
            return
        if task.is_read:
            reader.task = None
        elif self._waiting < WAITING_PER_READER * self._count or (
            task is self._first_unread and not self._is_next_here
        ):
            self._answer(reader, reader.actor.read_on.remote())

    def _answer(self, reader: _Reader, answer: Any) -> None:
        reader.is_asked = True
        answers, actor = self._answers, reader.actor
        answer.future().add_done_callback(lambda future: answers.put(ReaderAnswer(reader, actor, future)))

    def _wait(self) -> None:
        check_interrupt()
        try:
            answer = self._answers.get(timeout=WAKE_SECONDS)
        except Empty:
            return
        if isinstance(answer, ReaderAnswer):
            self.take(answer)
        else:
            self.deferred.append(answer)

    def take(self, answer: ReaderAnswer) -> None:
        """Take what a reader has answered."""
        reader = answer.reader
        if self._has_ended or answer.actor is not reader.actor or reader.task is None:
            return
        reader.is_asked = False
        error = answer.future.exception()
        if error is not None:
            self._replace(reader, reader.task, error)
            return
        block = answer.future.result()
        if isinstance(block, LateChunkError):
            raise block
        check_version(f"a reader of the cluster on {block.machine}", block.version)
        self._losses_in_a_row = 0
        self._clock.add(StageSeconds(read=block.seconds))
        for event in block.events:
            self._add(reader.task, event)

    def _add(self, task: _Task, event: Event) -> None:
        task.add(event)
        self._waiting += size_of(event)

    def _replace(self, reader: _Reader, task: _Task, error: BaseException) -> None:
        """Start another reader in the place of one that is lost, which reads what is missing of its task."""
        if not is_loss(self._ray, error):
            raise error
        cause = " ".join(str(error).split())
        self._losses_in_a_row += 1
        if self._losses_in_a_row >= MOST_LOSSES_IN_A_ROW:
            raise PreconditionError(
                f"the readers of the cluster end before they have read anything, {self._losses_in_a_row} in a row "
                f"({cause}); see the logs of Ray"
            )
        log.info("a reader of the cluster was lost (%s); what it had is read again", cause)
        self._ray.kill(reader.actor)
        self._start(reader)
        task.deaths += 1
        part = task.parts[task.ended]
        told = ""
        if task.deaths >= MOST_DEATHS:
            told = (
                f"the readers of the cluster that had it ended, {MOST_DEATHS} in a row ({cause}); give them more "
                "memory, or leave it out"
            )
        elif task.came and not isinstance(part.file, SourceFile) and not part.file.version:
            told = (
                "its reader was lost in the middle, and its server does not say whether the rest would be of the same "
                "version; run the same command again"
            )
        if told:
            self._add(task, PartEnd(DocumentError(printable(part.file.id), told)))
        if not task.is_read:
            self._begin(reader, task)

    def end(self) -> None:
        """End all of the processes; what they still answer is of no use."""
        self._has_ended = True
        for reader in self._readers:
            self._ray.kill(reader.actor)
