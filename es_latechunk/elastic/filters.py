"""Filters as people write them on a command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from es_latechunk.errors import UsageError

FILTER = re.compile(r"\s*([^\s<>=]+)\s*(>=|<=|>|<|=)(.*)", re.DOTALL)
RANGES = {">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}


def parse_filter(text: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The query of one filter, for an index with these fields.

    `field=value` is equality, `field=[a,b]` one of several, `field>=value` (and >, <, <=) a range, both ends
    by two filters. A name that is no field of the index is a key of the metadata, whose values Elasticsearch
    compares as strings: dates as 2024-05-31 range rightly, numbers do not. A text field is matched by phrase.
    """
    found = FILTER.fullmatch(text)
    if not found:
        raise UsageError(
            f"--filter {text!r} has no field and value; write field=value, field=[a,b] or field>=value"
        )
    name, operator, value = found.groups()
    value = value.strip()
    field = name if name.split(".")[0] in properties else f"metadata.{name}"
    if operator != "=":
        return {"range": {field: {RANGES[operator]: value}}}
    if value.startswith("[") and value.endswith("]"):
        return {"terms": {field: [part.strip() for part in value[1:-1].split(",")]}}
    if properties.get(field, {}).get("type") == "text":
        return {"match_phrase": {field: value}}
    return {"term": {field: value}}
