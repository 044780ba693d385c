"""The marks that end a sentence: which characters they are, and which of a vocabulary's ids hold one."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from es_latechunk.types import IntArray, Tokenizer

# Marks that end a sentence only before a gap, as they also stand inside numbers, names and addresses:
# Latin, Greek, Armenian, Arabic full stop, Syriac, N'Ko, Georgian.
SPACED = ".?!…⋯‽\u037e։۔܀܁܂߹჻"
# Marks of scripts that put no space after a sentence, or that have no other use: CJK and halfwidth forms,
# Devanagari and its kin, Arabic question mark, Ethiopic, Burmese, Khmer, Tibetan, Mongolian, doubled marks.
UNSPACED = "。！？｡．।॥؟።፧፨။។៕།༎᠃᠉‼⁇⁈⁉﹒﹖﹗"
STOPS = SPACED + UNSPACED

# Quotes, brackets, Markdown emphasis and direction marks that follow a stop directly belong to it ...
_CLOSING = "\"'”’»›」』）)]｣】》〉〕］}｝*_`\u200e\u200f\u202c\u2069"
# ... while these close in one language and open in another: the space after them tells.
_EITHER = "“‘«‹"
# One space may stand before a closing mark, as in French, if it cannot be an opening one.
_AFTER_SPACE = "”’»›」』）)]"


def _class(characters: str) -> str:
    return f"[{re.escape(characters)}]"


STOP = re.compile(_class(STOPS))
STOP_RUN = re.compile(
    f"{_class(STOPS)}(?:{_class(STOPS + _CLOSING)}|{_class(_EITHER)}+(?=\\s|$))*"
    r"(?:\[\w{1,4}\])*"  # the number of a footnote
    f"(?:[ \u00a0\u202f]{_class(_AFTER_SPACE)}+(?=\\s|$))?"
    r"(?:[ \u00a0\u202f]?[\"']+(?=[\r\n]|$))?"  # alone at a line's end, a straight quote cannot open
)


class StopIds:
    """The ids of a vocabulary that hold a sentence-ending mark, gathered once for many texts."""

    _NONE, _STOP, _UNKNOWN = 0, 1, 2

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = tokenizer.pieces
        # One more for ids beyond the vocabulary; what is not among the pieces stays unknown.
        self._kinds = np.full(max(pieces, default=-1) + 2, self._UNKNOWN, dtype=np.int8)
        for id_, piece in pieces.items():
            self._kinds[id_] = self._STOP if STOP.search(piece) else self._NONE

    def candidates(self, ids: IntArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Token numbers: those whose piece holds a stop, and those whose piece tells nothing."""
        kinds = self._kinds[np.minimum(ids, len(self._kinds) - 1)]
        return np.flatnonzero(kinds == self._STOP), np.flatnonzero(kinds == self._UNKNOWN)
