"""The positions of tokens in their text: the first visible character of each, and the kind of cut before it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from es_latechunk.types import IntArray, Tokens

_LAST_SPACE = 0x3000
_IS_SPACE = np.array([chr(code).isspace() for code in range(_LAST_SPACE + 1)] + [False])
_LINE_BREAKS = np.array([ord(character) for character in "\n\r\x0b\x0c\x85\u2028\u2029"], dtype=np.uint32)
_BLOCK = 1 << 20
# The size of a chunk is its number of tokens, or a 16th of its characters if that is more. In text that the model
# knows, a token has 3 to 6 characters, so the second rule only matters if long words are one unknown token each.
CHARACTERS_PER_TOKEN = 16

# The kinds of cut before a token, from bad to good. 0 means that no cut is possible: it would split a character.
IN_CLUSTER, IN_WORD, BETWEEN_WIDE, AT_SPACE, AT_LINE_BREAK = 1, 2, 3, 4, 5


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """Return the code points (len(text),) of a text."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def visible_characters(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Return for each character whether it is visible: not whitespace in the sense of `str.isspace`."""
    visible = np.empty(len(codes), dtype=np.bool_)
    for start in range(0, len(codes), _BLOCK):
        block = slice(start, start + _BLOCK)
        visible[block] = ~_IS_SPACE[np.minimum(codes[block], _LAST_SPACE + 1)]
    return visible


def positions_of(codes: npt.NDArray[np.uint32], wanted: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
    """Return the positions of all wanted code points."""
    # Block by block, because a search takes several times the memory of what it searches.
    blocks = range(0, len(codes), _BLOCK)
    found = [np.flatnonzero(np.isin(codes[start : start + _BLOCK], wanted)) + start for start in blocks]
    return np.concatenate(found) if found else np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class TokenPositions:
    """The V visible tokens of a text: those that stand for at least one character that is not whitespace.

    `number` (V,) is the number of each among all tokens. `first` (V,) is the position of its first visible character,
    and never falls. `characters` (V,) is the number of characters that it and all tokens before it stand for.
    `cut_kinds` (V + 1,) is the kind of cut before each token; the last entry, for the end of the text, is 0.
    """

    number: IntArray
    first: IntArray
    characters: IntArray
    cut_kinds: bytes

    def __len__(self) -> int:
        return len(self.number)

    def length(self, start: int, end: int) -> int:
        """Return the size, in tokens, of a chunk of the visible tokens [start, end) and all tokens between them.

        It is at least the number of their characters divided by CHARACTERS_PER_TOKEN.
        """
        characters = int(self.characters[end - 1]) - self._characters_before(start)
        return max(int(self.number[end - 1] - self.number[start]) + 1, -(-characters // CHARACTERS_PER_TOKEN))

    def reach(self, start: int, tokens: int) -> int:
        """Return the end of the longest chunk of visible tokens from `start` on with at most `tokens` tokens.

        It has at least one visible token, even if that is too long by itself.
        """
        by_tokens = np.searchsorted(self.number, self.number[start] + tokens)
        most = self._characters_before(start) + tokens * CHARACTERS_PER_TOKEN
        return max(start + 1, int(min(by_tokens, np.searchsorted(self.characters, most, side="right"))))

    def _characters_before(self, start: int) -> int:
        return int(self.characters[start - 1]) if start else 0


def find_token_positions(text: str, tokens: Tokens) -> TokenPositions:
    """Find the visible tokens of a text; the time is linear in characters and tokens."""
    codes = code_points(text)
    visible = visible_characters(codes)
    number, first = first_visible_characters(visible, tokens)
    return TokenPositions(
        number, first, _count_characters(number, first, tokens), _cut_kinds(codes, visible, first)
    )


def _count_characters(number: IntArray, first: IntArray, tokens: Tokens) -> IntArray:
    """Count the characters of each visible token and those before it; one in several tokens counts once."""
    end = np.maximum.accumulate(tokens.offsets[number, 1]) if len(number) else first
    before = np.concatenate([np.zeros(1, dtype=np.int32), end[:-1]])[: len(end)]
    return np.cumsum(np.maximum(end - np.maximum(first, before), 0), dtype=np.int32)


def first_visible_characters(visible: npt.NDArray[np.bool_], tokens: Tokens) -> tuple[IntArray, IntArray]:
    """Return the numbers (V,) of the visible tokens, and the position (V,) of the first visible character of each."""
    first = tokens.offsets[:, 0].copy()
    end = np.minimum(tokens.offsets[:, 1], len(visible))
    found = np.zeros(len(first), dtype=np.bool_)
    found[first < end] = visible[first[first < end]]
    undecided = np.flatnonzero(~found & (first < end))  # only a few tokens begin with whitespace
    while len(undecided):
        seen = visible[first[undecided]]
        found[undecided[seen]] = True
        undecided = undecided[~seen]
        first[undecided] += 1
        undecided = undecided[first[undecided] < end[undecided]]
    number = np.flatnonzero(found).astype(np.int32)
    return number, np.maximum.accumulate(first[number]) if len(number) else first[number]


def _cut_kinds(codes: npt.NDArray[np.uint32], visible: npt.NDArray[np.bool_], first: IntArray) -> bytes:
    cut_kinds = np.zeros(len(first) + 1, dtype=np.uint8)
    breaks = positions_of(codes, _LINE_BREAKS)
    for start in range(1, len(first), _BLOCK):  # in blocks, to bound the memory
        part = first[start - 1 : start + _BLOCK]
        cut_kinds[start : start + len(part) - 1] = _cut_kinds_after_first(codes, visible, breaks, part)
    return cut_kinds.tobytes()


def _cut_kinds_after_first(
    codes: npt.NDArray[np.uint32],
    visible: npt.NDArray[np.bool_],
    breaks: npt.NDArray[np.intp],
    first: IntArray,
) -> npt.NDArray[np.uint8]:
    """Return the kind of cut before each token but the first one."""
    here = first[1:]
    cut_kinds = np.full(len(here), IN_WORD, dtype=np.uint8)
    cut_kinds[_in_cluster(codes, here)] = IN_CLUSTER
    wide = _wide(codes[first])
    cut_kinds[wide[1:] & wide[:-1] & (cut_kinds == IN_WORD)] = BETWEEN_WIDE
    spaced = ~visible[here - 1]
    cut_kinds[spaced] = AT_SPACE
    lines = np.searchsorted(breaks, first)
    cut_kinds[spaced & (lines[1:] > lines[:-1])] = AT_LINE_BREAK
    cut_kinds[here == first[:-1]] = 0
    return cut_kinds


def _in_cluster(codes: npt.NDArray[np.uint32], here: IntArray) -> npt.NDArray[np.bool_]:
    """Return whether a cut would separate a letter from its accent, or an emoji from the one joined to it."""
    kinds, which = np.unique(codes[here], return_inverse=True)
    joiner = 0x200D  # zero-width joiner
    marks = np.array(
        [kind == joiner or unicodedata.category(chr(kind))[0] == "M" for kind in kinds], dtype=np.bool_
    )
    joined = codes[here - 1] == joiner
    return np.asarray(joined | marks[which], dtype=np.bool_)


def _wide(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Return whether each is an ideograph or kana: words of these may end after any character."""
    kana_to_unified = (codes >= 0x3040) & (codes < 0xA000)
    return kana_to_unified | ((codes >= 0xF900) & (codes < 0xFB00)) | ((codes >= 0x20000) & (codes < 0x40000))
