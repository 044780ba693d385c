"""Questions with the places of their answers, read from JSON Lines or from a folder in BEIR's format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from es_latechunk.documents import printable
from es_latechunk.errors import DocumentError, UsageError, setting
from es_latechunk.types import ChunkSpan, Document

DOCUMENT_KEYS = ("doc_id", "corpus")
ANSWER_KEYS = ("answers", "references")
QUESTION_KEYS = ("question", "text", "query")
ID_KEYS = ("id", "_id")


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and what answers it.

    `answers` are spans of characters in the document `doc_id`. A question without spans has relevant documents alone:
    `documents` maps their ids to grades of relevance above 0. With spans, and by default, it holds `doc_id` with grade
    1. `pseudo` marks one that nobody asked: it was made from the text.
    """

    id: str
    text: str
    doc_id: str = ""
    answers: tuple[ChunkSpan, ...] = ()
    documents: Mapping[str, int] = field(default_factory=dict)
    pseudo: bool = False

    def __post_init__(self) -> None:
        if self.doc_id and not self.documents:
            object.__setattr__(self, "documents", {self.doc_id: 1})


@dataclass(frozen=True, slots=True)
class CollectionFiles:
    """The files of a collection of documents and questions that lie in one folder."""

    documents: Path
    questions: Path
    id_field: str = "id"


def find_collection(folder: Path) -> CollectionFiles | None:
    """Return the files of a folder in BEIR's format, or with documents.jsonl or corpus/ beside questions.jsonl."""
    if not folder.is_dir():
        return None
    if (folder / "corpus.jsonl").is_file() and (folder / "queries.jsonl").is_file():
        return CollectionFiles(folder / "corpus.jsonl", folder, id_field="_id")
    if (folder / "questions.jsonl").is_file():
        for documents in (folder / "documents.jsonl", folder / "corpus"):
            if documents.exists():
                return CollectionFiles(documents, folder / "questions.jsonl")
    return None


def read_questions(path: Path) -> Iterator[Question | DocumentError]:
    """Yield the questions of a JSON Lines file, or of a folder with BEIR's queries.jsonl and qrels/*.tsv.

    A line is `{"question": ..., "doc_id": ..., "answers": [{"start": ..., "end": ...}, ...]}`; without answers, the
    whole document is relevant. A line that cannot be used becomes a DocumentError with its file and number.
    """
    try:
        if path.is_dir():
            yield from _beir_questions(path)
        else:
            for location, row in _rows(path):
                yield row if isinstance(row, DocumentError) else _checked(location, row, {})
    except OSError as error:
        raise UsageError(
            f"{setting('questions')} {printable(str(error.filename or path))}: cannot be read ({error.strerror}); "
            "give a file of JSON lines, or a folder with queries.jsonl and qrels/"
        ) from error


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | DocumentError]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            location = printable(f"{path.name}:{number}")
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                yield location, DocumentError(location, f"is not JSON in UTF-8 ({error}); repair it")
                continue
            if isinstance(row, dict):
                yield location, row
            else:
                yield (
                    location,
                    DocumentError(location, 'is not a JSON object; write {"question": "...", ...}'),
                )


def _checked(
    location: str, row: Mapping[str, Any], judged: Mapping[str, Mapping[str, int]]
) -> Question | DocumentError:
    """Return the question of a row. `judged` holds the grades of documents by the id of the question."""
    question_id = str(_first(row, ID_KEYS) or location)
    text, doc_id = _first(row, QUESTION_KEYS), _first(row, DOCUMENT_KEYS)
    if not isinstance(text, str) or not text.strip():
        return DocumentError(location, 'has no "question"; write its text as a string')
    grades = dict(judged.get(question_id, {}))
    if grades:
        return Question(question_id, text, documents=grades)
    if not isinstance(doc_id, str | int) or isinstance(doc_id, bool):
        return DocumentError(location, 'has no "doc_id"; write the id of the document that answers it')
    answers = _first(row, ANSWER_KEYS)
    spans = [] if answers is None else answers
    if not isinstance(spans, list) or not all(_is_span(span) for span in spans):
        return DocumentError(location, 'has "answers" that are no list of {"start": integer, "end": integer}')
    if answers is not None and not spans:
        return DocumentError(
            location, "has an empty list of answers; leave the line out, as nothing answers it"
        )
    found = tuple(ChunkSpan(span["start"], span["end"]) for span in spans)
    return Question(question_id, text, str(doc_id), found, {str(doc_id): 1})


