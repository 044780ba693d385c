"""Metadata with types, and the language of filters, next to a filter by hand over random metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from faults import FaultProxy
from hypothesis import given, settings
from hypothesis import strategies as st
from indices import WordEncoder, load, make_index

from es_latechunk import Document, Index, connect, create_index, search
from es_latechunk.elastic.index.metadata import convert, mapping_of, typed_copies
from es_latechunk.elastic.index.template import load_template
from es_latechunk.elastic.search.filters import parse_filter
from es_latechunk.errors import DocumentError, IndexMismatchError, UsageError

INDEX = "typed"
TYPES = {"price": "double", "published": "date", "tags": "keyword", "pages": "long", "author.born": "date"}
PROPERTIES = {**load_template()["mappings"]["properties"], "metadata_typed": mapping_of(TYPES)}
DAYS = ["2023-12-31", "2024-01-01", "2024-05-31", "2025-02-28"]
TIMES = ["2024-01-01T00:00:00Z", "2024-05-31T12:30:00+02:00", "2024-05-31T23:59:59.999Z"]
TAGS = ["old", "rare", "a b", "not", 'say "no"', "x*", "C:\\d", "(or)"]
PRICES = [-1, 0, 9.5, 50, 99.99, 100, 1e3]
LANGUAGES = ["en", "de", "de-AT"]

metadata = st.fixed_dictionaries(
    {},
    optional={
        "price": st.sampled_from([*PRICES, *map(str, PRICES), None, ""]),
        "published": st.sampled_from([*DAYS, *TIMES, None, ""]),
        "tags": st.lists(st.sampled_from(TAGS), max_size=3) | st.sampled_from(TAGS),
        "pages": st.integers(-5, 5) | st.integers(-5, 5).map(str),
        "lang": st.sampled_from(LANGUAGES),
    },
)


def listed(value: Any) -> list[Any]:
    return [one for one in (value if isinstance(value, list) else [value]) if one is not None]


def instants(text: str) -> tuple[datetime, datetime]:
    """The first and the last instant that a date means: a day is all of its milliseconds."""
    if "T" in text:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return moment, moment
    day = datetime.fromisoformat(f"{text}T00:00:00+00:00")
    return day, day + timedelta(days=1, milliseconds=-1)


def is_in_range(value: Any, operator: str, bound: str, field: str) -> bool:
    if field == "published":
        first, last = instants(bound)
        moment = instants(value)[0]
        return {">=": moment >= first, ">": moment > last, "<=": moment <= last, "<": moment < first}[
            operator
        ]
    number, limit = float(value), float(bound)
    return {">=": number >= limit, ">": number > limit, "<=": number <= limit, "<": number < limit}[operator]


@dataclass(frozen=True)
class Asked:
    """A filter as text, and as a function of a document's metadata."""

    text: str
    holds: Callable[[Mapping[str, Any]], bool]


def values(document: Mapping[str, Any], field: str) -> list[Any]:
    found = listed(document.get(field))
    return found if field in ("tags", "lang") else [one for one in found if one != ""]


def quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


ranges = st.builds(
    lambda field_bound, operator, space: Asked(
        f"{field_bound[0]}{space}{operator}{space}{field_bound[1]}",
        lambda document: any(
            is_in_range(value, operator, field_bound[1], field_bound[0])
            for value in values(document, field_bound[0])
        ),
    ),
    st.sampled_from(
        [
            *[("price", str(price)) for price in PRICES],
            *[("published", day) for day in [*DAYS, *TIMES]],
            *[("pages", str(number)) for number in range(-5, 6)],
        ]
    ),
    st.sampled_from([">=", ">", "<=", "<"]),
    st.sampled_from(["", " "]),
)
equalities = st.builds(
    lambda field_value, name: Asked(
        f"{name}{field_value[0]}: {quoted(field_value[1])}",
        lambda document: field_value[1] in values(document, field_value[0]),
    ),
    st.sampled_from([*[("tags", tag) for tag in TAGS], *[("lang", language) for language in LANGUAGES]]),
    st.sampled_from(["", "metadata."]),
)
prefixes = st.sampled_from(["de", "d", "en", "x"]).map(
    lambda start: Asked(
        f"lang:{start}*", lambda document: any(value.startswith(start) for value in values(document, "lang"))
    )
)
existence = st.sampled_from(["price", "published", "tags", "pages", "lang"]).map(
    lambda field: Asked(f"{field}: *", lambda document: bool(values(document, field)))
)
choices = st.lists(st.sampled_from(TAGS), min_size=1, max_size=3).map(
    lambda tags: Asked(
        f"tags:({' OR '.join(map(quoted, tags))})",
        lambda document: bool(set(tags) & set(values(document, "tags"))),
    )
)


