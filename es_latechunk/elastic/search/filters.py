"""Filters in the form that people write on a command line, such as `lang=en`."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from typing import Any

from es_latechunk.errors import UsageError, setting

FILTER = re.compile(r"\s*([^\s<>=][^<>=]*?)\s*(>=|<=|>|<|=)(.*)", re.DOTALL)
RANGES = {">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}
# The field types that can be ranges; strings cannot, because they order "100" before "9".
ORDERED = {
    "byte", "short", "integer", "long", "unsigned_long", "half_float", "float", "double", "scaled_float",
    "date", "date_nanos", "ip", "version",
}  # fmt: skip


def parse_filter(text: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query of one filter, for an index with these fields.

    `field=value` is equality, `field=[a,b]` one of several values, and `field>=value` (or >, <, <=) a range with one
    end; two filters make a range with both ends. A name that is not a field of the index is a key of the metadata. A
    range needs a field of numbers, dates or addresses; a range of strings, such as metadata, is a UsageError. A text
    field is matched by phrase.
    """
    name, operator, value = split_filter(text)
    field = name if name.split(".")[0] in properties else f"metadata.{name}"
    kind = _field_type(field, properties)
    if operator != "=":
        if kind not in ORDERED:
            raise UsageError(
                f"{setting('filters')} {text!r} is a range, and {field} holds "
                f"{'strings' if kind == 'flattened' else kind}, which "
                f'order "100" before "9"; list the values instead: {name}=[a,b]'
            )
        return {"range": {field: {RANGES[operator]: value}}}
    is_text = kind == "text"
    if value.startswith("[") and value.endswith("]"):
        return _one_of(field, _listed(text, value), is_text=is_text)
    return {"match_phrase": {field: value}} if is_text else {"term": {field: value}}


def _field_type(field: str, properties: Mapping[str, Any]) -> str:
    """Return the type of a field, or of its nearest parent with a type: a key of flattened metadata is flattened."""
    kind, inside = "", properties
    for name in field.split("."):
        entry = inside.get(name, {})
        kind = entry.get("type", kind)
        inside = entry.get("properties", {})
    return kind


def split_filter(text: str) -> tuple[str, str, str]:
    """Return the field, the operator and the value of a filter; a UsageError if it is not one."""
    found = FILTER.fullmatch(text)
    if not found:
        raise UsageError(
            f"{setting('filters')} {text!r} has no field and value; write field=value, field=[a,b] or field>=value"
        )
    name, operator, value = found.groups()
    if operator == "=" and (name.endswith("!") or value.startswith("=")):
        raise UsageError(
            f"{setting('filters')} {text!r} has an operator that is not known "
            f"({'!=' if name.endswith('!') else '=='}); write "
            'field=value for equality, and field=["=a"] for a value that begins with ='
        )
    return name, operator, value.strip()


def _listed(text: str, value: str) -> list[str]:
    """Return the values of "[a,b]"; a value with a comma is in double quotes, as in CSV."""
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
