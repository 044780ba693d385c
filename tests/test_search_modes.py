"""knn, bm25 and hybrid on a real server: what each finds, and that hybrid is the sum it says it is."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from indices import LETTERS, QUERIES, WordEncoder, load, made_up_documents, make_index, rows_of

from es_latechunk import Document, search
from es_latechunk.elastic.search.query import SearchOptions
from es_latechunk.elastic.search.searcher import Searcher
from es_latechunk.errors import ServerError, UsageError
from es_latechunk.types import ListScore

pytestmark = pytest.mark.every_version

INDEX, PLAIN = "modes", "modes-plain"


@pytest.fixture(scope="module")
def filled(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    """The same chunks with and without their neighbours' words; this file's tests only read them."""
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        encoder = WordEncoder()
        for name, context in ((INDEX, True), (PLAIN, False)):
            make_index(client, name, encoder, context_fields=context)
            load(client, name, made_up_documents(), encoder)
        yield client, encoder
        client.indices.delete(index=[INDEX, PLAIN])


@pytest.fixture(autouse=True)
def model(
    filled: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: filled[1])
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)


def scaled(rows: list[dict[str, Any]], floor: float, limit: int = 30) -> dict[str, float]:
    """A list's scores from its floor to its best, from the JSON rows of one mode; equal scores are 1."""
    if not rows:
        return {}
    low, high = rows[-1]["score"], rows[0]["score"]
    if len(rows) < limit:
        low = min(low, floor)
    return {row["id"]: (row["score"] - low) / (high - low) if high > low else 1.0 for row in rows}


def both_scaled(query: str, index: str, *more: str) -> tuple[dict[str, float], dict[str, float]]:
    bm25, knn = single_modes(query, index, 30, *more)
    return scaled(bm25, 0.0), scaled(knn, 0.5)


def best(sums: dict[str, float], k: int) -> list[tuple[str, Any]]:
    order = sorted(sums, key=lambda name: (-sums[name], name))[:k]
    return [(name, pytest.approx(sums[name], abs=1e-9)) for name in order]


def found(rows: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(row["id"], row["score"]) for row in rows]


def single_modes(query: str, index: str, candidates: int, *more: str) -> list[list[dict[str, Any]]]:
    wide = ["--index", index, "-k", str(candidates), "--num-candidates", str(candidates), *more]
    return [rows_of(query, "--mode", mode, *wide) for mode in ("bm25", "knn")]


@pytest.mark.parametrize("index", [INDEX, PLAIN])
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(
    ("more", "chunks"),
    [([], 30), (["--filter", "part=odd", "--filter", "ordinal>=1"], 30), (["--filter", "doc_id=doc-03"], 6)],
)
def test_hybrid_is_the_sum_of_the_single_modes(index: str, query: str, more: list[str], chunks: int) -> None:
    """As docs/search.md tells how to do it by hand; of one document, the lists are not cut."""
    bm25, knn = both_scaled(query, index, *more)
    assert len(knn) == chunks
    sums = {name: 0.5 * bm25.get(name, 0) + 0.5 * knn.get(name, 0) for name in bm25 | knn}
    hybrid = rows_of(query, "--mode", "hybrid", "--index", index, "-k", "8", "--num-candidates", "30", *more)
    assert found(hybrid) == best(sums, 8)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_weight_is_the_text_s_share(weight: float) -> None:
    bm25, knn = both_scaled(QUERIES[0], INDEX)
    sums = {name: weight * bm25.get(name, 0) + (1 - weight) * knn.get(name, 0) for name in bm25 | knn}
    rows = rows_of(
        QUERIES[0], "--index", INDEX, "-k", "8", "--num-candidates", "30", "--bm25-weight", str(weight)
    )
    assert found(rows) == best(sums, 8)


