"""Parts of files: whatever the size of the ranges, they give what the whole file gives."""

from __future__ import annotations

import json
import os
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from made_files import packed, write_bad, write_good

from es_latechunk.documents import Item, PartReading, read_documents
from es_latechunk.documents import blocks as block_files
from es_latechunk.documents.blocks import read_blocks, replay
from es_latechunk.documents.options import Reading
from es_latechunk.documents.parts import FilePart, Lines, PartEnd, read_part
from es_latechunk.documents.sources import CHANGED
from es_latechunk.types import Document

SEED = int(os.environ.get("ES_LATECHUNK_TEST_SEED", "2024"))
LINES = (b"", b"  ", b"{bad", b"\xff\xfe", b'\xef\xbb\xbf{"text":"marked"}', b"[1]", b'{"id":"c"}')


class Ranges:
    """Reads parts of `size` bytes, in this process, through blocks as another process would."""

    def __init__(self, size: int) -> None:
        self._size = size

    def read_ahead(
        self, items: Iterator[Item], reading: Reading
    ) -> Iterator[tuple[Item, PartReading | None]]:
        lines = Lines()
        for item in items:
            if not isinstance(item, FilePart) or not item.kind:
                yield item, None
                continue
            failed = False
            for part in item.ranges(self._size, reading):
                if not failed:
                    events = [event for block in read_blocks([part], reading) for event in block]
                    failed = any(isinstance(event, PartEnd) and event.error is not None for event in events)
                    yield part, self._replayed(pickle.loads(pickle.dumps(events)), part, lines, reading)  # noqa: S301

    def _replayed(self, events: list[Any], part: FilePart, lines: Lines, reading: Reading) -> PartReading:
        end = PartEnd()
        for event in events:
            item = replay(event, reading)
            if isinstance(item, PartEnd):
                end = item
                lines.end(part, end)
            elif item is not None:
                yield lines.numbered(part, item)
        return end


def everything(*paths: Path, size: int | None = None, **options: Any) -> tuple[list[Any], ...]:
    """Documents and errors in order, then notes, encodings, and the number of bytes."""
    notes: list[Any] = []
    encodings: list[Any] = []
    counts: list[int] = []
    documents = read_documents(
        paths,
        on_note=lambda *note: notes.append((note[0], str(note[1]))),
        on_encoding=lambda *found: encodings.append(found),
        on_read=counts.append,
        **options,
    )
    items = documents if size is None else documents.read_by(Ranges(size).read_ahead)
    read = [item if isinstance(item, Document) else str(item) for item in items]
    assert min(counts, default=0) >= 0
    return read, notes, encodings, [sum(counts)]


def some_lines(source: random.Random) -> bytes:
    def line() -> bytes:
        if source.random() < 0.4:
            return source.choice(LINES)
        row: dict[str, Any] = {"text": "Zürich 東京 🏔 " * source.randint(1, 4)}
        if source.random() < 0.5:
            row["id"] = source.choice("abc")
        return json.dumps(row, ensure_ascii=source.random() < 0.3).encode()

    content = source.choice([b"\n", b"\r\n"]).join(line() for _ in range(source.randint(0, 12)))
    content += source.choice([b"", b"\n"])
    mark = source.random()
    if mark < 0.1:
        return b"\xef\xbb\xbf" + content
    if mark < 0.2:
        return content.decode(errors="replace").encode("utf-16")
    return content


@pytest.mark.parametrize("number", range(60))
def test_lines_in_ranges_of_any_size_are_those_of_the_file(tmp_path: Path, number: int) -> None:
    """Ranges that end within lines, characters and line ends, and that are shorter than lines."""
    source = random.Random(f"{SEED} lines {number}")  # noqa: S311 - no secret, and it must come again
    path = tmp_path / "a.jsonl"
    path.write_bytes(some_lines(source))
    whole = everything(path)
    for size in (1, 2, 3, source.randint(4, 30), source.randint(30, 200), 10_000):
        assert everything(path, size=size) == whole, f"seed {SEED}, number {number}, size {size}"


@pytest.mark.parametrize("number", range(20))
def test_rows_in_ranges_of_any_size_are_those_of_the_file(tmp_path: Path, number: int) -> None:
    source = random.Random(f"{SEED} rows {number}")  # noqa: S311 - no secret, and it must come again
    rows = [
        {"id": source.choice([None, "a", "b"]), "text": source.choice([None, "", "Zürich " * source.randint(1, 9)]),
         "raw": b"x"}
        for _ in range(source.randint(0, 30))
    ]  # fmt: skip
    schema = pyarrow.schema([("id", pyarrow.string()), ("text", pyarrow.string()), ("raw", pyarrow.binary())])
    table = pyarrow.Table.from_pylist(rows, schema=schema)
    path = tmp_path / "a.parquet"
    path.write_bytes(packed(table, row_group_size=source.randint(1, 9)))
    whole = everything(path)
    for size in (50, source.randint(51, 400), source.randint(400, 4000), 100_000):
        assert everything(path, size=size) == whole, f"seed {SEED}, number {number}, size {size}"


