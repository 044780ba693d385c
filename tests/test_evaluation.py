"""`evaluate` on tiny collections: formats, relevance, measures, vectors, and the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval
from commands import error_of, run
from hypothesis import given
from hypothesis import strategies as st
from indices import StableTokenizer, WordEncoder, made_up_documents

from es_latechunk import ChunkVector, Document, DocumentError, embed_documents, raise_errors
from es_latechunk.errors import UsageError
from es_latechunk.evaluation.evaluate import Axes, measure_combinations
from es_latechunk.evaluation.questions.read import (
    Question,
    check_questions,
    find_collection,
    read_questions,
)
from es_latechunk.evaluation.questions.relevance import choose_relevance, relevant_chunks
from es_latechunk.evaluation.results.measures import intervals, measure
from es_latechunk.evaluation.vectors.cache import ArrayCache
from es_latechunk.evaluation.vectors.chunkings import ChunkingVectors, Variant, cut_documents
from es_latechunk.evaluation.vectors.source import VectorSource
from es_latechunk.types import ChunkedDocument, ChunkSpan, FloatArray, PoolingOptions, Tokens, TokenWeights

NO_TOKENS = Tokens(np.empty(0, dtype=np.int32), np.empty((0, 2), dtype=np.int32))
# Emoji and letters with marks are several code points; the second text is longer than a window.
HARD = [
    Document("marks", "Zoë’s cafe\u0301 🎉🎉 lies here.\n\n\tIt is old. 你好 世界。 " * 3),
    Document("table", "| name | size |\n|---|---|\n" + "".join(f"| row {n} | {n} |\n" for n in range(60))),
    Document("one", "Word."),
]


def questions_of(documents: list[Document]) -> list[Question]:
    """Two questions of each document: the words of a sentence, which it answers."""
    found = []
    for document in documents:
        ends = [place for place, letter in enumerate(document.text) if letter == "."]
        for number, start in ((0, 0), (2, ends[1] + 2)):
            span = ChunkSpan(start, ends[number] + 1)
            text = document.text[span.start : span.end - 1].lower()
            found.append(Question(f"{document.id} {number}", text, document.id, (span,), {document.id: 1}))
    return found


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A folder in the format of our data sets."""
    folder = tmp_path / "collection"
    folder.mkdir()
    documents = made_up_documents()
    rows = [{"id": one.id, "title": one.title, "text": one.text} for one in documents]
    write_rows(folder / "documents.jsonl", rows)
    asked = [
        {
            "id": one.id,
            "doc_id": one.doc_id,
            "question": one.text,
            "answers": [{"start": span.start, "end": span.end, "text": "..."} for span in one.answers],
        }
        for one in questions_of(documents)
    ]
    write_rows(folder / "questions.jsonl", asked)
    return folder


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """The same questions in BEIR's format, with a second relevant document for the first one."""
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    documents = made_up_documents()
    questions = questions_of(documents)
    write_rows(
        folder / "corpus.jsonl",
        [{"_id": one.id, "title": one.title, "text": one.text, "metadata": {}} for one in documents],
    )
    write_rows(
        folder / "queries.jsonl",
        [{"_id": f"q{n}", "text": one.text, "metadata": {}} for n, one in enumerate(questions)],
    )
    lines = [f"q{n}\t{one.doc_id}\t1" for n, one in enumerate(questions)]
    lines += ["q0\tdoc-05\t2", "q0\tdoc-06\t0"]
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n", "utf-8"
    )
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nother\tdoc-01\t1\n", "utf-8")
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> WordEncoder:
    """The encoder that the command loads, whatever it is told."""
    made = WordEncoder()
    monkeypatch.setattr("es_latechunk.cli.evaluate.load_encoder", lambda *_, **__: made)
    return made


@pytest.fixture
def no_cache(tmp_path: Path) -> ArrayCache:
    return ArrayCache(tmp_path / "none", max_bytes=0)


# Questions


def test_our_data_sets_and_beir_s_folders_are_recognised(
    collection: Path, beir: Path, tmp_path: Path
) -> None:
    ours, theirs = find_collection(collection), find_collection(beir)
    assert ours is not None
    assert (ours.documents.name, ours.questions.name, ours.id_field) == (
        "documents.jsonl",
        "questions.jsonl",
        "id",
    )
    assert theirs is not None
    assert (theirs.documents.name, theirs.questions, theirs.id_field) == ("corpus.jsonl", beir, "_id")
    assert find_collection(tmp_path) is None


