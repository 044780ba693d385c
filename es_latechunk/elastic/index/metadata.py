"""Typed metadata: copies of some values of the metadata in fields of numbers, dates and other types.

`metadata` is one flattened field, which keeps every key and compares all values as strings. A key that is given a type
has a second place, `metadata_typed.KEY`, where its values are compared as that type. The copies are indexed and not
stored (they are left out of `_source`), so the metadata of a hit is what the document brought.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from ipaddress import ip_address
from typing import Any

from es_latechunk.documents import printable
from es_latechunk.errors import DocumentError, UsageError, setting

TYPED = "metadata_typed"
OTHER = "other"  # a type of the user's own template, or a date with a format of its own
KEYWORD_BYTES = 32_766  # Lucene's limit for one term
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
INTEGER = re.compile(r"[+-]?[0-9]+")
# Elasticsearch's strict_date_optional_time; a date without a time has no zone.
DATE = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?:T(?:(?:[01][0-9]|2[0-3])(?::[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]{1,9})?)?)?"
    r"(?:Z|[+-](?:0[0-9]|1[0-7]):?[0-5][0-9]|[+-](?:0[0-9]|1[0-8]))?)?)?)?)?"
)
# Elasticsearch's epoch_millis; four digits alone are a year.
EPOCH_MILLIS = re.compile(r"-?[0-9]{1,15}")


def mapping_of(types: Mapping[str, str]) -> dict[str, Any]:
    """Return the mapping of the typed copies; a UsageError for a type or a name that cannot be.

    A name may be dotted: "author.born" is the key "born" of the object "author".
    """
    mapping: dict[str, Any] = {"dynamic": "strict", "properties": {}}
    for name, kind in types.items():
        if kind not in CONVERTERS:
            raise UsageError(
                f"{setting('metadata')} {name}={kind}: this type is not known; choose one of {', '.join(CONVERTERS)}"
            )
        *parents, last = name.split(".")
        if not all(part.strip() for part in (*parents, last)):
            raise UsageError(
                f"{setting('metadata')} {name}={kind}: the name has an empty part; write NAME=TYPE"
            )
        inside = mapping["properties"]
        for parent in parents:
            inside = inside.setdefault(parent, {"properties": {}}).get("properties")
            if inside is None:
                break
        if inside is None or last in inside:
            raise UsageError(
                f"{setting('metadata')} {name}={kind}: this name, or a part of it, has a type already; give one type "
                "per name"
            )
        inside[last] = {"type": kind}
    return mapping


def types_of(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return the types of the typed keys that a mapping records; OTHER is a type that only the server can check."""
    return dict(_types(properties.get(TYPED, {}).get("properties", {}), ""))


def _types(properties: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for name, entry in properties.items():
        if "properties" in entry:
            yield from _types(entry["properties"], f"{before}{name}.")
        else:
            known = entry.get("type") in CONVERTERS and "format" not in entry
            yield f"{before}{name}", entry["type"] if known else OTHER


def typed_copies(doc_id: str, metadata: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """Return the typed values of a document's metadata, as the field `metadata_typed` holds them.

    A key that is missing, null, or (except for a keyword) an empty string has no value. A value that does not fit its
    type is a DocumentError.
    """
    copies: dict[str, Any] = {}
    for name, kind in types.items():
        found = list(_values(metadata, name))
        values = [value for value in found if value is not None and (kind == "keyword" or value != "")]
        try:
            converted = [convert(value, kind) for value in values]
        except ValueError as error:
            raise DocumentError(
                printable(doc_id),
                f"its metadata {name} is {error}, and the index holds it as {kind}; correct the value, or create "
                f"another index without a type for {name}",
            ) from error
        if converted:
            *parents, last = name.split(".")
            inside = copies
            for parent in parents:
                inside = inside.setdefault(parent, {})
            inside[last] = converted
    return copies


def _values(found: Any, name: str) -> Iterator[Any]:
    """Yield the values at a dotted name, through lists: a key may be dotted itself, or be a path of keys."""
    if isinstance(found, list):
        for each in found:
            yield from _values(each, name)
    elif not name:
        yield found
    elif isinstance(found, Mapping):
        parts = name.split(".")
        for size in range(1, len(parts) + 1):
            key = ".".join(parts[:size])
            if key in found:
                yield from _values(found[key], ".".join(parts[size:]))


def convert(value: Any, kind: str) -> Any:
    """Return a value as its type; a ValueError, whose text shows the value, if it does not fit."""
    if isinstance(value, Mapping):
        raise ValueError("an object")
    converted = CONVERTERS[kind](value) if kind in CONVERTERS else value
    if converted is None:
        raise ValueError(printable(repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."))
    return converted


def _keyword(value: Any) -> str | None:
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text.encode()) <= KEYWORD_BYTES else None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else None


def _integer(bits: int) -> Callable[[Any], int | None]:
    def convert_integer(value: Any) -> int | None:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str) and INTEGER.fullmatch(value.strip()) and len(value) <= 40:
            value = int(value)
        fits = type(value) is int and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)
        return value if fits else None

    return convert_integer


def _real(largest: float) -> Callable[[Any], float | None]:
    def convert_real(value: Any) -> float | None:
        if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return value if -largest <= value <= largest else None  # false for NaN

    return convert_real


def _date(value: Any) -> str | int | None:
    """Return a date in one of the formats of Elasticsearch's own default: strict_date_optional_time, epoch_millis."""
    text = str(value) if type(value) in (str, int) else ""
    if EPOCH_MILLIS.fullmatch(text) and not DATE.fullmatch(text):
        return int(text)
    found = DATE.fullmatch(text)
    if not found:
        return None
    year, month, day = (int(found[part] or 1) for part in ("year", "month", "day"))
    try:
        date(year or 4, month, day)  # Java has a year 0, a leap year; Python has none
    except ValueError:
        return None
    return text


def _ip(value: Any) -> str | None:
    try:
        return str(ip_address(value)) if isinstance(value, str) and "%" not in value else None
    except ValueError:
        return None


CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "keyword": _keyword,
    "boolean": _boolean,
    "integer": _integer(32),
    "long": _integer(64),
    "float": _real(3.4028234e38),
    "double": _real(sys.float_info.max),
    "date": _date,
    "ip": _ip,
}
