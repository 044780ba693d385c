"""Files that readers stumble over, each with what is in it and what has to become of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from encoding_sentences import own_sentences
from office_files import docx_of, drawn_pdf, pdf, words

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
        "may be cp1252 or mac-roman; say which it is with --encoding",
    ),
}
