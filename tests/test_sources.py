"""Kinds of files: HTML, CSV, JSON lines, PDF, Word, packed or not, and which files of a folder are meant."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from made_files import docx, docx_of, pdf, read, read_file

from es_latechunk.documents import count_bytes, document_hash, options, read_documents
from es_latechunk.documents.dead_letter import DeadLetters
from es_latechunk.elastic.write.actions import index_actions
from es_latechunk.errors import DocumentError, UsageError
from es_latechunk.types import ChunkedDocument, ChunkSpan, Document, Tokens

NO_TOKENS = Tokens(np.empty(0, np.int32), np.empty((0, 2), np.int32))


def test_html_is_its_words_with_structure_as_markdown(tmp_path: Path) -> None:
    page = (
        "<!doctype html><html><head><title> The\n river </title><style>p{}</style></head><body>"
        '<h1>Spree</h1><p>A <a href="http://x">link</a>, snake_case, 2*3 &amp; <b>bold</b>.</p>'
        '<ul><li>one<li>two</ul><img src="x.png" alt="A map"><script>let x</script><!-- no -->'
    )
    [document], errors = read_file(tmp_path, "a.html", page.encode())
    assert document.title == "The river"
    assert document.text == "# Spree\n\nA link, snake_case, 2*3 & **bold**.\n\n- one\n- two\n\nA map"
    assert errors == []


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<h1>First <i>one</i></h1><h1>Second</h1>", "First one"),
        ("<title> </title><h1>H</h1>", "H"),
        ("<svg><title>Logo</title></svg><h1>H</h1>", "H"),
        ("<svg><title>Logo</title></svg>", ""),
        ("<body><svg><g><title>Logo</title></g></svg><title>The page</title>", "The page"),
        ("<p>x", ""),
    ],
)
def test_without_a_title_the_first_heading_is_it(tmp_path: Path, page: str, title: str) -> None:
    assert [document.title for document in read_file(tmp_path, "a.htm", f"{page}<p>x".encode())[0]] == [title]


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("iso-8859-1", "cp1252"), ("windows-1250", "cp1250"), ("iso-2022-jp", "iso2022_jp"), ("utf-8", "utf-8")],
)
def test_the_encoding_that_a_page_declares_is_used(tmp_path: Path, declared: str, encoding: str) -> None:
    word = {"cp1250": "Łódź", "iso2022_jp": "東京"}.get(encoding, "“Zürich”")
    page = f'<meta charset="{declared}"><p>{word}'.encode(encoding)
    assert [document.text for document in read_file(tmp_path, "a.html", page)[0]] == [word]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>one  two \t\n three<b> four </b>five", "one two\nthree **four** five"),
        ("<p>a<img alt='  A\n map'> <img src=x>b", "a A\nmap b"),
        ("<pre>\n\n  x\n\n   y \n\n</pre>", "```\n  x\n\n   y\n```"),
        ("<ol start=4><li>a<p>b</p><li><li>c</ol>", "4. a\n\n   b\n6. c"),
        ("<ol start='²'><li>a</ol><ol><li>b</ol>", "1. a\n\n1. b"),
        ("a<script>x</script><style>y</style><p>b</p><template>z</template>c", "a\n\nb\n\nc"),
    ],
)
def test_html_s_whitespace_lists_and_pictures(tmp_path: Path, page: str, text: str) -> None:
    [document], errors = read_file(tmp_path, "a.html", page.encode())
    assert (document.text, errors) == (text, [])


@pytest.mark.parametrize("declared", ["iso-8859-1", "utf-16", "nonsense", "hex"])
def test_what_a_page_declares_wrongly_does_no_harm(tmp_path: Path, declared: str) -> None:
    page = f'<meta charset="{declared}"><p>Zürich'.encode()
    assert [document.text for document in read_file(tmp_path, "a.html", page)[0]] == ["Zürich"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_rows_are_documents(tmp_path: Path, delimiter: str, mark: str) -> None:
    rows = [
        ["id", "title", "text", "year", ""],
        ["a", "T", '"One,;\t\r\n""two"""', "1999", "0"],
        ["", "", "Three", "", "1"],
    ]
    content = mark + "".join(delimiter.join(row) + "\r\n" for row in rows)
    documents, errors = read_file(tmp_path, "a.csv", content.encode())
    assert documents == [
        Document("a", 'One,;\t\r\n"two"', "T", {"year": "1999"}),
        Document("a.csv:4", "Three"),
    ]
    assert errors == []


