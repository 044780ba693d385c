"""PDF and Word files, read by the libraries of the extra `files`."""

from __future__ import annotations

import io
import itertools
import logging
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, BinaryIO
from xml.parsers.expat import ExpatError

from es_latechunk.documents.options import Reading
from es_latechunk.documents.streams import read_whole, too_large
from es_latechunk.documents.text import check_text, markdown_title
from es_latechunk.errors import UsageError
from es_latechunk.types import Document

LIBRARIES = {"pdf": ("pdfminer",), "docx": ("markitdown", "mammoth")}
PAGE_END = "\f"
PDF_END, PDF_END_WITHIN = b"%%EOF", 1024  # the format's own rule
UNKNOWN_GLYPH = re.compile(r"\(cid:\d+\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(data:[^)]*\)")
AS_IT_STANDS = {"escape_asterisks": False, "escape_underscores": False}
LONGEST_CAUSE = 120
# What parsers in Python raise over bytes that they did not expect, beside exceptions of their own.
PARSER_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError),
    *(SyntaxError, TypeError, ValueError, struct.error, zlib.error, zipfile.BadZipFile, ExpatError),
)


def extra_is_complete() -> bool:
    """Whether every library that any of these files needs is installed."""
    return all(find_spec(library) for libraries in LIBRARIES.values() for library in libraries)


def check_extra(kind: str, name: str) -> None:
    """Raise a UsageError where the libraries for that kind of file are not installed."""
    missing = [library for library in LIBRARIES.get(kind, ()) if find_spec(library) is None]
    if missing:
        raise UsageError(
            f"{name}: to read {kind}, {missing[0]} must be installed; run pip install 'es-latechunk[files]', "
            f"or leave such files out with --exclude '*.{kind}'"
        )


def read_pdf(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document]:
    """One document that knows where its pages begin; each page ends in a form feed."""
    content = read_whole(stream, reading.max_document_bytes)
    if PDF_END not in content[-PDF_END_WITHIN:]:
        raise ValueError("is cut off, as a PDF ends in %%EOF; get the whole file")
    pages = _pages(content, reading.max_document_bytes)
    text = "".join(pages)
    if not text.strip():
        raise ValueError(f"has no text ({len(pages)} pages); if it was scanned, run OCR first")
    if len(UNKNOWN_GLYPH.sub("", text)) < len(text) / 2:
        raise ValueError("has fonts that do not tell which characters they show; run OCR first")
    check_text(text)
    starts = itertools.accumulate((len(page) for page in pages[:-1]), initial=0)
    yield Document(id=file_id, text=text, pages=tuple(starts))


def read_docx(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document]:
    """One document as Markdown; its title is the first heading of level one."""
    content = read_whole(stream, reading.max_document_bytes)
    with _faults_of("a Word file"), zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > reading.max_document_bytes:
        raise ValueError(too_large(reading.max_document_bytes))
    text = PICTURE.sub(r"\1", _docx_markdown(content)).strip()
    check_text(text)
    yield Document(id=file_id, text=text, title=markdown_title(text))


def _pages(content: bytes, limit: int) -> list[str]:
    """The text of each page, with blank lines between its blocks."""
    from pdfminer.high_level import extract_pages
    from pdfminer.layout import LTTextContainer
    from pdfminer.pdfdocument import PDFEncryptionError
    from pdfminer.psexceptions import PSException

    _hush("pdfminer")
    pages, length = [], 0
    try:
        with _faults_of("a PDF"):
            for page in extract_pages(io.BytesIO(content)):
                blocks = [block.get_text() for block in page if isinstance(block, LTTextContainer)]
                pages.append("\n".join(blocks) + PAGE_END)
                length += len(pages[-1])
                if length > limit:
                    break
    except PDFEncryptionError as error:
        raise ValueError("is encrypted; remove its password") from error
    except PSException as error:
        raise ValueError(f"is not a PDF that can be read ({_cause(error)}); repair it") from error
    if length > limit:
        raise ValueError(too_large(limit))
    return pages


def _docx_markdown(content: bytes) -> str:
    from markitdown import StreamInfo
    from markitdown.converters import DocxConverter

    _hush("bs4")
    with _faults_of("a Word file"):
        # The converter itself, as MarkItDown would read a broken file as plain text.
        converter: Any = DocxConverter()  # type: ignore[no-untyped-call]
        info = StreamInfo(extension=".docx")
        return str(converter.convert(io.BytesIO(content), info, **AS_IT_STANDS).markdown)


def _hush(library: str) -> None:
    """Keep a parser from logging each odd font and each empty file: what matters is raised."""
    logging.getLogger(library).setLevel(logging.CRITICAL)


@contextmanager
def _faults_of(what: str) -> Iterator[None]:
    """Whatever a parser raises over a broken file is the file's fault, and a ValueError says so."""
    try:
        yield
    except PARSER_FAULTS as error:
        raise ValueError(f"is not {what} that can be read ({_cause(error)}); repair it") from error


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")[:LONGEST_CAUSE]
