"""HTML to text: its words in order, with headings, lists and tables as Markdown."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from es_latechunk.documents.options import Reading
from es_latechunk.documents.streams import read_whole
from es_latechunk.documents.text import check_text
from es_latechunk.types import Document

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

NOT_TEXT = ("title", "script", "style", "template", "noscript")


def read_html(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document]:
    """One document; its title is `<title>`, else the first `<h1>`."""
    content = read_whole(stream, reading.max_document_bytes)
    text, title = html_to_text(reading.decode(content, file_id, declared=declared_encoding(content)))
    check_text(text)
    yield Document(id=file_id, text=text, title=title)


def declared_encoding(content: bytes) -> str | None:
    """The encoding that the page says it is in."""
    from bs4.dammit import EncodingDetector

    return EncodingDetector.find_declared_encoding(content, is_html=True)


def html_to_text(html: str) -> tuple[str, str]:
    """The text and the title of a page: links and pictures become their words, scripts and styles go."""
    from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning
    from bs4.builder import ParserRejectedMarkup

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
            soup = BeautifulSoup(html, "lxml")
        title = _title(soup)
        for element in soup(NOT_TEXT):
            element.decompose()
        return _markdown(soup), title
    except RecursionError as error:
        raise ValueError("is nested too deeply to be read; simplify the page") from error
    except ParserRejectedMarkup as error:
        raise ValueError(f"is not HTML that can be read ({error}); repair it") from error


def _title(soup: BeautifulSoup) -> str:
    for found in (soup.title, soup.h1):
        words = " ".join(found.get_text(" ").split()) if found else ""
        if words:
            return words
    return ""


def _markdown(soup: BeautifulSoup) -> str:
    from markdownify import ATX, MarkdownConverter

    for picture in soup("img"):
        picture.replace_with(str(picture.get("alt", "")))
    converter = MarkdownConverter(
        heading_style=ATX,
        bullets="-",
        strip=["a"],
        # "snake_case" is searched for as it stands.
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
    )
    return str(converter.convert_soup(soup)).strip()
