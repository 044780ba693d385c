"""How often the encoding of a short file is guessed right, by language: the table of docs/sources.md.

    python benchmarks/encodings.py [--chosen-on] [--xquad FOLDER]

Reads the sentences of tests/fixtures/encoding_sentences.txt, and with --xquad those of a folder with XQuAD's
articles (documents.jsonl, {"lang", "text"} a line), each language's in every encoding that is usual for it.
--chosen-on takes the half of the sentences that the rules were chosen on, in place of the half that scores them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from sentences import LENGTHS, Case, cases, own_sentences

from es_latechunk.documents.encoding import decode

SENTENCE_END = re.compile(r"(?<=[.!?؟])\s+|(?<=。)")
SHORTEST, LONGEST = 20, 250  # characters of a sentence of an article
MOST = 80  # sentences of a language, so that no language outweighs the others
OUTCOMES = ("right", "right, noted", "wrong, noted", "wrong", "refused")
MAC = "mac_"


def main() -> None:
    """Print the tables, for the encodings of Windows, Unix and DOS, and for those of old Macs."""
    options = argparse.ArgumentParser()
    options.add_argument("--chosen-on", action="store_true")
    options.add_argument("--xquad", type=Path)
    given = options.parse_args()
    sources = [own_sentences(), *([article_sentences(given.xquad)] if given.xquad else [])]
    every = [case for source in sources for case in cases(source, scored=not given.chosen_on)]
    print_table([case for case in every if not case.encoding.startswith(MAC)])
    print_table([case for case in every if case.encoding.startswith(MAC)])


def article_sentences(folder: Path) -> dict[str, list[str]]:
    """The sentences of XQuAD's articles, by language; Thai, which ends none, is cut at its spaces."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (folder / "documents.jsonl").read_text("utf-8").splitlines():
        article = json.loads(line)
        parts = article["text"].split() if article["lang"] == "th" else SENTENCE_END.split(article["text"])
        found[article["lang"]] += [part for part in parts if SHORTEST <= len(part) <= LONGEST]
    return {language: sentences[: 2 * MOST] for language, sentences in found.items()}


def print_table(texts: Iterable[Case]) -> None:
    """One row per language and one for all: shares of texts of one, two and four sentences, in per cent."""
    counts: dict[str, dict[int, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for case in texts:
        for row in (case.language, "all"):
            counts[row][case.length][outcome(case)] += 1
    print(
        "| language | texts |",
        " | ".join(f"{length}: {name}" for length in LENGTHS for name in OUTCOMES),
        "|",
    )
    print("|---" * (2 + len(LENGTHS) * len(OUTCOMES)), "|", sep="")
    for row in [*sorted(counts.keys() - {"all"}), "all"]:
        shares = [
            f"{100 * counts[row][length][name] / max(1, counts[row][length].total()):.1f}"
            for length in LENGTHS
            for name in OUTCOMES
        ]
        total = sum(counter.total() for counter in counts[row].values())
        print("|", " | ".join([row, str(total), *shares]), "|")
    print()


def outcome(case: Case) -> str:
    """What becomes of a file with that content."""
    try:
        text, found = decode(case.content)
    except ValueError:
        return "refused"
    return ("right" if text == case.text else "wrong") + (", noted" if found.doubt else "")


if __name__ == "__main__":
    main()