def test_beir_s_questions_are_those_of_the_test_split(beir: Path) -> None:
    first, *others = list(raise_errors(read_questions(beir)))
    assert first.documents == {"doc-00": 1, "doc-05": 2}
    assert len(others) == 47
    assert not any(one.answers for one in others)


def test_a_bad_row_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    lines = [
        '{"question": "good", "doc_id": "a", "answers": [{"start": 0, "end": 2}]}',
        "{",
        "[]",
        "",
        '{"question": " ", "doc_id": "a"}',
        '{"question": "no document"}',
        '{"question": "q", "doc_id": "a", "answers": [{"start": "0", "end": 2}]}',
        '{"question": "q", "doc_id": "a", "answers": []}',
        '{"question": "whole document", "doc_id": 7}',
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(lines), "utf-8")
    good, *bad, whole = list(read_questions(path))
    assert isinstance(good, Question)
    assert (good.id, good.answers) == ("questions.jsonl:1", (ChunkSpan(0, 2),))
    assert isinstance(whole, Question)
    assert (whole.doc_id, whole.answers, whole.documents) == ("7", (), {"7": 1})
    assert [str(error).partition(":")[2][:1] for error in bad] == ["2", "3", "5", "6", "7", "8"]
    assert all(isinstance(error, DocumentError) for error in bad)


def test_a_question_that_the_documents_cannot_answer_is_named() -> None:
    documents = [Document("texts/a.txt", "Ten chars.  "), Document("b/c.txt", "x"), Document("d/c.txt", "y")]
    asked = [
        question("good", "a", 0, 10),
        question("good", "a", 0, 10),
        question("missing", "b", 0, 1),
        question("ambiguous", "c", 0, 1),
        question("late", "a", 11, 13),
        question("empty", "a", 3, 3),
        question("blank", "a", 10, 12),
    ]
    good, *bad = list(check_questions(asked, documents))
    assert isinstance(good, Question)
    assert (good.doc_id, good.documents) == ("texts/a.txt", {"texts/a.txt": 1})
    assert [str(error)[:45] for error in bad] == [
        "question good: has an id that another questio",
        'question missing: its document "b" is not amo',
        'question ambiguous: its document "c" is not a',
        "question late: its answer [11, 13) is empty o",
        "question empty: its answer [3, 3) is empty or",
        "question blank: its answer [10, 12) holds not",
    ]


def test_a_question_s_document_is_relevant_unless_others_are_named() -> None:
    assert Question("q", "?", "a").documents == {"a": 1}
    assert Question("q", "?", "a", documents={"b": 2}).documents == {"b": 2}
    [told] = list(check_questions([Question("q", "?")], [Document("a", "x")]))
    assert str(told) == "question q: names no document that answers it; give doc_id"


def question(name: str, doc_id: str, start: int, end: int) -> Question:
    return Question(name, "What?", doc_id, (ChunkSpan(start, end),), {doc_id: 1})


# Relevance


@st.composite
def cut_texts(draw: st.DrawFn) -> tuple[ChunkedDocument, list[ChunkSpan]]:
    """A text cut anywhere, with gaps of whitespace, and answers anywhere."""
    size = draw(st.integers(1, 40))
    cuts = sorted(draw(st.sets(st.integers(1, size)))) or [size]
    spans = [
        ChunkSpan(start, end) for start, end in zip([0, *cuts], [*cuts, size], strict=True) if start < end
    ]
    edges = st.tuples(st.integers(0, size - 1), st.integers(1, size)).filter(lambda edge: edge[0] < edge[1])
    answers = [ChunkSpan(*edge) for edge in draw(st.lists(edges, min_size=1, max_size=4))]
    return ChunkedDocument(Document("a", "x" * size), tuple(spans), NO_TOKENS), answers


@given(cut_texts())
def test_a_chunk_is_relevant_if_it_holds_a_character_of_an_answer(
    cut: tuple[ChunkedDocument, list[ChunkSpan]],
) -> None:
    chunked, answers = cut
    wanted = {place for answer in answers for place in range(answer.start, answer.end)}
    found = relevant_chunks(Question("q", "?", "a", tuple(answers)), chunked)
    assert found == [
        ordinal for ordinal, span in enumerate(chunked.spans) if wanted & set(range(span.start, span.end))
    ]
    assert found


@given(cut_texts(), st.integers(1, 5))
def test_no_chunking_of_a_text_has_an_unanswered_question(
    cut: tuple[ChunkedDocument, list[ChunkSpan]], size: int
) -> None:
    chunked, answers = cut
    length = len(chunked.document.text)
    spans = tuple(ChunkSpan(start, min(start + size, length)) for start in range(0, length, size))
    other = ChunkedDocument(chunked.document, spans, NO_TOKENS)
    assert relevant_chunks(Question("q", "?", "a", tuple(answers)), other)


