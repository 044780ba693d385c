"""Find the ends of sentences: by the token ids that contain a terminator, and by the text around each."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from es_latechunk.chunking.abbreviations import goes_on
from es_latechunk.chunking.token_positions import code_points, positions_of
from es_latechunk.types import IntArray, Tokenizer, Tokens

# Terminators (characters that can end a sentence) that need whitespace after them, because they also stand inside
# numbers, names and addresses:
# Latin, Greek, Armenian, Arabic full stop, Syriac, N'Ko, Georgian.
SPACED = ".?!…⋯‽\u037e։۔܀܁܂߹჻"
# Terminators of scripts that put no space after a sentence, or that have no other use: CJK and halfwidth forms,
# Devanagari and related scripts, Arabic question mark, Ethiopic, Burmese, Khmer, Tibetan, Mongolian, doubled marks.
UNSPACED = "。！？｡．।॥؟።፧፨။។៕།༎᠃᠉‼⁇⁈⁉﹒﹖﹗"
TERMINATORS = SPACED + UNSPACED

# Quotes, brackets, Markdown emphasis and direction marks that directly follow a terminator belong to it ...
_CLOSING = "\"'”’»›」』）)]｣】》〉〕］}｝*_`\u200e\u200f\u202c\u2069"
# ... while these close a quotation in one language and open one in another: a space after them means closing.
_EITHER = "“‘«‹"
# One space may stand before a closing mark, as in French, if it cannot be an opening one.
_AFTER_SPACE = "”’»›」』）)]"


def _class(characters: str) -> str:
    return f"[{re.escape(characters)}]"


TERMINATOR = re.compile(_class(TERMINATORS))
TERMINATOR_RUN = re.compile(
    f"{_class(TERMINATORS)}(?:{_class(TERMINATORS + _CLOSING)}|{_class(_EITHER)}+(?=\\s|$))*"
    r"(?:\[\w{1,4}\])*"  # the number of a footnote
    f"(?:[ \u00a0\u202f]{_class(_AFTER_SPACE)}+(?=\\s|$))?"
    r"(?:[ \u00a0\u202f]?[\"']+(?=[\r\n]|$))?"  # a straight quote at the end of a line cannot be an opening one
)


class TerminatorIds:
    """The ids of a vocabulary whose text contains a terminator, collected once for many texts."""

    _ORDINARY, _TERMINATOR, _UNKNOWN = 0, 1, 2

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = tokenizer.pieces
        # One entry more, for all ids beyond the vocabulary. An id without a piece stays unknown.
        self._kinds = np.full(max(pieces, default=-1) + 2, self._UNKNOWN, dtype=np.int8)
        for id_, piece in pieces.items():
            self._kinds[id_] = self._TERMINATOR if TERMINATOR.search(piece) else self._ORDINARY

    def candidates(self, ids: IntArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return two arrays of token numbers: pieces with a terminator, and pieces of unknown text."""
        kinds = self._kinds[np.minimum(ids, len(self._kinds) - 1)]
        return np.flatnonzero(kinds == self._TERMINATOR), np.flatnonzero(kinds == self._UNKNOWN)


# Zero-width spaces separate words although they are not whitespace.
_GAP = re.compile(r"[\s\u200b\ufeff]*")
_OPENING = re.compile(rf"""{_GAP.pattern}["'“‘„«»(\[*_]*""")
_UNSPACED = re.compile(f"[{re.escape(UNSPACED)}]")
# The sentence goes on after a terminator if a comma follows, or the next dot of a spaced-out ". . .", but not ".NET".
_GOES_ON = re.compile(rf"[,;:，、；：،؛]|[{re.escape(TERMINATORS)}]+(?=\s|\Z)")
_TERMINATOR_CODES = np.array(sorted(map(ord, TERMINATORS)), dtype=np.uint32)


def sentence_ends(text: str, tokens: Tokens, terminators: TerminatorIds) -> IntArray:
    """Return the positions (N,) after the sentences that end with a terminator and any closing quotes and brackets.

    In a text that begins its sentences with capital letters, a terminator before a small letter ends no sentence
    ("approx. five"). Other abbreviations are recognised by a list.
    """
    ends: list[tuple[int, str]] = []
    scanned = 0
    for start, end in tokens.offsets[_candidates(text, tokens, terminators)].tolist():
        scanned = max(scanned, start)
        while scanned < end and (found := TERMINATOR.search(text, scanned, end)):
            scanned = _skip(TERMINATOR_RUN, text, found.start())
            if _ends_sentence(text, found.start(), scanned):
                sure = _UNSPACED.search(text, found.start(), scanned)
                ends.append((scanned, "" if sure else _letter_after(text, scanned)))
    letters = [_letter_after(text, 0), *(letter for _, letter in ends)]
    # Small letters also follow abbreviations, so a third of capitals is enough to show that sentences begin with them.
    capitalised = 2 * sum(map(str.isupper, letters)) >= sum(map(str.islower, letters))
    kept = [end for end, letter in ends if not (capitalised and letter.islower())]
    return np.array(kept, dtype=np.int32)


def _candidates(text: str, tokens: Tokens, terminators: TerminatorIds) -> npt.NDArray[np.intp]:
    """Return the numbers of the tokens with a terminator: by their id, or if that is unknown, by their text."""
    known, unknown = terminators.candidates(tokens.ids)
    terminators_at = positions_of(code_points(text), _TERMINATOR_CODES)
    starts, ends = tokens.offsets[unknown].T
    under = np.searchsorted(terminators_at, ends) > np.searchsorted(terminators_at, starts)
    return np.union1d(known, unknown[under])


def _ends_sentence(text: str, start: int, end: int) -> bool:
    """Return whether the terminators [start, end) end a sentence, judged by the text around them."""
    after = _skip(_GAP, text, end)
    if after < len(text) and _GOES_ON.match(text, after):
        return False
    if after == end < len(text):
        between_digits = text[start - 1 : start].isdigit() and text[end].isdigit()
        return not between_digits and _UNSPACED.search(text, start, end) is not None
    if after == len(text) or text[start:end].rstrip("*_") != ".":
        return True
    return not goes_on(text, start, _skip(_OPENING, text, end))


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _letter_after(text: str, end: int) -> str:
    position = _skip(_OPENING, text, end)
    return text[position : position + 1]
