"""What an evaluation recommends: made-up scores whose differences are known, and the commands that follow."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import numpy as np
import numpy.typing as npt
import pytest
from commands import run
from indices import WordEncoder, made_up_documents
from test_evaluation import questions_of, write_rows

from es_latechunk import (
    Axes,
    EvaluatedCombination,
    Interval,
    OnProgress,
    evaluate,
    read_documents,
    read_questions,
)
from es_latechunk.cli.index import create
from es_latechunk.cli.ingest import ingest
from es_latechunk.cli.options.shared import PoolingChoice
from es_latechunk.cli.output.evaluation import recommended_commands
from es_latechunk.cli.search import search
from es_latechunk.evaluation.questions.read import Question
from es_latechunk.evaluation.results.combinations import Combination, CombinationResult, Evaluation
from es_latechunk.evaluation.results.differences import find_baseline
from es_latechunk.evaluation.results.measures import QuestionScores
from es_latechunk.evaluation.results.recommendation import recommend
from es_latechunk.evaluation.search.ranking import Found
from es_latechunk.types import PoolingOptions

QUESTIONS = 200
RNG = np.random.default_rng(5)
HARD = RNG.uniform(0, 0.8, QUESTIONS)  # how well each question is answered by anything


def scores(gain: float, noise: float = 0.1) -> npt.NDArray[np.float64]:
    return HARD + gain + RNG.normal(0, noise, len(HARD))


def combination(pooling: str, mode: str = "hybrid", max_tokens: int = 128, **others: Any) -> Combination:
    settings: dict[str, Any] = {
        "token_weights": "none", "neighbour_share": 0.0, "late_window": None, "overlap": None,
        "pieces": None, "embed_title": 0.0, **others,
    }  # fmt: skip
    return Combination("fake/words", 64, "sentences", max_tokens, pooling, mode=cast("Any", mode), **settings)


def result(made: Combination, ndcg: npt.NDArray[np.float64]) -> CombinationResult:
    measured = QuestionScores(ndcg, ndcg, ndcg)
    found = Found.empty(len(ndcg), 10)
    return CombinationResult(
        made, cast("Any", SimpleNamespace(encoder=WordEncoder())), measured, measured, found, 0, 0.0, 0
    )


def evaluation(*results: CombinationResult) -> Evaluation:
    count = len(results[0].in_corpus.ndcg)
    asked = [Question(str(number), "?", "a") for number in range(count)]
    return Evaluation(asked, "span", 10, results, [])


def test_a_gain_beyond_noise_is_recommended_with_its_interval() -> None:
    late, naive = result(combination("late"), scores(0)), result(combination("naive"), scores(0.05))
    advice = recommend(evaluation(late, naive), late)
    assert advice.chosen is naive
    assert advice.gain is not None
    assert 0 < advice.gain.low < advice.gain.mean < advice.gain.high
    assert advice.sentence.startswith("Use hybrid search over 128-token chunks with naive vectors: nDCG@10")
    assert "above hybrid search over 128-token chunks with late vectors; in-document +.0" in advice.sentence
    assert "Naive pooling is better here: late is at -.0" in advice.sentence


def test_a_difference_within_noise_keeps_the_baseline() -> None:
    late, naive = result(combination("late"), scores(0)), result(combination("naive"), scores(0.001))
    advice = recommend(evaluation(late, naive), late)
    assert advice.chosen is late
    assert advice.sentence.startswith("Keep hybrid search over 128-token chunks with late vectors: the diff")
    assert "with naive vectors, is within noise, " in advice.sentence
    assert "the difference is within noise here: late " in advice.sentence


def test_a_baseline_that_is_better_than_all_others_is_kept() -> None:
    late, naive = result(combination("late"), scores(0.1)), result(combination("naive"), scores(0))
    advice = recommend(evaluation(naive, late), late)
    assert advice.chosen is late
    assert (
        "the best other, hybrid search over 128-token chunks with naive vectors, is worse, -."
        in advice.sentence
    )
    assert "Late pooling is better here: +." in advice.sentence


def test_the_best_of_many_equal_ones_is_not_recommended() -> None:
    """Without a wider interval, one of forty often looks better than the baseline."""
    found = 0
    for _ in range(10):
        base = result(combination("late"), scores(0))
        others = [result(combination("late", max_tokens=size), scores(0)) for size in range(1, 41)]
        found += recommend(evaluation(base, *others), base).chosen is not base
    assert found <= 1


def test_few_questions_and_a_single_combination_are_no_basis() -> None:
    few = result(combination("late"), np.ones(19)), result(combination("naive"), np.zeros(19))
    advice = recommend(evaluation(*few), few[1])
    assert (advice.chosen, advice.sentence[:41]) == (None, "19 questions are too few for a recommenda")
    alone = result(combination("late"), scores(0))
    assert "there is none to choose" in recommend(evaluation(alone), alone).sentence


def test_the_baseline_has_the_settings_of_a_new_index_where_they_were_measured() -> None:
    made = [
        combination("", "bm25"),
        combination("naive"),
        combination("late", max_tokens=64),
        combination("late", "knn"),
        combination("late"),
        combination("late", token_weights="sif"),
    ]
    results = evaluation(*(result(one, scores(0)) for one in made))
    assert find_baseline(results, None).combination == combination("late")
    assert find_baseline(results, "64 late").combination.max_tokens == 64
    assert find_baseline(results, "sif").combination.token_weights == "sif"


@pytest.mark.parametrize(
    "made",
    [
        combination("late", "knn"),
        combination("naive", max_tokens=64),
        combination("late", overlap=16),
        combination("blend", token_weights="sif", neighbour_share=0.2, late_window=96, overlap=32),
        combination("blend", token_weights="sif", pieces=32),
        combination("naive", embed_title=0.1),
        combination("", "bm25", max_tokens=32),
    ],
)
def test_the_commands_are_understood(made: Combination) -> None:
    model = ["--model", "a model", "--window", "64", "--query-prefix", "query: "]
    lines = recommended_commands(made, model=model, source=["my notes/", "--id-field", "_id"], search=[])
    parsed: list[click.Context] = []
    for line, command, skipped in zip(lines, (create, ingest, search), (3, 2, 2), strict=True):
        words = shlex.split(line)
        assert words[0] == "es-latechunk"
        if command is ingest:  # whose folder has to exist when it runs, not when it is read
            words = [word.replace("my notes/", ".") for word in words]
        parsed.append(command.make_context("x", words[skipped:]))
    settings = parsed[0].params
    assert (settings["name"], settings["max_tokens"]) == ("my-index", made.max_tokens)
    chosen: Any = (
        made.pooling, made.token_weights, made.neighbour_share, made.late_window, made.pieces, made.embed_title
    )  # fmt: skip
    expected = PoolingOptions(*chosen)
    given = PoolingChoice({name: settings[name] for name in PoolingOptions.__dataclass_fields__})
    assert given.options(WordEncoder()) == (expected if made.pooling else None)
    assert (settings["overlap"], settings["query_prefix"]) == (made.overlap, "query: ")
    assert (parsed[1].params["index"], parsed[1].params["id_field"]) == ("my-index", "_id")
    assert parsed[2].params["mode"] == made.mode


def test_a_run_ends_with_a_recommendation(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr("es_latechunk.cli.evaluate.load_encoder", lambda *_, **__: WordEncoder())
    documents = made_up_documents()
    (tmp_path / "qrels").mkdir()
    write_rows(tmp_path / "corpus.jsonl", [{"_id": one.id, "text": one.text} for one in documents])
    asked = questions_of(documents)
    write_rows(tmp_path / "queries.jsonl", [{"_id": str(n), "text": one.text} for n, one in enumerate(asked)])
    lines = [f"{n}\t{one.doc_id}\t1\n" for n, one in enumerate(asked)]
    (tmp_path / "qrels" / "test.tsv").write_text("".join(lines))
    given = ("evaluate", "--documents", tmp_path, "--max-tokens", "7,14", "--pooling", "late,naive",
             "--query-prefix", "q: ", "--cache-dir", tmp_path / "cache")  # fmt: skip
    *_, last = run(*given, "--json").stdout.splitlines()
    advice = json.loads(last)
    shown = run(*given)
    assert shown.exit_code == 0
    assert advice["recommendation"] in shown.stdout
    corpus = shlex.quote(str(tmp_path / "corpus.jsonl"))
    assert advice["commands"][1] == f"es-latechunk ingest {corpus} --id-field _id --index my-index"
    assert "--query-prefix 'q: '" in advice["commands"][0]
    assert all(f"  {line}" in shown.stdout.splitlines() for line in advice["commands"])


def test_the_function_says_what_the_command_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = WordEncoder()
    monkeypatch.setattr("es_latechunk.cli.evaluate.load_encoder", lambda *_, **__: encoder)
    documents = made_up_documents()
    write_rows(tmp_path / "documents.jsonl", [{"id": one.id, "text": one.text} for one in documents])
    asked = questions_of(documents)
    write_rows(tmp_path / "questions.jsonl", [{"question": one.text, "doc_id": one.doc_id} for one in asked])
    given = ("--documents", tmp_path, "--max-tokens", "7,14", "--baseline", "naive 14 knn", "--json")
    *rows, advice = map(
        json.loads, run("evaluate", *given, "--cache-dir", tmp_path / "cache").stdout.splitlines()
    )
    shown: list[EvaluatedCombination] = []
    done: list[tuple[str, int, int]] = []

    def commands(chosen: EvaluatedCombination) -> list[str]:
        shown.append(chosen)
        return ["the line of a caller"]

    def on_progress(what: str, count: int, total: int) -> None:
        done.append((what, count, total))

    follow: OnProgress = on_progress
    report = evaluate(
        read_documents([tmp_path / "documents.jsonl"]),
        read_questions(tmp_path / "questions.jsonl"),
        encoders=[encoder],
        axes=Axes(max_tokens=(7, 14)),
        baseline="naive 14 knn",
        report=tmp_path / "report.html",
        commands=commands,
        cache_dir=tmp_path / "another",
        on_progress=follow,
    )
    for one, row in zip(report.combinations, rows, strict=True):
        assert one.in_corpus.ndcg.mean() == pytest.approx(row["in_corpus"]["ndcg"], abs=1e-6)
        assert (one is report.baseline) == row["baseline"]
        difference: Interval = one.in_corpus_difference
        assert difference.low == pytest.approx(row["in_corpus"]["ndcg_low"], abs=1e-6)
    assert (report.recommendation, [report.recommended]) == (advice["recommendation"], shown)
    assert "the line of a caller" in (tmp_path / "report.html").read_text("utf-8")
    assert (len(report.questions), report.relevance, report.k, report.errors) == (48, "document", 10, [])
    assert ("searching", 48, 48) in done