def test_relevance_follows_the_questions_unless_it_is_chosen() -> None:
    spans, whole = question("a", "a", 0, 1), Question("b", "?", "a", (), {"a": 1})
    assert choose_relevance([spans, spans], None) == "span"
    assert choose_relevance([spans, whole], "document") == "document"
    assert choose_relevance([whole], None) == "document"
    with pytest.raises(UsageError, match="1 of 2 have no answer spans"):
        choose_relevance([spans, whole], None)


# Vectors


class SmallVocabulary(StableTokenizer):
    """Ids below 5000, so that there can be a table of them."""

    def tokenize(self, text: str) -> Tokens:
        tokens = super().tokenize(text)
        return Tokens(tokens.ids % 5000, tokens.offsets)


VARIANTS = [
    Variant(PoolingOptions("late")),
    Variant(PoolingOptions("naive")),
    Variant(PoolingOptions("blend")),
    Variant(PoolingOptions("late", "sif", 0.3)),
    Variant(PoolingOptions("naive", "sif")),
    Variant(PoolingOptions("blend", "sif", 0.3, late_window=300), overlap=16),
    Variant(PoolingOptions("late", pieces=1)),
    Variant(PoolingOptions("naive", "sif", pieces=4)),
    Variant(PoolingOptions("blend", "sif", 0.3, late_window=300, pieces=2), overlap=16),
    Variant(PoolingOptions("blend", "sif", 0.3, late_window=300, pieces=2, embed_title=0.2), overlap=16),
]


@pytest.mark.parametrize("max_tokens", [3, 9])
def test_vectors_are_those_of_an_index(max_tokens: int, no_cache: ArrayCache) -> None:
    """Whatever the pooling and the letters, and also where a table is cut."""
    titled = [replace(one, title=f"The title of {one.id}") for one in HARD]
    encoder, documents = WordEncoder(window=400), [*titled, *made_up_documents(4)]
    encoder.tokenizer = SmallVocabulary()
    chunkings, _ = cut_documents(
        documents,
        encoders=[encoder],
        chunkers=["sentences", "tokens"],
        max_tokens=[max_tokens],
        on_progress=lambda *_: None,
    )
    found = ChunkingVectors(chunkings, VARIANTS, VectorSource(encoder, no_cache), on_progress=lambda *_: None)
    assert found.errors == []
    for number, chunking in enumerate(chunkings):
        for variant in VARIANTS:
            indexed = embed_documents(
                documents,
                encoder=encoder,
                max_tokens=max_tokens,
                chunker=chunking.chunker,
                pooling=variant.options,
                overlap=variant.overlap,
            )
            wanted = [chunk for chunk in indexed if isinstance(chunk, ChunkVector)]
            embedded = found.of(number, variant)
            assert embedded.rows.counts.tolist() == [len(chunk.pieces) for chunk in wanted]
            own = [chunk.vector for chunk in wanted]
            pieces = [piece.vector for chunk in wanted for piece in chunk.pieces]
            assert embedded.vector_count == len(own) + len(pieces)
            for rows, expected in ((embedded.rows.vectors, own), (embedded.rows.pieces, pieces)):
                cosines = (rows * np.array(expected).reshape(rows.shape)).sum(axis=1)
                assert cosines == pytest.approx(np.ones(len(expected)), abs=1e-4)


@pytest.mark.parametrize(("shared", "least"), [(False, 0.9999), (True, 0.9)])
def test_vectors_of_several_windows_are_those_of_an_index_or_close_to_them(
    shared: bool, least: float, no_cache: ArrayCache
) -> None:
    """The windows of an index end between its chunks. Shared ones end anywhere, so that all chunkings have them."""
    encoder, documents = WordEncoder(window=30), [*HARD, *made_up_documents(4)]
    encoder.tokenizer = SmallVocabulary()
    [chunking], _ = cut_documents(
        documents, encoders=[encoder], chunkers=["sentences"], max_tokens=[9], on_progress=lambda *_: None
    )
    for variant in (
        Variant(PoolingOptions("late", "sif"), shared=shared),
        Variant(PoolingOptions("blend"), 5, shared),
    ):
        source = VectorSource(encoder, no_cache)
        embedded = ChunkingVectors([chunking], [variant], source, on_progress=lambda *_: None).of(0, variant)
        indexed = embed_documents(
            documents, encoder=encoder, max_tokens=9, pooling=variant.options, overlap=variant.overlap
        )
        wanted = np.array([chunk.vector for chunk in indexed if isinstance(chunk, ChunkVector)])
        cosines = (embedded.rows.vectors * wanted).sum(axis=1)
        assert cosines.min() > least
        assert np.median(cosines) > 0.99


