"""`verify` on a real server: exact cosines next to Elasticsearch's, and every kind of damage that it names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from commands import error_of, run
from elasticsearch import Elasticsearch
from faults import Fault, Request, Rewrite, WatchedProxy
from indices import LETTERS, QUERIES, WordEncoder, load, made_up_documents, make_index

from es_latechunk import (
    Document,
    DocumentError,
    KnnAccuracy,
    StoredProblem,
    VerifyReport,
    connect,
    embed_documents,
    verify,
)
from es_latechunk.elastic.search import stored
from es_latechunk.errors import IndexMismatchError, UsageError

DOCUMENTS = made_up_documents()


@pytest.fixture(scope="module")
def exact_and_quantized(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    """The same chunks in an index without quantization and in one with it, for tests that only read them."""
    with Elasticsearch(elasticsearch_url) as client:
        encoder = WordEncoder()
        for name, quantization in (("verified-flat", "flat"), ("verified-int8", "int8")):
            make_index(client, name, encoder, quantization=quantization)
            load(client, name, DOCUMENTS, encoder)
        yield client, encoder
        client.indices.delete(index="verified-flat,verified-int8")


@pytest.mark.every_version
def test_an_exact_index_has_the_recall_of_1_and_no_error(
    exact_and_quantized: tuple[Elasticsearch, WordEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "PAGE", 50)  # several pages, which do not end where a document does
    client, encoder = exact_and_quantized
    report = verify(
        "verified-flat",
        client=client,
        encoder=encoder,
        queries=QUERIES,
        num_candidates=[10, 100],
        documents=DOCUMENTS,
    )
    assert (report.index_type, report.documents, report.chunks, report.vectors) == ("flat", 24, 144, 144)
    for row, candidates in zip(report.knn, (10, 100), strict=True):
        assert (row.num_candidates, row.queries, row.recall, row.lowest_recall) == (candidates, 4, 1.0, 1.0)
        assert row.same_order == 4
        assert row.largest_error < 1e-6
    assert (report.problem_count, report.problems, report.compared_documents) == (0, (), 24)
    assert report.lowest_cosine == pytest.approx(1, abs=1e-6)


def test_a_quantized_index_is_measured_as_by_hand(
    exact_and_quantized: tuple[Elasticsearch, WordEncoder],
) -> None:
    client, encoder = exact_and_quantized
    k = 30
    report = verify("verified-int8", client=client, encoder=encoder, queries=QUERIES, k=k)
    chunks = list(embed_documents(DOCUMENTS, encoder=encoder, max_tokens=7))
    vectors = {f"{chunk.doc_id}#{chunk.ordinal}": chunk.vector.astype(np.float64) for chunk in chunks}  # type: ignore[union-attr]
    recalls, errors, same_order = [], [], 0
    for vector in encoder.encode_queries(QUERIES).astype(np.float64):
        cosines = {name: float(vector @ other) for name, other in vectors.items()}
        best = sorted(cosines, key=lambda name: -cosines[name])[:k]
        clause = {
            "field": "content_embedding",
            "query_vector": vector.tolist(),
            "k": k,
            "num_candidates": 500,
        }
        rows = client.search(index="verified-int8", knn=clause, size=k, source=False)["hits"]["hits"]
        found = [row["_id"] for row in rows]
        recalls.append(len(set(found) & set(best)) / k)
        errors += [abs(row["_score"] - (1 + cosines[row["_id"]]) / 2) for row in rows]
        same_order += found == best
    [row] = report.knn
    assert (type(report), type(row)) == (VerifyReport, KnnAccuracy)
    assert (row.num_candidates, row.same_order) == (500, same_order)
    assert (row.recall, row.lowest_recall) == (pytest.approx(np.mean(recalls)), min(recalls))
    assert row.largest_error == pytest.approx(max(errors), abs=1e-6)
    assert row.largest_error > 1e-5, "quantized scores are not exact"


def damaged(client: Elasticsearch, index: str, name: str, **changes: Any) -> None:
    """Write changes into a stored chunk; None removes a field."""
    row = client.get(index=index, id=name, source_exclude_vectors=False)["_source"]
    document = {key: value for key, value in {**row, **changes}.items() if value is not None}
    client.index(index=index, id=name, document=document, refresh=True)


def vector_of(client: Elasticsearch, index: str, name: str) -> list[float]:
    row = client.search(index=index, query={"ids": {"values": [name]}}, fields=["content_embedding"])
    values: list[float] = row["hits"]["hits"][0]["fields"]["content_embedding"]
    return values


@pytest.fixture
def letters(client: Elasticsearch, index_name: str) -> WordEncoder:
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    return encoder


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize(
    ("name", "changes", "problems"),
    [
        ("berlin#1", {"content_embedding": None}, ["berlin#1: has no vector"]),
        (
            "berlin#1",
            {"content_embedding": [2.0] + [0.0] * 15},
            ["berlin#1: its vector has the length 2.0000, not 1"],
        ),
        (
            "berlin#1",
            {"doc_hash": "other"},
            ["berlin#1: has the doc_hash other, the first chunk of its document has "],
        ),
        (
            "berlin#2",
            {"chunk_count": 4},
            ["berlin#2: has the chunk_count 4, the first chunk of its document has 3"],
        ),
        (
            "berlin#1",
            {"start": 20, "end": 36},
            ["berlin#1: begins at 20, before the end of the chunk before it (25)"],
        ),
        (
            "berlin#1",
            {"content": "other"},
            ["berlin#1: is not a chunk of es-latechunk (its content is not as long", "berlin#2: comes after"],
        ),
        (
            "stranger",
            {"content": "no chunk"},
            ["stranger: is not a chunk of es-latechunk (it has no doc_id, ordinal, start, end); delete it"],
        ),
    ],
)
def test_damage_is_named(
    client: Elasticsearch, index_name: str, name: str, changes: dict[str, Any], problems: list[str]
) -> None:
    if name == "stranger":
        client.index(index=index_name, id=name, document=changes, refresh=True)
    else:
        damaged(client, index_name, name, **changes)
    named: list[str] = []
    report = verify(index_name, client=client, on_problem=lambda problem: named.append(str(problem)))
    assert report.problem_count == len(problems)
    assert [str(problem) for problem in report.problems] == named
    for text in problems:
        assert any(line.startswith(f"index {index_name}: {text}") for line in named), named


@pytest.mark.usefixtures("letters")
def test_missing_chunks_are_named(client: Elasticsearch, index_name: str) -> None:
    for name in ("berlin#1", "lisbon#2", "köln#0"):
        client.delete(index=index_name, id=name, refresh=True)
    assert [str(problem).partition(": ")[2] for problem in verify(index_name, client=client).problems] == [
        "berlin#2: comes after the ordinal 0: the chunks in between are missing",
        "köln#1: is the first chunk of its document, but its ordinal is 1",
        "lisbon: its last chunk has the ordinal 1, its chunk_count is 3",
    ]


def test_a_document_without_a_hash_is_named_once(
    client: Elasticsearch, index_name: str, letters: WordEncoder
) -> None:
    for name in ("köln#0", "köln#1"):
        damaged(client, index_name, name, doc_hash=None)
    [problem] = verify(index_name, client=client).problems
    assert isinstance(problem, StoredProblem)
    assert (problem.id, problem.cause.partition(",")[0]) == ("köln", "has no doc_hash")


def test_a_vector_that_is_another_chunk_s_is_found_by_the_documents(
    client: Elasticsearch, index_name: str, letters: WordEncoder
) -> None:
    """It has the right length and norm, so only the text can tell."""
    damaged(client, index_name, "berlin#1", content_embedding=vector_of(client, index_name, "lisbon#1"))
    assert verify(index_name, client=client).problem_count == 0
    report = verify(index_name, client=client, encoder=letters, documents=LETTERS)
    [problem] = report.problems
    assert (problem.index, problem.id) == (index_name, "berlin#1")
    assert problem.cause.startswith("its vector is not that of its text: the cosine of the two is ")
    assert report.lowest_cosine is not None
    assert report.lowest_cosine < 0.999
    assert report.compared_documents == 3


def test_documents_that_the_index_does_not_have_as_they_are(
    client: Elasticsearch, index_name: str, letters: WordEncoder
) -> None:
    damaged(client, index_name, "lisbon#0", content="Lisbon lies on the tagus.")
    broken = DocumentError("broken.pdf", "cannot be read")
    changed = Document("berlin", "Berlin lies elsewhere.", "Berlin")
    sources = [broken, changed, *LETTERS[1:], Document("oslo", "Oslo lies by the fjord.")]
    problems = verify(index_name, client=client, encoder=letters, documents=sources).problems
    assert [str(problem).partition(": ")[2] for problem in problems] == [
        "broken.pdf: cannot be read",
        "berlin#0: was made of another text, model or settings than the source's; ingest it again",
        "lisbon#0: is not the document's text: it should be the characters 0 to 25",
        "oslo: is not in the index; ingest it",
    ]


def test_a_sample_is_the_same_for_the_same_seed(
    exact_and_quantized: tuple[Elasticsearch, WordEncoder],
) -> None:
    client, encoder = exact_and_quantized
    strangers = [Document(f"stranger {number}", "Not there.") for number in range(50)]

    def sampled(seed: int) -> list[str]:
        report = verify(
            "verified-flat", client=client, encoder=encoder, documents=strangers, sample=5, seed=seed
        )
        return [problem.id for problem in report.problems]

    assert len(sampled(0)) == 5
    assert sampled(0) == sampled(0)
    assert sampled(0) != sampled(1)


def test_another_model_and_wrong_numbers_are_refused(client: Elasticsearch, index_name: str) -> None:
    make_index(client, index_name)
    with pytest.raises(IndexMismatchError, match="holds vectors of fake/words"):
        verify(index_name, client=client, queries=["x"], encoder=WordEncoder(weights="sha256:other"))
    with pytest.raises(UsageError, match="sample 0 is not a number of documents"):
        verify(index_name, client=client, sample=0)
    with pytest.raises(UsageError, match="num_candidates 5 is not between k 10 and 10000"):
        verify(index_name, client=client, num_candidates=[5])


def test_an_alias_over_two_indices(client: Elasticsearch, index_name: str) -> None:
    encoder = WordEncoder()
    for number in range(2):
        make_index(client, f"{index_name}-{number}", encoder, quantization="flat")
        load(client, f"{index_name}-{number}", LETTERS[: number + 1], encoder)
        client.indices.put_alias(index=f"{index_name}-{number}", name=index_name)
    damaged(client, f"{index_name}-1", "berlin#0", content_embedding=[0.5] + [0.0] * 15)
    report = verify(index_name, client=client, encoder=encoder, queries=["Lisbon"], k=5)
    assert (report.documents, report.chunks, report.knn[0].recall) == (3, 9, 1.0)
    assert [(problem.index, problem.id) for problem in report.problems] == [(f"{index_name}-1", "berlin#0")]


SUMMARY = {
    "kind", "index", "index_type", "k", "documents", "chunks", "vectors", "compared_documents", "lowest_cosine",
    "problem_count",
}  # fmt: skip
KNN = {
    "kind", "index", "index_type", "k", "num_candidates", "queries", "recall", "lowest_recall", "same_order",
    "largest_error",
}  # fmt: skip


@pytest.fixture
def shell(
    client: Elasticsearch,
    elasticsearch_url: str,
    index_name: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Path:
    """A folder with the documents of an index, and the model and the server that commands find."""
    encoder = make_index(client, index_name)
    documents = [Document(f"{one.id}.txt", one.text, f"{one.id}.txt") for one in LETTERS]
    for document in documents:
        (tmp_path / document.id).write_text(document.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: encoder)
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    assert run("ingest", ".", "--index", index_name).exit_code == 0
    return tmp_path


def rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_command(shell: Path, client: Elasticsearch, index_name: str) -> None:
    (shell.parent / "queries.txt").write_text("old\n\nhills\n")
    words = ["verify", "--index", index_name, "--from-file", str(shell.parent / "queries.txt"), "-k", "3"]
    words += ["--num-candidates", "3", "--num-candidates", "50", "--documents", "."]
    shown = run(*words)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert f"{index_name} (int8_hnsw): 3 documents, 8 chunks, 8 vectors, 0 problems\n" in shown.stdout
    assert (
        "3 documents embedded again: the lowest cosine of a vector to the stored one is 1.0" in shown.stdout
    )
    assert "recall@3" in shown.stdout
    *knn, summary = rows(run(*words, "--json"))
    assert [(set(row), row["num_candidates"], row["queries"]) for row in knn] == [(KNN, 3, 2), (KNN, 50, 2)]
    assert set(summary) == SUMMARY

    damaged(
        client, index_name, "berlin.txt#1", content_embedding=vector_of(client, index_name, "berlin.txt#0")
    )
    found = run(*words, "--json")
    assert found.exit_code == 1
    assert found.stderr.startswith(
        f"error: index {index_name}: berlin.txt#1: its vector is not that of its text"
    )
    [problem] = [row for row in rows(found) if row["kind"] == "problem"]
    assert set(problem) == {"kind", "index", "id", "cause"}


def test_a_low_recall_exits_with_1(shell: Path, elasticsearch_url: str, index_name: str) -> None:
    """A server that loses one hit of four has a recall of three quarters."""

    def lose_one(answer: Any) -> None:
        del answer["hits"]["hits"][1]

    def watch(_: int, request: Request) -> Fault | None:
        return Rewrite(lose_one) if b'"knn"' in request.body else None

    with WatchedProxy(elasticsearch_url, watch) as proxy, connect(url=proxy.url):
        words = [
            "verify",
            "--index",
            index_name,
            "--query",
            "old",
            "--query",
            "hills",
            "-k",
            "4",
            "--url",
            proxy.url,
        ]
        assert run(*words, "--min-recall", "0.75").exit_code == 0
        refused = run(*words)
    assert refused.exit_code == 1
    assert refused.stderr == f"error: index {index_name}: the recall is 0.7500, below --min-recall 0.9\n"


def test_queries_come_from_one_place(shell: Path, index_name: str) -> None:
    message = error_of(run("verify", "--index", index_name, "--query", "x", "--from-file", "-"), 2)
    assert message == "verify takes either --query or --from-file FILE"
