"""Files made for the tests: PDF and Word by hand, good, bad and hostile ones, and how they are read."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow
from pyarrow import parquet
from sentences import own_sentences

from es_latechunk.documents import read_documents
from es_latechunk.errors import DocumentError
from es_latechunk.types import Document

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


def packed(columns: Any, **options: Any) -> bytes:
    """A Parquet file of columns."""
    table = columns if isinstance(columns, pyarrow.Table) else pyarrow.table(columns)
    written = io.BytesIO()
    parquet.write_table(table, written, **options)
    return written.getvalue()


def zipped(parts: dict[str, str]) -> bytes:
    """A zip archive of named texts."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return packed.getvalue()


LIMIT = 1_000_000  # the --max-document-bytes that the folder is made for
GERMAN = "Über die Brücke führt der Weg; schöne Häuser, größer"

BAD_TEXTS: dict[str, tuple[bytes, str]] = {
    "binary.txt": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "holds a NUL at position 8"),
    "nul.md": (b"text\0text", "holds a NUL at position 4"),
    "unmarked.txt": ("UTF-16".encode("utf-16-le"), "holds a NUL at position 1"),
    "half-utf16.txt": (b"\xff\xfea\0b", "is not utf-16-le"),
    "ambiguous.txt": (GERMAN.encode("mac_roman"), "may be cp1252 or mac-roman"),
    "damaged.txt": ("Zürich, Köln, M\xfcnchen".encode().replace(b"\xc3\xbcn", b"\xfcn"), "it is damaged"),
    "cut.txt": ("Zürich".encode()[:2], "it is damaged"),
    "noise.txt": (bytes(range(1, 256)) * 20, "may be binary"),
    "zero.txt": (b"", "is empty"),
    "blank.md": (b" \r\n\t\n", "is empty"),
    "mark.txt": (b"\xef\xbb\xbf", "is empty"),
    "large.txt": (b"x" * (LIMIT + 1), "is larger than 1,000,000 bytes"),
    "bomb.txt.gz": (gzip.compress(b"x" * 20 * LIMIT), "is larger than 1,000,000 bytes"),
    "cut.txt.gz": (gzip.compress(os.urandom(999))[:500], "cannot be unpacked"),
    "not.txt.gz": (b"plain", "cannot be unpacked"),
    "bent.txt.gz": (gzip.compress(b"text" * 99)[:-8] + bytes(8), "cannot be unpacked"),
    "silent.html": (b"<html><title>T</title><script>let a = 1</script></html>", "is empty"),
    "deep.html": (b"<div>" * 5000 + b"text", "is nested too deeply"),
    "columns.csv": (b"id,body\n1,a\n", 'has no column "text" (columns: id, body)'),
    "empty.csv": (b"", 'has no column "text" (columns: none)'),
    "twice.csv": (b"text,year,year\na,1,2\n", "has two columns of the same name (year)"),
    "cut.pdf": (pdf(["text"])[:-20], "is cut off"),
    "not.pdf": (b"no PDF %%EOF", "is not a PDF that can be read"),
    "scanned.pdf": (pdf(["", ""]), "has no text (2 pages)"),
    "locked.pdf": (pdf(["text"], encrypted=True), "is encrypted"),
    "cut.docx": (docx("text")[:200], "is not a Word file that can be read"),
    "zip.docx": (zipped({"a": "b"}), "is not a Word file that can be read"),
    "bomb.docx": (zipped({"word/document.xml": "x" * 20 * LIMIT}), "is larger than 1,000,000 bytes"),
    "silent.docx": (docx(), "is empty"),
}
BAD_LINES: dict[str, tuple[bytes, str]] = {
    "broken.jsonl": (b'{"text": ', "is not JSON"),
    "array.jsonl": (b'["text"]', "is not a JSON object"),
    "textless.jsonl": (b'{"id": "a"}', 'has no "text"'),
    "surrogate.jsonl": (b'{"text": "\\ud800"}', "has half a surrogate pair"),
    "deep.jsonl": (b"[" * 100_000, "is nested too deeply"),
    "nan.jsonl": (b'{"text": "a", "n": NaN}', "holds NaN"),
    "latin.jsonl": (b'{"text": "Z\xfcrich"}', "is not UTF-8"),
    "long.jsonl": (json.dumps({"text": "x" * LIMIT}).encode(), "is larger than 1,000,000 bytes"),
    "bomb.jsonl.gz": (b'{"text": "' + b"x" * 20 * LIMIT, "is larger than 1,000,000 bytes"),
    "quote.csv": (b'"a"b,1', "is not CSV"),
    "wide.csv": (b"a,1,2", "has 3 fields where the header has 2"),
    "long.csv": (b'"' + b"xxxxxxx\n" * LIMIT + b'",1', "is larger than 1,000,000 bytes"),
    "nul.csv": (b"a\0,1", "NUL"),
}


