"""A folder of good documents, and of every kind of file that gives none."""

from __future__ import annotations

import gzip
import json
import os
import socket
from pathlib import Path

from office_files import docx, pdf, zipped

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
    "columns.csv": (b"id,body\n1,a\n", 'has no column "text" but id, body'),
    "empty.csv": (b"", 'has no column "text" but none'),
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