def test_a_bad_row_is_named_by_its_line_and_the_others_go_on(tmp_path: Path) -> None:
    content = (
        b'text,n\nZ\xc3\xbcrich,0\nM\xc3\xbcnchen,1\n"b"c,2\n\nd,3,4\n"two\nlines",5\n,6\n'
        b'K\xf6ln,7\ne,8\n"open,9\nlost,10\n'
    )
    documents, errors = read_file(tmp_path, "a.csv", content)
    assert [document.id for document in documents] == ["a.csv:2", "a.csv:3", "a.csv:7", "a.csv:11"]
    assert errors == [
        "a.csv:4: is not CSV (',' expected after '\"', line 4); repair it",
        "a.csv:6: has 3 fields where the header has 2; repair the row",
        "a.csv:9: is empty; there is nothing to index",
        "a.csv:10: is not UTF-8 (byte 0xf6 at position 1); convert it to UTF-8",
        "a.csv:12: is not CSV (unexpected end of data, lines 12 to 13); repair it",
    ]


def test_a_csv_in_another_encoding_is_read(tmp_path: Path) -> None:
    german = "Über die Brücke führt der Weg nach Süden; schöne Häuser säumen die Straße, größer als früher."
    told: dict[str, str] = {}
    content = f'text\n"{german}"\n'
    for name, encoding in (("a.csv", "cp1252"), ("b.csv", "utf-16")):
        documents, errors = read_file(tmp_path, name, content.encode(encoding), on_encoding=told.__setitem__)
        assert ([document.text for document in documents], errors) == ([german], [])
    assert told == {"a.csv": "cp1252", "b.csv": "utf-16-le"}


