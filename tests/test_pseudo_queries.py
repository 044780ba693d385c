"""Pseudo-queries: what they are made of, and that their own words are not in the text any more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import error_of, run
from hypothesis import given
from hypothesis import strategies as st
from indices import StableTokenizer, WordEncoder
from test_evaluation import write_rows

from es_latechunk import Document
from es_latechunk.evaluation.questions.pseudo_queries import PseudoQueries, make_pseudo_queries
from es_latechunk.evaluation.questions.read import Question, check_questions

SECTION = "\n".join(
    [
        "# The harbour of the town\n",
        "It was built by masons who came from the north. Their names are not known.\n",
        *(
            f"Sentence number {n} of this paragraph says one more thing about ships. It is short."
            for n in range(8)
        ),
    ]
)


def made_from(*texts: str, count: int = 1000) -> PseudoQueries:
    documents = [Document(f"d{number}", text) for number, text in enumerate(texts)]
    return make_pseudo_queries(documents, tokenizer=StableTokenizer(), count=count)


def test_a_heading_asks_for_its_section_and_a_sentence_for_what_stands_around_it() -> None:
    made = made_from(SECTION)
    [document] = made.documents
    asked = {
        question.text: [document.text[span.start : span.end] for span in question.answers]
        for question in made.questions
    }
    assert asked["The harbour of the town"] == ["It was built by masons who came from the north."]
    sentence, *_ = [text for text in asked if text.startswith("Sentence")]
    [around] = asked[sentence]
    assert around.startswith("It is short.\n") or around.startswith("Their names")
    assert around.endswith("It is short.")
    assert all(question.pseudo for question in made.questions)


def test_no_query_is_left_in_the_text() -> None:
    made = made_from(SECTION)
    assert len(made.questions) > 2
    for question in made.questions:
        assert question.text not in made.documents[0].text


@given(
    st.lists(
        st.sampled_from(["# A b\n", "One two three four five six seven eight. ", "End. ", "\n\n", "é🎉 "])
    )
)
def test_every_query_has_an_answer_in_its_document(parts: list[str]) -> None:
    made = made_from("".join(parts), "Another. ")
    checked = list(check_questions(made.questions, made.documents))
    assert all(isinstance(question, Question) for question in checked)
    kept = sum(len(document.text) for document in made.documents)
    taken = sum(len(question.text) for question in made.questions)
    assert kept + taken <= len("".join(parts)) + len("Another. ")


def test_the_same_documents_give_the_same_queries_and_no_more_than_wanted() -> None:
    assert made_from(SECTION, SECTION, count=3) == made_from(SECTION, SECTION, count=3)
    assert len(made_from(SECTION, SECTION, count=3).questions) == 3
    assert made_from("No sentences here", count=3).questions == []


def test_evaluate_calls_them_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_latechunk.cli.evaluate.load_encoder", lambda *_, **__: WordEncoder())
    write_rows(tmp_path / "d.jsonl", [{"id": str(n), "text": f"{SECTION} {n}"} for n in range(12)])
    given = ("evaluate", "--documents", tmp_path / "d.jsonl", "--make-questions", "30",
             "--cache-dir", tmp_path / "cache")  # fmt: skip
    result = run(*given)
    assert result.exit_code == 0
    assert result.stdout.startswith("30 pseudo-queries, ")
    assert "No recommendation: pseudo-queries do not rank the poolings as people's" in result.stdout
    assert "index create" not in result.stdout
    *rows, last = [json.loads(line) for line in run(*given, "--json").stdout.splitlines()]
    assert all(row["pseudo_queries"] for row in rows)
    assert last["commands"] == []
    both = (*given, "--questions", tmp_path / "q.jsonl")
    assert error_of(run(*both), 2) == "--questions and --make-questions: choose one of them"