@pytest.mark.parametrize("late_window", [None, 12])
def test_the_tokens_of_a_variant_are_those_that_the_model_reads(
    late_window: int | None, no_cache: ArrayCache
) -> None:
    """A blend reads a document of one chunk once if it fits the late half's window, else as both halves."""
    variant = Variant(PoolingOptions("blend", late_window=late_window, embed_title=0.1), shared=False)
    documents = [
        Document("one chunk", "One two three four five.", "Numbers " * 40),
        Document("one chunk, two windows", "Words " * 14 + "end."),
        *made_up_documents(2),
    ]
    encoder = WordEncoder(window=40)
    [chunking], _ = cut_documents(
        documents, encoders=[encoder], chunkers=["sentences"], max_tokens=[16], on_progress=lambda *_: None
    )
    embedded = ChunkingVectors(
        [chunking], [variant], VectorSource(encoder, no_cache), on_progress=lambda *_: None
    )
    indexing = WordEncoder(window=40)
    list(embed_documents(documents, encoder=indexing, max_tokens=16, pooling=variant.options))
    assert embedded.of(0, variant).tokens == indexing.tokens_encoded


def test_a_second_chunking_and_a_second_run_need_no_model(tmp_path: Path) -> None:
    documents = made_up_documents(6)
    axes = Axes(max_tokens=(7, 14), poolings=("late",), modes=("knn",))

    def tokens_read(axes: Axes) -> tuple[int, list[float]]:
        encoder = WordEncoder()
        cache = ArrayCache(tmp_path / "cache", max_bytes=10**8)
        results = measure_combinations(
            documents, questions_of(documents), encoders=[encoder], cache=cache, axes=axes
        ).results
        return encoder.tokens_encoded, [float(one.in_corpus.ndcg.sum()) for one in results]

    once, first = tokens_read(Axes(max_tokens=(7,), poolings=("late",), modes=("knn",)))
    none, both = tokens_read(axes)
    assert once > 0
    assert none == 0
    assert both[0] == first[0]
    assert tokens_read(axes) == (0, both)


def test_chunks_that_were_read_for_weighted_means_are_not_read_again_for_plain_ones(tmp_path: Path) -> None:
    documents = made_up_documents(4)

    def read(*weights: TokenWeights) -> tuple[int, FloatArray]:
        encoder = WordEncoder()
        encoder.tokenizer = SmallVocabulary()
        variants = [Variant(PoolingOptions("naive", name)) for name in weights]
        chunkings, _ = cut_documents(
            documents, encoders=[encoder], chunkers=["sentences"], max_tokens=[7], on_progress=lambda *_: None
        )
        source = VectorSource(encoder, ArrayCache(tmp_path, max_bytes=10**8))
        found = ChunkingVectors(chunkings, variants, source, on_progress=lambda *_: None)
        return encoder.tokens_encoded, found.of(0, variants[0]).rows.vectors

    both, plain = read("none", "sif")
    again, kept = read("none")
    assert (both > 0, again) == (True, 0)
    assert kept.tolist() == plain.tolist()


# Measures


def test_ndcg_by_hand() -> None:
    """Relevant at ranks 2 and 3 of two: (1/log2(3) + 1/log2(4)) / (1 + 1/log2(3))."""
    found = {"q": {"x": 3.0, "a": 2.0, "b": 1.0}}
    scores = measure(found, {"q": {"a": 1, "b": 1}, "r": {"a": 1}}, ["q", "r"], k=10)
    assert scores.ndcg.tolist() == pytest.approx([(0.63093 + 0.5) / (1 + 0.63093), 0], abs=1e-5)
    assert scores.recall.tolist() == [1, 0]
    assert scores.mrr.tolist() == [0.5, 0]


def test_intervals_are_paired_and_repeatable() -> None:
    rng = np.random.default_rng(0)
    noise, gain = rng.normal(0, 0.2, 400), rng.normal(0.1, 0.2, 400)
    first, second, nothing = intervals(np.array([noise, gain, np.zeros(400)]))
    assert first.is_noise
    assert not second.is_noise
    # The standard error of the mean is .01, so that 95 % lie within .0196 on both sides.
    assert second.high - second.low == pytest.approx(4 * 0.0098, rel=0.1)
    assert (nothing.mean, nothing.low, nothing.high) == (0, 0, 0)
    assert intervals(gain[None])[0].low == pytest.approx(second.low)