def _first(row: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _is_span(span: Any) -> bool:
    return isinstance(span, dict) and all(type(span.get(edge)) is int for edge in ("start", "end"))


def _beir_questions(folder: Path) -> Iterator[Question | DocumentError]:
    """Yield the questions that have judgements; BEIR's query files also hold those of the other splits."""
    judged: dict[str, dict[str, int]] = {}
    for item in _judgements(folder / "qrels"):
        if isinstance(item, DocumentError):
            yield item
        else:
            query, document, grade = item
            judged.setdefault(query, {})[document] = grade
    for location, row in _rows(folder / "queries.jsonl"):
        if isinstance(row, DocumentError):
            yield row
        elif relevant := {
            name: grade for name, grade in judged.pop(str(_first(row, ID_KEYS)), {}).items() if grade > 0
        }:
            yield _checked(location, row, {str(_first(row, ID_KEYS)): relevant})
    for query in judged:
        yield DocumentError(
            printable(query), "has judgements in qrels/, and no line in queries.jsonl; add the question"
        )


def _judgements(folder: Path) -> Iterator[tuple[str, str, int] | DocumentError]:
    """Yield query, document and grade from test.tsv, the split that results are reported on, or else from all files."""
    files = sorted(folder.glob("*.tsv"))
    test = [file for file in files if file.stem == "test"]
    if not files:
        raise UsageError(
            f"{setting('questions')} {printable(str(folder.parent))}: has no qrels/*.tsv; add a file with the columns "
            "query-id, corpus-id and score"
        )
    for file in test or files:
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            cells = line.split("\t")
            if (number == 1 and cells[-1:] == ["score"]) or not line.strip():
                continue
            if len(cells) != 3 or not cells[2].strip().lstrip("-").isdecimal():
                location = printable(f"{file.name}:{number}")
                yield DocumentError(
                    location, "is not query, document and grade, with tabs between; repair it"
                )
            else:
                yield cells[0], cells[1], int(cells[2])


def check_questions(
    questions: Iterable[Question | DocumentError], documents: Sequence[Document]
) -> Iterator[Question | DocumentError]:
    """Yield the questions that the documents can answer, with the ids of the documents as these have them.

    A DocumentError takes the place of a question whose document is missing, whose span lies outside of the text or
    holds nothing but whitespace, or whose id was used before.
    """
    known = {document.id: document for document in documents}
    stems: dict[str, list[str]] = {}
    for name in known:
        stems.setdefault(PurePosixPath(name).stem, []).append(name)
    seen: set[str] = set()
    for question in questions:
        if isinstance(question, DocumentError):
            yield question
            continue
        # A folder of texts gives ids such as finance.txt, where a data set says finance.
        names = {name: name if name in known else _only(stems.get(name)) for name in question.documents}
        cause = "has an id that another question has; give each its own" if question.id in seen else ""
        cause = cause or _fault(question, names, known)
        seen.add(question.id)
        if cause:
            yield DocumentError(printable(f"question {question.id}"), cause)
            continue
        grades = {names[name]: grade for name, grade in question.documents.items() if names[name]}
        yield replace(question, doc_id=names.get(question.doc_id, ""), documents=grades)


def _only(names: Sequence[str] | None) -> str:
    return names[0] if names and len(names) == 1 else ""


def _fault(question: Question, names: Mapping[str, str], known: Mapping[str, Document]) -> str:
    if not names:
        return f"names no document that answers it; give {setting('doc_id')}"
    missing = [name for name, found in names.items() if not found]
    if len(missing) == len(names):
        shown = printable(missing[0])
        return f'its document "{shown}" is not among the {len(known)} documents; check doc_id and --documents'
    if not question.answers:
        return ""
    text = known[names[question.doc_id]].text
    for span in question.answers:
        if not 0 <= span.start < span.end <= len(text):
            return (
                f"its answer [{span.start}, {span.end}) is empty or not inside the {len(text)} characters of "
                f'"{printable(question.doc_id)}"; give 0 <= start < end <= length, in code points'
            )
        if not text[span.start : span.end].strip():
            return (
                f"its answer [{span.start}, {span.end}) holds nothing but whitespace; no chunk can contain it"
            )
    return ""
