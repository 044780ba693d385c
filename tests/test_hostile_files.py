"""The table of hostile files in docs/sources.md: what the command line reads, refuses and notes of each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commands import run
from made_files import HOSTILE_FILES

UNKNOWN = "is unknown to the model"
PAGE = Path(__file__).parent.parent / "docs" / "sources.md"
ROW = re.compile(r"^\| `([^`|]+)` \| [^|]+ \| (read|refused)(?:; \"([^|\"]+)\")? \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], list[str]]:
    """The chunks of each document, and the lines of stderr, of a folder with all of them."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, file in HOSTILE_FILES.items():
        (folder / name).write_bytes(file.content)
    result = run("chunk", folder)
    assert result.exit_code == 1
    texts: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        chunk = json.loads(line)
        texts.setdefault(chunk["doc_id"], []).append(chunk["content"])
    return texts, result.stderr.splitlines()


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_what_becomes_of_a_hostile_file(name: str, outcome: tuple[dict[str, list[str]], list[str]]) -> None:
    texts, lines = outcome
    file = HOSTILE_FILES[name]
    found = ["".join(chunks) for doc_id, chunks in texts.items() if belongs(doc_id, name)]
    assert [without_spaces(text) for text in found] == [without_spaces(text) for text in file.texts]
    said = [line for line in lines if belongs(line.removeprefix("error: ").removeprefix("warning: "), name)]
    if UNKNOWN not in file.said:  # told of a file in another language beside what is in the table
        said = [line for line in said if UNKNOWN not in line]
    assert len(said) == bool(file.said)
    assert file.said in "".join(said)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("table.md", r"(\|.*\|\n)*\|.*\|"),
        ("table.html", r"(\|.*\|\n)*\|.*\|"),
        ("abbreviations.txt", r"(Dr\. Li et al\. .*?Inc\. |The U\.S\. Senate did not\. )+"),
    ],
)
def test_chunks_of_tables_and_abbreviations_are_whole(
    name: str, whole: str, outcome: tuple[dict[str, list[str]], list[str]]
) -> None:
    chunks = outcome[0][name]
    assert len(chunks) > 3
    end = " " if name.endswith(".txt") else ""
    assert [chunk for chunk in chunks if not re.fullmatch(whole, chunk + end)] == []


def belongs(to: str, name: str) -> bool:
    """Whether an id or a line of stderr is that of a file, or of a row of it."""
    return re.match(rf"{re.escape(name)}(?![\w.-])", to) is not None


def without_spaces(text: str) -> str:
    """Chunks leave out the whitespace between them."""
    return "".join(text.split())


def test_the_page_lists_each_file_with_what_becomes_of_it() -> None:
    listed = {name: (verdict, said) for name, verdict, said in ROW.findall(PAGE.read_text("utf-8"))}
    assert listed.keys() == HOSTILE_FILES.keys()
    for name, (verdict, said) in listed.items():
        file = HOSTILE_FILES[name]
        assert verdict == ("read" if file.texts else "refused"), name
        assert said == file.said, name