def test_reciprocal_rank_fusion() -> None:
    sums: dict[str, float] = {}
    for rows, weight in zip(single_modes(QUERIES[1], INDEX, 30), (0.5, 0.5), strict=True):
        for rank, row in enumerate(rows, 1):
            sums[row["id"]] = sums.get(row["id"], 0) + weight / (60 + rank)
    rows = rows_of(QUERIES[1], "--index", INDEX, "-k", "8", "--num-candidates", "30", "--fusion", "rrf")
    assert found(rows) == best(sums, 8)


def test_hybrid_is_the_default(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    client, encoder = filled
    asked = [QUERIES[0], "--index", INDEX]
    assert found(rows_of(*asked)) == found(rows_of(*asked, "--mode", "hybrid"))
    hits = search(QUERIES[0], index=INDEX, client=client, encoder=encoder)
    assert [(hit.id, hit.score) for hit in hits] == found(rows_of(*asked))


def test_a_single_hit_counts_in_full() -> None:
    [row] = rows_of("falcon", "--index", INDEX, "--filter", "doc_id=doc-01", "--filter", "ordinal=0")
    assert row["score"] in (pytest.approx(0.5), pytest.approx(1.0))


def test_a_hit_has_its_scores_and_ranks_in_both_lists(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    bm25, knn = single_modes(QUERIES[0], INDEX, 30)
    places = {
        name: {row["id"]: {"score": row["score"], "rank": rank} for rank, row in enumerate(rows, 1)}
        for name, rows in (("bm25", bm25), ("knn", knn))
    }
    asked = [QUERIES[0], "--index", INDEX, "-k", "20", "--num-candidates", "30"]
    for more in ([], ["--fusion", "rrf"], ["--collapse"]):
        rows = rows_of(*asked, *more)
        assert [row["scores"] for row in rows] == [
            {name: ranked.get(row["id"]) for name, ranked in places.items()} for row in rows
        ]
    assert all(row["scores"]["knn"] or row["scores"]["bm25"] for row in rows)
    assert all("scores" not in row for row in [*bm25, *knn])
    [hit] = search(QUERIES[0], index=INDEX, client=filled[0], encoder=filled[1], k=1)
    assert hit.scores is not None
    assert hit.scores["bm25"] == ListScore(rows_of(*asked[:3], "--mode", "bm25")[0]["score"], 1)


def test_a_word_of_the_neighbour_finds_a_chunk_below_the_one_that_has_it(
    client: Elasticsearch, index_name: str
) -> None:
    text = "Here nothing is said. Berlin lies on water. It is old. It has lakes. They are deep. All is well."
    encoder = make_index(client, index_name)
    load(client, index_name, [Document("b", text), Document("other", "No such word here.")], encoder)
    hits = search("Berlin", index=index_name, client=client, encoder=None, mode="bm25")
    ordinals = [hit.ordinal for hit in hits]
    assert (hits[0].ordinal, sorted(ordinals[1:])) == (1, [0, 2, 3])
    assert ordinals[-1] == 3
    assert hits[0].score > hits[1].score > hits[-1].score
    assert all("Berlin" not in hit.content for hit in hits[1:])


def test_the_neighbours_words_are_indexed_but_not_stored(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    answer = filled[0].search(index=INDEX, query={"exists": {"field": "neighbours_1"}}, source=True, size=1)
    assert answer["hits"]["total"]["value"] == 24 * 6
    assert not {"neighbours_1", "neighbours_2"} & answer["hits"]["hits"][0]["_source"].keys()


def quantised(length: int) -> int:
    """A field's length as Lucene keeps it in one byte (SmallFloat.intToByte4): exact below 24 + 16."""
    if length < 40:
        return length
    shift = max(0, (length - 24).bit_length() - 4)
    return 24 + ((length - 24) >> shift << shift)


def bm25f(documents: list[Document], word: str) -> dict[str, float]:
    """BM25 of tf + .2 tf(+-1) + .1 tf(+-2) + .5 tf(title), k1 = .8, b = .75; all times ten, as in the index.

    The length is the same sum of lengths. The number of chunks with the word is the largest of the four
    fields'. Elasticsearch multiplies by k1 + 1.
    """
    rows: dict[str, list[list[str]]] = {}
    for document in documents:
        chunks = [sentence.split() for sentence in document.text.lower().rstrip(".").split(". ")]
        for place in range(len(chunks)):
            around = [
                [
                    word
                    for other in {place - far, place + far}
                    if 0 <= other < len(chunks)
                    for word in chunks[other]
                ]
                for far in range(3)
            ]
            rows[f"{document.id}#{place}"] = [*around, document.title.lower().split()]
    weights = (10, 2, 1, 5)
    total = len(rows)
    average = (
        sum(w * len(f) for fields in rows.values() for w, f in zip(weights, fields, strict=True)) / total
    )
    holding = max(sum(word in fields[number] for fields in rows.values()) for number in range(4))
    idf = math.log(1 + (total - holding + 0.5) / (holding + 0.5))
    scores = {}
    for name, fields in rows.items():
        tf = sum(w * f.count(word) for w, f in zip(weights, fields, strict=True))
        length = quantised(sum(w * len(f) for w, f in zip(weights, fields, strict=True)))
        if tf:
            scores[name] = 9 * idf * tf / (tf + 8 * (0.25 + 0.75 * length / average))
    return scores


@pytest.mark.parametrize("word", ["copper", "falcon", "bread", "7"])
def test_scores_are_bm25f_s(filled: tuple[Elasticsearch, WordEncoder], word: str) -> None:
    expected = bm25f(made_up_documents(), word)
    hits = search(word, index=INDEX, client=filled[0], encoder=None, mode="bm25", k=200)
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("context", [True, False])
def test_a_title_is_found_and_another_analyzer_of_it_only_leaves_it_out(
    client: Elasticsearch, index_name: str, context: bool
) -> None:
    """An index that was made before titles were searched has the standard analyzer for them."""
    documents = [
        Document("z", "Cloves grow in its gardens. They smell of the sea.", "Zanzibar"),
        Document("other", "Zinc is a metal."),
    ]
    new, old = f"{index_name}-new", f"{index_name}-old"
    encoder = make_index(client, new, context_fields=context)
    body = client.indices.get(index=new)[new]
    body["mappings"]["properties"]["title"] = {"type": "text"}
    del body["mappings"]["properties"]["headings"]
    settings = {
        key: body["settings"]["index"][key]
        for key in ("analysis", "similarity")
        if key in body["settings"]["index"]
    }
    client.indices.create(index=old, mappings=body["mappings"], settings=settings)
    for name in (new, old):
        load(client, name, documents, encoder)
        client.indices.put_alias(index=name, name=index_name)

    def found(index: str, query: str) -> list[str]:
        return [hit.id for hit in search(query, index=index, client=client, encoder=None, mode="bm25")]

    assert sorted(found(new, "Zanzibar")) == ["z#0", "z#1"]
    assert found(old, "Zanzibar") == []
    assert found(old, "zinc") == ["other#0"]
    assert found(index_name, "Zanzibar") == [], "two indices are searched by what both can answer"
    assert found(index_name, "zinc") == ["other#0", "other#0"]


def test_a_chunk_is_found_by_the_headings_above_it_and_shows_them(
    client: Elasticsearch, index_name: str
) -> None:
    text = "# Zanzibar\n\nIt is an island.\n\n## Spices\n\nCloves grow in its gardens. They smell of the sea."
    encoder = make_index(client, index_name)
    load(client, index_name, [Document("z", text), Document("other", "Zinc is a metal.", "Zinc")], encoder)
    rows = rows_of("spices", "--mode", "bm25", "--index", index_name)
    assert {row["id"] for row in rows} >= {"z#2", "z#3"}
    assert rows[0]["content"].startswith("## Spices")
    assert all(row["content"] == text[row["start"] : row["end"]] for row in rows)
    paths = {
        row["content"]: row["headings"] for row in rows_of("island cloves sea zinc", "--index", index_name)
    }
    assert paths["They smell of the sea."] == ["Zanzibar", "Spices"]
    assert paths["Zinc is a metal."] == []


def test_without_context_fields_bm25_is_elasticsearch_s_own(
    filled: tuple[Elasticsearch, WordEncoder],
) -> None:
    client = filled[0]
    hits = rows_of("copper", "--index", PLAIN, "--mode", "bm25", "-k", "100")
    assert hits
    assert all("copper" in hit["content"].lower() for hit in hits)
    assert (
        not {"neighbours_1", "neighbours_2"}
        & client.indices.get_mapping(index=PLAIN)[PLAIN]["mappings"]["properties"].keys()
    )
    assert "similarity" not in client.indices.get_settings(index=PLAIN)[PLAIN]["settings"]["index"]


def test_bm25_loads_no_model(elasticsearch_url: str) -> None:
    """In a process of its own: torch costs seconds, and the model memory."""
    words = ["search", "copper", "--index", INDEX, "--mode", "bm25", "--url", elasticsearch_url, "--json"]
    code = (
        f"import sys\nfrom es_latechunk.cli import main\nmain({words}, standalone_mode=False)\n"
        "assert 'elasticsearch' in sys.modules\nassert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 10), done.stderr


def test_the_server_s_fusion_is_refused_where_it_is_missing() -> None:
    message = error_of(run("search", "copper", "--index", INDEX, "--fusion", "server"), 2)
    assert message.startswith("--fusion server: ")
    assert "licence: use --fusion convex" in message


def test_another_fault_is_not_blamed_on_the_fusion() -> None:
    message = error_of(run("search", "copper", "--index", INDEX, "--filter", "ordinal>=many"), 2)
    assert message.startswith(f"index {INDEX}: the search failed (")
    assert '"many"' in message


def test_an_unknown_language_is_refused(index_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_encoder", lambda *_, **__: WordEncoder())
    message = error_of(run("index", "create", index_name, "--language", "klingon"), 2)
    assert f"index {index_name}: the cluster does not have this analyzer" in message
    assert "klingon" in message


def test_a_search_by_vectors_needs_an_encoder(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    searcher = Searcher(filled[0], INDEX, SearchOptions())
    with pytest.raises(UsageError, match="a hybrid search needs an encoder"):
        searcher.run(["copper"], [None])


def test_an_alias_is_looked_up_once(client: Elasticsearch, index_name: str) -> None:
    """What the alias stands for later was perhaps made with another model."""
    first, second = f"{index_name}-1", f"{index_name}-2"
    encoder = make_index(client, first)
    load(client, first, LETTERS[:1], encoder)
    make_index(client, second, WordEncoder(window=32))
    client.indices.put_alias(index=first, name=index_name)
    searcher = Searcher(client, index_name, SearchOptions())
    vectors = searcher.encode(["old"], encoder)
    client.indices.delete_alias(index=first, name=index_name)
    client.indices.put_alias(index=second, name=index_name)
    [answer] = searcher.run(["old"], vectors)
    assert {hit.doc_id for hit in answer.hits} == {"berlin"}


def test_a_part_of_the_answer_is_no_answer(client: Elasticsearch, index_name: str) -> None:
    for number in range(2):
        encoder = make_index(client, f"{index_name}-{number}")
        load(client, f"{index_name}-{number}", [LETTERS[number]], encoder)
        client.indices.put_alias(index=f"{index_name}-{number}", name=index_name)
    client.indices.put_settings(index=f"{index_name}-1", settings={"index.max_result_window": 50})
    with pytest.raises(ServerError, match=r"the search failed .Result window is too large"):
        search("old", index=index_name, client=client, encoder=encoder, mode="bm25", k=100)
