"""Blocks, packing and the cutting of long sentences, by example."""

from __future__ import annotations

import pytest
from made_models import TOKENIZERS

from es_latechunk.chunking import CHUNKERS, make_chunker
from es_latechunk.chunking.blocks import find_blocks
from es_latechunk.errors import UsageError


def chunks(text: str, name: str, max_tokens: int, family: str = "mini_lm") -> list[str]:
    tokenizer = TOKENIZERS[family]
    spans = make_chunker(name, tokenizer=tokenizer, max_tokens=max_tokens).split(
        text, tokenizer.tokenize(text)
    )
    return [text[span.start : span.end] for span in spans]


def words(count: int, word: str = "fox") -> str:
    return " ".join([word] * count)


@pytest.mark.parametrize(
    "gap", ["\n\n", "\r\n\r\n", "\n \t\n", "\r\r", "\n\n\n", "\x0c", "\u2029", "\u2028\u2028"]
)
def test_a_blank_line_begins_a_paragraph(gap: str) -> None:
    text = f"one{gap}two"
    assert [text[start:] for start in find_blocks(text).paragraphs] == ["two"]


@pytest.mark.parametrize("gap", ["\n", "\r\n", "\r", " \n ", "\u2028"])
def test_a_single_line_break_does_not(gap: str) -> None:
    blocks = find_blocks(f"one{gap}two")
    assert not any(len(found) for found in (blocks.paragraphs, blocks.lines, blocks.headings))


@pytest.mark.parametrize("mark", ["-", "*", "+", "•", "1.", "12)", "(3)", "a)", "(b)", "–", "[1]", "[^2]:"])
def test_a_list_item_begins_at_its_mark(mark: str) -> None:
    text = f"intro\n  {mark} item\r\n{mark} other"
    assert [text[start:].split()[0] for start in find_blocks(text).lines] == [mark, mark]


@pytest.mark.parametrize("line", ["-5 degrees", "3.6 dollars", "a. Smith", "**bold** word", "#hashtag", "— "])
def test_what_only_looks_like_an_item_or_a_heading_is_none(line: str) -> None:
    blocks = find_blocks(f"intro\n{line}")
    assert not len(blocks.lines)
    assert not len(blocks.headings)


def test_headings_and_rules_are_boundaries() -> None:
    text = "# One\nbody\n### Two\n\nmore\n\nThree\n=====\nlast"
    blocks = find_blocks(text)
    assert [text[start:].split()[1] for start in blocks.headings] == ["One", "Two"]
    assert [text[start:].split()[0] for start in blocks.bodies] == ["body", "more"]
    assert [text[start:].split()[0] for start in blocks.lines] == ["last"]


def test_list_items_are_boundaries_for_sentences() -> None:
    text = "Things to buy:\n- red apples\n- green pears\n1. bread"
    assert chunks(text, "sentences", 4) == ["Things to buy:", "- red apples", "- green pears", "1. bread"]


def test_sentences_are_merged_while_they_fit() -> None:
    text = "One fox. Two foxes. Three foxes. Four"
    assert chunks(text, "sentences", 6) == ["One fox. Two foxes.", "Three foxes. Four"]


def test_a_chunk_that_is_half_full_ends_with_its_paragraph() -> None:
    short, long = words(3), words(6)
    assert chunks(f"{long}\n\n{short}\n\n{short}", "sentences", 12) == [long, f"{short}\n\n{short}"]
    assert chunks(f"{short}\n\n{short}", "sentences", 12) == [f"{short}\n\n{short}"]


def test_a_heading_goes_with_what_follows() -> None:
    text = f"{words(4)}.\n\n# Title\n\n{words(9)}."
    assert chunks(text, "sentences", 12) == [f"{words(4)}.", f"# Title\n\n{words(9)}."]


def test_a_heading_is_cut_together_with_a_long_sentence_after_it() -> None:
    assert chunks(f"# Title\n\n{words(16)}", "sentences", 10) == [f"# Title\n\n{words(7)}", words(9)]


def test_a_long_sentence_is_cut_evenly_between_words() -> None:
    assert chunks(words(25), "sentences", 10) == [words(9), words(8), words(8)]


def test_a_long_text_is_rather_cut_at_line_breaks() -> None:
    rows = [f"row {words(n)}" for n in (3, 5, 4, 5)]
    assert chunks("\n".join(rows), "sentences", 11) == ["\n".join(rows[:2]), "\n".join(rows[2:])]


def test_a_word_is_cut_only_where_the_piece_holds_no_other_boundary() -> None:
    long = "foxdogfoxdogfoxdogfox"
    pieces = chunks(f"the dog {long}", "tokens", 5)
    assert pieces[0] == "the dog"
    assert "".join(pieces[1:]) == long


def test_windows_of_tokens_are_full() -> None:
    assert chunks(words(25), "tokens", 10) == [words(10), words(10), words(5)]


def test_paragraphs_are_kept_whole_and_merged_while_they_fit() -> None:
    one, two = f"{words(3)}. {words(3)}.", f"{words(4)}."
    assert chunks(f"{two}\n\n{one}\n\n{two}", "paragraphs", 13) == [f"{two}\n\n{one}", two]
    assert chunks(f"{two}\n\n{one}", "paragraphs", 10) == [two, one]


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    text = "One fox runs. Two foxes run. Three run"
    assert chunks(text, "paragraphs", 9) == ["One fox runs. Two foxes run.", "Three run"]


def test_text_after_the_last_stop_is_kept() -> None:
    assert chunks("One fox runs. The rest", "sentences", 4) == ["One fox runs.", "The rest"]


@pytest.mark.parametrize("name", list(CHUNKERS))
def test_no_text_gives_no_chunk(name: str) -> None:
    assert chunks(" \n\t", name, 5) == []
    assert chunks("", name, 5, "byte_level") == []


@pytest.mark.parametrize("name", list(CHUNKERS))
def test_text_without_a_token_is_still_one_chunk(name: str) -> None:
    assert chunks(" \u200b ", name, 5) == ["\u200b"]


def test_an_unknown_chunker_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'words' is not one of sentences, paragraphs, tokens"):
        make_chunker("words", tokenizer=TOKENIZERS["mini_lm"], max_tokens=5)


def test_a_chunk_of_no_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match="0 is below 1"):
        make_chunker("tokens", tokenizer=TOKENIZERS["mini_lm"], max_tokens=0)
