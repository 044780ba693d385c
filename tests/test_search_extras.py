"""What can be asked beside the mode: collapse, highlight, neighbours, many queries, oversampling, similarity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from indices import LETTERS, QUERIES, WordEncoder, load, made_up_documents, made_up_index, make_index, rows_of

from es_latechunk import Document, Passage, embed_documents, search
from es_latechunk.elastic.search.query import SearchOptions
from es_latechunk.elastic.search.searcher import Searcher, add_passages, join_passage
from es_latechunk.types import Hit

pytestmark = pytest.mark.every_version

INDEX = "extras"
MODES = ["knn", "bm25", "hybrid"]
DOCUMENTS = {document.id: document for document in made_up_documents()}


@pytest.fixture(scope="module")
def filled(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    """Vectors quantised to int8, as by default; this file's tests only read them."""
    with made_up_index(elasticsearch_url, INDEX) as both:
        yield both


@pytest.fixture(autouse=True)
def model(
    filled: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: filled[1])
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)


def ask(*arguments: str, **options: Any) -> list[dict[str, Any]]:
    return rows_of(*arguments, "--index", INDEX, **options)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("mode", MODES)
def test_collapse_gives_the_best_chunk_of_each_document(mode: str, query: str) -> None:
    """And up to four others of it, as good as the search found them."""
    every = ask(query, "--mode", mode, "-k", "144", "--num-candidates", "144")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in every:
        groups.setdefault(row["doc_id"], []).append(row)
    rows = ask(query, "--mode", mode, "-k", "5", "--num-candidates", "144", "--collapse")
    best = [group[0] for group in groups.values()][:5]
    assert [(row["id"], row["score"]) for row in rows] == [(row["id"], row["score"]) for row in best]
    for row in rows:
        assert ids(row["inner_hits"]) == ids(groups[row["doc_id"]][1:5])


@pytest.mark.parametrize("mode", MODES)
def test_highlight_marks_the_query_s_words(mode: str) -> None:
    rows = ask("copper tower", "--mode", mode, "--highlight")
    for row in rows:
        assert row["highlight"].replace("<em>", "").replace("</em>", "") == row["content"]
    assert any("<em>" in row["highlight"] for row in rows)
    assert all(("<em>" in row["highlight"]) == bool({"copper", "tower"} & words(row)) for row in rows)


def words(row: dict[str, Any]) -> set[str]:
    return set(row["content"].lower().rstrip(".").split())


@pytest.mark.parametrize("neighbours", [1, 2, 50])
@pytest.mark.parametrize("mode", MODES)
def test_a_passage_is_the_document_s_own_text(mode: str, neighbours: int) -> None:
    for row in ask(QUERIES[1], "--mode", mode, "--neighbours", str(neighbours)):
        passage = row["passage"]
        text = DOCUMENTS[row["doc_id"]].text[passage["start"] : passage["end"]]
        assert passage["text"].split() == text.split()
        around = range(max(0, row["ordinal"] - neighbours), min(5, row["ordinal"] + neighbours) + 1)
        assert passage["text"].count(".") == len(around)
        assert row["content"] in passage["text"]


def test_passages_of_paragraphs_and_of_tight_text(client: Elasticsearch, index_name: str) -> None:
    text = "One two three four five.\n\n\nSix seven eight nine ten.\tEleven twelve is all there is. End."
    encoder = make_index(client, index_name)
    load(client, index_name, [Document("d", text), *LETTERS], encoder)
    filters = ("doc_id=d", "ordinal=1")
    [hit] = add_passages(
        Searcher(client, index_name, SearchOptions()),
        search("seven", index=index_name, client=client, encoder=None, mode="bm25", filters=filters),
        1,
    )
    assert isinstance(hit.passage, Passage)
    assert hit.passage.text.startswith("One two three four five.\n\nSix seven eight nine ten. Eleven")
    assert (hit.passage.start, text[hit.passage.end - 1]) == (0, ".")