@pytest.fixture
def evaluated(collection: Path, tmp_path: Path, encoder: WordEncoder) -> Iterator[list[dict[str, Any]]]:
    result = run(
        "evaluate", "--documents", collection, "--max-tokens", "7,14", "--cache-dir", tmp_path / "cache",
        "--runs", tmp_path / "runs", "--baseline", "naive 14 knn", "--json",
    )  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_combination_is_measured(evaluated: list[dict[str, Any]]) -> None:
    rows = [(row["max_tokens"], row["pooling"], row["mode"]) for row in evaluated if "mode" in row]
    assert rows == [
        (size, pooling, mode)
        for size in (7, 14)
        for pooling, mode in (
            (None, "bm25"),
            *((pooling, mode) for pooling in ("late", "naive") for mode in ("knn", "hybrid")),
        )
    ]
    [base] = [row for row in evaluated if row.get("baseline")]
    assert (base["max_tokens"], base["pooling"], base["mode"]) == (14, "naive", "knn")
    assert base["in_corpus"]["ndcg_difference"] == 0
    for row in evaluated:
        if "mode" in row:
            # A question of a sentence's own words is answered by BM25; more easily so among fewer chunks.
            assert row["in_document"]["ndcg"] >= row["in_corpus"]["ndcg"] > 0.5
            assert row["index_bytes"] > 0
            assert (row["tokens"] > 0) is (row["mode"] != "bm25")


def test_the_run_files_give_trec_eval_the_same_ndcg(evaluated: list[dict[str, Any]], tmp_path: Path) -> None:
    for row in evaluated:
        if "mode" not in row:
            continue
        words = [row["model"].replace("/", "-"), row["window"], row["chunker"], row["max_tokens"]]
        name = "_".join(map(str, [*words, *([row["pooling"]] if row["pooling"] else []), row["mode"]]))
        with (tmp_path / "runs" / f"{name}.qrels").open() as file:
            qrels = pytrec_eval.parse_qrel(file)
        for scope in ("corpus", "document"):
            with (tmp_path / "runs" / f"{name}.{scope}.run").open() as file:
                found = pytrec_eval.parse_run(file)
            values = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(found)
            mean = sum(value["ndcg_cut_10"] for value in values.values()) / len(qrels)
            assert mean == pytest.approx(row[f"in_{scope}"]["ndcg"], abs=1e-6)


def test_documents_are_ranked_by_their_best_chunk(beir: Path, encoder: WordEncoder, tmp_path: Path) -> None:
    result = run("evaluate", "--documents", beir, "--mode", "bm25", "--cache-dir", tmp_path, "--json")
    row = json.loads(result.stdout.splitlines()[0])
    assert (result.exit_code, row["questions"], row["in_document"]) == (0, 48, None)
    assert row["in_corpus"]["ndcg"] > 0.7


def test_a_question_that_cannot_be_used_is_named_and_the_exit_code_is_1(
    collection: Path, encoder: WordEncoder, tmp_path: Path
) -> None:
    with (collection / "questions.jsonl").open("a") as file:
        file.write(
            '{"id": "far", "doc_id": "doc-00", "question": "?", "answers": [{"start": 0, "end": 9999}]}\n{\n'
        )
    result = run("evaluate", "--documents", collection, "--mode", "bm25", "--cache-dir", tmp_path)
    assert result.exit_code == 1
    assert "error: questions.jsonl:50: is not JSON" in result.stderr
    assert "error: question far: its answer [0, 9999) is empty or not inside the" in result.stderr
    assert "48 questions" in result.stdout


def test_what_cannot_work_is_refused(collection: Path, encoder: WordEncoder, tmp_path: Path) -> None:
    documents = collection / "documents.jsonl"
    assert "needs --questions" in error_of(run("evaluate", "--documents", documents), 2)
    nothing = tmp_path / "nothing.jsonl"
    nothing.write_text("")
    given = ["evaluate", "--documents", documents, "--cache-dir", tmp_path / "cache", "--questions"]
    assert error_of(run(*given, nothing), 2) == "no question can be evaluated"
    assert "cannot be read" in error_of(run(*given, tmp_path / "missing"), 2)
    wrong = [*given, collection / "questions.jsonl", "--mode", "bm25", "--baseline", "naive"]
    assert "--baseline 'naive': no combination has these words" in error_of(run(*wrong), 2)
