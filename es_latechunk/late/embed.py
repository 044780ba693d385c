"""From chunked documents to chunk vectors: windows, batches across documents, and pooling; the order stays."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from types import TracebackType
from typing import TypeVar, cast

import numpy as np

from es_latechunk.chunking import table_headers, token_owner
from es_latechunk.errors import DocumentError
from es_latechunk.late.combine import EmbeddedChunks, PooledChunks, combine
from es_latechunk.late.pieces import (
    ChunkRows,
    Pieces,
    cut_pieces,
    join_rows,
    rows_without_pieces,
    spread_evenly,
)
from es_latechunk.late.pool import ChunkAccumulator, PartialSums, sum_by_chunk
from es_latechunk.late.title import title_runs
from es_latechunk.late.token_weights import SifWeights
from es_latechunk.late.windows import Windows, choose_windows, plan_batches
from es_latechunk.stages import StageClock
from es_latechunk.threads import Call
from es_latechunk.types import (
    ChunkedDocument,
    ChunkEncoder,
    Encoder,
    FloatArray,
    IntArray,
    Pooling,
    PoolingOptions,
    TokenEncoder,
    Tokenizer,
    TokenWindow,
    check_pooling,
)

LOOK_AHEAD_BATCHES = 4  # windows of similar length are found among this many batches, which saves padding
HEADER_SHARE = 4  # the part of a window that a table's header may fill; more leaves too little room for rows
MAX_PASSING = 1_000  # items that are not documents and wait in memory behind a request to a hosted encoder

_NO_IDS = np.empty(0, dtype=np.int32)
T = TypeVar("T")


def embed_chunks(
    documents: Iterable[ChunkedDocument | T],
    *,
    encoder: Encoder,
    pooling: Pooling | PoolingOptions = "late",
    windows: Windows | None = None,
    clock: StageClock | None = None,
) -> Iterator[EmbeddedChunks | DocumentError | T]:
    """Yield the vectors of all chunks, in one or more blocks per document; anything else passes through unchanged.

    Windows of several documents share a batch; a document's vectors do not depend on its neighbours.
    Memory holds at most twice `LOOK_AHEAD_BATCHES` batches of windows and one batch of token vectors: while a group of
    windows goes through the model in a thread of its own, the next group is prepared.
    `pooling` is explained at PoolingOptions; "naive" embeds the text of each chunk by itself. `windows` are those of
    `choose_windows` unless given; a hosted encoder has its own. If it refuses a document, a DocumentError follows
    instead of its blocks. `clock` measures the stages "chunk" (with all that `documents` does) and "encode". Raises
    UsageError for what cannot work.
    """
    clock = clock or StageClock()
    options = pooling if isinstance(pooling, PoolingOptions) else PoolingOptions(pooling)
    check_pooling(options, encoder)
    pooled: Iterator[PooledChunks | DocumentError | T]
    if isinstance(encoder, TokenEncoder):
        windows = windows or choose_windows(encoder, late_window=options.late_window)
        unit_windows = _unit_windows(documents, encoder, options, windows)
        if options.embed_title:
            unit_windows = _with_titles(unit_windows, encoder)
        pooled = _embed_windows(clock.timed("chunk", unit_windows), encoder, clock)
    else:
        chunked = clock.timed("chunk", documents)
        pooled = _embed_remotely(chunked, cast("ChunkEncoder", encoder), options.pooling, clock)
    vectors: Iterator[EmbeddedChunks | DocumentError | T] = combine(pooled, options)
    yield from vectors


def is_read_once(chunked: ChunkedDocument, windows: Windows) -> bool:
    """Return whether one pass gives both halves of a blend: the document is one chunk, and fits one of its windows."""
    return len(chunked.spans) == 1 and len(chunked.tokens) <= windows.size


@dataclass(frozen=True, slots=True)
class _Header:
    """The tokens of a table's header; the rows below it are the tokens [body, end) of the document."""

    ids: IntArray
    body: int
    end: int


