"""Sentences of our own, full of abbreviations, as texts whose sentence ends are known."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

SENTENCES = Path(__file__).parent / "fixtures" / "abbreviations.txt"


def marked_sentences() -> dict[str, tuple[tuple[set[int], str], tuple[set[int], str]]]:
    """By language, for each half: the ends of the sentences, and the text of all of them.

    Several sentences may share a line; there, an end is where the file has `¦`.
    """
    found: dict[str, list[str]] = {}
    for line in SENTENCES.read_text("utf-8").splitlines():
        if line.startswith("# "):
            language = line[2:]
        elif not line.startswith("##"):
            found.setdefault(language, []).append(line)
    return {
        language: (_joined(lines[: len(lines) // 2]), _joined(lines[len(lines) // 2 :]))
        for language, lines in found.items()
    }


def _joined(lines: list[str]) -> tuple[set[int], str]:
    sentences = [sentence.strip() for line in lines for sentence in line.split("¦")]
    ends = [end - 1 for end in accumulate(len(sentence) + 1 for sentence in sentences)]
    return set(ends), " ".join(sentences)
