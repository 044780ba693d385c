"""The pages of `evaluate --report` and `compare --html`: they load nothing, and texts stay texts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from commands import error_of, run
from indices import WordEncoder, made_up_documents
from test_evaluation import questions_of, write_rows

HOSTILE = "<script>alert(1)</script> <img src=x onerror=y> \" ' & &amp; </div> \u202eabc. "
ATTRIBUTES = re.compile(r"on.*|src|href|srcset|action|data|xlink:href")
TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "div", "span", "pre", "i", "br", "ol",
    "li", "svg", "g", "text", "line", "circle", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


class Page(HTMLParser):
    """The tags of a page, the texts of its `text` elements, and whether it could load or run anything."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.shown: list[str] = []
        self._open: list[bool] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag in ("meta", "br"):
            return
        inside = ("class", "text") in attrs
        if inside and not any(self._open):
            self.shown.append("")
        self._open.append(inside)

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if any(self._open):
            self.shown[-1] += data


@pytest.fixture(autouse=True)
def _encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("evaluate", "options.shared"):
        monkeypatch.setattr(f"es_latechunk.cli.{command}.load_encoder", lambda *_, **__: WordEncoder())


def check(page: Page, path: Path) -> None:
    assert set(page.tags) <= TAGS
    assert not [name for name in page.attributes if ATTRIBUTES.fullmatch(name)]
    text = path.read_text("utf-8")
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    assert not re.search(r"url\(|@import|https?:", text)


def test_a_report_shows_charts_and_the_worst_questions_and_escapes_every_text(tmp_path: Path) -> None:
    documents = made_up_documents()
    rows = [{"id": f"<b>{one.id}", "text": HOSTILE + one.text} for one in documents]
    write_rows(tmp_path / "documents.jsonl", rows)
    asked = [
        {
            "question": f"<i>{one.text}",
            "doc_id": f"<b>{one.doc_id}",
            "answers": [{"start": span.start + len(HOSTILE), "end": span.end + len(HOSTILE)}],
        }
        for one in questions_of(documents)
        for span in one.answers
    ]
    write_rows(tmp_path / "questions.jsonl", asked)
    report = tmp_path / "report.html"
    result = run(
        "evaluate", "--documents", tmp_path, "--max-tokens", "60,70", "--cache-dir", tmp_path / "cache",
        "--report", report, "--json",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "written: " in result.stderr
    page = Page(report)
    check(page, report)
    combinations = [json.loads(line) for line in result.stdout.splitlines()][:-1]
    # One point for each combination in-corpus and in-document, and one for each of three costs.
    assert page.tags.count("circle") == 5 * len(combinations)
    assert page.tags.count("tr") == 1 + len(combinations)
    assert page.tags.count("h3") == 10
    assert any("<img" in shown for shown in page.shown)
    assert any(shown.startswith("<b>doc-") and "#" in shown for shown in page.shown)
    assert [shown for shown in page.shown if shown.startswith("<i>")]


def test_a_report_of_ranked_documents(tmp_path: Path) -> None:
    documents = made_up_documents()
    write_rows(tmp_path / "documents.jsonl", [{"id": one.id, "text": one.text} for one in documents])
    asked = [{"question": one.text, "doc_id": one.doc_id} for one in questions_of(documents)]
    write_rows(tmp_path / "questions.jsonl", asked)
    report = tmp_path / "report.html"
    given = ("evaluate", "--documents", tmp_path, "--mode", "bm25", "--cache-dir", tmp_path / "cache")
    assert run(*given, "--report", report).exit_code == 0
    assert Page(report).tags.count("circle") == 4


def test_a_comparison_shows_the_whole_text_of_each_document_twice(tmp_path: Path) -> None:
    texts = {"a": f"{HOSTILE}\n\n\tThe city\nis large.  ", "b": "# Heading\n\n你好。世界。 🎉 End"}
    write_rows(tmp_path / "d.jsonl", [{"id": name, "text": text} for name, text in texts.items()])
    target = tmp_path / "page.html"
    result = run("compare", tmp_path / "d.jsonl", "--query", "<b>large", "--html", target)
    assert result.exit_code == 0
    page = Page(target)
    check(page, target)
    assert page.shown[0] == "<b>large"
    for text in texts.values():
        assert page.shown.count(text) == 2


@pytest.mark.parametrize("name", ["missing/page.html", "folder"])
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_computed(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    write_rows(tmp_path / "d.jsonl", [{"id": "a", "text": "x"}])
    told = error_of(run("compare", tmp_path / "d.jsonl", "--query", "x", "--html", tmp_path / name), 2)
    assert told.startswith("--html ")
    given = ("evaluate", "--documents", tmp_path / "d.jsonl", "--questions", tmp_path / "q.jsonl")
    assert error_of(run(*given, "--report", tmp_path / name), 2).startswith("--report ")
