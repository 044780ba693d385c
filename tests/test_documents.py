"""Files, folders and names: every text as it is, in one order, and each fault named once on one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_files import read

from es_latechunk.documents import read_documents
from es_latechunk.errors import DocumentError, UsageError, raise_errors

NOBODY = 65534


@pytest.mark.parametrize(
    "content",
    [
        b"one\r\ntwo\rthree\n",
        b"\xef\xbb\xbfwith a byte order mark",
        b"a\x7fb\x07\x1b[31m",
        "a\u2028b\u0085c \U0001f1e9\U0001f1ea e\u0301\n\n".encode(),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.md", "A.TEXT", "a.markdown"])
def test_a_text_is_never_changed(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    [document], errors = read(path)
    assert document.text.encode() == content
    assert document.id == name
    assert errors == []


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# Berlin\n\nText", "Berlin"),
        ("\ufeff# Berlin\n", "Berlin"),
        ("intro\n\n  #   The river Spree  ##\r\nText", "The river Spree"),
        ("```\n# a comment\n```\n# Real\n", "Real"),
        ("## Only a section\n#hashtag\n", ""),
        ("no heading", ""),
    ],
)
def test_the_title_of_markdown_is_its_first_heading(tmp_path: Path, text: str, title: str) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(text.encode())
    assert [document.title for document in read(path)[0]] == [title]


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a.txt", True), ("a.text", True), ("a.md", False), ("a.html", False), ("a.csv", False)],
)
def test_the_format_says_whether_a_line_with_a_number_sign_may_be_a_comment(
    tmp_path: Path, name: str, plain: bool
) -> None:
    path = tmp_path / name
    path.write_text("text\n# a\n")
    assert {document.plain_text for document in read(path)[0]} == {plain}


def test_a_text_file_has_no_title(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("# Not a heading here\n")
    assert [document.title for document in read(path)[0]] == [""]


def test_a_folder_is_read_in_sorted_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ["b.txt", "a.txt", "sub/z.md", "sub/a/y.txt", ".hidden.txt", ".git/x.txt", "B.txt", "p.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    noted: dict[str, str] = {}
    documents, errors = read(tmp_path, on_note=noted.__setitem__)
    assert [document.id for document in documents] == ["B.txt", "a.txt", "b.txt", "sub/z.md", "sub/a/y.txt"]
    assert [document.text for document in documents] == [document.id for document in documents]
    assert (errors, noted) == ([], {"p.png": "is of an unknown format; it is skipped"})


def test_links_to_files_are_followed_and_a_loop_of_folders_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").symlink_to("a.txt")
    (tmp_path / "self").symlink_to(tmp_path)
    (tmp_path / "c.txt").symlink_to("c.txt")
    (tmp_path / "d.txt").symlink_to("missing")
    documents, errors = read(tmp_path)
    assert [document.id for document in documents] == ["a.txt", "b.txt"]
    assert errors == [
        "self: is a link to a folder, which is not followed; name the folder, or exclude the link",
        "c.txt: cannot be read (Too many levels of symbolic links)",
        "d.txt: cannot be read (No such file or directory)",
    ]


def test_a_folder_called_like_a_file_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.txt").mkdir()
    (tmp_path / "x.txt" / "a.txt").write_text("text")
    assert [document.id for document in read(tmp_path)[0]] == ["x.txt/a.txt"]
    assert [document.id for document in read(tmp_path / "x.txt")[0]] == ["a.txt"]


@pytest.mark.parametrize("named", [True, False])
def test_a_fifo_is_named_and_not_waited_for(tmp_path: Path, named: bool) -> None:
    os.mkfifo(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("text")
    documents, errors = read(*([tmp_path / "a.txt", tmp_path / "b.txt"] if named else [tmp_path]))
    assert [document.id for document in documents] == ["b.txt"]
    assert errors == ["a.txt: is not a regular file; pass a file or a folder"]


def test_a_file_that_fails_while_it_is_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "memory.txt").symlink_to("/proc/self/mem")
    (tmp_path / "z.txt").write_text("text")
    documents, errors = read(tmp_path)
    assert [document.id for document in documents] == ["z.txt"]
    assert errors == ["memory.txt: cannot be read (Input/output error)"]


def test_what_the_user_may_not_read_is_named(tmp_path: Path) -> None:
    """In a process of its own, which is nobody's where the tests are root's: root may read everything."""
    for name in ["a.txt", "closed/b.txt", "z.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "a.txt").chmod(0)
    (tmp_path / "closed").chmod(0)
    tmp_path.chmod(0o755)
    script = (
        "import os, sys\nfrom es_latechunk.documents import read_documents\n"
        "from es_latechunk.errors import UsageError\n"
        f"os.chdir(sys.argv[1])\nif os.getuid() == 0: os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "for item in read_documents(['.']): print(f'read {item.id}' if hasattr(item, 'id') else item)\n"
        "try: list(read_documents(['closed/b.txt']))\nexcept UsageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
    (tmp_path / "closed").chmod(0o700)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "a.txt: cannot be read (Permission denied)",
        "read z.txt",
        "./closed: cannot be listed (Permission denied)",
        "closed/b.txt cannot be found (Permission denied); check the path",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"cut \xe2\x82",
            "is not UTF-8 (byte 0xe2 at position 4), but the rest is: it is damaged; repair it",
        ),
        (b"\xef\xbb\xbf\n", "is empty; there is nothing to index"),
        (b"", "is empty; there is nothing to index"),
        (b" \r\n\t\xc2\xa0", "is empty; there is nothing to index"),
    ],
)
def test_a_file_without_a_text_is_named_and_the_others_go_on(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.md").write_text("text")
    documents, errors = read(tmp_path)
    assert [document.id for document in documents] == ["b.md"]
    assert errors == [f"a.txt: {message}"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"two\nlines.txt", "two\\nlines.txt: its name holds a control character"),
        (b"caf\xe9.txt", "caf\\udce9.txt: its name is not UTF-8"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_name_that_gives_no_id_is_refused_on_one_line(
    tmp_path: Path, name: bytes, message: str, named: bool
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_text("text")
    documents, [error] = read(path if named else tmp_path)
    assert documents == []
    assert error.startswith(message)
    assert error.endswith("rename the file")
    assert error.isprintable()


def test_a_file_of_unknown_kind_that_is_named_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("text")
    assert read(path)[1] == [
        "a.log: is of an unknown format (.txt, .text, .md, .markdown, .html, .htm, .csv, "
        ".jsonl, .ndjson, .pdf, .docx, .parquet); give its format with format"
    ]
    assert [document.text for document in read(path, format="text")[0]] == ["text"]


@pytest.mark.parametrize("name", ["missing.txt", "file.txt/inside.txt", "n" * 300, "n/" * 3000])
def test_a_path_that_is_not_there_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("text")
    documents = read_documents([tmp_path / "file.txt", tmp_path / name])
    with pytest.raises(UsageError, match=r"cannot be found \(.+\); check the path"):
        next(documents)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="format xls is not known; choose one of auto, text"):
        read(format="xls")


def test_the_first_error_is_raised_for_those_who_want_no_part_of_a_source(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").write_bytes(b"a\0")
    documents = raise_errors(read_documents([tmp_path]))
    assert next(documents).id == "a.txt"
    with pytest.raises(DocumentError, match="holds a NUL"):
        next(documents)


def test_all_bytes_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("four")
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\nbroken\n')
    told: list[int] = []
    read(tmp_path, on_read=told.append)
    assert sum(told) == 4 + 21


def test_documents_come_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n' * 10_000)
    told: list[int] = []
    next(read_documents([path], on_read=told.append))
    assert told == [16]