def test_files_of_all_kinds_in_parts_give_what_they_give_as_a_whole(tmp_path: Path) -> None:
    write_good(tmp_path / "good")
    write_bad(tmp_path / "good" / "bad")
    (tmp_path / "good" / "rows.parquet").write_bytes(packed({"text": ["One.", "Two."]}, row_group_size=1))
    (tmp_path / "good" / "cut.parquet").write_bytes(packed({"text": ["One.", "Two."]})[:-5])
    (tmp_path / "good" / "unknown.bin").write_bytes(b"?")
    whole = everything(tmp_path / "good", tmp_path / "good" / "unknown.bin")
    assert len(whole[0]) > 100
    assert whole[1] != []
    assert whole[2] != []
    for size in (20, 100_000):
        assert everything(tmp_path / "good", tmp_path / "good" / "unknown.bin", size=size) == whole


def test_lines_of_a_given_encoding_are_not_divided(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "Zürich"}\n{"text": "Łódź"}\n'.encode("cp1250"))
    whole = everything(path, encoding="cp1250")
    assert everything(path, size=5, encoding="cp1250") == whole
    assert [item.text for item in whole[0]] == ["Zürich", "Łódź"]
    assert len(whole[2]) == 1


@pytest.mark.parametrize("size", [None, 40])
def test_a_file_that_changes_between_listing_and_reading_is_a_failure(
    tmp_path: Path, size: int | None
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n{"text": "Three."}\n')

    def changing(items: Iterator[Item], reading: Reading) -> Iterator[tuple[Item, PartReading | None]]:
        listed = list(items)
        (tmp_path / "a.jsonl").unlink()
        with (tmp_path / "b.jsonl").open("a") as file:
            file.write('{"text": "Four."}\n')
        return Ranges(size or 1_000_000).read_ahead(iter(listed), reading)

    items = list(read_documents([tmp_path]).read_by(changing))
    assert [str(getattr(item, "id", item)) for item in items] == [
        "a.jsonl: cannot be read (No such file or directory)",
        f"b.jsonl: {CHANGED}",
        "c.jsonl:1",
        "c.jsonl:2",
        "c.jsonl:3",
    ]


def test_a_file_that_changes_while_its_lines_are_read_is_a_failure(tmp_path: Path) -> None:
    """What was read before is given out, as from an object of a store."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "One."}\n{"text": "Two."}\n{"text": "Three."}\n')

    def changing(items: Iterator[Item], reading: Reading) -> Iterator[tuple[Item, PartReading | None]]:
        [item] = items
        assert isinstance(item, FilePart)
        first, *_ = item.ranges(30, reading)

        def documents() -> PartReading:
            reading_of = read_part(first, reading)
            yield next(reading_of)
            path.write_text('{"text": "New."}\n')
            return (yield from reading_of)

        yield first, documents()

    items = list(read_documents([path]).read_by(changing))
    assert [str(getattr(item, "id", item)) for item in items] == [
        "a.jsonl:1",
        "a.jsonl:2",
        f"a.jsonl: {CHANGED}",
    ]


def test_what_is_known_is_left_out_when_a_part_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_files, "BLOCK_CHARACTERS", 10)
    (tmp_path / "a.txt").write_bytes("Łódź".encode("utf-16"))
    (tmp_path / "b.jsonl").write_text('{"text": "One."}\nbad\n{"text": "Two."}\n{"text": "Three."}\n')
    parts: list[FilePart] = []
    options: list[Reading] = []

    def listed(items: Iterator[Item], reading: Reading) -> Iterator[tuple[Item, PartReading | None]]:
        parts.extend(item for item in items if isinstance(item, FilePart))
        options.append(reading.silent())
        return iter(())

    assert list(read_documents([tmp_path]).read_by(listed)) == []

    def events(known: int) -> list[str]:
        blocks = read_blocks(parts[1:], options[0], known)
        flat = [event for block in blocks for event in block if not isinstance(event, block_files.BytesRead)]
        return [str(getattr(event, "id", event)) for event in flat]

    every = events(0)
    assert len(every) == 5
    assert len(list(read_blocks(parts, options[0]))) > 2
    for known in range(4):
        assert events(known) == every[known:]
    # A file that has changed meanwhile is not taken for the one that was read.
    (tmp_path / "b.jsonl").write_text("bad\n")
    [block] = read_blocks(parts[1:], options[0], 3)
    assert isinstance(block[0], PartEnd)
    assert str(block[0].error) == f"b.jsonl: {CHANGED}"
