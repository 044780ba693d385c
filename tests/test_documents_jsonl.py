"""JSON Lines and standard input: a line is good or bad by itself."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_files import read

from es_latechunk.types import ChunkSpan, Document


def read_lines(tmp_path: Path, *lines: str | bytes) -> tuple[list[Document], list[str]]:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
    return read(path)


def read_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes, format: str = "auto") -> list[Document]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    return read("-", format=format)[0]


def test_every_part_of_a_line_is_read(tmp_path: Path) -> None:
    row = {
        "id": "a",
        "text": "One. Two.",
        "title": "T",
        "chunks": [[0, 4], [5, 9]],
        "year": 1999,
        "metadata": {"lang": "en", "year": 1},
    }
    [document], errors = read_lines(tmp_path, json.dumps(row))
    spans = (ChunkSpan(0, 4), ChunkSpan(5, 9))
    assert document == Document("a", "One. Two.", "T", {"lang": "en", "year": 1999}, spans)
    assert errors == []


@pytest.mark.parametrize(
    ("given", "doc_id"),
    [('"id": 7, ', "7"), ('"id": "7", ', "7"), ('"id": null, ', "a.jsonl:2"), ("", "a.jsonl:2")],
)
def test_the_id_is_the_line_s_own_or_its_place(tmp_path: Path, given: str, doc_id: str) -> None:
    documents, errors = read_lines(tmp_path, "", f'{{{given}"text": "x"}}\r')
    assert [document.id for document in documents] == [doc_id]
    assert errors == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "{nonsense",
            "a.jsonl:1: is not JSON (Expecting property name enclosed in double quotes at column 2)",
        ),
        ("[1, 2]", 'a.jsonl:1: is not a JSON object; write {"id": "...", "text": "..."}'),
        ('{"id": "a"}', 'a.jsonl:1: (id "a") has no "text"'),
        ('{"text": 5}', 'a.jsonl:1: has a "text" that is not a string but a number'),
        ('{"id": 4, "text": " "}', 'a.jsonl:1: (id "4") is empty; there is nothing to index'),
        (
            '{"id": true, "text": "x"}',
            'a.jsonl:1: has an "id" that is neither a string nor an integer but true',
        ),
        ('{"id": 1.5, "text": "x"}', 'has an "id" that is neither a string nor an integer but a number'),
        (
            '{"id": "", "text": "x"}',
            'has an "id" that is neither a string nor an integer but an empty string',
        ),
        ('{"text": "x", "title": ["t"]}', 'a.jsonl:1: has a "title" that is not a string but a list'),
        ('{"text": "x", "metadata": [1]}', 'a.jsonl:1: has "metadata" that is not an object but a list'),
        ('{"text": "x", "score": NaN}', "a.jsonl:1: holds NaN, which is not JSON; write a number or null"),
        ('{"text": "x", "score": -Infinity}', "a.jsonl:1: holds -Infinity, which is not JSON"),
        ('{"text": "x", "score": 1e999}', "a.jsonl:1: holds a number that is too large"),
        (
            f'{{"text": "x", "n": {"9" * 999}e9}}',
            f"a.jsonl:1: holds a number that is too large ({'9' * 40}...); ",
        ),
        (
            f'{{"text": "x", "n": -{"9" * 4301}}}',
            "a.jsonl:1: holds an integer of 4,301 digits; write it as a string",
        ),
        ('{"text": "x", "n": ' + "9" * 5000 + "}", "a.jsonl:1: "),
        ('{"text": "a\\ud800b"}', "a.jsonl:1: has half a surrogate pair at character 1"),
        ('{"text": "x", "title": "\\udfff"}', "a.jsonl:1: has half a surrogate pair"),
        ('{"text": "x", "\\ud83d": 1}', "a.jsonl:1: has half a surrogate pair"),
        ('{"text": "x", "id": "\\ud83d"}', 'a.jsonl:1: (id "\\ud83d") has half a surrogate pair'),
        ('{"text": "x", "chunks": [[0, 1.5]]}', 'has "chunks" that are not a list of [start, end] pairs'),
        ('{"text": "x", "chunks": {"a": 1}}', 'has "chunks" that are not a list of [start, end] pairs'),
        (b'{"text": "\xff"}', "a.jsonl:1: is not UTF-8 (byte 0xff at position 10); convert it to UTF-8"),
        ("[" * 100_000, "a.jsonl:1: is nested too deeply"),
        ('{"id": "two\\nlines"}', 'a.jsonl:1: (id "two\\nlines") has no "text"'),
    ],
)
def test_a_bad_line_is_named_and_the_others_go_on(tmp_path: Path, line: str | bytes, message: str) -> None:
    documents, [error] = read_lines(tmp_path, line, '{"id": "good", "text": "x"}')
    assert [document.id for document in documents] == ["good"]
    assert message in error
    assert error.isprintable()


def test_a_byte_order_mark_before_the_first_line_is_no_part_of_it(tmp_path: Path) -> None:
    documents, errors = read_lines(tmp_path, b'\xef\xbb\xbf{"id": "a", "text": "x"}')
    assert [document.id for document in documents] == ["a"]
    assert errors == []


@pytest.mark.parametrize("before", [b"", b" \n", b"\xef\xbb\xbf"])
def test_stdin_that_begins_with_a_brace_is_jsonl(monkeypatch: pytest.MonkeyPatch, before: bytes) -> None:
    documents = read_stdin(monkeypatch, before + b'{"id": "a", "text": "x"}\n{"text": "y"}')
    lines = before.count(b"\n") + 2
    assert [(document.id, document.text) for document in documents] == [("a", "x"), (f"stdin:{lines}", "y")]


def test_other_stdin_is_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_stdin(monkeypatch, b"\xef\xbb\xbfOne.\r\n{Two}.") == [
        Document("stdin", "\ufeffOne.\r\n{Two}.", plain_text=True)
    ]


def test_the_format_of_stdin_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_stdin(monkeypatch, b"{a}", "text") == [Document("stdin", "{a}", plain_text=True)]
    assert read_stdin(monkeypatch, b"# T\n", "markdown") == [Document("stdin", "# T\n", "T")]


@pytest.mark.parametrize("closed", [True, False])
def test_stdin_that_cannot_be_read_is_an_error(closed: bool) -> None:
    """Closed, or a file that fails: in a process of its own, as it is about the process's own stdin."""
    script = "from es_latechunk.documents import read_documents\nprint(*read_documents(['-']))"
    redirect = "<&-" if closed else "</proc/self/mem"
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -c "{script}" {redirect}'], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith("stdin: cannot be read (")
