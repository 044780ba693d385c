"""Filters as written, and the queries that they are; tests/test_search.py sends them to a server."""

from __future__ import annotations

import contextlib
import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_latechunk.elastic.index.template import load_template
from es_latechunk.elastic.search.filters import parse_filter
from es_latechunk.elastic.search.query import SearchOptions
from es_latechunk.errors import UsageError

PROPERTIES = load_template()["mappings"]["properties"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("doc_id=a/b:c 1.txt", {"term": {"doc_id": "a/b:c 1.txt"}}),
        (" doc_id = berlin ", {"term": {"doc_id": "berlin"}}),
        ("doc_id=[a, b]", {"terms": {"doc_id": ["a", "b"]}}),
        ('doc_id=["a, b", "[c]", d"]', {"terms": {"doc_id": ["a, b", "[c]", 'd"']}}),
        ("doc_id=[]", None),
        ('doc_id=["a]', None),
        ("doc_id=[a\nb]", None),
        ("lang=en", {"term": {"metadata.lang": "en"}}),
        ("metadata.lang=en", {"term": {"metadata.lang": "en"}}),
        ("published on=2024-05-31", {"term": {"metadata.published on": "2024-05-31"}}),
        ("url=http://x/?a=b&c>d", {"term": {"metadata.url": "http://x/?a=b&c>d"}}),
        ("note=", {"term": {"metadata.note": ""}}),
        ("note=two\nlines", {"term": {"metadata.note": "two\nlines"}}),
        ("título=\u201eé\u201c\U0001f600", {"term": {"metadata.título": "\u201eé\u201c\U0001f600"}}),
        ("ordinal>=2", {"range": {"ordinal": {"gte": "2"}}}),
        ("ordinal <= 2", {"range": {"ordinal": {"lte": "2"}}}),
        ("ordinal>2", {"range": {"ordinal": {"gt": "2"}}}),
        ("title=old city", {"match_phrase": {"title": "old city"}}),
        (
            "title=[old city, Berlin]",
            {
                "bool": {
                    "should": [{"match_phrase": {"title": "old city"}}, {"match_phrase": {"title": "Berlin"}}]
                }
            },
        ),
        ("nonsense", None),
        ("=x", None),
        (" = ", None),
        (">=3", None),
        ("", None),
    ],
)
def test_a_filter_is_a_query_or_refused(text: str, query: dict[str, Any] | None) -> None:
    if query is not None:
        assert parse_filter(text, PROPERTIES) == query
        return
    with pytest.raises(UsageError, match=r"; write field=") as refusal:
        parse_filter(text, PROPERTIES)
    assert str(refusal.value).startswith(f"filters {text!r} has ")


def has(field: str, value: str) -> dict[str, Any]:
    return {"term": {f"metadata.{field}": value}}


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("lang: en", has("lang", "en")),
        ("lang:en", has("lang", "en")),
        ('"dc:title": "a \\"b\\" \\\\"', has("dc:title", 'a "b" \\')),
        ("url: http://x/?a=b", has("url", "http://x/?a=b")),
        (r"star: a\*", has("star", "a*")),
        ('star: "a*"', has("star", "a*")),
        ("name: old city", has("name", "old city")),
        ("lang: en*", {"prefix": {"metadata.lang": {"value": "en"}}}),
        ("lang: *", {"exists": {"field": "metadata.lang"}}),
        ("ordinal: *", {"exists": {"field": "ordinal"}}),
        ("title: old city", {"match": {"title": "old city"}}),
        ('title: "old city"', {"match_phrase": {"title": "old city"}}),
        ("ordinal >= 2", {"range": {"ordinal": {"gte": "2"}}}),
        ("not lang: en", {"bool": {"must_not": [has("lang", "en")]}}),
        ("NOT (lang: en)", {"bool": {"must_not": [has("lang", "en")]}}),
        (
            "a: 1 or b: 2 and not c: 3 AND d: 4",
            {
                "bool": {
                    "should": [
                        has("a", "1"),
                        {
                            "bool": {
                                "filter": [
                                    has("b", "2"),
                                    {"bool": {"must_not": [has("c", "3")]}},
                                    has("d", "4"),
                                ]
                            }
                        },
                    ]
                }
            },
        ),
        ("(a: 1 or b: 2)", {"bool": {"should": [has("a", "1"), has("b", "2")]}}),
        ("a: (1 or 2)", {"bool": {"should": [has("a", "1"), has("a", "2")]}}),
        ("a:(1 and not 2)", {"bool": {"filter": [has("a", "1"), {"bool": {"must_not": [has("a", "2")]}}]}}),
        (
            "orange: android or notes: nor",
            {"bool": {"should": [has("orange", "android"), has("notes", "nor")]}},
        ),
        ('x: "a=b" or y: c=d', {"bool": {"should": [has("x", "a=b"), has("y", "c=d")]}}),
        # Today's form keeps its meaning, whatever words and marks follow.
        ("x=a or y: b", has("x", "a or y: b")),
        ("dc:title=x", has("dc:title", "x")),
        ("size (cm)=5", has("size (cm)", "5")),
        ("not x=5", has("not x", "5")),
    ],
)
def test_the_subset_of_kql(text: str, query: dict[str, Any]) -> None:
    assert parse_filter(text, PROPERTIES) == query


