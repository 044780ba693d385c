"""PDF: text wherever a page shows it, pages that show none, and nothing changed for the rest of the process."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from made_files import drawn_pdf, pdf, read, words

from es_latechunk.types import Document

TWO_UP = "q .5 0 0 .5 0 200 cm /Fm0 Do Q q .5 0 0 .5 300 200 cm /Fm1 Do Q"


def read_pdf(tmp_path: Path, content: bytes) -> tuple[list[Document], list[str], list[str]]:
    """The documents, the errors and the notes of one file."""
    (tmp_path / "a.pdf").write_bytes(content)
    notes: list[str] = []
    documents, errors = read(
        tmp_path / "a.pdf", on_note=lambda file_id, text: notes.append(f"{file_id}: {text}")
    )
    return documents, errors, notes


@pytest.mark.parametrize(
    ("pages", "forms", "text"),
    [
        ([f"{words('Letterhead')} /Fm0 Do"], [words("Dear Anna", at=500)], "Letterhead\n\nDear Anna\n\f"),
        (["/Fm0 Do"], [words("The whole page")], "The whole page\n\f"),
        ([TWO_UP], [words("Page 1"), words("Page 2")], "Page 1\n\nPage 2\n\f"),
        (["/Fm0 Do"], [f"{words('Outer')} /Fm1 Do", words("Inner", at=600)], "Outer\n\nInner\n\f"),
        (["/Fm0 Do", "/Fm0 Do"], [words("Draft")], "Draft\n\fDraft\n\f"),
        ([f"{words('Page')} /Fm0 Do"], [f"{words('Again', at=600)} /Fm0 Do"], "Page\n\nAgain\n\f"),
    ],
    ids=["letterhead", "one form", "2-up", "nested", "on every page", "a form that draws itself"],
)
def test_text_in_forms_is_the_page_s_text(
    tmp_path: Path, pages: list[str], forms: list[str], text: str
) -> None:
    [document], errors, notes = read_pdf(tmp_path, drawn_pdf(*pages, forms=forms))
    assert document.text == text
    assert (errors, notes) == ([], [])


def fields(*contents: str) -> bytes:
    """A page with a label and form fields, which the catalog lists as well."""
    listed = " ".join(f"{number} 0 R" for number in range(10, 10 + len(contents)))
    return drawn_pdf(words("Name:"), annotations=contents, catalog=f"/AcroForm << /Fields [{listed}] >>")


@pytest.mark.parametrize(
    ("annotations", "entered"),
    [
        (["/Subtype /Widget /FT /Tx /T (name) /V (Anna M\\374ller)"], ["Anna Müller"]),
        (["/Subtype /Widget /FT /Tx /V <FEFF0410043D044F>"], ["Аня"]),
        (["/Subtype /Widget /FT /Tx /V <EFBBBFC3BC>"], ["ü"]),
        (["/Subtype /Widget /FT /Tx /V (one\\rtwo)"], ["one\rtwo"]),
        (["/Subtype /Widget /FT /Tx /V ( )", "/Subtype /Widget /FT /Tx"], []),
        (["/Subtype /Widget /FT /Tx /Ff 8192 /V (a password)"], []),
        (
            ["/FT /Tx /V (From the parent) /Kids [11 0 R] /Nowhere 1", "/Subtype /Widget /Parent 10 0 R"],
            ["From the parent"],
        ),
        (["/FT /Tx /V (On no page) /Nowhere 1"], ["On no page"]),
        (["/FT /Tx /V (loop) /Kids [10 0 R] /Parent 10 0 R /Nowhere 1"], []),
        (["/Subtype /Widget /FT /Ch /Opt [[(de) (Germany)] [(fr) (France)]] /V (fr)"], ["France"]),
        (["/Subtype /Widget /FT /Ch /Opt [(red) (blue)] /V [(blue) (red)]"], ["blue", "red"]),
        (["/Subtype /Widget /FT /Btn /T (m) /TU (Married) /V /Yes /AS /Yes"], ["[x] Married"]),
        (["/Subtype /Widget /FT /Btn /T (married) /V /Off /AS /Off"], []),
        (["/Subtype /Widget /FT /Btn /Ff 65536 /T (Print) /V /Yes"], []),
        (
            [
                "/FT /Btn /Ff 32768 /T (Title) /V /1 /Opt [(Ms) (Dr)] /Kids [11 0 R 12 0 R] /Nowhere 1",
                "/Subtype /Widget /Parent 10 0 R /AS /Off",
                "/Subtype /Widget /Parent 10 0 R /AS /1",
            ],
            ["[x] Title: Dr"],
        ),
        (["/Subtype /FreeText /Contents (Typed over the page)"], ["Typed over the page"]),
        (["/Subtype /Text /Contents (A reviewer's note)"], []),
        (["/Subtype /Widget /FT /Sig /V << /Type /Sig >>", "/Subtype /Widget /FT /Tx /V 7"], []),
    ],
)
def test_what_was_filled_in_is_text_of_its_page(
    tmp_path: Path, annotations: list[str], entered: list[str]
) -> None:
    [document], errors, _ = read_pdf(tmp_path, fields(*(f"<< {content} >>" for content in annotations)))
    assert document.text == "\n".join(["Name:\n", *(f"{text}\n" for text in entered)]) + "\f"
    assert errors == []


def test_a_form_s_fields_alone_are_text_enough(tmp_path: Path) -> None:
    filled = "<< /Subtype /Widget /FT /Tx /V (Anna) >>"
    content = drawn_pdf("", "", annotations=[filled], catalog="/AcroForm << /Fields [10 0 R] >>")
    [document], errors, notes = read_pdf(tmp_path, content)
    assert (document.text, document.pages) == ("Anna\n\f\f", (0, 6))
    assert (errors, notes) == ([], ["a.pdf: page 2 of 2 has no text; if scanned, run OCR first"])


def test_broken_form_fields_are_told_and_the_pages_are_read(tmp_path: Path) -> None:
    broken = "<< /Length 3 /Filter /Nonsense >>\nstream\nabc\nendstream"
    field = "<< /Subtype /Widget /FT /Tx /V 11 0 R >>"
    content = drawn_pdf(words("Name:"), annotations=[field, broken])
    [document], errors, notes = read_pdf(tmp_path, content)
    assert (document.text, errors) == ("Name:\n\f", [])
    [note] = notes
    assert note.startswith("a.pdf: has form fields that cannot be read (")


@pytest.mark.parametrize(
    ("pages", "which"),
    [
        (["One.", "", "Three."], "page 2 of 3 has"),
        (["", "Two.", "", "", "", "Six.", ""], "pages 1, 3 to 5, 7 of 7 have"),
    ],
)
def test_pages_without_text_are_told(tmp_path: Path, pages: list[str], which: str) -> None:
    [document], errors, notes = read_pdf(tmp_path, pdf(pages))
    assert len(document.pages) == len(pages)
    assert (errors, notes) == ([], [f"a.pdf: {which} no text; if scanned, run OCR first"])


def test_a_page_of_unknown_characters_is_told(tmp_path: Path) -> None:
    unknown = "BT /F2 12 Tf 50 700 Td <00010002> Tj ET"
    [document], errors, notes = read_pdf(tmp_path, drawn_pdf(words("One, two, three, four."), unknown))
    assert document.text == "One, two, three, four.\n\f(cid:1)(cid:2)\n\f"
    assert errors == []
    assert notes == [
        "a.pdf: page 2 of 2 has fonts that do not tell which characters they show; run OCR first"
    ]


@pytest.mark.parametrize("content", [pdf(["One."]), b"no PDF %%EOF"])
def test_the_process_logs_as_before(tmp_path: Path, content: bytes) -> None:
    logger = logging.getLogger("pdfminer")
    logger.setLevel(logging.DEBUG)
    try:
        documents, errors, _ = read_pdf(tmp_path, content)
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(logging.NOTSET)
    assert len(documents) + len(errors) == 1