def combined(inner: st.SearchStrategy[Asked]) -> st.SearchStrategy[Asked]:
    negated = inner.map(lambda one: Asked(f"not ({one.text})", lambda document: not one.holds(document)))
    both = st.tuples(inner, inner)
    return (
        negated
        | both.map(
            lambda pair: Asked(
                f"({pair[0].text}) and ({pair[1].text})",
                lambda document: pair[0].holds(document) and pair[1].holds(document),
            )
        )
        | both.map(
            lambda pair: Asked(
                f"({pair[0].text}) OR ({pair[1].text})",
                lambda document: pair[0].holds(document) or pair[1].holds(document),
            )
        )
    )


asked = st.recursive(ranges | equalities | prefixes | existence | choices, combined, max_leaves=6)


@pytest.fixture(scope="module")
def filled(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, dict[str, dict[str, Any]]]]:
    """An index of two hundred documents with random metadata, the same in every run."""
    rows: list[dict[str, Any]] = []

    @settings(max_examples=200, derandomize=True, database=None)
    @given(metadata)
    def collect(row: dict[str, Any]) -> None:
        rows.append(row)

    collect()
    documents = {f"d{number}": row for number, row in enumerate(rows)}
    with Elasticsearch(elasticsearch_url) as client:
        encoder = make_index(client, INDEX, metadata=TYPES)
        report, failures = load(
            client, INDEX, [Document(key, "One word.", "", row) for key, row in documents.items()], encoder
        )
        assert (failures, report.documents) == ([], len(documents))
        yield client, documents
        client.indices.delete(index=INDEX)


@settings(max_examples=100, deadline=None)
@given(condition=asked)
def test_a_filter_finds_what_a_filter_by_hand_finds(
    filled: tuple[Elasticsearch, dict[str, dict[str, Any]]], condition: Asked
) -> None:
    client, documents = filled
    answer = client.search(index=INDEX, query=parse_filter(condition.text, PROPERTIES), size=10_000)
    found = {hit["_source"]["doc_id"] for hit in answer["hits"]["hits"]}
    assert found == {key for key, row in documents.items() if condition.holds(row)}, condition.text


def test_the_metadata_of_a_hit_is_what_the_document_brought(
    filled: tuple[Elasticsearch, dict[str, dict[str, Any]]],
) -> None:
    client, documents = filled
    hits = search("word", index=INDEX, client=client, encoder=WordEncoder(), mode="bm25", k=10_000)
    assert {hit.doc_id: hit.metadata for hit in hits} == documents
    sources = client.search(index=INDEX, size=10_000)["hits"]["hits"]
    assert not any("metadata_typed" in hit["_source"] for hit in sources)


