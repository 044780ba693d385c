"""What the reading of parts gives, block by block: it can be sent to another process, and be replayed there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from es_latechunk.documents.ahead import fetched_ahead
from es_latechunk.documents.options import Reading
from es_latechunk.documents.parts import FilePart, PartEnd, read_part
from es_latechunk.errors import DocumentError, Message
from es_latechunk.types import Document

BLOCK_CHARACTERS = 131_072  # a document of more is a block of its own


@dataclass(frozen=True, slots=True)
class Note:
    """A call of `on_note`. `text` has its settings marked, as another process could not send a Message."""

    file_id: str
    text: str


@dataclass(frozen=True, slots=True)
class OtherEncoding:
    """A call of `on_encoding`."""

    file_id: str
    name: str


@dataclass(frozen=True, slots=True)
class BytesRead:
    """A call of `on_read`."""

    count: int


Event = Document | DocumentError | Note | OtherEncoding | BytesRead | PartEnd


def size_of(event: Event) -> int:
    """Return the characters of an event, at least one."""
    return 1 + (len(event.text) if isinstance(event, Document) else 0)


def read_blocks(parts: Sequence[FilePart], reading: Reading, skip: int = 0) -> Iterator[list[Event]]:
    """Read parts one after the other, and yield what that gives in blocks; the last event of each part is its PartEnd.

    `skip`: so many events of the first part are known, and left out: it is read again. A BytesRead is not counted.
    """
    new: list[Event] = []
    block: list[Event] = []
    size = count = 0

    def on_read(length: int) -> None:
        nonlocal count
        count += length

    def on_note(file_id: str, text: str) -> None:
        new.append(Note(file_id, text.marked if isinstance(text, Message) else text))

    def on_encoding(file_id: str, name: str) -> None:
        new.append(OtherEncoding(file_id, name))

    told = replace(reading, on_read=on_read, on_note=on_note, on_encoding=on_encoding)
    for part in fetched_ahead(parts):
        documents, end = read_part(part, told), None
        while end is None:
            try:
                new.append(next(documents))
            except StopIteration as stop:
                end = stop.value
            known = min(skip, len(new))
            skip -= known
            block += new[known:]
            size += sum(map(size_of, new[known:]))
            new.clear()
            if end:
                skip = 0
                block.append(end)
                size += 1
            if size >= BLOCK_CHARACTERS:
                yield [*block, BytesRead(count)]
                block, size, count = [], 0, 0
    if block:
        yield [*block, BytesRead(count)]


def replay(event: Event, reading: Reading) -> Document | DocumentError | PartEnd | None:
    """Make the call that an event stands for; return any other event."""
    if isinstance(event, Note):
        reading.on_note(event.file_id, Message(event.text))
    elif isinstance(event, OtherEncoding):
        reading.on_encoding(event.file_id, event.name)
    elif isinstance(event, BytesRead):
        reading.on_read(event.count)
    else:
        return event
    return None
