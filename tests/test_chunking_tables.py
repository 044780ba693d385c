"""Rows of tables are kept whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_models import TOKENIZERS

from es_latechunk.chunking import make_chunker
from es_latechunk.chunking.token_positions import find_token_positions
from es_latechunk.documents.formats.html import html_to_text

HEADER = "| no. | city | remark |\n| --- | --- | --- |"
kept_whole = pytest.mark.parametrize("name", ["sentences", "paragraphs"])


def chunks(text: str, max_tokens: int, name: str = "sentences", family: str = "mini_lm") -> list[str]:
    tokenizer = TOKENIZERS[family]
    chunker = make_chunker(name, tokenizer=tokenizer, max_tokens=max_tokens)
    return [text[span.start : span.end] for span in chunker.split(text, tokenizer.tokenize(text))]


def row(number: int) -> str:
    return f"| {number} | St. {number}. Town | It is old. Nobody knows why. |"


def without_torn_rows(parts: list[str], text: str) -> bool:
    lines = [line for part in parts for line in part.splitlines() if line.strip()]
    return lines == [line for line in text.splitlines() if line.strip()]


@kept_whole
@pytest.mark.parametrize("max_tokens", [40, 64, 128])
def test_a_long_table_is_cut_between_its_rows(name: str, max_tokens: int) -> None:
    text = "\n".join([HEADER, *map(row, range(60))])
    parts = chunks(text, max_tokens, name)
    assert len(parts) > 5
    assert without_torn_rows(parts, text)


@kept_whole
def test_a_table_of_a_page_is_cut_between_its_rows(name: str) -> None:
    cells = "".join(
        f"<tr><td>{n}</td><td><p>It is old.</p><p>Ask Dr. Doe.<br>Why?</p></td></tr>" for n in range(60)
    )
    text, _ = html_to_text(f"<table><tr><th>no.</th><th>remark</th></tr>{cells}</table>")
    parts = chunks(text, 64, name)
    assert len(parts) > 5
    assert without_torn_rows(parts, text)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028"])
def test_text_around_a_table_is_not_part_of_its_rows(end: str) -> None:
    text = end.join(["Some cities:", "| a | b. C |", "  | d | e |", "And more."])
    assert chunks(text, 7) == ["Some cities:", "| a | b. C |", "| d | e |", "And more."]


def test_a_full_stop_in_a_cell_still_ends_a_sentence_elsewhere() -> None:
    text = "One fox. The dog runs.\n| One fox. Two |\nOne fox. The dog runs."
    assert chunks(text, 6) == ["One fox.", "The dog runs.", "| One fox. Two |", "One fox.", "The dog runs."]


def test_a_row_that_is_too_long_is_cut_at_its_sentences_and_cells() -> None:
    assert chunks("| one | fox runs. Two foxes | run far away | |\n| last |", 7) == [
        "| one | fox runs.",
        "Two foxes",
        "| run far away | |",
        "| last |",
    ]


def test_a_header_goes_with_the_first_row_and_with_the_heading_above() -> None:
    text = "Fox and dog and fox.\n\n# Cities\n\n| a | b |\n| - | - |\n| - | c |\n| d | e |"
    assert chunks(text, 20)[1:] == ["# Cities\n\n| a | b |\n| - | - |\n| - | c |", "| d | e |"]


def test_a_header_longer_than_a_chunk_leaves_its_separator() -> None:
    text = f"| {'fox | ' * 5}\n| {'- | ' * 5}\n| one |\n| two |"
    assert chunks(text, 12) == [f"| {'fox | ' * 5}".strip(), f"| {'- | ' * 5}".strip(), "| one |\n| two |"]


FRAGMENTS = [
    "|",
    "| ",
    " |",
    "fox",
    " dog",
    ". ",
    "The",
    "---",
    "- ",
    "# ",
    "\n",
    "\n|",
    "\r\n|",
    "\n\n",
    "\x0c",
    "1. ",
    "好。",
]


@kept_whole
@pytest.mark.parametrize("family", list(TOKENIZERS))
@settings(deadline=None)
@given(text=st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join), size=st.integers(3, 24))
def test_a_row_is_torn_only_where_it_is_too_long(name: str, family: str, text: str, size: int) -> None:
    tokenizer = TOKENIZERS[family]
    tokens = tokenizer.tokenize(text)
    positions = find_token_positions(text, tokens)
    cut = [
        span.start for span in make_chunker(name, tokenizer=tokenizer, max_tokens=size).split(text, tokens)
    ]
    lines = text.replace("\x0c", "\n").splitlines(keepends=True)
    places = [0]
    for line in lines:
        places.append(places[-1] + len(line))
    for line, start in zip(lines, places, strict=False):
        begin, end = start + len(line) - len(line.lstrip()), start + len(line.rstrip())
        first, after = positions.first.searchsorted([begin, end]).tolist()
        if line.lstrip().startswith("|") and first < after and positions.length(first, after) <= size:
            assert not [place for place in cut if begin < place < end], line