def write_good(folder: Path) -> list[str]:
    """A hundred good documents, of all kinds; their ids in sorted order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(50):
        (folder / f"good{number}.txt").write_text(f"Good text {number}.")
    for number in range(10):
        (folder / f"good{number}.md").write_text(f"# Good {number}\n\nText.")
        (folder / f"good{number}.html").write_text(f"<title>Good</title><p>Text {number}.</p>")
        (folder / f"good{number}.txt.gz").write_bytes(gzip.compress(f"Good text {number}.".encode()))
    lines = "".join(json.dumps({"id": f"line{number}", "text": "Good."}) + "\n" for number in range(8))
    (folder / "good.jsonl").write_text(lines)
    (folder / "good.csv").write_text("id,text\n" + "".join(f"row{number},Good.\n" for number in range(8)))
    (folder / "good.pdf").write_bytes(pdf(["Good.", "Good."]))
    (folder / "good.docx").write_bytes(docx("Good."))
    (folder / "windows.txt").write_bytes(GERMAN.encode("cp1252"))
    (folder / "wide.txt").write_bytes("Good \u2603.".encode("utf-16"))
    texts = [f"good{number}.txt" for number in range(50)]
    others = [f"good{number}{suffix}" for number in range(10) for suffix in (".md", ".html", ".txt.gz")]
    rows = [f"{kind}{number}" for kind in ("line", "row") for number in range(8)]
    return sorted([*texts, *others, *rows, "good.pdf", "good.docx", "windows.txt", "wide.txt"])


def write_bad(folder: Path) -> dict[str, str]:
    """Every kind of bad file; the place of each as it is to be named, with a part of the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, str] = {}
    for name, (content, cause) in BAD_TEXTS.items():
        (folder / name).write_bytes(content)
        expected[name] = cause
    for name, (line, cause) in BAD_LINES.items():
        content = b"text,year\n" + line + b"\n" if name.endswith(".csv") else line + b"\n"
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        expected[f"{name}:{2 if name.endswith('.csv') else 1}"] = cause
    return {**expected, **_write_special(folder)}


def _write_special(folder: Path) -> dict[str, str]:
    os.mkfifo(folder / "fifo.txt")
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.txt")
    os.chdir(here)
    (folder / "loop.txt").symlink_to("loop.txt")
    (folder / "dangling.txt").symlink_to("missing")
    (folder / "memory.txt").symlink_to("/proc/self/mem")
    (folder / "self").symlink_to(folder)
    (folder / "two\nlines.txt").write_text("text")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).write_text("text")
    return {
        "fifo.txt": "is not a regular file",
        "socket.txt": "is not a regular file",
        "loop.txt": "cannot be read (Too many levels of symbolic links)",
        "dangling.txt": "cannot be read (No such file or directory)",
        "memory.txt": "cannot be read (Input/output error)",
        "self": "is a link to a folder",
        "two\\nlines.txt": "its name holds a control character",
        "caf\\udce9.txt": "its name is not UTF-8",
    }


PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk"
SPACES = " " * 60_000
TABLE = "| no. | city |\n| --- | --- |\n" + "| No. 5 | St. Louis. It is old. |\n" * 60
CELLS = "<tr><td>No. 5</td><td>St. Louis.<br>It is old.</td></tr>" * 60
ABBREVIATIONS = "Dr. Li et al. (2019) met J. R. Doe of Acme Inc. The U.S. Senate did not. " * 20
FILLED_IN = (
    "<< /Subtype /Widget /FT /Tx /T (name) /V (Anna Schmidt) >>",
    "<< /Subtype /Widget /FT /Ch /Opt [[(de) (Germany)] [(fr) (France)]] /V (fr) >>",
    "<< /Subtype /Widget /FT /Btn /TU (I agree) /V /Yes /AS /Yes >>",
)


@dataclass(frozen=True, slots=True)
class HostileFile:
    """`texts` is what each document of the file must say, in order; `said` is what stderr must say of the file."""

    content: bytes
    texts: Sequence[str] = ()
    said: str = ""


def sentence(language: str, encoding: str, *, said: str = "", number: int = 0) -> HostileFile:
    """One sentence and nothing else."""
    text = own_sentences()[language][number]
    return HostileFile(text.encode(encoding), (text,), said)


def read_as(encoding: str) -> str:
    """The note of a guess, up to the encodings that come near, which a newer library may see otherwise."""
    return f"was read as {encoding}, but may as well be"


def csv_of(name: str, end: str) -> HostileFile:
    """Two rows, one with a line end in a field."""
    rows = f'id,text{end}{name} 1,"One{end}line."{end}{name} 2,Two.{end}'
    return HostileFile(rows.encode(), (f"One{end}line.", "Two."))


