"""What was filled in on a PDF's pages: values of form fields (AcroForm), and text typed over a page.

Neither is part of a page's own content, so that a reader of pages alone does not see it. The names in quotation
marks are those of the PDF specification (ISO 32000-1, 12.5.6.6 and 12.7).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdfminer.pdfdocument import PDFDocument

Field = dict[str, Any]

DEEPEST = 100  # parents of a field that are looked at; more are a loop
UTF8_MARK = b"\xef\xbb\xbf"
PASSWORD, RADIO, PUSH_BUTTON = 1 << 13, 1 << 15, 1 << 16  # bits of a field's flags, "Ff"
OFF = "Off"


def filled_in(document: PDFDocument, annotations: Sequence[object]) -> list[list[str]]:
    """What was filled in on each page, in the order in which the page lists it; `annotations` is a page's each.

    A text or a choice is given as it was entered, and a choice by the words that it shows; a box that is checked
    as "[x]" and its description, or its name where it has none. A password is left out. A field that stands
    on no page belongs to the last one.
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
    """The form's fields that have no others below them."""
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
    """The dictionaries of a list, each with its object's number, or with one of its own where it has none."""
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
    """A box or radio button that is on: "AS" is the state that its widget shows, "V" the field's."""
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
    """What a choice stands for in the file -> the words that are shown for it, where they differ."""
    from pdfminer.pdftypes import resolve1

    options = _inherited(field, "Opt")
    pairs = [resolve1(option) for option in options] if isinstance(options, list) else []
    texts = [list(_strings(pair)) for pair in pairs if isinstance(pair, list)]
    return {pair[0]: pair[1] for pair in texts if len(pair) == 2}


def _inherited(field: Field, key: str) -> Any:
    """An attribute of a field or of the nearest parent that has it; None where none has."""
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