date_like = (
    st.from_regex(r"[0-9]{3,5}(-[0-9]{1,2}(-[0-9]{1,2})?)?", fullmatch=True)
    | st.from_regex(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9](:[0-6][0-9](:[0-6][0-9])?)?", fullmatch=True)
    | st.from_regex(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T10:00(:00)?([.,][0-9]{1,9})?(Z|z|[+-][0-9]{2}(:?[0-9]{2})?)?")
    | st.datetimes().map(datetime.isoformat)
    | st.from_regex(r"-?[0-9]{1,15}", fullmatch=True)
    | st.sampled_from(["31.05.2024", "2024/05/31", "20240531", "2024-05-31T", "2024-05-31 10:00", "2024-02-30"])
    | st.text(max_size=12)
)  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(dates=st.lists(date_like, min_size=30, max_size=60))
def test_a_date_is_one_for_us_if_it_is_one_for_elasticsearch(
    elasticsearch_url: str, dates: list[str]
) -> None:
    with Elasticsearch(elasticsearch_url) as client:
        mappings = {"properties": {"at": {"type": "date"}}}
        client.options(ignore_status=400).indices.create(index="dates", mappings=mappings)
        lines: list[Any] = [line for text in dates for line in ({"index": {}}, {"at": text})]
        answer = client.bulk(index="dates", operations=lines)
        for text, item in zip(dates, answer["items"], strict=True):
            try:
                ours = bool(convert(text, "date") or True)
            except ValueError:
                ours = False
            if text.strip():
                assert ours == (item["index"]["status"] == 201), (text, item)


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("double", "cheap", "'cheap'"),
        ("double", "9,5", "'9,5'"),
        ("double", "NaN", "'NaN'"),
        ("double", "٣", "'٣'"),
        ("double", True, "True"),
        ("double", 10**400, "'1"),
        ("float", 1e39, "1e+39"),
        ("integer", 2**31, "2147483648"),
        ("long", 9.5, "9.5"),
        ("long", "9.5", "'9.5'"),
        ("boolean", "True", "'True'"),
        ("boolean", 1, "1"),
        ("ip", "1.2.3", "'1.2.3'"),
        ("date", "31.05.2024", "'31.05.2024'"),
        ("date", "2023-02-29", "'2023-02-29'"),
        ("keyword", "ä" * 20_000, "'ää"),
        ("keyword", {"a": 1}, "an object"),
        ("date", [["2024-05-31"], "soon"], "'soon'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_the_document_s_name(
    kind: str, value: Any, shown: str
) -> None:
    with pytest.raises(DocumentError) as refusal:
        typed_copies("shop\n1", {"x": value}, {"x": kind})
    message = str(refusal.value)
    assert message.startswith("shop\\n1: its metadata x is ")
    assert f"and the index holds it as {kind}; correct the value, or" in message
    if not isinstance(value, int) or value < 10**300:
        assert shown in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("types", "given_metadata", "copies"),
    [
        ({"x": "double"}, {"x": " 9.50"}, {"x": [9.5]}),
        ({"x": "long"}, {"x": ["1", 2.0, None, ""]}, {"x": [1, 2]}),
        ({"x": "keyword"}, {"x": [1, True, "", "a"]}, {"x": ["1", "true", "", "a"]}),
        ({"x": "date"}, {"x": ""}, {}),
        ({"x": "boolean"}, {}, {}),
        ({"a.b": "long", "a.c": "ip"}, {"a": {"b": 1}, "a.c": "::1"}, {"a": {"b": [1], "c": ["::1"]}}),
        ({"a.b": "long"}, {"a": [{"b": 1}, {"b": [2]}, {}]}, {"a": {"b": [1, 2]}}),
    ],
)
def test_the_typed_copies_are_the_values_at_the_dotted_name(
    types: dict[str, str], given_metadata: dict[str, Any], copies: dict[str, Any]
) -> None:
    assert typed_copies("d", given_metadata, types) == copies