HOSTILE_FILES = {
    "letterhead.pdf": HostileFile(
        drawn_pdf(f"{words('Smith and Sons')} /Fm0 Do", forms=[words("Dear Anna,", at=500)]),
        ("Smith and Sons\n\nDear Anna,",),
    ),
    "two-up.pdf": HostileFile(
        drawn_pdf(
            "q .5 0 0 .5 0 200 cm /Fm0 Do Q q .5 0 0 .5 300 200 cm /Fm1 Do Q",
            forms=[words("First page."), words("Second page.")],
        ),
        ("First page.\n\nSecond page.",),
    ),
    "filled-in.pdf": HostileFile(
        drawn_pdf(
            words("Application"),
            annotations=FILLED_IN,
            catalog="/AcroForm << /Fields [10 0 R 11 0 R 12 0 R] >>",
        ),
        ("Application\n\nAnna Schmidt\n\nFrance\n\n[x] I agree",),
    ),
    "blank-page.pdf": HostileFile(
        pdf(["One.", "", "Three."]),
        ("One.\n\f\fThree.",),
        "page 2 of 3 has no text; if scanned, run OCR first",
    ),
    "scanned.pdf": HostileFile(pdf(["", ""]), (), "has no text (2 pages); if it was scanned, run OCR first"),
    "glyphs.pdf": HostileFile(
        drawn_pdf("BT /F2 12 Tf 50 700 Td <00010002> Tj ET"),
        (),
        "has fonts that do not tell which characters they show; run OCR first",
    ),
    "fields.docx": HostileFile(
        docx_of('<w:p><w:fldSimple w:instr="DATE"><w:r><w:t>1 May 2025</w:t></w:r></w:fldSimple></w:p>'),
        ("1 May 2025",),
    ),
    "lf.csv": csv_of("lf.csv", "\n"),
    "crlf.csv": csv_of("crlf.csv", "\r\n"),
    "cr.csv": csv_of("cr.csv", "\r"),
    "header.csv": HostileFile(b'id,"sold\r\n(in Euro)",text\r\nheader.csv 1,9,Three.\r\n', ("Three.",)),
    "open-quote.csv": HostileFile(
        b'id,text\nopen-quote.csv 1,One.\nopen-quote.csv 2,"Two.\n',
        ("One.",),
        "is not CSV (unexpected end of data, line 3); repair it",
    ),
    "spaces.md": HostileFile(f"# Berlin{SPACES}#\n\nText.".encode(), ("# Berlin # Text.",)),
    "spaces.html": HostileFile(f"<h1>Berlin</h1><p>is{SPACES}big.".encode(), ("# Berlin\n\nis big.",)),
    "table.md": HostileFile(TABLE.encode(), (TABLE,)),
    "table.html": HostileFile(
        f"<table><tr><th>no.</th><th>city</th></tr>{CELLS}</table>".encode(),
        (TABLE,),
    ),
    "abbreviations.txt": HostileFile(ABBREVIATIONS.encode(), (ABBREVIATIONS,)),
    "picture.md": HostileFile(f"![A map]({PICTURE}) of Berlin.".encode(), ("A map of Berlin.",)),
    "drawing.html": HostileFile(b"<svg><title>Logo</title></svg><h1>Berlin</h1>", ("# Berlin",)),
    "digits.jsonl": HostileFile(
        b'{"id": "digits.jsonl", "text": "One.", "n": ' + b"9" * 4301 + b"}",
        (),
        "holds an integer of 4,301 digits; write it as a string",
    ),
    "twice.jsonl": HostileFile(
        b'{"id": "twice.jsonl", "text": "One."}\n{"id": "twice.jsonl", "text": "Two."}\n',
        ("One.",),
        "its id was used before in this run; give it another id",
    ),
    "dna.txt": HostileFile(
        ("ACGTTGCA" * 20).encode(),
        ("ACGTTGCA" * 20,),
        "100% of its text is unknown to the model; full-text search finds it, its vectors say little",
    ),
    "chinese.txt": HostileFile(
        "这座城市坐落在河边，居民超过三百六十万。".encode(),
        ("这座城市坐落在河边，居民超过三百六十万。",),
        "of its text is unknown to the model; full-text search finds it, its vectors say little",
    ),
    "german-cp1252.txt": sentence("de", "cp1252"),
    "english-cp1252.txt": sentence("en", "cp1252", number=2),
    "french-cp1252.txt": sentence("fr", "cp1252", said=read_as("cp1252")),
    "hungarian-cp1250.txt": sentence("hu", "cp1250"),
    "russian-cp1251.txt": sentence("ru", "cp1251"),
    "russian-koi8-r.txt": sentence("ru", "koi8_r"),
    "russian-cp866.txt": sentence("ru", "cp866"),
    "greek-cp1253.txt": sentence("el", "cp1253"),
    "turkish-cp1254.txt": sentence("tr", "cp1254", number=5, said=read_as("cp1254")),
    "hebrew-cp1255.txt": sentence("he", "cp1255"),
    "arabic-cp1256.txt": sentence("ar", "cp1256"),
    "arabic-iso8859-6.txt": sentence("ar", "iso8859_6", said=read_as("iso8859-6")),
    "thai-cp874.txt": sentence("th", "cp874", said=read_as("cp874")),
    "japanese-cp932.txt": sentence("ja", "cp932"),
    "korean-cp949.txt": sentence("ko", "cp949"),
    "german-mac.txt": HostileFile(
        own_sentences()["de"][0].encode("mac_roman"),
        (),
        "may be cp1252 or mac-roman; give its encoding with --encoding",
    ),
}


T = TypeVar("T")


def apart(items: Iterable[T | DocumentError]) -> tuple[list[T], list[DocumentError]]:
    """What did not fail, and the errors, each in their order."""
    found = list(items)
    errors = [item for item in found if isinstance(item, DocumentError)]
    return [item for item in found if not isinstance(item, DocumentError)], errors


def read(*paths: Path | str, **options: Any) -> tuple[list[Document], list[str]]:
    """The documents and the messages of what could not be read."""
    documents, errors = apart(read_documents(paths, **options))
    return documents, [str(error) for error in errors]


def read_file(tmp_path: Path, name: str, content: bytes, **options: Any) -> tuple[list[Document], list[str]]:
    """The same of one file, which is written first."""
    (tmp_path / name).write_bytes(content)
    return read(tmp_path / name, **options)
