"""Read what was filled in on the pages of a PDF: values of form fields (AcroForm), and text typed over a page.

Neither is part of a page's own content, so a library that reads only pages misses it. The names in quotation
marks are those of the PDF specification (ISO 32000-1, 12.5.6.6 and 12.7).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdfminer.pdfdocument import PDFDocument

Field = dict[str, Any]

DEEPEST = 100  # parents of a field that are followed; more can only be a loop
UTF8_MARK = b"\xef\xbb\xbf"
PASSWORD, RADIO, PUSH_BUTTON = 1 << 13, 1 << 15, 1 << 16  # bits of a field's flags, "Ff"
OFF = "Off"


def filled_in(document: PDFDocument, annotations: Sequence[object]) -> list[list[str]]:
    """Return what was filled in on each page, in the order of the page; `annotations` has one list per page.

    A text is given as it was entered, a choice by the words that it shows, and a checked box as "[x]" with its
    description, or with its name if it has none. Passwords are left out. A field that is on no page is added to the
    last page.
    """
    pages: list[list[str]] = [[] for _ in annotations]
    seen: set[int] = set()
    for page, listed in zip(pages, annotations, strict=True):
        for annotation, number in _resolved(listed):
            seen.add(number)
            page.extend(_entered(annotation))
    if pages:
        for field, number in _leaves(document):
            if number not in seen:
                pages[-1].extend(_field(field))
    return pages


def _entered(annotation: Field) -> Iterator[str]:
    kind = _name(annotation.get("Subtype"))
    if kind == "Widget":
        yield from _field(annotation)
    elif kind == "FreeText":
        yield from _strings(annotation.get("Contents"))


def _leaves(document: PDFDocument) -> Iterator[tuple[Field, int]]:
    """Yield the fields of the form that have no fields below them."""
    from pdfminer.pdftypes import resolve1

    form = resolve1(document.catalog.get("AcroForm"))
    waiting = list(_resolved(form.get("Fields")))[::-1] if isinstance(form, dict) else []
    seen: set[int] = set()
    while waiting:
        field, number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        below = list(_resolved(field.get("Kids")))
        waiting.extend(below[::-1])
        if not below:
            yield field, number


def _resolved(listed: object) -> Iterator[tuple[Field, int]]:
    """Yield the dictionaries of a list, each with its object number, or with a unique negative one if it has none."""
    from pdfminer.pdftypes import PDFObjRef, resolve1

    entries = resolve1(listed)
    for entry in entries if isinstance(entries, list) else ():
        value = resolve1(entry)
        if isinstance(value, dict):
            yield value, entry.objid if isinstance(entry, PDFObjRef) else -id(value)


def _field(field: Field) -> Iterator[str]:
    kind, flags = _name(_inherited(field, "FT")), _inherited(field, "Ff")
    flags = flags if isinstance(flags, int) else 0
    if kind == "Tx" and not flags & PASSWORD:
        yield from _strings(_inherited(field, "V"))
    elif kind == "Ch":
        words = _options(field)
        yield from (words.get(value, value) for value in _strings(_inherited(field, "V")))
    elif kind == "Btn" and not flags & PUSH_BUTTON:
        yield from _checked(field, with_state=bool(flags & RADIO))


def _checked(field: Field, *, with_state: bool) -> Iterator[str]:
    """Yield a box or radio button that is on: "AS" is the state of its widget, "V" that of the field."""
    state = _name(field.get("AS")) or _name(_inherited(field, "V"))
    if state in ("", OFF):
        return
    label = next(_strings(_inherited(field, "TU")), "") or next(_strings(_inherited(field, "T")), "")
    if with_state:
        # The states of newer forms are positions in the list of options.
        words = list(_strings(_inherited(field, "Opt")))
        chosen = words[int(state)] if state.isdecimal() and int(state) < len(words) else state
        label = f"{label}: {chosen}" if label else chosen
    yield f"[x] {label}".rstrip()


def _options(field: Field) -> dict[str, str]:
    """Return the words that are shown for each value of a choice, if they differ from the value."""
    from pdfminer.pdftypes import resolve1

    options = _inherited(field, "Opt")
    pairs = [resolve1(option) for option in options] if isinstance(options, list) else []
    texts = [list(_strings(pair)) for pair in pairs if isinstance(pair, list)]
    return {pair[0]: pair[1] for pair in texts if len(pair) == 2}


def _inherited(field: Field, key: str) -> Any:
    """Return an attribute of a field, or of the nearest parent that has it; None if none has."""
    from pdfminer.pdftypes import resolve1

    for _ in range(DEEPEST):
        if key in field:
            return resolve1(field[key])
        field = resolve1(field.get("Parent"))
        if not isinstance(field, dict):
            break
    return None


def _strings(value: object) -> Iterator[str]:
    """The texts of a value: a string, a stream, or a list of strings; blank ones are left out."""
    from pdfminer.pdftypes import PDFStream, resolve1
    from pdfminer.utils import decode_text

    value = resolve1(value)
    for part in value if isinstance(value, list) else [value]:
        content = resolve1(part)
        content = content.get_data() if isinstance(content, PDFStream) else content
        if not isinstance(content, bytes):
            continue
        marked = content.startswith(UTF8_MARK)
        text = content[len(UTF8_MARK) :].decode("utf-8", "replace") if marked else decode_text(content)
        if text.strip():
            yield text


def _name(value: object) -> str:
    from pdfminer.pdftypes import resolve1
    from pdfminer.psparser import PSLiteral

    value = resolve1(value)
    if not isinstance(value, PSLiteral):
        return ""
    return value.name if isinstance(value.name, str) else value.name.decode("latin-1")
