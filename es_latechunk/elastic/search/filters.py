"""Filters as people write them on a command line."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from typing import Any

from es_latechunk.errors import UsageError, setting

FILTER = re.compile(r"\s*([^\s<>=][^<>=]*?)\s*(>=|<=|>|<|=)(.*)", re.DOTALL)
RANGES = {">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}
# Field types whose values have an order that people mean: strings order "100" before "9".
ORDERED = {
    "byte", "short", "integer", "long", "unsigned_long", "half_float", "float", "double", "scaled_float",
    "date", "date_nanos", "ip", "version",
}  # fmt: skip


def parse_filter(text: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The query of one filter, for an index with these fields.

    `field=value` is equality, `field=[a,b]` one of several, `field>=value` (and >, <, <=) a range, both ends
    by two filters. A name that is no field of the index is a key of the metadata. A range needs a field of
    numbers, dates or addresses: over strings, as metadata is stored, it is refused with a UsageError. A text field
    is matched by phrase.
    """
    name, operator, value = split_filter(text)
    field = name if name.split(".")[0] in properties else f"metadata.{name}"
    kind = _field_type(field, properties)
    if operator != "=":
        if kind not in ORDERED:
            raise UsageError(
                f"{setting('filters')} {text!r} is a range, and {field} holds "
                f"{'strings' if kind == 'flattened' else kind}, which "
                f'order "100" before "9"; write {name}=[a,b] with the values that are meant'
            )
        return {"range": {field: {RANGES[operator]: value}}}
    is_text = kind == "text"
    if value.startswith("[") and value.endswith("]"):
        return _one_of(field, _listed(text, value), is_text=is_text)
    return {"match_phrase": {field: value}} if is_text else {"term": {field: value}}


def _field_type(field: str, properties: Mapping[str, Any]) -> str:
    """The type of a field, or of the nearest field above it that has one: a key of flattened metadata is flattened."""
    kind, inside = "", properties
    for name in field.split("."):
        entry = inside.get(name, {})
        kind = entry.get("type", kind)
        inside = entry.get("properties", {})
    return kind


def split_filter(text: str) -> tuple[str, str, str]:
    """Field, operator and value of a filter; a UsageError where it has none."""
    found = FILTER.fullmatch(text)
    if not found:
        raise UsageError(
            f"{setting('filters')} {text!r} has no field and value; write field=value, field=[a,b] or field>=value"
        )
    name, operator, value = found.groups()
    if operator == "=" and (name.endswith("!") or value.startswith("=")):
        raise UsageError(
            f"{setting('filters')} {text!r} has an operator that is not known here "
            f"({'!=' if name.endswith('!') else '=='}); write "
            'field=value for equality, and field=["=a"] for a value that begins with ='
        )
    return name, operator, value.strip()


def _listed(text: str, value: str) -> list[str]:
    """The values of "[a,b]"; one that holds a comma stands in double quotes, as in CSV."""
    try:
        rows = list(csv.reader([value[1:-1]], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UsageError(
            f"{setting('filters')} {text!r} has no list of values ({error}); write field=[a,b]"
        ) from error
    values = [part.strip() for row in rows for part in row]
    if not values:
        raise UsageError(f"{setting('filters')} {text!r} has an empty list; write field=[a,b]")
    return values


def _one_of(field: str, values: list[str], *, is_text: bool) -> dict[str, Any]:
    if not is_text:
        return {"terms": {field: values}}
    return {"bool": {"should": [{"match_phrase": {field: value}} for value in values]}}
