"""The heading path of a chunk: by hand, in code, and for any text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_latechunk.chunking.headings import LONGEST_HEADING, heading_paths
from es_latechunk.types import ChunkSpan

TEXT = """Before all.

# Berlin ##

It lies on the Spree.

## History
Old.

### Middle ages

Walls.

## Lakes #1

Many.
"""


def paths(text: str, *words: str) -> list[tuple[str, ...]]:
    """The paths of the chunks that begin with these words."""
    starts = [text.index(word) for word in words]
    return list(heading_paths(text, [ChunkSpan(start, start + 1) for start in starts]))


def test_a_path_leads_from_the_highest_heading_down() -> None:
    assert paths(TEXT, "Before", "# Berlin", "It lies", "## History", "Old", "### Mid", "Walls", "Many") == [
        (),
        ("Berlin",),
        ("Berlin",),
        ("Berlin", "History"),
        ("Berlin", "History"),
        ("Berlin", "History", "Middle ages"),
        ("Berlin", "History", "Middle ages"),
        ("Berlin", "Lakes #1"),
    ]


def test_a_level_that_is_left_out_is_no_part_of_the_path() -> None:
    assert paths("### Deep\n\na\n\n# Top\n\n### Deeper\n\nb", "a", "b") == [("Deep",), ("Top", "Deeper")]


@pytest.mark.parametrize(
    "line",
    [
        "#berlin",
        "#",
        "# ",
        "####### seven",
        "see # this",
        f"# {'x' * (LONGEST_HEADING + 1)}",
        "```\n# comment\n```",
    ],
)
def test_what_is_no_heading(line: str) -> None:
    assert paths(f"# Real\n\n{line}\n\nbody", "body") == [("Real",)]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\u2028"])
def test_line_ends_of_every_kind(line_end: str) -> None:
    assert paths(line_end.join(["# One", "## Two", "body"]), "body") == [("One", "Two")]


lines = st.sampled_from(["# a", "## b", "### c  ##", "text", "", "```", "#no", "\u3000# a2"])


@given(st.lists(lines, max_size=12), st.lists(st.integers(0, 60), max_size=5))
def test_any_chunks_of_any_text_have_a_path_each(rows: list[str], starts: list[int]) -> None:
    text = "\n".join(rows)
    spans = [ChunkSpan(start, start + 1) for start in sorted(starts)]
    found = heading_paths(text, spans)
    assert len(found) == len(spans)
    for span, path in zip(spans, found, strict=True):
        before = text[: span.start + 6]
        assert all(re.search(rf"#[ ]{re.escape(words)}", before) for words in path)
        assert list(path) == sorted(path), "these headings are named after their levels"


def test_time_is_linear_in_the_text() -> None:
    text = "# a\n" * 200_000
    assert (
        len(heading_paths(text, [ChunkSpan(start, start + 1) for start in range(0, len(text), 4)])) == 200_000
    )
