"""PDF and Word files, read by the libraries of the extra `files`."""

from __future__ import annotations

import io
import itertools
import logging
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO
from xml.parsers.expat import ExpatError

from es_latechunk.documents.formats.form_fields import filled_in
from es_latechunk.documents.formats.text import check_text, markdown_title, without_pictures
from es_latechunk.documents.options import Reading
from es_latechunk.documents.sources import printable
from es_latechunk.documents.streams import read_whole, too_large
from es_latechunk.types import Document

if TYPE_CHECKING:
    from pdfminer.converter import PDFPageAggregator
    from pdfminer.pdfdocument import PDFDocument
    from pdfminer.pdfpage import PDFPage

PAGE_END = "\f"
PDF_END, PDF_END_WITHIN = b"%%EOF", 1024  # the format's own rule
LARGEST_PAGE = 14_400  # units from the origin: 5 metres, the most that viewers show
UNKNOWN_GLYPH = re.compile(r"\(cid:\d+\)")
AS_IT_STANDS = {"escape_asterisks": False, "escape_underscores": False}
# Elements of a Word file that only contain others. The converter skips them with everything inside, so they are
# removed first and their contents stay. Of characters with a reading above them (ruby), the reading is left out. The
# converter knows "w:sdtContent" and others itself.
WRAPPERS = ("fldSimple", "moveTo", "customXml", "bdo", "dir", "ruby", "rubyBase")
LEFT_OUT = ("fldData", "customXmlPr", "rubyPr", "rt")
WRAPPED = re.compile(rb":(?:fldSimple|moveTo|customXml|bdo|dir|ruby)[\s/>]")
WORD_NAMESPACES = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",  # "Strict Open XML Document"
)
LONGEST_CAUSE = 120
NO_TEXT = "no text; if scanned, run OCR first"
NO_CHARACTERS = "fonts that do not tell which characters they show; run OCR first"
# Exceptions that parsers written in Python raise for unexpected bytes, beside those of their own.
PARSER_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError),
    *(SyntaxError, TypeError, ValueError, struct.error, zlib.error, zipfile.BadZipFile, ExpatError),
)

_QUIET = threading.Lock()


def read_pdf(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document]:
    """Yield one document that records where its pages begin; each page ends in a form feed."""
    content = read_whole(stream, reading.max_document_bytes)
    if PDF_END not in content[-PDF_END_WITHIN:]:
        raise ValueError("is cut off, as a PDF ends in %%EOF; get the whole file")
    pages = _pages(content, file_id, reading)
    text = "".join(pages)
    if not text.strip():
        raise ValueError(f"has no text ({len(pages)} pages); if it was scanned, run OCR first")
    if _is_unreadable(text):
        raise ValueError(f"has {NO_CHARACTERS}")
    check_text(text)
    _note_pages(pages, file_id, reading)
    starts = itertools.accumulate((len(page) for page in pages[:-1]), initial=0)
    yield Document(id=file_id, text=text, pages=tuple(starts), plain_text=True)


def read_docx(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document]:
    """Yield one document as Markdown; its title is the first heading of level one."""
    content = read_whole(stream, reading.max_document_bytes)
    with _faults_of("a Word file"), zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > reading.max_document_bytes:
        raise ValueError(too_large(reading.max_document_bytes))
    text = without_pictures(_docx_markdown(_unwrapped(content))).strip()
    check_text(text)
    yield Document(id=file_id, text=text, title=markdown_title(text))


def _is_unreadable(text: str) -> bool:
    """Return whether most of the text consists of glyphs whose characters the file does not name."""
    return len(UNKNOWN_GLYPH.sub("", text)) < len(text) / 2


def _note_pages(pages: list[str], file_id: str, reading: Reading) -> None:
    """Report the pages without searchable text, in a document that has some."""
    blank = [number for number, page in enumerate(pages, 1) if not page.strip()]
    unknown = [number for number, page in enumerate(pages, 1) if _is_unreadable(page)]
    for numbers, what in ((blank, NO_TEXT), (unknown, NO_CHARACTERS)):
        if numbers:
            which, has = ("pages", "have") if len(numbers) > 1 else ("page", "has")
            reading.on_note(printable(file_id), f"{which} {_ranges(numbers)} of {len(pages)} {has} {what}")