def test_a_hit_that_is_gone_meanwhile_is_its_own_passage(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    hit = Hit("gone#3", "gone", 3, 1.0, 10, 14, "text", "", {})
    searcher = Searcher(filled[0], INDEX, SearchOptions())
    assert add_passages(searcher, [hit], 2) == [replace(hit, passage=join_passage([hit]))]


def test_chunks_of_a_version_that_came_meanwhile_are_joined_to_no_hit(
    filled: tuple[Elasticsearch, WordEncoder],
) -> None:
    """The hit is of an older version, whose neighbours were elsewhere: what overlaps is not its passage."""
    document = next(iter(DOCUMENTS))
    searcher = Searcher(filled[0], INDEX, SearchOptions())
    [before, after] = (searcher.fetch_rows([f"{document}#{ordinal}"]) for ordinal in (1, 3))
    [end], [start] = ([one.end for one in before.values()], [one.start for one in after.values()])
    old = Hit(f"{document}#2", document, 2, 1.0, end - 5, start - 1, "x" * (start - end + 4), "", {})
    [hit] = add_passages(searcher, [old], 1)
    assert hit.passage is not None
    assert (hit.passage.start, hit.passage.text[: len(old.content)]) == (old.start, old.content)
    assert hit.passage.end == next(iter(after.values())).end


def test_many_queries_name_their_hits(tmp_path: Path) -> None:
    asked = [f"{QUERIES[number % 4]} {number}" for number in range(200)]
    path = tmp_path / "queries.txt"
    path.write_text("\ufeff\n" + "\n\n".join(asked) + "\n  \n", encoding="utf-8")
    rows = ask("--from-file", str(path), "-k", "3")
    assert [row["query"] for row in rows] == [query for query in asked for _ in range(3)]
    assert ids(rows[:3]) == ids(ask(asked[0], "-k", "3"))
    assert ids(rows[-3:]) == ids(ask(asked[-1], "-k", "3"))
    assert all(row["latency_ms"] > 0 for row in rows)


def test_many_queries_from_stdin_for_people() -> None:
    result = run("search", "--from-file", "-", "--index", INDEX, "-k", "1", input="falcon\n\ncopper\n")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["falcon", "copper"]


def test_queries_come_from_one_place(tmp_path: Path) -> None:
    for arguments in ([], ["falcon", "--from-file", "-"]):
        message = error_of(run("search", *arguments, "--index", INDEX), 2)
        assert message == "search needs either a QUERY or --from-file FILE"
    assert "cannot be read" in error_of(run("search", "--from-file", tmp_path, "--index", INDEX), 2)
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    assert "cannot be read" in error_of(run("search", "--from-file", tmp_path / "latin", "--index", INDEX), 2)


def exact(encoder: WordEncoder, query: str) -> dict[str, float]:
    """(1 + cosine) / 2 of every chunk, from the vectors before they were quantised."""
    [question] = encoder.encode_queries([query]).astype(np.float64)
    return {
        f"{chunk.doc_id}#{chunk.ordinal}": (1 + float(chunk.vector.astype(np.float64) @ question)) / 2
        for chunk in embed_documents(DOCUMENTS.values(), encoder=encoder, max_tokens=7)
    }


def test_oversampling_uses_the_full_vectors(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    scores = exact(filled[1], QUERIES[0])
    rough = ask(QUERIES[0], "--mode", "knn", "--oversample", "1")
    rows = ask(QUERIES[0], "--mode", "knn", "--oversample", "5")
    plain = ask(QUERIES[0], "--mode", "knn")
    for fine in (rough, rows):
        assert [row["score"] for row in fine] == pytest.approx([scores[row["id"]] for row in fine], abs=1e-6)
    assert [row["score"] for row in plain] != pytest.approx([scores[row["id"]] for row in plain], abs=1e-6)
    assert ids(rows) == sorted(scores, key=lambda name: -scores[name])[:10]


def test_similarity_is_the_least_cosine() -> None:
    everything = ask(QUERIES[0], "--mode", "knn", "-k", "100")
    near = [row["id"] for row in everything if row["score"] >= (1 + 0.4) / 2]
    assert 0 < len(near) < 100
    assert ids(ask(QUERIES[0], "--mode", "knn", "-k", "100", "--similarity", "0.4")) == near


@pytest.mark.parametrize("mode", MODES)
def test_all_filters_hold(mode: str) -> None:
    filters = [
        "part=even",
        "ordinal>=1",
        "ordinal<5",
        "doc_id=[doc-02, doc-03, doc-04]",
        "date=[2024-05-05, 2024-05-06]",
    ]
    options = [word for text in filters for word in ("--filter", text)]
    rows = ask(" ".join(QUERIES), "--mode", mode, "-k", "50", *options)
    assert {row["doc_id"] for row in rows} == {"doc-04"}
    assert {row["ordinal"] for row in rows} <= {1, 2, 3, 4}
    if mode != "bm25":
        assert len(rows) == 4
