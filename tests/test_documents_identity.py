"""What tells documents apart: ids within a run, and a hash that every indexed part goes into."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_latechunk.chunking.headings import heading_paths
from es_latechunk.documents import SeenIds, document_hash
from es_latechunk.errors import DocumentError
from es_latechunk.types import ChunkSpan, Document

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
SPANS = st.none() | st.lists(st.builds(ChunkSpan, st.integers(0, 99), st.integers(0, 99)), max_size=3).map(
    tuple
)
DOCUMENTS = st.builds(Document, TEXTS, TEXTS, TEXTS, st.dictionaries(TEXTS, VALUES, max_size=3), SPANS)


@given(DOCUMENTS, st.data())
def test_the_hash_changes_with_each_part(document: Document, data: st.DataObject) -> None:
    parts: dict[str, st.SearchStrategy[Any]] = {
        "text": TEXTS,
        "title": TEXTS,
        "metadata": st.dictionaries(TEXTS, VALUES, max_size=3),
        "spans": SPANS,
    }
    part = data.draw(st.sampled_from(sorted(parts)))
    value = data.draw(parts[part].filter(lambda value: value != getattr(document, part)))
    assert document_hash(replace(document, **{part: value})) != document_hash(document)


@given(DOCUMENTS)
def test_the_hash_depends_on_nothing_else(document: Document) -> None:
    turned = dict(reversed(document.metadata.items()))
    assert document_hash(replace(document, id="other", metadata=turned)) == document_hash(document)


@pytest.mark.parametrize(
    ("text", "changes"),
    [("# a", True), ("a\r### b", True), ("a\n \u3000# b", True), ("a # b", False), ("#a\n#", False)],
)
def test_a_plain_text_is_written_anew_only_if_its_headings_change(text: str, changes: bool) -> None:
    plain, markdown = Document("a", text, plain_text=True), Document("a", text)
    assert (document_hash(plain) != document_hash(markdown)) == changes
    # Without a line that may be a heading, there is no path in either case.
    assert changes or heading_paths(text, [ChunkSpan(len(text) - 1, len(text))]) == ((),)


def test_text_cannot_move_between_the_parts_unnoticed() -> None:
    moved = [Document("a", "xy", "z"), Document("a", "x", "yz"), Document("a", 'xy","z', "")]
    assert len({document_hash(document) for document in moved}) == 3


def test_the_hash_stays_what_it_is() -> None:
    """It is stored in people's indices: another hash would encode all of their documents again."""
    document = Document("a", "Zürich. \U0001f600", "T", {"n": 1.5, "l": ["x"]}, (ChunkSpan(0, 7),))
    assert document_hash(document) == "bc6cf4531d03b6f84a365c1cf7ae7291"


@pytest.mark.parametrize(
    "document",
    [
        Document("a", "x", metadata={"when": object()}),
        Document("a", "x", metadata={"n": float("nan")}),
        Document("a", "x", metadata={"n": float("inf")}),
        Document("a", "x", metadata={"n": "\ud800"}),
        Document("a", "x", metadata={1: "x", "b": "y"}),  # type: ignore[dict-item]
        Document("a", "x", title="\ud800"),
    ],
)
def test_what_has_no_json_form_is_the_document_s_error(document: Document) -> None:
    with pytest.raises(DocumentError, match=r"^a: has a value that JSON cannot represent"):
        document_hash(document)


@given(st.lists(st.text(max_size=3)))
def test_seen_ids_remember_the_first_hash(ids: list[str]) -> None:
    first: dict[str, str] = {}
    with SeenIds() as seen:
        for number, doc_id in enumerate(ids):
            assert seen.add(doc_id, str(number)) == (doc_id not in first)
            first.setdefault(doc_id, str(number))
            assert doc_id in seen
        assert len(seen) == len(first)
        assert dict(seen.hashes()) == first
        for doc_id in first:
            seen.clear_hash(doc_id)
            assert doc_id in seen
        assert list(seen.hashes()) == []