def _headers(chunked: ChunkedDocument) -> tuple[_Header, ...]:
    """A table that is cut says in its header alone what its numbers are."""
    first = chunked.tokens.offsets[:, 0]
    found = []
    for table in table_headers(chunked.document.text):
        start, body, end = np.searchsorted(first, [table.start, table.body, table.end]).tolist()
        found.append(_Header(chunked.tokens.ids[start:body], body, end))
    return tuple(found)


def _header_above(headers: Sequence[_Header], token: int) -> IntArray:
    """Return the header of the table whose rows hold a token, or no ids."""
    number = bisect_right(headers, token, key=lambda header: header.body) - 1
    return headers[number].ids if number >= 0 and token < headers[number].end else _NO_IDS


@dataclass(frozen=True, slots=True)
class _Unit:
    """A text that the model encodes as one: a whole document (late), a single chunk (naive), or a title."""

    chunked: ChunkedDocument
    ids: IntArray
    owner: IntArray  # the chunk of each token, counted from 0 in this unit
    first: int  # the ordinal of this unit's chunk 0, or of the first chunk below this title
    weigh: SifWeights | None  # None: all tokens weigh the same
    headers: tuple[_Header, ...] = ()  # of its tables, if it has more than one window
    alone: bool = False
    both: bool = False  # read alone and in a window of the document, as it is one chunk and fits the window
    title_of: int = 0  # so many chunks; 0: it is no title
    pieces: Pieces | None = None  # of its chunks, if they have vectors too
    accumulator: ChunkAccumulator = field(init=False)

    def __post_init__(self) -> None:
        edges = None if self.pieces is None else self.pieces.edges
        object.__setattr__(self, "accumulator", ChunkAccumulator(edges))

    def windows(self, windows: Windows) -> Iterator[_UnitWindow]:
        """Yield the windows of this unit; one that begins below a table's header has the header too."""
        headers = [header for header in self.headers if len(header.ids) <= windows.size // HEADER_SHARE]
        windows = windows.shortened(max((len(header.ids) for header in headers), default=0))
        starts = np.flatnonzero(np.diff(self.owner, prepend=-1))
        for window in windows.plan(len(self.ids), starts):
            yield _UnitWindow(self, window, _header_above(headers, window.start))


@dataclass(frozen=True, slots=True)
class _UnitWindow:
    """One window of a unit. The model reads the `header` of a table before it, which belongs to no chunk."""

    unit: _Unit
    window: TokenWindow
    header: IntArray

    def __len__(self) -> int:
        return len(self.header) + self.window.end - self.window.start

    @property
    def ids(self) -> IntArray:
        return np.concatenate([self.header, self.unit.ids[self.window.start : self.window.end]])

    def sums(self, vectors: FloatArray) -> PartialSums:
        """Add up the vectors (T, dim) of the window's kept tokens by chunk, or by piece if there are pieces."""
        window, pieces = self.window, self.unit.pieces
        owner = self.unit.owner if pieces is None else pieces.owner
        first = len(self.header) - window.start
        kept = slice(window.keep_start, window.keep_end)
        weigh = self.unit.weigh
        weights = None if weigh is None else weigh(self.unit.ids[kept])
        return sum_by_chunk(vectors[first + kept.start : first + kept.stop], owner[kept], weights)

    @property
    def last(self) -> bool:
        return self.window.keep_end == len(self.unit.ids)


def _unit_windows(
    documents: Iterable[ChunkedDocument | T],
    encoder: TokenEncoder,
    options: PoolingOptions,
    windows: Windows,
) -> Iterator[_UnitWindow | T]:
    """Yield the windows that the pooling needs of each document.

    For a blend, a chunk alone comes soon after the last window that holds a part of it, so that few halves wait. It has
    as long a window as the model reads, as the late half may have a shorter one.
    """
    weigh = SifWeights(encoder.tokenizer) if options.token_weights == "sif" else None  # noqa: S105
    alone_windows = replace(windows, size=encoder.window_tokens)
    for chunked in documents:
        if not isinstance(chunked, ChunkedDocument):
            yield chunked
            continue
        owner = token_owner(chunked.spans, chunked.document.text, chunked.tokens)
        fits = len(owner) <= windows.size
        both = is_read_once(chunked, windows)
        # Only what is read in parts may begin below a header; other documents are not searched for tables.
        headers = _headers(chunked) if not fits or (options.pooling != "late" and not both) else ()
        pieces = None if options.pieces is None else cut_pieces(owner, options.pieces)
        alone = _chunks_alone(chunked, owner, headers, encoder.tokenizer, weigh, pieces)
        if options.pooling == "naive":
            for unit in alone:
                yield from unit.windows(windows)
            continue
        cut_headers = () if fits else headers
        whole = _Unit(
            chunked, chunked.tokens.ids, owner, 0, weigh, headers=cut_headers, both=both, pieces=pieces
        )
        sent = 0
        for window in whole.windows(windows):
            yield window
            complete = len(chunked.spans) if window.last else int(owner[window.window.keep_end])
            if options.pooling == "blend" and not both:
                for unit in islice(alone, complete - sent):
                    yield from unit.windows(alone_windows)
                sent = complete


def _chunks_alone(
    chunked: ChunkedDocument,
    owner: IntArray,
    headers: Sequence[_Header],
    tokenizer: Tokenizer,
    weigh: SifWeights | None,
    pieces: Pieces | None,
) -> Iterator[_Unit]:
    """Yield the chunks of a document as texts of their own, in order; a cut table's header comes before its rows.

    A chunk has as many pieces as in the document, though alone it may have a token more or fewer. The header belongs
    to its first piece.
    """
    for ordinal, span in enumerate(chunked.spans):
        ids = tokenizer.tokenize(chunked.document.text[span.start : span.end]).ids
        count = 1 if pieces is None else int(pieces.edges[ordinal + 1] - pieces.edges[ordinal])
        if len(ids) < count:  # some characters give a token only next to their neighbours
            ids = chunked.tokens.ids[owner == ordinal]
        header = _header_above(headers, int(np.searchsorted(owner, ordinal)))
        own = None if pieces is None else spread_evenly(len(ids), count, before=len(header))
        ids = np.concatenate([header, ids])
        chunk = np.zeros(len(ids), dtype=np.int32)
        yield _Unit(chunked, ids, chunk, ordinal, weigh, alone=True, pieces=own)


def _with_titles(unit_windows: Iterable[_UnitWindow | T], encoder: TokenEncoder) -> Iterator[_UnitWindow | T]:
    """Yield windows as they come, and each title with its headings before the first window of a chunk below it."""
    windows = Windows(encoder.window_tokens, 0)
    chunked: ChunkedDocument | None = None
    titles: Iterator[_Unit] = iter(())
    title: _Unit | None = None
    for window in unit_windows:
        if isinstance(window, _UnitWindow):
            unit = window.unit
            if chunked is not unit.chunked:
                chunked = unit.chunked
                titles = _titles(chunked, encoder.tokenizer, unit.weigh)
                title = next(titles, None)
            reached = unit.first + int(unit.owner[window.window.keep_end - 1])
            while title is not None and title.first <= reached:
                yield from title.windows(windows)
                title = next(titles, None)
        yield window


def _titles(chunked: ChunkedDocument, tokenizer: Tokenizer, weigh: SifWeights | None) -> Iterator[_Unit]:
    for run in title_runs(chunked, tokenizer):
        owner = np.zeros(len(run.text.tokens), dtype=np.int32)
        yield _Unit(chunked, run.text.tokens.ids, owner, run.first, weigh, title_of=run.count)


def _embed_windows(
    unit_windows: Iterable[_UnitWindow | T], encoder: TokenEncoder, clock: StageClock
) -> Iterator[PooledChunks | T]:
    budget = encoder.batch_tokens  # the first group is small, so that the model begins early
    group: list[_UnitWindow] = []
    held = 0
    with _EncodingThread(encoder, clock) as ahead:
        for window in unit_windows:
            if not isinstance(window, _UnitWindow):
                yield window
                continue
            group.append(window)
            held += len(window)
            if held >= budget:
                yield from clock.timed("encode", _pooled(ahead.swap(group), encoder))
                group, held = [], 0
                budget = LOOK_AHEAD_BATCHES * encoder.batch_tokens
        yield from clock.timed("encode", _pooled(ahead.swap([]), encoder))
        if group:
            # Nothing is left to do beside it, and a thread for one short text would only cost time.
            with clock.measure("encode"):
                sums = _sum_windows(group, encoder)
            yield from clock.timed("encode", _pooled((group, sums), encoder))


class _EncodingThread:
    """Runs the model over one group of windows in a thread, while the caller prepares the next one and writes the last.

    The forward pass holds no lock of Python's for most of its time, so that reading, chunking and bulk requests cost
    no time of their own where the model is the slowest part. The thread touches nothing but the model.
    """

    def __init__(self, encoder: TokenEncoder, clock: StageClock) -> None:
        self._encoder = encoder
        self._clock = clock
        self._stopped = threading.Event()
        self._running: tuple[list[_UnitWindow], Call[list[PartialSums]]] | None = None

    def __enter__(self) -> _EncodingThread:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()

    def swap(self, windows: list[_UnitWindow]) -> tuple[list[_UnitWindow], list[PartialSums]]:
        """Wait for the group that was given before, start on this one, and give back what the earlier one became."""
        done = self._running
        sums = [] if done is None else done[1].result()
        self._running = (windows, self._start(windows)) if windows else None
        return ([], []) if done is None else (done[0], sums)

    def _start(self, windows: list[_UnitWindow]) -> Call[list[PartialSums]]:
        def sums() -> list[PartialSums]:
            with self._clock.measure("encode"):
                return _sum_windows(windows, self._encoder, stopped=self._stopped)

        call = Call(sums)
        call.start()
        return call


def _pooled(
    group: tuple[list[_UnitWindow], list[PartialSums]], encoder: TokenEncoder
) -> Iterator[PooledChunks]:
    """The vectors of all chunks that a group of windows completes, in order."""
    windows, parts = group
    if not windows:
        return
    completed = [
        window.unit.accumulator.add(part, last=window.last)
        for window, part in zip(windows, parts, strict=True)
    ]
    means = join_rows([rows for _, rows in completed])
    finished = encoder.finish(np.concatenate([means.vectors, means.pieces]))
    vectors = ChunkRows(finished[: len(means)], finished[len(means) :], means.counts)
    done = 0
    for window, (first, rows) in zip(windows, completed, strict=True):
        if len(rows):
            unit = window.unit
            own = vectors.part(done, done + len(rows))
            yield PooledChunks(
                unit.chunked,
                unit.first + first,
                own,
                alone=unit.alone,
                both=unit.both,
                title_of=unit.title_of,
            )
            done += len(rows)


def _sum_windows(
    windows: list[_UnitWindow], encoder: TokenEncoder, *, stopped: threading.Event | None = None
) -> list[PartialSums]:
    """The sums by chunk of each window's kept tokens; ends early if nobody waits for them any more."""
    parts: dict[int, PartialSums] = {}
    for batch in plan_batches([len(window) for window in windows], encoder.batch_tokens):
        if stopped is not None and stopped.is_set():
            return []
        token_vectors = encoder.encode_windows([windows[index].ids for index in batch])
        for index, vectors in zip(batch, token_vectors, strict=True):
            parts[index] = windows[index].sums(vectors)
    return [parts[index] for index in range(len(windows))]


def _embed_remotely(
    documents: Iterable[ChunkedDocument | T], encoder: ChunkEncoder, pooling: Pooling, clock: StageClock
) -> Iterator[PooledChunks | DocumentError | T]:
    source = iter(documents)
    more = True
    while more:
        asked: deque[ChunkedDocument | T] = deque()
        more = False

        def remember(asked: deque[ChunkedDocument | T] = asked) -> Iterator[ChunkedDocument]:
            """Yield the chunked documents; stop early if too many other items wait behind them."""
            nonlocal more
            for item in source:
                asked.append(item)
                if isinstance(item, ChunkedDocument):
                    yield item
                elif len(asked) >= MAX_PASSING:
                    more = True
                    return

        for answer in clock.timed("encode", encoder.encode_many(remember(), pooling)):
            while not isinstance(chunked := asked.popleft(), ChunkedDocument):
                yield chunked
            if isinstance(answer, DocumentError):
                yield answer
            else:
                yield PooledChunks(chunked, 0, rows_without_pieces(answer), alone=pooling == "naive")
        yield from cast("deque[T]", asked)
