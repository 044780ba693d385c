"""Filters as people write them on a command line."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from typing import Any

from es_latechunk.errors import UsageError

FILTER = re.compile(r"\s*([^\s<>=][^<>=]*?)\s*(>=|<=|>|<|=)(.*)", re.DOTALL)
RANGES = {">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}
FIRST, LAST = "", "\U0010ffff"  # no string is before or after them


def parse_filter(text: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The query of one filter, for an index with these fields.

    `field=value` is equality, `field=[a,b]` one of several, `field>=value` (and >, <, <=) a range, both ends
    by two filters. A name that is no field of the index is a key of the metadata, whose values Elasticsearch
    compares as strings: dates as 2024-05-31 range rightly, numbers do not. A text field is matched by phrase.
    """
    name, operator, value = split_filter(text)
    field = name if name.split(".")[0] in properties else f"metadata.{name}"
    if operator != "=":
        return {"range": {field: {RANGES[operator]: value, **_other_end(field, operator)}}}
    is_text = properties.get(field, {}).get("type") == "text"
    if value.startswith("[") and value.endswith("]"):
        return _one_of(field, _listed(text, value), is_text=is_text)
    return {"match_phrase": {field: value}} if is_text else {"term": {field: value}}


def _other_end(field: str, operator: str) -> dict[str, str]:
    """Older servers (9.2) refuse a range over metadata that is open at one end."""
    if not field.startswith("metadata."):
        return {}
    return {"lte": LAST} if operator in (">", ">=") else {"gte": FIRST}


def split_filter(text: str) -> tuple[str, str, str]:
    """Field, operator and value of a filter; a UsageError where it has none."""
    found = FILTER.fullmatch(text)
    if not found:
        raise UsageError(
            f"--filter {text!r} has no field and value; write field=value, field=[a,b] or field>=value"
        )
    name, operator, value = found.groups()
    return name, operator, value.strip()


def _listed(text: str, value: str) -> list[str]:
    """The values of "[a,b]"; one that holds a comma stands in double quotes, as in CSV."""
    try:
        rows = list(csv.reader([value[1:-1]], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UsageError(f"--filter {text!r} has no list of values ({error}); write field=[a,b]") from error
    values = [part.strip() for row in rows for part in row]
    if not values:
        raise UsageError(f"--filter {text!r} has an empty list; write field=[a,b]")
    return values


def _one_of(field: str, values: list[str], *, is_text: bool) -> dict[str, Any]:
    if not is_text:
        return {"terms": {field: values}}
    return {"bool": {"should": [{"match_phrase": {field: value}} for value in values]}}