def _ranges(numbers: list[int]) -> str:
    """Return ascending numbers as words: "2, 4 to 6, 9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _pages(content: bytes, file_id: str, reading: Reading) -> list[str]:
    """Return the text of each page, with blank lines between its blocks, followed by what was filled in on it."""
    from pdfminer.layout import LAParams
    from pdfminer.pdfdocument import PDFDocument, PDFEncryptionError
    from pdfminer.pdfinterp import PDFPageInterpreter, PDFResourceManager
    from pdfminer.pdfpage import PDFPage
    from pdfminer.pdfparser import PDFParser
    from pdfminer.psexceptions import PSException

    pages, length = [], 0
    try:
        with _quiet("pdfminer"), _faults_of("a PDF"):
            document = PDFDocument(PDFParser(io.BytesIO(content)))
            resources = PDFResourceManager()
            device = _bounded_aggregator()(resources, laparams=LAParams(all_texts=True))
            interpreter = PDFPageInterpreter(resources, device)
            sheets = list(PDFPage.create_pages(document))
            entries = _entries(document, sheets, file_id, reading)
            for sheet, entered in zip(sheets, entries, strict=True):
                interpreter.process_page(sheet)
                blocks = [*_blocks(device.get_result()), *(f"{entry}\n" for entry in entered)]
                pages.append("\n".join(blocks) + PAGE_END)
                length += len(pages[-1])
                if length > reading.max_document_bytes:
                    break
    except PDFEncryptionError as error:
        raise ValueError("is encrypted; remove its password") from error
    except PSException as error:
        raise ValueError(f"is not a PDF that can be read ({_cause(error)}); repair it") from error
    if length > reading.max_document_bytes:
        raise ValueError(too_large(reading.max_document_bytes))
    return pages


@cache
def _bounded_aggregator() -> type[PDFPageAggregator]:
    """Return pdfminer's aggregator, with bounded pages: its time grows with the area, which a file may set freely."""
    from pdfminer.converter import PDFPageAggregator

    class BoundedAggregator(PDFPageAggregator):
        def begin_page(self, page: Any, ctm: Any) -> None:
            super().begin_page(page, ctm)
            self._bound()

        def begin_figure(self, name: Any, bbox: Any, matrix: Any) -> None:
            super().begin_figure(name, bbox, matrix)
            self._bound()

        def _bound(self) -> None:
            x0, y0, x1, y1 = (max(-LARGEST_PAGE, min(LARGEST_PAGE, edge)) for edge in self.cur_item.bbox)
            self.cur_item.set_bbox((x0, y0, x1, y1))

    return BoundedAggregator


def _entries(document: PDFDocument, sheets: list[PDFPage], file_id: str, reading: Reading) -> list[list[str]]:
    """Return what was filled in on each page. If the form is broken, report that and return nothing: the pages stay."""
    from pdfminer.psexceptions import PSException

    try:
        return filled_in(document, [sheet.annots for sheet in sheets])
    except (*PARSER_FAULTS, PSException) as error:
        reading.on_note(
            printable(file_id), f"has form fields that cannot be read ({_cause(error)}); repair it"
        )
        return [[] for _ in sheets]


def _blocks(container: Iterable[Any]) -> Iterator[str]:
    """Yield the blocks of text on a page, then those of the forms (pages within the page) that it draws."""
    from pdfminer.layout import LTFigure, LTTextContainer

    for item in container:
        if isinstance(item, LTTextContainer):
            yield item.get_text()
        elif isinstance(item, LTFigure):
            yield from _blocks(item)


def _unwrapped(content: bytes) -> bytes:
    """Return a Word file without the elements (fields, moved passages) whose contents the converter would skip."""
    packed = io.BytesIO()
    try:
        with _faults_of("a Word file"), zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {part.filename: archive.read(part) for part in archive.infolist()}
    except ValueError:
        return content  # the converter repairs some archives, and says what is wrong with the others
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as written:
        for name, part in parts.items():
            is_wrapped = name.lower().endswith(".xml") and WRAPPED.search(part)
            written.writestr(name, _without_wrappers(part) if is_wrapped else part)
    return packed.getvalue()


def _without_wrappers(xml: bytes) -> bytes:
    from lxml import etree

    with _faults_of("a Word file"):
        root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, huge_tree=True))
    for namespace in WORD_NAMESPACES:
        etree.strip_elements(root, *(f"{{{namespace}}}{tag}" for tag in LEFT_OUT), with_tail=True)
        etree.strip_tags(root, *(f"{{{namespace}}}{tag}" for tag in WRAPPERS))
    return bytes(etree.tostring(root, encoding="UTF-8", xml_declaration=True, standalone=True))


def _docx_markdown(content: bytes) -> str:
    from markitdown import StreamInfo
    from markitdown.converters import DocxConverter

    with _quiet("bs4"), _faults_of("a Word file"):
        # The converter itself, as MarkItDown would read a broken file as plain text.
        converter: Any = DocxConverter()  # type: ignore[no-untyped-call]
        info = StreamInfo(extension=".docx")
        return str(converter.convert(io.BytesIO(content), info, **AS_IT_STANDS).markdown)


@contextmanager
def _quiet(library: str) -> Iterator[None]:
    """Keep a parser from logging every odd font and empty file; what matters is raised.

    One file at a time, because the level of a logger belongs to the whole process and is restored afterwards.
    """
    logger = logging.getLogger(library)
    with _QUIET:
        before = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(before)


@contextmanager
def _faults_of(what: str) -> Iterator[None]:
    """Turn whatever a parser raises for a broken file into a ValueError that says that the file is broken."""
    try:
        yield
    except PARSER_FAULTS as error:
        raise ValueError(f"is not {what} that can be read ({_cause(error)}); repair it") from error


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")[:LONGEST_CAUSE]
