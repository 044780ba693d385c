"""CSV: every kind of line end, header and delimiter."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import read, read_file

from es_latechunk.documents import read_documents, streams
from es_latechunk.types import Document


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_csv_lines_end_as_any_spreadsheet_ends_them(tmp_path: Path, end: str, encoding: str) -> None:
    rows = ["id,text,year", "a,One.,1999", '"b","Zwei\r\n""und""\rdrei\n",', "", 'c,"Four.",2']
    (tmp_path / "a.csv").write_bytes((end.join(rows) + end).encode(encoding))
    (tmp_path / "b.txt").write_text("Next.")
    documents, errors = read(tmp_path)
    assert documents == [
        Document("a", "One.", metadata={"year": "1999"}),
        Document("b", 'Zwei\r\n"und"\rdrei\n'),
        Document("c", "Four.", metadata={"year": "2"}),
        Document("b.txt", "Next.", plain_text=True),
    ]
    assert errors == []


@settings(deadline=None)
@given(
    st.lists(st.text(st.sampled_from('ab",;\t\r\n é'), min_size=1), min_size=1, max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([",", ";", "\t"]),
)
def test_every_character_of_a_csv_field_is_kept(texts: list[str], end: str, delimiter: str) -> None:
    written = io.StringIO(newline="")
    rows = csv.writer(written, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    rows.writerows([["text", "id"], *([f"x{text}", str(number)] for number, text in enumerate(texts))])
    with tempfile.TemporaryDirectory() as folder:
        documents, errors = read_file(Path(folder), "a.csv", written.getvalue().encode())
    assert ([document.text[1:] for document in documents], errors) == (texts, [])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_column_s_name_may_hold_a_line_end(tmp_path: Path, end: str, delimiter: str) -> None:
    header = delimiter.join(['"sold\n(in ""Euro"")"', "text", '"two\r\nlines\r"'])
    content = f"{header}{end}{delimiter.join(['9', 'One.', 'x'])}{end}"
    documents, errors = read_file(tmp_path, "a.csv", content.encode())
    lines = len(header.splitlines()) + 1
    assert documents == [
        Document(f"a.csv:{lines}", "One.", metadata={'sold\n(in "Euro")': "9", "two\r\nlines\r": "x"})
    ]
    assert errors == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"text" x,n\nOne.,1\n', "is not CSV (',' expected after '\"', in its header); repair it"),
        (b'text,"n\nOne.,1\n', "is not CSV (unexpected end of data, in its header); repair it"),
        (
            b'"id";"body"\n',
            'has no column "text" (columns: id, body); name the column that contains the text with text_field',
        ),
        (
            b'"a\rb",n\n',
            'has no column "text" (columns: a\\rb, n); name the column that contains the text with text_field',
        ),
        (
            b"x" * 999,
            f'has no column "text" (columns: {"x" * 200}...); name the column that contains the text with text_field',
        ),
        (b'text,"a\nb","a\nb"\n', "has two columns of the same name (a\\nb); rename one"),
    ],
)
def test_a_bad_header_is_the_file_s_error_and_what_follows_is_read(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "b.txt").write_text("Next.")
    documents, errors = read(tmp_path)
    assert [document.id for document in documents] == ["b.txt"]
    assert errors == [f"a.csv: {message}"]


def test_a_line_that_ends_between_two_blocks_is_one_line(tmp_path: Path) -> None:
    for length in range(streams.BLOCK - 12, streams.BLOCK + 3):
        content = f"text,n\r\n{'x' * length},1\r\ny,2\r\n"
        documents, errors = read_file(tmp_path, "a.csv", content.encode())
        assert [document.id for document in documents] == ["a.csv:2", "a.csv:3"]
        assert errors == []


def test_the_process_keeps_its_own_limit_of_csv_fields(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text\n" + b"word " * 100_000 + b"\nTwo.\n")
    before = csv.field_size_limit()
    for document in read_documents([tmp_path]):
        assert document.text
        assert csv.field_size_limit() == before