def test_a_field_may_be_large(tmp_path: Path) -> None:
    text = "word " * 100_000
    assert [document.text for document in read_file(tmp_path, "a.csv", f"text\n{text}\n".encode())[0]] == [
        text
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_the_fields_of_text_and_id_can_be_named(tmp_path: Path, name: str) -> None:
    content = {
        "a.csv": "key,body,text\nk,Berlin.,note\n",
        "a.jsonl": '{"key": "k", "body": "Berlin.", "text": "note"}',
    }
    documents, errors = read_file(tmp_path, name, content[name].encode(), text_field="body", id_field="key")
    assert documents == [Document("k", "Berlin.", metadata={"text": "note"})]
    assert errors == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_json_lines_of_wide_characters_are_read(tmp_path: Path, encoding: str) -> None:
    content = '{"text": "Zürich \u0a0a"}\n{"text": "\U0001f600"}\n'.encode(encoding)
    assert [document.text for document in read_file(tmp_path, "a.jsonl", content)[0]] == [
        "Zürich \u0a0a",
        "\U0001f600",
    ]


def test_a_pdf_knows_its_pages(tmp_path: Path) -> None:
    [document], errors = read_file(tmp_path, "a.pdf", pdf(["One.\nTwo.", "", "Three."]))
    assert document.text == "One.\nTwo.\n\f\fThree.\n\f"
    assert document.pages == (0, 11, 12)
    assert errors == []


def test_a_chunk_s_page_is_where_it_begins() -> None:
    document = Document("a", "One. Two. Three.", metadata={"lang": "en"}, pages=(0, 5, 10))
    spans = (ChunkSpan(0, 9), ChunkSpan(5, 9), ChunkSpan(12, 16))
    chunked = ChunkedDocument(document, spans, NO_TOKENS)
    actions = index_actions(
        chunked, 0, np.eye(3, dtype=np.float32), doc_hash="h", packed=False, fields={}, pieces=()
    )
    metadata = [json.loads(action.lines[1])["metadata"] for action in actions]
    assert metadata == [{"lang": "en", "page": page} for page in (1, 2, 3)]


def test_the_pages_are_part_of_the_hash_and_of_a_dead_letter(tmp_path: Path) -> None:
    document = Document("a", "One. Two.", pages=(0, 5))
    assert document_hash(document) != document_hash(Document("a", "One. Two."))
    with DeadLetters(tmp_path / "dead.jsonl") as letters:
        letters.add(document, DocumentError("a", "refused"))
    assert read(tmp_path / "dead.jsonl") == ([document], [])


def test_a_word_file_is_markdown_with_a_title(tmp_path: Path) -> None:
    [document], errors = read_file(tmp_path, "a.docx", docx("snake_case 2*3, Zürich", heading="The title"))
    assert document == Document("a.docx", "# The title\n\nsnake_case 2*3, Zürich", "The title")
    assert errors == []


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ('<w:fldSimple w:instr="DATE"><w:r><w:t>1 May</w:t></w:r></w:fldSimple>', "On 1 May we met."),
        ("<w:moveTo><w:r><w:t>1 May</w:t></w:r></w:moveTo>", "On 1 May we met."),
        ("<w:moveFrom><w:r><w:t>1 May</w:t></w:r></w:moveFrom>", "On we met."),
        ("<w:dir w:val='rtl'><w:r><w:t>1 May</w:t></w:r></w:dir>", "On 1 May we met."),
        (
            "<w:customXml w:element='day'><w:customXmlPr/><w:smartTag><w:r><w:t>1 May</w:t></w:r></w:smartTag>"
            "</w:customXml>",
            "On 1 May we met.",
        ),
        (
            "<w:r><w:ruby><w:rubyPr/><w:rt><w:r><w:t>reading</w:t></w:r></w:rt>"
            "<w:rubyBase><w:r><w:t>1 May</w:t></w:r></w:rubyBase></w:ruby></w:r>",
            "On 1 May we met.",
        ),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_text_inside_fields_and_the_like_of_a_word_file_is_read(
    tmp_path: Path, inside: str, text: str, strict: bool
) -> None:
    run = '<w:r><w:t xml:space="preserve">{}</w:t></w:r>'
    content = docx_of(f"<w:p>{run.format('On ')}{inside}{run.format(' we met.')}</w:p>", strict=strict)
    [document], errors = read_file(tmp_path, "a.docx", content)
    assert (document.text, errors) == (text, [])


PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        (f"a ![A map]({PNG}) b", "a A map b"),
        (f'![]({PNG} "title")![x](<{PNG}>)\n', "x\n"),
        (f"![A map][image1]\r\n\r\n[image1]: <{PNG}>\r\n", "A map\r\n\r\n"),
        (f"![][one] ![two] ![Two][]\n\n[one]: {PNG}\n[TWO]: {PNG}", " two Two\n\n"),
        (f"<img alt='A &amp; B' src=\"{PNG}\"/>", "A & B"),
        (f"```\n![]({PNG})\n```\n", f"```\n![]({PNG})\n```\n"),
        ("![a](data.png) [a](data:text/plain,b) ![b][c] data: x", None),
    ],
)
def test_a_picture_inside_markdown_is_its_words(tmp_path: Path, markdown: str, text: str | None) -> None:
    [document], errors = read_file(tmp_path, "a.md", markdown.encode())
    assert (document.text, errors) == (markdown if text is None else text, [])


def test_without_the_libraries_such_a_file_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "find_spec", lambda name: None)
    (tmp_path / "a.txt").write_text("text")
    assert [document.id for document in read(tmp_path)[0]] == ["a.txt"]
    for number in range(3):
        (tmp_path / f"b{number}.pdf").write_bytes(pdf(["text"]))
    with pytest.raises(UsageError, match=r"^b0.pdf: .* run pip install 'es-latechunk\[files\]'"):
        next(read_documents([tmp_path]))
    assert [document.id for document in read(tmp_path, exclude=["*.pdf"])[0]] == ["a.txt"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"text"),
        ("a.md", b"# t"),
        ("a.html", b"<p>t"),
        ("a.csv", b"text\nt\n"),
        ("a.jsonl", b'{"text":"t"}'),
    ],
)
def test_packed_texts_are_read_like_others(tmp_path: Path, name: str, content: bytes) -> None:
    [plain], _ = read_file(tmp_path, name, content)
    told: list[int] = []
    [packed], errors = read_file(tmp_path, f"{name}.gz", gzip.compress(content), on_read=told.append)
    assert (packed.text, packed.title, errors) == (plain.text, plain.title, [])
    assert packed.id.startswith(f"{name}.gz")
    assert sum(told) == (tmp_path / f"{name}.gz").stat().st_size == count_bytes([tmp_path / f"{name}.gz"])


