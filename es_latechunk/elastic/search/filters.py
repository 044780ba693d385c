"""From a filter as people write it to Elasticsearch's query for an index with given fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from es_latechunk.elastic.index.metadata import NUMBER, OTHER, TYPED, convert, types_of
from es_latechunk.elastic.search.kql import Condition, Expression, Group, Not, OneOf, read_filter
from es_latechunk.errors import UsageError, setting

RANGES = {">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}
# The field types that can be ranges; strings cannot, because they order "100" before "9".
ORDERED = {
    "byte", "short", "integer", "long", "unsigned_long", "half_float", "float", "double", "scaled_float",
    "date", "date_nanos", "ip", "version",
}  # fmt: skip
STRINGS = {"keyword", "flattened"}


def parse_filter(text: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query of one filter, for an index with these fields.

    The filter is `field=value`, `field=[a,b]` or the KQL that `read_filter` reads. A name that is not a field of the
    index is a key of the metadata: of its typed copies if the index has a type for the key, else of the flattened
    field. A range needs a field of numbers, dates or addresses; a range of strings is a UsageError, and so is a value
    that does not fit the type of its field.
    """
    return _Translator(text, properties).query(read_filter(text))


def filter_fields(text: str, properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each name in a filter with the field of the index that it stands for."""
    waiting: list[Expression] = [read_filter(text)]
    while waiting:
        expression = waiting.pop()
        if isinstance(expression, Group):
            waiting.extend(expression.conditions)
        elif isinstance(expression, Not):
            waiting.append(expression.condition)
        else:
            yield expression.field, field_of(expression.field, properties)


def field_of(name: str, properties: Mapping[str, Any]) -> str:
    """Return the field of the index that a name in a filter stands for."""
    if name.split(".")[0] in properties and not name.startswith("metadata."):
        return name
    key = name.removeprefix("metadata.")
    return f"{TYPED}.{key}" if key in types_of(properties) else f"metadata.{key}"


class _Translator:
    def __init__(self, text: str, properties: Mapping[str, Any]) -> None:
        self._text = text
        self._properties = properties

    def query(self, expression: Expression) -> dict[str, Any]:
        if isinstance(expression, Not):
            return {"bool": {"must_not": [self.query(expression.condition)]}}
        if isinstance(expression, Group):
            queries = [self.query(condition) for condition in expression.conditions]
            return {"bool": {"filter": queries} if expression.word == "and" else {"should": queries}}
        field = field_of(expression.field, self._properties)
        kind = _field_type(field, self._properties)
        if isinstance(expression, OneOf):
            return self._one_of(expression, field, kind)
        if expression.operator == "exists":
            return {"exists": {"field": field}}
        if expression.operator == "prefix":
            if kind not in STRINGS:
                raise self._error(
                    f"has a * after a value, and {field} is {kind}; leave it out, or use a range for numbers and dates"
                )
            return {"prefix": {field: {"value": expression.value}}}
        if expression.operator == "=":
            return self._equal(expression, field, kind)
        if kind not in ORDERED:
            raise self._unordered(expression, field, kind)
        self._check(expression.value, field, kind)
        return {"range": {field: {RANGES[expression.operator]: expression.value}}}

    def _equal(self, condition: Condition, field: str, kind: str) -> dict[str, Any]:
        if kind == "text":
            return {"match_phrase" if condition.as_phrase else "match": {field: condition.value}}
        self._check(condition.value, field, kind)
        return {"term": {field: condition.value}}

    def _one_of(self, condition: OneOf, field: str, kind: str) -> dict[str, Any]:
        if kind == "text":
            return {"bool": {"should": [{"match_phrase": {field: value}} for value in condition.values]}}
        for value in condition.values:
            self._check(value, field, kind)
        return {"terms": {field: list(condition.values)}}

    def _check(self, value: str, field: str, kind: str) -> None:
        """Refuse a value that the type of a metadata field cannot be; date math and CIDR blocks pass."""
        passes = (kind == "date" and ("||" in value or value.startswith("now"))) or (
            kind == "ip" and "/" in value
        )
        key = field.removeprefix(f"{TYPED}.")
        if passes or key == field or types_of(self._properties).get(key, OTHER) == OTHER:
            return
        try:
            convert(value, "double" if kind in ("integer", "long", "float") else kind)
        except ValueError as error:
            raise self._error(
                f"compares {field}, which is {kind}, with {error}; write a value of that type"
            ) from error

    def _unordered(self, condition: Condition, field: str, kind: str) -> UsageError:
        problem = (
            f"is a range, and {field} holds {'strings' if kind == 'flattened' else kind}, which "
            f'order "100" before "9"'
        )
        if kind != "flattened":
            return self._error(f"{problem}; list the values instead: {condition.field}=[a,b]")
        key = field.removeprefix("metadata.")
        # Not "long" for 50: the next price may be 9.5.
        kind = "double" if NUMBER.fullmatch(condition.value) else "date"
        return self._error(
            f"{problem}; give it a type in a new index: es-latechunk index create NAME --metadata {key}={kind}"
        )

    def _error(self, cause: str) -> UsageError:
        return UsageError(f"{setting('filters')} {self._text!r} {cause}")


def _field_type(field: str, properties: Mapping[str, Any]) -> str:
    """Return the type of a field, or of its nearest parent with a type: a key of flattened metadata is flattened."""
    kind, inside = "", properties
    for name in field.split("."):
        entry = inside.get(name, {})
        kind = entry.get("type", kind)
        inside = entry.get("properties", {})
    return kind
