"""Where sentences end: from the ids that hold a stop, and the text around each."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from es_latechunk.chunking.abbreviations import goes_on
from es_latechunk.chunking.token_positions import code_points, positions_of
from es_latechunk.types import IntArray, Tokenizer, Tokens

# Marks that end a sentence only before a gap, as they also stand inside numbers, names and addresses:
# Latin, Greek, Armenian, Arabic full stop, Syriac, N'Ko, Georgian.
SPACED = ".?!…⋯‽\u037e։۔܀܁܂߹჻"
# Marks of scripts that put no space after a sentence, or that have no other use: CJK and halfwidth forms,
# Devanagari and its kin, Arabic question mark, Ethiopic, Burmese, Khmer, Tibetan, Mongolian, doubled marks.
UNSPACED = "。！？｡．।॥؟።፧፨။។៕།༎᠃᠉‼⁇⁈⁉﹒﹖﹗"
TERMINATORS = SPACED + UNSPACED

# Quotes, brackets, Markdown emphasis and direction marks that follow a stop directly belong to it ...
_CLOSING = "\"'”’»›」』）)]｣】》〉〕］}｝*_`\u200e\u200f\u202c\u2069"
# ... while these close in one language and open in another: the space after them tells.
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
    r"(?:[ \u00a0\u202f]?[\"']+(?=[\r\n]|$))?"  # alone at a line's end, a straight quote cannot open
)


class TerminatorIds:
    """The ids of a vocabulary that hold a sentence-ending mark, gathered once for many texts."""

    _ORDINARY, _TERMINATOR, _UNKNOWN = 0, 1, 2

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = tokenizer.pieces
        # One more for ids beyond the vocabulary; what is not among the pieces stays unknown.
        self._kinds = np.full(max(pieces, default=-1) + 2, self._UNKNOWN, dtype=np.int8)
        for id_, piece in pieces.items():
            self._kinds[id_] = self._TERMINATOR if TERMINATOR.search(piece) else self._ORDINARY

    def candidates(self, ids: IntArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Token numbers: those whose piece holds a stop, and those whose piece tells nothing."""
        kinds = self._kinds[np.minimum(ids, len(self._kinds) - 1)]
        return np.flatnonzero(kinds == self._TERMINATOR), np.flatnonzero(kinds == self._UNKNOWN)


# Zero-width spaces part words without being whitespace.
_GAP = re.compile(r"[\s\u200b\ufeff]*")
_OPENING = re.compile(rf"""{_GAP.pattern}["'“‘„«»(\[*_]*""")
_UNSPACED = re.compile(f"[{re.escape(UNSPACED)}]")
# What follows goes on with the sentence: a comma, or the next mark of a spaced-out ". . .", but not ".NET".
_GOES_ON = re.compile(rf"[,;:，、；：،؛]|[{re.escape(TERMINATORS)}]+(?=\s|\Z)")
_TERMINATOR_CODES = np.array(sorted(map(ord, TERMINATORS)), dtype=np.uint32)


def sentence_ends(text: str, tokens: Tokens, terminators: TerminatorIds) -> IntArray:
    """Positions (N,) just behind the sentences that end with a mark, closing quotes and brackets included.

    In a text that begins its sentences with capital letters, a mark before a small letter ends none
    ("approx. five"). Other abbreviations are known by a list.
    """
    ends: list[tuple[int, str]] = []
    scanned = 0
    for start, end in tokens.offsets[_candidates(text, tokens, terminators)].tolist():
        scanned = max(scanned, start)
        while scanned < end and (mark := TERMINATOR.search(text, scanned, end)):
            scanned = _skip(TERMINATOR_RUN, text, mark.start())
            if _ends_sentence(text, mark.start(), scanned):
                sure = _UNSPACED.search(text, mark.start(), scanned)
                ends.append((scanned, "" if sure else _letter_after(text, scanned)))
    letters = [_letter_after(text, 0), *(letter for _, letter in ends)]
    # Abbreviations give small letters too: a third of capitals shows that the text is not all small.
    capitalised = 2 * sum(map(str.isupper, letters)) >= sum(map(str.islower, letters))
    kept = [end for end, letter in ends if not (capitalised and letter.islower())]
    return np.array(kept, dtype=np.int32)


def _candidates(text: str, tokens: Tokens, terminators: TerminatorIds) -> npt.NDArray[np.intp]:
    """Numbers of the tokens with a stop: by id, or where the id tells nothing, by the text under it."""
    known, unknown = terminators.candidates(tokens.ids)
    marks = positions_of(code_points(text), _TERMINATOR_CODES)
    starts, ends = tokens.offsets[unknown].T
    under = np.searchsorted(marks, ends) > np.searchsorted(marks, starts)
    return np.union1d(known, unknown[under])


def _ends_sentence(text: str, start: int, end: int) -> bool:
    """Whether the run of marks [start, end) ends a sentence, by what stands around it."""
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
