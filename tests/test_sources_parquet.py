"""Parquet: columns as keys of JSON Lines, row group by row group, from files and stores."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import json
import sys
import tempfile
import tracemalloc
import uuid
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from commands import error_of, run
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import apart, packed, read, read_file
from pyarrow import parquet

from es_latechunk.documents import options, read_documents
from es_latechunk.documents.formats import parquet as parquet_files
from es_latechunk.documents.read import count_bytes
from es_latechunk.errors import UsageError
from es_latechunk.types import ChunkSpan, Document

UTC, BERLIN = datetime.timezone.utc, "Europe/Berlin"
NOON = datetime.datetime(2024, 5, 1, 12, 30, 15)


def read_columns(
    tmp_path: Path, columns: Any, *, row_group_size: int | None = None, **options: Any
) -> tuple[list[Document], list[str]]:
    return read_file(tmp_path, "a.parquet", packed(columns, row_group_size=row_group_size), **options)


def test_columns_are_what_keys_are_in_json_lines(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "One. Two.", "title": "T", "year": 1999, "chunks": [[0, 4], [5, 9]],
         "metadata": {"lang": "en"}},
        {"id": None, "text": "Zürich 東京 🏔", "title": None, "year": None, "chunks": None, "metadata": None},
        {"id": "b", "text": None, "title": None, "year": 2, "chunks": None, "metadata": {"lang": None}},
        {"id": "c", "text": " ", "title": None, "year": 2, "chunks": None, "metadata": None},
    ]  # fmt: skip
    documents, errors = read_columns(tmp_path, pyarrow.Table.from_pylist(rows), row_group_size=1)
    assert documents == [
        Document("a", "One. Two.", "T", {"lang": "en", "year": 1999}, (ChunkSpan(0, 4), ChunkSpan(5, 9))),
        Document("a.parquet:2", "Zürich 東京 🏔"),
    ]
    assert errors == [
        'a.parquet:3: (id "b") has no "text"',
        'a.parquet:4: (id "c") is empty; there is nothing to index',
    ]
    named = {"body": ["One."], "key": [7], "text": ["a remark"]}
    [document], _ = read_columns(tmp_path, named, text_field="body", id_field="key")
    assert document == Document("7", "One.", metadata={"text": "a remark"})


@pytest.mark.parametrize(
    ("kind", "value", "plain"),
    [
        (pyarrow.bool_(), True, True),
        (pyarrow.uint64(), 2**64 - 1, 2**64 - 1),
        (pyarrow.float32(), 0.5, 0.5),
        (pyarrow.float64(), float("nan"), None),
        (pyarrow.null(), None, None),
        (pyarrow.large_string(), "é", "é"),
        (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), "one", "one"),
        (pyarrow.decimal128(20, 3), decimal.Decimal("1234567890123.250"), "1234567890123.250"),
        (pyarrow.decimal128(10, 8), decimal.Decimal("1E-7"), "0.00000010"),
        (pyarrow.date32(), datetime.date(2024, 5, 1), "2024-05-01"),
        (pyarrow.time64("ns"), datetime.time(9, 30), "09:30:00"),
        (pyarrow.timestamp("ms"), NOON, "2024-05-01T12:30:15"),
        (pyarrow.timestamp("ns", BERLIN), NOON.replace(tzinfo=UTC), "2024-05-01T12:30:15+00:00"),
        (pyarrow.duration("ms"), datetime.timedelta(minutes=1.5), 90.0),
        (pyarrow.list_(pyarrow.int64()), [1, None], [1, None]),
        (pyarrow.list_(pyarrow.date32()), [datetime.date(2024, 5, 1)], ["2024-05-01"]),
        (pyarrow.list_(pyarrow.float64(), 2), [1.5, float("nan")], [1.5, None]),
        (pyarrow.large_list(pyarrow.timestamp("ns")), [NOON], ["2024-05-01T12:30:15"]),
        (pyarrow.map_(pyarrow.string(), pyarrow.int64()), [("x", 1), ("y", None)], {"x": 1, "y": None}),
        (pyarrow.map_(pyarrow.int64(), pyarrow.date32()), [(1, datetime.date(2024, 5, 1))], {"1": "2024-05-01"}),
        (pyarrow.struct([("x", pyarrow.timestamp("ns")), ("y", pyarrow.int8())]), {"x": NOON, "y": None},
         {"x": "2024-05-01T12:30:15"}),
        (pyarrow.uuid(), uuid.UUID(int=7).bytes, str(uuid.UUID(int=7))),
    ],
    ids=str,
)  # fmt: skip
def test_values_of_every_type_become_values_of_json(
    tmp_path: Path, kind: Any, value: Any, plain: Any
) -> None:
    column = pyarrow.array([value, None], kind)
    documents, errors = read_columns(tmp_path, {"text": ["One.", "Two."], "it": column})
    assert errors == []
    assert [document.metadata for document in documents] == [{} if plain is None else {"it": plain}, {}]
    json.dumps(documents[0].metadata, allow_nan=False)


def test_nanoseconds_are_cut_to_microseconds(tmp_path: Path) -> None:
    times = pyarrow.array([1_714_566_615_123_456_789], pyarrow.timestamp("ns"))
    [document], _ = read_columns(tmp_path, {"text": ["x"], "at": times})
    assert document.metadata == {"at": "2024-05-01T12:30:15.123456"}


def test_binary_columns_are_text_where_text_belongs_and_left_out_elsewhere(tmp_path: Path) -> None:
    columns = {
        "id": [b"a", b"b"],
        "text": ["Zürich".encode(), b"\xff"],
        "title": [b"T", None],
        "raw": [b"x", b"y"],
        "page": [{"at.": 1, "image": b"x"}, None],
        "parts": [[b"x"], []],
    }
    notes: list[tuple[str, str]] = []
    documents, errors = read_columns(tmp_path, columns, on_note=lambda *note: notes.append(note))
    assert documents == [Document("a", "Zürich", "T", {"page": {"at.": 1}})]
    [error] = errors
    assert error.startswith(
        "a.parquet:2: has a value in its column \"text\" that cannot be read ('utf-8' codec"
    )
    assert notes == [
        ("a.parquet", f'its column "{name}" is left out, as JSON has no word for binary')
        for name in ("raw", "page.image", "parts")
    ]


def test_a_value_that_json_cannot_say_is_a_bad_row(tmp_path: Path) -> None:
    columns = {"text": ["One.", "Two.", "Three."], "x": [1.5, float("inf"), None]}
    documents, errors = read_columns(tmp_path, columns)
    assert [document.text for document in documents] == ["One.", "Three."]
    cause = 'has a value in its column "x" that cannot be read (JSON has no infinite numbers); repair it'
    assert errors == [f"a.parquet:2: {cause}"]
    far = pyarrow.array([0, 10_000_000], pyarrow.date32())
    documents, [error] = read_columns(tmp_path, {"text": ["One.", "Two."], "day": far})
    assert [document.metadata for document in documents] == [{"day": "1970-01-01"}]
    assert error.startswith('a.parquet:2: has a value in its column "day" that cannot be read (')


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["x"]}, 'has no column "text" (columns: body); name the column that contains the text with '
                          "text_field"),
        ({"text": [1]}, 'has a column "text" of int64, which is not text; name the column that contains the text with '
                        "text_field"),
        (pyarrow.table([["a"], ["b"]], names=["text", "text"]),
         "has two columns of the same name (text); rename one"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_used_are_one_error(tmp_path: Path, columns: Any, message: str) -> None:
    assert read_columns(tmp_path, columns) == ([], [f"a.parquet: {message}"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not Parquet (Parquet file size is 0 bytes); get the whole file"),
        (b"text,id\nOne.,a\n" * 9, "is not Parquet (Parquet magic bytes not found in footer"),
        (packed({"text": ["x"]})[:-9], "is not Parquet (Parquet magic bytes not found in footer"),
    ],
)
def test_what_is_not_parquet_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    documents, [error] = read_file(tmp_path, "a.parquet", content)
    assert documents == []
    assert error.startswith(f"a.parquet: {message}")


def test_a_damaged_row_group_does_not_affect_the_others(tmp_path: Path) -> None:
    table = pyarrow.table({"text": [f"Text {number} {'x' * 99}." for number in range(9)]})
    content = bytearray(packed(table, row_group_size=3, use_dictionary=False))
    second = parquet.ParquetFile(io.BytesIO(content)).metadata.row_group(1).column(0)
    for place in range(second.data_page_offset + 40, second.data_page_offset + second.total_compressed_size):
        content[place] = 0xFF
    documents, [error] = read_file(tmp_path, "a.parquet", bytes(content))
    assert [document.id for document in documents] == [f"a.parquet:{row}" for row in (1, 2, 3, 7, 8, 9)]
    assert error.startswith("a.parquet:4: rows 4 to 6 cannot be read (")
    assert error.endswith("); write the file anew")


def test_a_text_that_is_too_large_is_a_bad_row(tmp_path: Path) -> None:
    documents, errors = read_columns(tmp_path, {"text": ["éé", "ééé", "e" * 6]}, max_document_bytes=5)
    assert [document.text for document in documents] == ["éé"]
    assert errors == [f"a.parquet:{row}: is larger than 5 bytes; raise max_document_bytes" for row in (2, 3)]


def test_memory_does_not_grow_with_the_row_group(tmp_path: Path) -> None:
    """One row group of 64 MB; the library's own memory is not Python's, so both are measured."""
    with parquet.ParquetWriter(
        tmp_path / "a.parquet", pyarrow.schema([("text", pyarrow.string())])
    ) as writer:
        texts = [f"{number:06d} " + "word " * 800 for number in range(16_000)]
        writer.write_table(pyarrow.table({"text": texts}), row_group_size=16_000)
    del texts
    size = parquet.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).total_byte_size
    assert size > 60_000_000
    before, most, count = pyarrow.total_allocated_bytes(), 0, 0
    tracemalloc.start()
    for _ in read_documents([tmp_path / "a.parquet"]):
        count += 1
        most = max(most, pyarrow.total_allocated_bytes() - before)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 16_000
    assert most + peak < size / 3


def test_bytes_are_reported_as_rows_are_read(tmp_path: Path) -> None:
    told: list[int] = []
    reading = read_columns(
        tmp_path, {"text": ["One.", "Two.", "Three."]}, row_group_size=2, on_read=told.append
    )
    assert len(reading[0]) == 3
    assert min(told) >= 0
    assert len([count for count in told if count]) >= 3
    assert sum(told) == count_bytes([tmp_path]) == (tmp_path / "a.parquet").stat().st_size


def test_a_packed_file_is_skipped_and_standard_input_has_to_be_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = packed({"text": ["One."]})
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress(content))
    notes: list[str] = []
    assert read(tmp_path, on_note=lambda *note: notes.append(note[0])) == ([], [])
    assert notes == ["b.parquet.gz"]
    _, [error] = read(tmp_path / "b.parquet.gz", format="parquet")
    assert error == "b.parquet.gz: is packed, and Parquet is read from its end; unpack it"

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    for stream, ids in ((io.BytesIO(content), ["stdin:1"]), (Pipe(content), [])):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(stream)))  # type: ignore[arg-type]
        documents, errors = apart(read_documents(["-"], format="parquet"))
        assert [document.id for document in documents] == ids
    assert str(errors[0]) == (
        "stdin: cannot be read from a pipe, as Parquet is read from its end; give the file"
    )


def test_without_the_library_such_a_file_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "find_spec", lambda name: None)
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(UsageError, match=r"^b.parquet: .* run pip install 'es-latechunk\[parquet\]'"):
        next(read_documents([tmp_path]))
    assert "--exclude '*.parquet'" in error_of(run("chunk", tmp_path), 2)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.none() | st.text(max_size=3), st.none() | st.text(max_size=30)), max_size=12),
    st.integers(1, 4),
    st.integers(1, 40),
)
def test_rows_in_row_groups_of_any_size_are_those_of_json_lines(
    rows: list[tuple[str | None, str | None]], group: int, limit: int
) -> None:
    """Also with tiny reads of columns, which end anywhere in them."""
    objects = [{"id": key, "text": text} for key, text in rows]
    table = pyarrow.Table.from_pylist(
        objects, schema=pyarrow.schema([("id", pyarrow.string()), ("text", pyarrow.string())])
    )
    lines = "".join(json.dumps(row) + "\n" for row in objects)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        patch.setattr(parquet_files, "READ_BYTES", limit)
        in_parquet = read_file(folder, "a", packed(table, row_group_size=group), format="parquet")
        in_lines = read_file(folder, "a", lines.encode(), format="jsonl")
    assert in_parquet == in_lines
