"""PDF and Word files written by hand, as small as their formats allow."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
DOCUMENT_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
STRICT_WORD = "http://purl.oclc.org/ooxml/wordprocessingml/main"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
CONTENT_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
DOCUMENT_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"

NAMELESS_FONT = (
    "<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /DescendantFonts [<< /Type /Font "
    "/Subtype /CIDFontType2 /BaseFont /X /FontDescriptor << /Type /FontDescriptor /FontName /X >> "
    "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>] >>"
)


def pdf(pages: Sequence[str], *, encrypted: bool = False) -> bytes:
    """A PDF with one text block a page."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, text in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        drawn = " T* ".join(f"({line}) Tj" for line in text.split("\n"))
        stream = f"BT /F1 12 Tf 14 TL 50 700 Td {drawn} ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    password = (
        f"/Encrypt << /Filter /Standard /V 1 /R 2 /O ({'o' * 32}) /U ({'u' * 32}) /P -4 >> /ID [(a) (a)]"
    )
    return pdf_of(objects, password if encrypted else "")


def drawn_pdf(
    *pages: str,
    forms: Sequence[str] = (),
    annotations: Sequence[str] = (),
    catalog: str = "",
    box: str = "0 0 600 800",
) -> bytes:
    """A PDF of pages and form XObjects ("/Fm0", "/Fm1", ...), all given by what they draw.

    Font "/F1" is an ordinary one, "/F2" does not tell which characters its glyphs show.
    Object 10 + n is annotation n, which stands on the first page unless it says "/Nowhere".
    """
    kids = " ".join(f"{50 + number} 0 R" for number in range(len(pages)))
    drawn = " ".join(f"/Fm{number} {30 + number} 0 R" for number in range(len(forms)))
    resources = f"<< /Font << /F1 3 0 R /F2 4 0 R >> /XObject << {drawn} >> >>"
    listed = [number for number, content in enumerate(annotations, 10) if "/Nowhere" not in content]
    objects = {
        1: f"<< /Type /Catalog /Pages 2 0 R {catalog} >>",
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        3: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        4: NAMELESS_FONT,
        **dict(enumerate(annotations, 10)),
    }
    for number, content in enumerate(forms, 30):
        head = f"/Type /XObject /Subtype /Form /BBox [{box}] /Resources {resources}"
        objects[number] = _stream(content, head)
    for number, content in enumerate(pages):
        notes = " ".join(f"{note} 0 R" for note in listed) if number == 0 else ""
        objects[50 + number] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {70 + number} 0 R "
            f"/Annots [{notes}] /Resources {resources} >>"
        )
        objects[70 + number] = _stream(content)
    return pdf_of([objects.get(number, "null") for number in range(1, max(objects) + 1)])


def words(text: str, *, at: int = 700) -> str:
    """What draws a line of text at a height of the page."""
    return f"BT /F1 12 Tf 50 {at} Td ({text}) Tj ET"


def _stream(content: str, head: str = "") -> str:
    return f"<< {head} /Length {len(content)} >>\nstream\n{content}\nendstream"


def pdf_of(objects: Sequence[str], trailer: str = "") -> bytes:
    """A PDF of numbered objects, the first one being its catalog."""
    written, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(written))
        written += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    return (
        f"{written}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\n"
        f"startxref\n{len(written)}\n%%EOF\n"
    ).encode("cp1252")


def docx(*paragraphs: str, heading: str = "") -> bytes:
    """A Word file with an optional heading and paragraphs."""
    return docx_of(docx_body(*paragraphs, heading=heading))


def docx_body(*paragraphs: str, heading: str = "") -> str:
    """The XML of an optional heading and paragraphs."""
    body = f'<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr>{_run(heading)}</w:p>' if heading else ""
    return body + "".join(f"<w:p>{_run(text)}</w:p>" for text in paragraphs)


def docx_of(body: str, *, strict: bool = False) -> bytes:
    """A Word file of the XML between `<w:body>` and its end, in the later, strict namespace or in the first."""
    namespace = STRICT_WORD if strict else WORD
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{CONTENT_TYPES}"><Override PartName="/word/document.xml" '
            f'ContentType="{DOCUMENT_TYPE}"/></Types>',
            "_rels/.rels": f'<Relationships xmlns="{RELATIONSHIPS}"><Relationship Id="r" '
            f'Type="{DOCUMENT_RELATION}" Target="word/document.xml"/></Relationships>',
            "word/document.xml": f'<w:document xmlns:w="{namespace}"><w:body>{body}</w:body></w:document>',
        }
    )


def _run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def zipped(parts: dict[str, str]) -> bytes:
    """A zip archive of named texts."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return packed.getvalue()