@pytest.mark.parametrize(
    "text",
    [
        "lang: en and", "lang: en or", "not", "or", "lang:", "lang: en fr: de", "(lang: en", "lang: en)",
        "lang: (en or de", "lang: ()", "a: en and and b: de", "lang: *en", "lang: e*n", 'lang: "en', "en or de",
        "x: { y: 1 }", ": en", ">= 5", "x: 5 > 3", "lang: or", "()", "lang: en or lang=de",
        f"{'(' * 5000}a: 1{')' * 5000}", f"{'not ' * 5000}a: 1",
    ],
)  # fmt: skip
def test_what_is_no_kql_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="; write field"):
        parse_filter(text, PROPERTIES)


@given(st.text(alphabet='ab ():<>=*"\\{}andorti,[]', max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    """No other exception, and no endless loop."""
    with contextlib.suppress(UsageError):
        parse_filter(text, PROPERTIES)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("page>=10", "metadata.page holds strings"),
        ("metadata.price<9.5", "metadata.price holds strings"),
        ("date>=2024-05-31", "metadata.date holds strings"),
        ("doc_id>a", "doc_id holds keyword"),
        ("title<=b", "title holds text"),
    ],
)
def test_a_range_over_strings_is_refused(text: str, cause: str) -> None:
    """Elasticsearch would compare them as strings, and find page 2 for page>=10."""
    with pytest.raises(UsageError, match=re.escape(cause)) as refusal:
        parse_filter(text, PROPERTIES)
    assert str(refusal.value).startswith(f"filters {text!r} is a range")


@pytest.mark.parametrize("kind", ["date", "double", "long", "ip"])
def test_a_range_over_a_typed_field_of_the_user_s_own_is_sent(kind: str) -> None:
    properties = {**PROPERTIES, "meta": {"properties": {"value": {"type": kind}}}}
    assert parse_filter("meta.value>=10", properties) == {"range": {"meta.value": {"gte": "10"}}}


@pytest.mark.parametrize("text", ["year!=5", "year != 5", "year==5", "year == 5", "ordinal!=1"])
def test_an_operator_of_other_languages_is_not_read_as_a_part_of_the_name_or_the_value(text: str) -> None:
    with pytest.raises(UsageError, match="an operator that is not known"):
        parse_filter(text, PROPERTIES)


def test_a_value_that_begins_with_an_equals_sign_can_be_said() -> None:
    assert parse_filter('note=["=5"]', PROPERTIES) == {"terms": {"metadata.note": ["=5"]}}


name = (
    st.text(string.ascii_letters + "_-.äß ", min_size=1)
    .map(str.strip)
    .filter(lambda key: key and key.split(".")[0] not in PROPERTIES)
)


@given(
    name=name,
    value=st.text().map(str.strip).filter(lambda value: not re.match(r"""[\[='"“”„‘’«»]""", value)),
)
def test_any_value_arrives_as_it_is(name: str, value: str) -> None:
    assert parse_filter(f"{name}={value}", PROPERTIES) == {"term": {f"metadata.{name}": value}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lang='en'", 'write lang=en, or in KQL lang: "en"'),
        ('lang = "en"', 'write lang=en, or in KQL lang: "en"'),
        ("name='d'Artagnan'", "write name=d'Artagnan, or"),
        ('lang="en" or lang="de"', 'write KQL, such as field: "value" or other: "value"'),
        ("lang: 'en'", "has ' around a value, and only \" quotes"),
        ("title: “Brass lamp” and price >= 50", 'has “ around a value, and only " quotes'),
        ("lang: (de or ‘en’)", 'has ‘ around a value, and only " quotes'),
    ],
)
def test_quotation_marks_that_would_be_a_part_of_the_value_are_refused(text: str, told: str) -> None:
    """As in SQL, or as a word processor writes them: nothing would be found, without a word."""
    with pytest.raises(UsageError, match=re.escape(told)):
        parse_filter(text, PROPERTIES)


@pytest.mark.parametrize("text", ["name: \"'en'\"", r"name: \'en'", "name=[\"'en'\"]", "name=say 'en'"])
def test_a_value_can_have_quotation_marks_of_its_own(text: str) -> None:
    assert "'en'" in str(parse_filter(text, PROPERTIES))


def test_marks_at_the_ends_of_two_lines_do_not_belong_together() -> None:
    value = '"One," he said.\n"Two."'
    assert parse_filter(f"note={value}", PROPERTIES) == has("note", value)


def test_a_filter_that_cannot_work_is_refused_before_a_server_or_a_model_is_asked() -> None:
    with pytest.raises(UsageError, match="'x' has no field and value"):
        SearchOptions(filters=("lang=en", "x")).check()
