"""A stand-in tokenizer for hosted models, whose own vocabulary never reaches this machine."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from es_latechunk.types import Tokens

PIECE_CHARACTERS = 6
WORD_ID = 0x110000  # one above the last code point: every token that is not a single character

# Scripts that put no space between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)
_ASSIGNED_PLANES = 0x20000  # marks and punctuation live in the first two planes


class UnicodeTokenizer:
    """Cuts a text into about as many tokens as a sub-word vocabulary would.

    A run of letters and digits is cut every six characters; each character of a script without spaces
    and each punctuation mark or symbol is a token of its own; combining marks stay with the character
    before them. Token counts are estimates, good for sizing chunks: the hosted model counts its own.
    """

    def tokenize(self, text: str) -> Tokens:
        """Tokens of `text`: ids (T,) int32 and character offsets (T, 2) int32; spaces give none.

        A token of one character has its code point as id, all others share `WORD_ID`.
        """
        spans = [match.span() for match in _token_pattern().finditer(text)]
        offsets = np.asarray(spans, dtype=np.int32).reshape(-1, 2)
        ids = [ord(text[start]) if end - start == 1 else WORD_ID for start, end in spans]
        return Tokens(np.asarray(ids, dtype=np.int32), offsets)

    @property
    def pieces(self) -> Mapping[int, str]:
        """Id -> character, for every punctuation mark and symbol."""
        return _punctuation()


def estimate_tokens(text: str) -> int:
    """A careful guess of how many tokens a hosted model makes of `text`.

    The larger of this tokenizer's count and a third of the UTF-8 bytes: English has four to five bytes a
    token, Cyrillic or Arabic six and more, Han about three.
    """
    return max(count_tokens(text), -(-len(text.encode("utf-8", "surrogatepass")) // 3))


def count_tokens(text: str) -> int:
    """The number of tokens that `UnicodeTokenizer` cuts `text` into."""
    return sum(1 for _ in _token_pattern().finditer(text))


@lru_cache(maxsize=1)
def _token_pattern() -> re.Pattern[str]:
    marks = f"[{_character_class('M')}]*"
    unspaced = f"[{_UNSPACED}]"
    word = rf"(?:(?!{unspaced})[^\W_]{marks}){{1,{PIECE_CHARACTERS}}}"
    return re.compile(rf"{word}|\S{marks}")


@lru_cache(maxsize=1)
def _punctuation() -> Mapping[int, str]:
    return MappingProxyType(
        {
            point: chr(point)
            for point in range(_ASSIGNED_PLANES)
            if unicodedata.category(chr(point))[0] in "PS"
        }
    )


def _character_class(category: str) -> str:
    points = [point for point in range(_ASSIGNED_PLANES) if unicodedata.category(chr(point))[0] == category]
    starts = [point for point in points if unicodedata.category(chr(point - 1))[0] != category]
    ends = [point for point in points if unicodedata.category(chr(point + 1))[0] != category]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))