@pytest.mark.parametrize(
    ("types", "cause"),
    [
        ({"x": "decimal"}, "metadata x=decimal: this type is not known; choose one of keyword, boolean, "),
        ({"": "long"}, "metadata =long: the name has an empty part"),
        ({"a..b": "long"}, "the name has an empty part"),
        ({"a": "long", "a.b": "long"}, "metadata a.b=long: this name, or a part of it, has a type already"),
        ({"a.b": "long", "a": "long"}, "metadata a=long: this name, or a part of it, has a type already"),
    ],
)
def test_types_that_cannot_be_are_refused(types: dict[str, str], cause: str) -> None:
    with pytest.raises(UsageError) as refusal:
        mapping_of(types)
    assert cause in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("price=cheap", "compares metadata_typed.price, which is double, with 'cheap'"),
        ("price >= cheap", "compares metadata_typed.price, which is double, with 'cheap'"),
        ("published > yesterday", "compares metadata_typed.published, which is date, with 'yesterday'"),
        ("pages: 1*", "has a * after a value, and metadata_typed.pages is long"),
    ],
)
def test_a_filter_with_a_value_of_another_type_is_refused(text: str, cause: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_filter(text, PROPERTIES)
    assert cause in str(refusal.value)


@pytest.mark.parametrize("bound", ["now", "now-7d/d", "2024-01-01||+1M/d", "2024", "1700000000000"])
def test_a_date_may_be_calculated_by_elasticsearch(
    filled: tuple[Elasticsearch, dict[str, dict[str, Any]]], bound: str
) -> None:
    query = parse_filter(f"published <= {bound} and author.born: *", PROPERTIES)
    assert filled[0].search(index=INDEX, query=query)["hits"]["hits"] == []


def shop(path: Path) -> Path:
    rows = [
        {"id": "a", "text": "A lamp.", "price": 9.5, "published": "2024-05-31", "tags": ["old"]},
        {"id": "b", "text": "A lamp.", "price": "100", "published": "2025-01-01T10:00:00Z", "colour": "red"},
        {"id": "c", "text": "A lamp.", "price": "dear"},
    ]
    file = path / "shop.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def commands(elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    for name in ("load_encoder", "load_recorded"):
        monkeypatch.setattr(f"es_latechunk.cli.options.shared.{name}", lambda *_, **__: WordEncoder())


TYPED = ("--metadata", "price=double", "--metadata", "published=date")


@pytest.mark.usefixtures("commands")
def test_the_command_line_gives_types_ingests_and_filters(
    client: Elasticsearch, index_name: str, tmp_path: Path
) -> None:
    assert run("index", "create", index_name, *TYPED).exit_code == 0
    loaded = run("ingest", shop(tmp_path), "--index", index_name)
    assert loaded.exit_code == 1
    assert "error: c: its metadata price is 'dear', and the index holds it as double" in loaded.stderr

    def found(*filters: str) -> tuple[list[str], str]:
        options = [word for text in filters for word in ("--filter", text)]
        result = run("search", "lamp", "--index", index_name, "--mode", "bm25", "--json", *options)
        assert result.exit_code == 0, result.stderr
        return sorted(json.loads(line)["doc_id"] for line in result.stdout.splitlines()), result.stderr

    assert found("price>=50") == (["b"], "")
    assert found("price<50") == (["a"], "")
    assert found("published >= 2024-06-01 or tags: old") == (["a", "b"], "")
    assert found("not colour: red", "price: *") == (["a"], "")
    ids, warning = found("not colur: red")
    assert ids == ["a", "b"]
    assert warning == f"warning: index {index_name}: no document has colur (metadata.colur); check its name\n"
    refused = error_of(run("search", "lamp", "--index", index_name, "--filter", "pages>=50"), 2)
    assert refused.endswith(
        "; give it a type in a new index: es-latechunk index create NAME --metadata pages=double"
    )
    shown = json.loads(run("index", "show", index_name, "--json").stdout)
    assert shown["metadata"] == {"price": "double", "published": "date"}


def test_a_field_that_was_seen_filled_is_not_asked_for_again(
    client: Elasticsearch, elasticsearch_url: str, index_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By one client and index; an empty one is asked for, and warned of, each time."""
    encoder = make_index(client, index_name)
    load(client, index_name, [Document("a", "One lamp.", metadata={"colour": "red"})], encoder)
    warning = f"index {index_name}: no document has colur (metadata.colur); check its name"

    def asked(client: Elasticsearch, index: str, text: str) -> tuple[int, int]:
        before, warnings = len(proxy.requests), caplog.messages.count(warning)
        Index(index, client=client).search("lamp", mode="bm25", filters=text)
        questions = [one for one in proxy.requests[before:] if b'"query":{"exists"' in one.body]
        return len(questions), caplog.messages.count(warning) - warnings

    with FaultProxy(elasticsearch_url) as proxy, connect(url=proxy.url) as one, connect(url=proxy.url) as two:
        assert asked(one, index_name, "colour: red") == (1, 0)
        assert asked(one, index_name, "colour: blue or not colour: red") == (0, 0)
        for _ in range(2):
            assert asked(one, index_name, "colour: red and not colur: red") == (1, 1)
        assert asked(two, index_name, "colour: red") == (1, 0)
        make_index(client, f"{index_name}-2")
        for _ in range(2):
            assert asked(one, f"{index_name}-2", "colour: red") == (1, 0)


@pytest.mark.usefixtures("commands")
def test_types_of_an_existing_index_cannot_be_changed(client: Elasticsearch, index_name: str) -> None:
    assert run("index", "create", index_name, *TYPED).exit_code == 0
    assert "exists already" in run("index", "create", index_name, *reversed_pairs(TYPED)).stderr
    for other in ([], ["--metadata", "price=long", *TYPED[2:]]):
        message = error_of(run("index", "create", index_name, *other), 2)
        assert "was made with --metadata price=double published=date, not " in message
    with pytest.raises(IndexMismatchError, match="was made with metadata price=double"):
        create_index(index_name, encoder=WordEncoder(), client=client)


def reversed_pairs(options: tuple[str, ...]) -> list[str]:
    return [*options[2:], *options[:2]]


@pytest.mark.parametrize("choice", ["price", "=double", "price=money"])
def test_a_type_that_is_not_one_is_refused_before_a_model_is_loaded(choice: str) -> None:
    refused = run("index", "create", "x", "--metadata", choice, "--url", "http://127.0.0.1:9")
    assert f"--metadata {choice}: " in error_of(refused, 2)


def test_an_alias_over_indices_with_other_types_compares_strings(
    client: Elasticsearch, index_name: str
) -> None:
    """A filter over the typed copies would leave out, without a word, the chunks of the index without them."""
    encoder = make_index(client, f"{index_name}-1", metadata={"price": "double"})
    make_index(client, f"{index_name}-2", encoder)
    for number in (1, 2):
        load(client, f"{index_name}-{number}", [Document("d", "Lamp.", "", {"price": "5"})], encoder)
        client.indices.put_alias(index=f"{index_name}-{number}", name=index_name)

    def find(text: str) -> int:
        return len(search("lamp", index=index_name, client=client, mode="bm25", filters=[text]))

    assert find("price: 5") == 2
    with pytest.raises(UsageError, match=r"metadata\.price holds strings"):
        find("price >= 5")


def test_the_next_index_of_an_alias_has_the_same_types(client: Elasticsearch, index_name: str) -> None:
    from es_latechunk import ingest

    encoder = make_index(client, f"{index_name}-first", metadata={"price": "double"})
    client.indices.put_alias(index=f"{index_name}-first", name=index_name)
    documents = [Document("d", "Lamp.", "", {"price": "5"}), Document("e", "Lamp.", "", {"price": "low"})]
    report = ingest(documents, alias=index_name, client=client, encoder=encoder)
    assert [error.document for error in report.failures] == ["e"]
    mappings = client.indices.get_mapping(index=f"{index_name}*")
    typed = [row["mappings"]["properties"]["metadata_typed"]["properties"] for row in mappings.values()]
    assert typed == [{"price": {"type": "double"}}] * 2
