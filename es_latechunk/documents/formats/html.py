"""Convert HTML to text: the words in order, with headings, lists and tables as Markdown."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

from es_latechunk.documents.formats.text import check_text
from es_latechunk.documents.options import Reading
from es_latechunk.documents.streams import read_whole
from es_latechunk.types import Document

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

# Browsers look for the encoding of a page in its first 1,024 bytes; some pages declare it later.
DECLARED_WITHIN = 8 * 1024
WHITESPACE_RUN = re.compile(r"[\t \r\n]{2,}")
LIST_START = re.compile(r"[0-9]{1,9}")
# The filters of warnings belong to the whole process: two threads at once would restore each other's filters.
_WARNINGS = threading.Lock()
NOT_TEXT = ("title", "script", "style", "template", "noscript")


def read_html(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document]:
    """Yield one document; its title is `<title>`, else the first `<h1>`."""
    content = read_whole(stream, reading.max_document_bytes)
    text, title = html_to_text(reading.decode(content, file_id, declared=declared_encoding(content)))
    check_text(text)
    yield Document(id=file_id, text=text, title=title)


def declared_encoding(content: bytes) -> str | None:
    """Return the encoding that the page declares."""
    from bs4.dammit import EncodingDetector

    return EncodingDetector.find_declared_encoding(
        content[:DECLARED_WITHIN], is_html=True, search_entire_document=True
    )


def html_to_text(html: str) -> tuple[str, str]:
    """Return the text and the title of a page; links and pictures become words, scripts and styles go."""
    from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning
    from bs4.builder import ParserRejectedMarkup

    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
            soup = BeautifulSoup(html, "lxml")
        title = _title(soup)
        _leave_out(soup, NOT_TEXT)
        return _markdown(soup), title
    except RecursionError as error:
        raise ValueError("is nested too deeply to be read; simplify the page") from error
    except ParserRejectedMarkup as error:
        raise ValueError(f"is not HTML that can be read ({error}); repair it") from error


def _title(soup: BeautifulSoup) -> str:
    """Return the title of the page, not that of a drawing in it."""
    titles = (title for title in soup.find_all("title") if title.find_parent("svg") is None)
    for found in (next(titles, None), soup.h1):
        words = " ".join(found.get_text(" ").split()) if found else ""
        if words:
            return words
    return ""


def _leave_out(soup: BeautifulSoup, names: tuple[str, ...]) -> None:
    """Remove elements, all those of one parent at once: one at a time, each would be searched among all siblings."""
    left_out = soup.find_all(names)
    ids = {id(element) for element in left_out}
    for parent in {id(element.parent): element.parent for element in left_out}.values():
        if parent is None:
            continue
        parent.contents = [child for child in parent.contents if id(child) not in ids]
        for before, after in pairwise([None, *parent.contents, None]):
            if before is not None:
                before.next_sibling = after
            if after is not None:
                after.previous_sibling = before


def _markdown(soup: BeautifulSoup) -> str:
    converter = _converter()(
        heading_style="atx",
        bullets="-",
        strip=["a"],
        strip_pre=None,
        # People search for "snake_case" without backslashes.
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
    )
    return str(converter.convert_soup(soup)).strip()


def _collapsed(text: str) -> str:
    """Collapse each run of whitespace to one line end or one space, as browsers do."""
    return WHITESPACE_RUN.sub(lambda run: "\n" if "\n" in run[0] or "\r" in run[0] else " ", text)


def _without_blank_ends(text: str) -> str:
    """Return preformatted text without the blank lines before it and the whitespace after it."""
    rest = text.lstrip(" \n")
    indent = text[: len(text) - len(rest)].rpartition("\n")[2]
    return (indent + rest).rstrip(" \n")


@cache
def _converter() -> type[MarkdownConverter]:
    """Return markdownify's converter, changed so that its time is linear in the page, and pictures become words."""
    from bs4.element import NavigableString
    from markdownify import MarkdownConverter

    class Converter(MarkdownConverter):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._numbers: dict[int, int] = {}  # the next number of each ordered list

        def process_text(self, el: Any, parent_tags: Any = None) -> str:
            if "pre" not in (parent_tags or ()) and WHITESPACE_RUN.search(el):
                # A copy with the same neighbours, because they decide whether whitespace at its ends stays.
                collapsed = NavigableString(_collapsed(el))
                collapsed.parent = el.parent
                collapsed.previous_sibling, collapsed.next_sibling = el.previous_sibling, el.next_sibling
                el = collapsed
            return str(super().process_text(el, parent_tags))  # type: ignore[misc]

        def convert_pre(self, el: Any, text: str, parent_tags: Any) -> str:
            text = _without_blank_ends(text)
            return str(super().convert_pre(el, text, parent_tags))  # type: ignore[misc]

        def convert_img(self, el: Any, text: str, parent_tags: Any) -> str:
            return _collapsed(str(el.get("alt", "")))

        def convert_li(self, el: Any, text: str, parent_tags: Any) -> str:
            if el.parent is None or el.parent.name != "ol":
                return str(super().convert_li(el, text, parent_tags))  # type: ignore[misc]
            number = self._numbers.get(id(el.parent), _first_number(el.parent))
            self._numbers[id(el.parent)] = number + 1
            bullet = f"{number}. "
            indented = "\n".join(
                " " * len(bullet) + line if line else "" for line in text.strip().split("\n")
            )
            return f"{bullet}{indented[len(bullet) :]}\n" if text.strip() else "\n"

    return Converter


def _first_number(ordered_list: Any) -> int:
    start = str(ordered_list.get("start", ""))
    return int(start) if LIST_START.fullmatch(start) else 1
