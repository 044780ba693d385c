"""Reading takes time that grows with a file's size: twice the size is far from four times the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made_files import drawn_pdf

from es_latechunk.documents import read_documents
from es_latechunk.documents.formats.html import declared_encoding, html_to_text
from es_latechunk.documents.formats.text import markdown_title, without_pictures

SIZE = 20_000
# Eight times the size takes eight times the time, and 64 times where each character looks at all others.
LARGER, AT_MOST = 8, 24
UNMEASURABLE_SECONDS = 0.05

MARKDOWN: dict[str, Callable[[int], str]] = {
    "spaces in a heading": lambda n: "# a" + " " * n + "b",
    "hashes in a heading": lambda n: "# a" + " #" * n + "b",
    "spaces after a heading": lambda n: "# a" + " " * n,
    "pictures that begin": lambda n: "data: " + "![" * n,
    "addresses that begin": lambda n: "![](data:" * n,
    "addresses that do not end": lambda n: "![](data:" + "a " * n,
    "titles that do not end": lambda n: '![](data:a "' * n,
    "tags that begin": lambda n: "data: " + "<img src=data:" * n,
    "labels that begin": lambda n: "[a]: data:image/\n" + "![a][" * n,
    "spaces before the end": lambda n: "![](data:a" + " " * n,
}
HTML: dict[str, Callable[[int], str]] = {
    "spaces in a paragraph": lambda n: "<p>a" + " " * n + "b",
    "spaces in preformatted text": lambda n: "<pre>a" + " " * n + "b</pre>",
    "line ends in preformatted text": lambda n: "<pre>a" + "\n" * n + "b</pre>",
    "lines of spaces": lambda n: "<pre>a" + " \n" * n + "b</pre>",
    "spaces in code": lambda n: "<code>a" + " " * n + "b</code>",
    "spaces in a heading": lambda n: "<h1>a" + " " * n + "b</h1>",
    "spaces in a cell": lambda n: "<table><tr><td>a" + " " * n + "b<td>c</table>",
    "spaces in a picture's words": lambda n: "<img alt='a" + " " * n + "b'>",
    "items of a numbered list": lambda n: "<ol>" + "<li>a" * (n // 3),
    "scripts": lambda n: "<p>a</p><script>b</script>" * (n // 8),
    "pictures": lambda n: "<p>" + "a<img alt=b>" * (n // 8),
    "titles of drawings": lambda n: "<svg><title>a</title></svg>" * (n // 8),
}


def seconds(work: Callable[[], object]) -> float:
    """The shortest of three times, as others may be using the machine."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def assert_linear(work: Callable[[str], object], make: Callable[[int], str]) -> None:
    small, large = make(SIZE // LARGER), make(SIZE)
    base = max(seconds(lambda: work(small)), UNMEASURABLE_SECONDS / LARGER)
    assert seconds(lambda: work(large)) < AT_MOST * base


@pytest.mark.parametrize("case", MARKDOWN)
def test_markdown_is_read_in_linear_time(case: str) -> None:
    assert_linear(lambda text: markdown_title(without_pictures(text)), MARKDOWN[case])


@pytest.mark.parametrize("case", HTML)
def test_html_is_read_in_linear_time(case: str) -> None:
    assert_linear(html_to_text, HTML[case])


def test_the_size_of_a_form_s_box_does_not_count(tmp_path: Path) -> None:
    """Pdfminer looks at each square of an area: 400 million of them in the larger box."""

    def read(size: str) -> None:
        large = f"BT /F1 {size} Tf 0 0 Td (Large) Tj ET"
        (tmp_path / "a.pdf").write_bytes(drawn_pdf("/Fm0 Do", forms=[large], box=f"0 0 {size} {size}"))
        [document] = read_documents([tmp_path / "a.pdf"])
        assert document.text == "Large\n\f"

    assert seconds(lambda: read("1000000")) < AT_MOST * seconds(lambda: read("10000"))


def test_a_page_s_encoding_is_looked_for_at_its_beginning() -> None:
    assert_linear(lambda text: declared_encoding(text.encode()), lambda n: "<meta " * n * 10)