def test_the_good_lines_before_the_end_of_a_cut_file_are_read(tmp_path: Path) -> None:
    lines = b"".join(b'{"id": %d, "text": "%d"}\n' % (n, n * 7919) for n in range(20_000))
    packed = gzip.compress(lines)
    documents, errors = read_file(tmp_path, "a.jsonl.gz", packed[: len(packed) // 2])
    assert len(documents) > 1000
    [error] = errors
    assert error.startswith("a.jsonl.gz: cannot be unpacked (Compressed file ended")


def test_a_bomb_takes_no_more_memory_than_the_limit_allows(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(100_000_000))
    for name in ("a.txt.gz", "a.jsonl.gz", "a.csv.gz"):
        (tmp_path / name).write_bytes(bomb)
    tracemalloc.start()
    documents, errors = read(tmp_path, max_document_bytes=1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert documents == []
    assert len(errors) == 3
    assert peak < 10_000_000


def test_a_document_of_fifty_megabytes_is_no_bomb(tmp_path: Path) -> None:
    text = "Berlin is big. " * (50_000_000 // 15)
    [document], errors = read_file(tmp_path, "a.txt", text.encode())
    assert (len(document.text), errors) == (len(text), [])


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, ["a.md", "a.txt", "drafts/b.md", "sub/a.txt", "sub/drafts/c.txt"]),
        ({"include": ["*.md"]}, ["a.md", "drafts/b.md"]),
        ({"exclude": ["drafts/"]}, ["a.md", "a.txt", "sub/a.txt"]),
        ({"exclude": ["/drafts"]}, ["a.md", "a.txt", "sub/a.txt", "sub/drafts/c.txt"]),
        ({"include": ["*.txt"], "exclude": ["drafts", "/a.txt"]}, ["sub/a.txt"]),
        ({"include": ["sub/**/*.txt"]}, ["sub/a.txt", "sub/drafts/c.txt"]),
        ({"exclude": ["*", "!a.md"]}, ["a.md"]),
    ],
)
def test_patterns_choose_the_files_of_a_folder(
    tmp_path: Path, options: dict[str, list[str]], ids: list[str]
) -> None:
    for name in ("a.md", "a.txt", "drafts/b.md", "sub/a.txt", "sub/drafts/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    assert [document.id for document in read(tmp_path, **options)[0]] == ids
    assert count_bytes([tmp_path], **options) == 4 * len(ids)
    assert [document.id for document in read(tmp_path / "a.txt", **options)[0]] == ["a.txt"]


def test_what_is_left_out_is_not_complained_of(tmp_path: Path) -> None:
    (tmp_path / "closed").symlink_to(tmp_path)
    (tmp_path / "bad.txt").write_bytes(b"")
    (tmp_path / "two\nlines.txt").write_text("text")
    assert read(tmp_path, exclude=["closed", "bad.txt", "two*"]) == ([], [])


def test_a_pattern_that_means_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exclude: a pattern is not valid"):
        read(tmp_path, exclude=["!"])


def test_any_kind_can_come_by_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for format, content in (("csv", b"text\nOne.\n"), ("pdf", pdf(["One."])), ("html", b"<p>One.")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
        assert [document.text.strip() for document in read("-", format=format)[0]] == ["One."]


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "sources.md").read_text("utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "notes" / "drafts").mkdir(parents=True)
    (tmp_path / "notes" / "a.md").write_text("# Berlin\n")
    (tmp_path / "notes" / "b.txt").write_text("")
    (tmp_path / "notes" / "drafts" / "c.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    exec(code, {})  # noqa: S102 - our own documentation
    assert capsys.readouterr().out == "a.md Berlin 9\nb.txt: is empty; there is nothing to index\n"
