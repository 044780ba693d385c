"""Hand-marked sentences: with abbreviations, by language, and in old encodings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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


ENCODED_SENTENCES = Path(__file__).parent / "fixtures" / "encoding_sentences.txt"
LENGTHS = (1, 2, 4)  # sentences of a text
WESTERN, CENTRAL = ("cp1252", "mac_roman"), ("cp1250", "iso8859_2")
ENCODINGS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("de", "en", "es", "fr", "it", "pt", "sv"), WESTERN),
    **dict.fromkeys(("cs", "hu", "pl", "ro"), CENTRAL),
    "tr": ("cp1254",),
    "lt": ("cp1257",),
    "el": ("cp1253", "iso8859_7"),
    "ru": ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic"),
    "uk": ("cp1251", "koi8_u"),
    "he": ("cp1255",),
    "ar": ("cp1256", "iso8859_6"),
    "th": ("cp874",),
    "ja": ("cp932", "euc_jp"),
    "ko": ("cp949",),
    "zh": ("gb18030",),
    "zh-Hant": ("big5",),
}


@dataclass(frozen=True, slots=True)
class Case:
    """A text of `length` sentences, and its bytes in an encoding."""

    language: str
    encoding: str
    length: int
    text: str
    content: bytes


def own_sentences() -> dict[str, list[str]]:
    """The sentences of the file, by language."""
    sentences: dict[str, list[str]] = {}
    for line in ENCODED_SENTENCES.read_text("utf-8").splitlines():
        if line.startswith("# "):
            language = line[2:]
        elif not line.startswith("##"):
            sentences.setdefault(language, []).append(line)
    return sentences


def cases(sentences: Mapping[str, Sequence[str]], *, scored: bool) -> Iterator[Case]:
    """Texts of neighbouring sentences, of the half that is scored or of the one that rules are chosen on.

    A text that an encoding lacks a character of, and one that is ASCII alone, is left out.
    """
    for language, encodings in ENCODINGS.items():
        half = sentences.get(language, [])[int(scored) :: 2]
        for encoding in encodings:
            for length in LENGTHS:
                for begin in range(len(half) - length + 1):
                    text = " ".join(half[begin : begin + length])
                    content = text.encode(encoding, "replace")
                    if content.decode(encoding) == text and not content.isascii():
                        yield Case(language, encoding, length, text, content)
