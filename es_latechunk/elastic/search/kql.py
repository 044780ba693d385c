"""Reads a filter into a tree of conditions: `field=value`, or the subset of Kibana's KQL that docs/search.md lists.

    lang: en and (price >= 50 or not tags: sold)        tags: (old or rare)        published: *        doc_id: notes*

`not` binds more tightly than `and`, and `and` more tightly than `or`, as in Kibana. A filter whose first operator is
`=` is no KQL: everything behind the `=` is the value, whatever it contains.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import Literal

from es_latechunk.errors import UsageError, setting

Operator = Literal["=", ">=", "<=", ">", "<", "exists", "prefix"]
EQUALITY = re.compile(r"\s*([^\s<>=][^<>=]*?)\s*=(.*)", re.DOTALL)
# What stands before the `=` is no name, but KQL in which the `=` is a part of a value.
KQL_BEFORE = re.compile(r'\(|.*(?:"|:[\s(])', re.DOTALL)
FORMS = "write field=value, field: value or field >= value"
SPACE = re.compile(r"\s*")
WORD = re.compile(r"(and|or|not)(?=[\s()]|$)", re.IGNORECASE)
RANGE = re.compile(r">=|<=|>|<")
# An unquoted literal ends before one of these, or before a space and one of the three words.
FIELD_END = re.compile(r'[():<>"{}]|\s+(?:and|or|not)(?=[\s()]|$)', re.IGNORECASE)
VALUE_END = re.compile(r'[()<>"{}]|:(?=\s|$)|\s+(?:and|or|not)(?=[\s()]|$)', re.IGNORECASE)
# A line in quotation marks that are none here: they would be a part of the value, and nothing would be found.
QUOTED = re.compile(r"""(['"“”„‘’«»])(.*)['"“”„‘’«»]""")
QUOTATION_MARK = re.compile(r"""["“”„«»]""")
DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Condition:
    """A field is compared with a value. `as_phrase` is False for an unquoted value of KQL."""

    field: str
    operator: Operator
    value: str = ""
    as_phrase: bool = True


@dataclass(frozen=True, slots=True)
class OneOf:
    """A field has one of several values."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold; this is so for a document without the field too."""

    condition: Expression


@dataclass(frozen=True, slots=True)
class Group:
    """All of the conditions hold ("and"), or at least one of them ("or")."""

    word: Literal["and", "or"]
    conditions: tuple[Expression, ...]


Expression = Condition | OneOf | Not | Group


def read_filter(text: str) -> Expression:
    """Return what a filter says; a UsageError shows the filter and says what is wrong with it."""
    found = EQUALITY.fullmatch(text)
    if found and not KQL_BEFORE.match(found[1]):
        return _equality(text, found[1], found[2])
    return _Parser(text).read()


def _equality(text: str, name: str, value: str) -> Expression:
    if name.endswith("!") or value.startswith("="):
        raise UsageError(
            f"{setting('filters')} {text!r} has an operator that is not known "
            f"({'!=' if name.endswith('!') else '=='}); write "
            'field=value for equality, "not field: value" for its opposite, and field=["=a"] for a value that begins '
            "with ="
        )
    value = value.strip()
    if value.startswith("[") and value.endswith("]"):
        return OneOf(name, tuple(_listed(text, value)))
    if quoted := QUOTED.fullmatch(value):
        raise UsageError(
            f"{setting('filters')} {text!r} has quotation marks, and behind = they would be a part of the value; write "
            + (
                'KQL, such as field: "value" or other: "value"'
                if QUOTATION_MARK.search(quoted[2])
                else f'{name}={quoted[2]}, or in KQL {name}: "{quoted[2]}"'
            )
        )
    return Condition(name, "=", value)


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


class _Parser:
    """Reads KQL by recursive descent: or, and, not, then one condition or a group in parentheses."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._depth = 0

    def read(self) -> Expression:
        self._skip_space()
        if self._at_end():
            raise self._error("has no field and value")
        expression = self._either(None)
        if not self._at_end():
            raise self._error(f"cannot be read from {self._text[self._position :]!r} on")
        return expression

    def _either(self, field: str | None) -> Expression:
        """Read conditions that are joined by "or"; with `field`, only its values."""
        conditions = [self._all(field)]
        while self._take_word("or"):
            conditions.append(self._all(field))
        return conditions[0] if len(conditions) == 1 else Group("or", tuple(conditions))

    def _all(self, field: str | None) -> Expression:
        conditions = [self._one(field)]
        while self._take_word("and"):
            conditions.append(self._one(field))
        return conditions[0] if len(conditions) == 1 else Group("and", tuple(conditions))

    def _one(self, field: str | None) -> Expression:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error(f"has more than {DEEPEST} conditions inside of each other")
        if self._take_word("not"):
            expression: Expression = Not(self._one(field))
        elif self._take("("):
            expression = self._either(field)
            if not self._take(")"):
                raise self._error("has an opening parenthesis without a closing one")
        elif field is not None:
            expression = self._value(field)
        else:
            expression = self._condition()
        self._depth -= 1
        return expression

    def _condition(self) -> Expression:
        name, _ = self._literal(FIELD_END)
        if operator := self._take_range():
            value, quoted = self._literal(VALUE_END)
            if not name or not value:
                raise self._error("has no field and value")
            return Condition(name, operator, value if quoted else _unescape(value))
        if not name or not self._take(":"):
            part = f" at {name!r}" if name and name != self._text.strip() else ""
            raise self._error(f"has no field and value{part}")
        if self._take("{"):
            raise self._error("has a nested query ({}), and no field of an index is nested")
        if self._take("("):
            expression = self._either(name)
            if not self._take(")"):
                raise self._error("has an opening parenthesis without a closing one")
            return expression
        return self._value(name)

    def _value(self, field: str) -> Condition:
        value, quoted = self._literal(VALUE_END)
        if quoted:
            return Condition(field, "=", value)
        if not value:
            raise self._error(f"has no value for {field!r}")
        if QUOTED.fullmatch(value):
            raise self._error(f'has {value[0]} around a value, and only " quotes')
        stars = [found.start() for found in re.finditer(r"(?<!\\)\*", value)]
        if value == "*":
            return Condition(field, "exists")
        if stars == [len(value) - 1]:
            return Condition(field, "prefix", _unescape(value[:-1]))
        if stars:
            raise self._error(
                "has a * that is not at the end of a value; write field: begin*, or quote the value"
            )
        return Condition(field, "=", _unescape(value), as_phrase=False)

    def _literal(self, end: re.Pattern[str]) -> tuple[str, bool]:
        """Read a quoted text, unescaped, or an unquoted one, still escaped where it is a value; tell whether quoted."""
        self._skip_space()
        start = self._position
        if quoted := re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(self._text, start):
            self._position = quoted.end()
            self._skip_space()
            return _unescape(quoted[1]), True
        if WORD.match(self._text, start):
            return "", False
        found = next(
            (each for each in end.finditer(self._text, start) if not _is_escaped(self._text, each.start())),
            None,
        )
        self._position = found.start() if found else len(self._text)
        text = self._text[start : self._position].strip()
        self._skip_space()
        return (_unescape(text) if end is FIELD_END else text), False

    def _take(self, mark: str) -> bool:
        if not self._text.startswith(mark, self._position):
            return False
        self._position += len(mark)
        self._skip_space()
        return True

    def _take_word(self, word: str) -> bool:
        found = WORD.match(self._text, self._position)
        if not found or found[1].lower() != word:
            return False
        self._position = found.end()
        self._skip_space()
        return True

    def _take_range(self) -> Operator | None:
        found = RANGE.match(self._text, self._position)
        if not found:
            return None
        self._position = found.end()
        self._skip_space()
        operators: dict[str, Operator] = {">=": ">=", "<=": "<=", ">": ">", "<": "<"}
        return operators[found[0]]

    def _skip_space(self) -> None:
        found = SPACE.match(self._text, self._position)
        assert found  # noqa: S101 - it matches the empty string
        self._position = found.end()

    def _at_end(self) -> bool:
        return self._position == len(self._text)

    def _error(self, cause: str) -> UsageError:
        return UsageError(f"{setting('filters')} {self._text!r} {cause}; {FORMS}")


def _is_escaped(text: str, position: int) -> bool:
    before = text[:position]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _unescape(text: str) -> str:
    """Return a text without the backslashes that protect the character after them."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
