"""What the page asks for: late, naive and hybrid lists, over an index and over a text, passage by passage."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from faults import FaultProxy
from hypothesis import given
from hypothesis import strategies as st
from indices import LETTERS, QUERIES, WordEncoder, load, made_up_documents, make_index, stored_chunks
from serving import served

from es_latechunk import ComparedChunk, Document, embed_documents, search
from es_latechunk.elastic.search.searcher import join_passage
from es_latechunk.evaluation import compare
from es_latechunk.serve import page
from es_latechunk.serve.index import Index, example_query
from es_latechunk.serve.limits import Limits
from es_latechunk.serve.passages import passage_in, pieces, shown_passage
from es_latechunk.types import ChunkSpan, ChunkVector, Hit, PoolingOptions

INDEX, NAIVE = "page", "page-naive"
DOCUMENTS = {document.id: document for document in made_up_documents()}
LETTER = (
    "Berlin lies on the Spree. The city is old.\n\nIt has many lakes. Trams cross it! Who counts them? Few."
)


@pytest.fixture(scope="module")
def filled(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    with Elasticsearch(elasticsearch_url) as client:
        encoder = make_index(client, INDEX, max_tokens=14)  # two sentences a chunk
        load(client, INDEX, DOCUMENTS.values(), encoder)
        make_index(client, NAIVE, encoder, max_tokens=14, pooling="naive")
        load(client, NAIVE, DOCUMENTS.values(), encoder)
        yield client, encoder
        client.indices.delete(index=[INDEX, NAIVE])


@pytest.fixture(scope="module")
def url(filled: tuple[Elasticsearch, WordEncoder]) -> Iterator[str]:
    client, encoder = filled
    with served(encoder, index=Index(client, INDEX, encoder.identity)) as url:
        yield url


def ask(url: str, path: str, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{url}{path}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def hits_of(said: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The hits of one list."""
    [hits] = [one["hits"] for one in said["lists"] if one["name"] == name]
    return list(hits)


def all_hits(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [hit for one in said["lists"] for hit in one["hits"]]


def ranks(hit: dict[str, Any]) -> dict[str, int | None]:
    return {name: found and found["rank"] for name, found in hit["scores"].items()}


def cosines(encoder: WordEncoder, query: str, texts: list[str]) -> list[float]:
    [question] = encoder.encode_queries([query])
    return [float(cosine) for cosine in encoder.encode_documents(texts) @ question]


@pytest.mark.parametrize("candidates", [5, 50])
@pytest.mark.parametrize("query", QUERIES)
def test_the_lists_are_what_python_computes(
    filled: tuple[Elasticsearch, WordEncoder], url: str, query: str, candidates: int
) -> None:
    client, encoder = filled
    late, words, both = (
        search(
            query, client=client, index=INDEX, encoder=encoder, k=candidates, num_candidates=500, mode=mode
        )
        for mode in ("knn", "bm25", "hybrid")
    )
    found = {hit.id: hit for hit in (*late, *words, *both)}
    alone = dict(zip(found, cosines(encoder, query, [hit.content for hit in found.values()]), strict=True))
    naive = sorted(alone, key=lambda name: -alone[name])

    said = ask(url, "/search", query=query, candidates=candidates, k=4)
    assert [(one["name"], one["pooling"]) for one in said["lists"]] == [
        ("late", "late pooling"),
        ("naive", "naive pooling"),
        ("hybrid", "late pooling"),
    ]
    assert said["candidates"] == len(found)
    assert [hit["id"] for hit in hits_of(said, "late")] == [hit.id for hit in late[:4]]
    assert [hit["id"] for hit in hits_of(said, "naive")] == naive[:4]
    assert [hit["id"] for hit in hits_of(said, "hybrid")] == [hit.id for hit in both[:4]]
    # Every chunk that the two searches find is ranked, as both lists have room for all.
    everywhere = {hit.id: hit for hit in search(query, client=client, index=INDEX, encoder=encoder, k=500)}
    order = {name: rank for rank, name in enumerate(everywhere, 1)}
    for hit in all_hits(said):
        name = hit["id"]
        parts = everywhere[name].scores
        assert parts is not None
        expected = {one: found and found.rank for one, found in parts.items()}
        assert ranks(hit) == {
            "late": expected["knn"],
            "naive": naive.index(name) + 1,
            "hybrid": order[name],
            "bm25": expected["bm25"],
        }
        assert hit["scores"]["naive"]["score"] == pytest.approx(alone[name], abs=1e-5)
        assert hit["scores"]["late"]["score"] == pytest.approx(2 * parts["knn"].score - 1)  # type: ignore[union-attr]
        assert hit["scores"]["hybrid"]["score"] == pytest.approx(everywhere[name].score)
        assert (hit["title"], hit["content"]) == (DOCUMENTS[hit["doc_id"]].title, found[name].content)


def test_a_chunk_without_the_words_has_no_rank_by_them(url: str) -> None:
    said = ask(url, "/search", query=QUERIES[2], k=70)
    assert {ranks(hit)["bm25"] is None for hit in hits_of(said, "hybrid")} == {True, False}


def test_a_naive_index_has_a_hybrid_list_beside_its_own(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    client, encoder = filled
    with served(encoder, index=Index(client, NAIVE, encoder.identity)) as url:
        said = ask(url, "/search", query=QUERIES[0])
    assert [(one["name"], one["pooling"]) for one in said["lists"]] == [
        ("naive", "naive pooling"),
        ("hybrid", "naive pooling"),
    ]
    nearest = search(QUERIES[0], client=client, index=NAIVE, encoder=encoder, mode="knn")
    assert [hit["id"] for hit in hits_of(said, "naive")] == [hit.id for hit in nearest]


def test_without_indexed_text_there_is_no_hybrid_list(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, f"{index_name}-text")
    made = client.indices.get(index=f"{index_name}-text")[f"{index_name}-text"]
    mappings, settings = made["mappings"], made["settings"]["index"]
    mappings["properties"]["content"] = {"type": "keyword"}
    settings = {name: settings[name] for name in ("analysis", "similarity")}
    client.indices.create(index=index_name, mappings=mappings, settings=settings)
    load(client, index_name, LETTERS, encoder)
    with served(encoder, index=Index(client, index_name, encoder.identity)) as url:
        said = ask(url, "/search", query="old")
    assert [one["name"] for one in said["lists"]] == ["late", "naive"]
    assert [ranks(hit)["late"] for hit in hits_of(said, "late")] == list(range(1, 9))


def test_a_query_looks_the_index_up_once_and_searches_it_once(
    filled: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str
) -> None:
    encoder = filled[1]
    with (
        FaultProxy(elasticsearch_url) as proxy,
        Elasticsearch(proxy.url) as client,
        served(encoder, index=Index(client, INDEX, encoder.identity)) as url,
    ):
        assert all_hits(ask(url, "/search", query=QUERIES[0]))
        paths = [urlsplit(request.path).path for request in proxy.requests]
    # The mapping; both searches at once; the fields of the hits, in one or two requests; their neighbours.
    assert paths[0] == f"/{INDEX}/_mapping"
    assert set(paths[1:]) == {"/_msearch"}
    assert len(paths) <= 5


def examples_of(url: str) -> dict[str, list[str]]:
    said: dict[str, list[str]] = httpx.get(f"{url}/examples", timeout=60).json()
    return said


def test_examples_come_from_titles_and_headings(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    text = "# The harbour\n\nShips come and go.\n\n## Cranes\n\nThey lift what is heavy. Men look on."
    documents = [
        Document("a", text, "The harbour"),
        Document("b", "Falcons hunt by day. They are fast.", "Falcons"),
        Document("c", "It rains.", ""),
        Document(
            "d", "Nobody is named here, as the document has no title and no heading of its own at all.", ""
        ),
    ]
    with served(encoder, index=Index(client, index_name, encoder.identity)) as url:
        assert examples_of(url) == {"queries": []}
        load(client, index_name, documents[:2], encoder)
        said = examples_of(url)
        assert said == examples_of(url)
        assert "Falcons" in said["queries"]
        assert set(said["queries"]) - {"Falcons"} <= {"The harbour", "The harbour Cranes"}
        load(client, index_name, documents, encoder)
        assert len(examples_of(url)["queries"]) == 3
    with served(WordEncoder()) as plain:
        assert httpx.get(f"{plain}/examples", timeout=60).status_code == 404


@pytest.mark.parametrize(
    ("title", "headings", "content", "query"),
    [
        ("Lisbon", (), "It is old.", "Lisbon"),
        ("Lisbon", ("Lisbon",), "It is old.", "Lisbon"),
        ("Lisbon", ("Lisbon", "People"), "It is old.", "Lisbon People"),
        ("", ("  The\n people ",), "It is old.", "The people"),
        ("", (), "It is  old.", "It is old."),
        ("", (), "word " * 30, ("word " * 12).strip()),
        ("", (), "あ" * 100, "あ" * 60),
    ],
)
def test_an_example_is_a_title_and_a_heading_or_a_chunk_s_first_words(
    title: str, headings: tuple[str, ...], content: str, query: str
) -> None:
    hit = Hit("d#0", "d", 0, 1.0, 0, len(content), content, title, {}, headings=headings)
    assert example_query(hit) == query


@pytest.mark.parametrize("neighbours", [0, 1, 10])
def test_a_passage_is_the_document_s_text_with_the_hit_in_it(url: str, neighbours: int) -> None:
    said = ask(url, "/search", query=QUERIES[0], neighbours=neighbours)
    for hit in all_hits(said):
        text = "".join(piece["text"] for piece in hit["passage"])
        assert text in DOCUMENTS[hit["doc_id"]].text
        first, last = max(0, hit["ordinal"] - neighbours), min(2, hit["ordinal"] + neighbours)
        assert text.count(".") == 2 * (last - first + 1)
        assert "".join(piece["text"] for piece in hit["passage"] if piece["hit"]) == hit["content"]


@pytest.mark.parametrize(
    "options", [PoolingOptions(), PoolingOptions("blend", "sif", 0.3, 20), PoolingOptions("naive")], ids=str
)
def test_sentences_are_pooled_as_their_list_is(
    client: Elasticsearch, index_name: str, options: PoolingOptions
) -> None:
    encoder = make_index(client, index_name, max_tokens=14, pooling=options)
    load(client, index_name, DOCUMENTS.values(), encoder)
    query = QUERIES[1]
    with served(encoder, index=Index(client, index_name, encoder.identity)) as url:
        said = ask(url, "/search", query=query)
    own = {
        one["name"]: PoolingOptions("naive") if one["name"] == "naive" else options for one in said["lists"]
    }
    assert list(own) == list(dict.fromkeys([options.pooling, "naive", "hybrid"]))
    [question] = encoder.encode_queries([query])
    for name, pooling in own.items():
        for hit in hits_of(said, name):
            text = "".join(piece["text"] for piece in hit["passage"])
            sentences = [piece for piece in hit["passage"] if piece["similarity"] is not None]
            spans = tuple(ChunkSpan(*match.span()) for match in re.finditer(r"\S[^.]*\.", text))
            assert [piece["text"] for piece in sentences] == [text[span.start : span.end] for span in spans]
            document = Document("passage", text, spans=spans)
            expected = [
                float(chunk.vector @ question)
                for chunk in embed_documents([document], encoder=encoder, pooling=pooling)
                if isinstance(chunk, ChunkVector)
            ]
            assert [piece["similarity"] for piece in sentences] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("chunker", ["sentences", "paragraphs", "tokens"])
def test_a_text_is_compared_as_compare_does(url: str, chunker: str) -> None:
    encoder = WordEncoder()
    query = "old lakes"
    rows = compare([Document("text", LETTER)], query, encoder=encoder, max_tokens=6, chunker=chunker)
    assert {type(row) for row in rows} == {ComparedChunk}
    said = ask(url, "/compare", query=query, text=LETTER, max_tokens=6, chunker=chunker, k=3)
    expected = sorted(rows, key=lambda row: row.naive_rank)
    assert [one["name"] for one in said["lists"]] == ["late", "naive"]
    for hits, wanted in ((hits_of(said, "late"), rows), (hits_of(said, "naive"), expected)):
        assert [hit["id"] for hit in hits] == [f"text#{row.chunk.ordinal}" for row in wanted[:3]]
        for hit, row in zip(hits, wanted, strict=False):
            near = {name: pytest.approx(found["score"]) for name, found in hit["scores"].items()}
            assert near == {"late": row.late, "naive": row.naive}
            assert ranks(hit) == {"late": row.late_rank, "naive": row.naive_rank}
            assert "".join(piece["text"] for piece in hit["passage"] if piece["hit"]) == row.chunk.content
            assert "".join(piece["text"] for piece in hit["passage"]) in LETTER


def test_a_sentence_of_a_text_has_one_shade_in_every_passage(url: str) -> None:
    said = ask(url, "/compare", query="old lakes", text=LETTER, max_tokens=6)
    for pooling in ("late", "naive"):
        shades: dict[str, set[float]] = {}
        for piece in (piece for hit in hits_of(said, pooling) for piece in hit["passage"]):
            shades.setdefault(piece["text"], set()).add(piece["similarity"])
        assert len({*map(frozenset, shades.values())}) > 3
        assert all(len(shade) == 1 for shade in shades.values())


def test_an_index_without_a_hit_answers_with_empty_lists(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    with served(encoder, index=Index(client, index_name, encoder.identity)) as url:
        said = ask(url, "/search", query="anything")
    assert (said["candidates"], [one["hits"] for one in said["lists"]]) == (0, [[], [], []])


def test_documents_of_others_are_left_out(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    row = stored_chunks(client, index_name)["berlin#0"]
    for number, fields in enumerate(({"content": row["content"]}, {**row, "doc_id": ["a", "b"]}, row)):
        document = {**fields, "content_embedding": row["content_embedding"]}
        client.index(index=index_name, id=f"stranger{number}", document=document, refresh=True)
    with served(encoder, index=Index(client, index_name, encoder.identity)) as url:
        said = ask(url, "/search", query="Lisbon lies on the Tagus")
    assert {hit["doc_id"] for hit in all_hits(said)} == {"lisbon", "köln"}, "berlin has a chunk too many"


def test_an_index_that_no_longer_fits_is_refused_in_words(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    load(client, index_name, LETTERS, encoder)
    with served(encoder, index=Index(client, index_name, encoder.identity)) as url:
        assert all_hits(ask(url, "/search", query="old"))
        client.indices.delete(index=index_name)
        gone = httpx.post(f"{url}/search", json={"query": "old"}, timeout=60)
        make_index(client, index_name, WordEncoder(weights="sha256:other"))
        other = httpx.post(f"{url}/search", json={"query": "old"}, timeout=60)
    assert (gone.status_code, other.status_code) == (409, 409)
    assert f"index {index_name} does not exist" in gone.json()["error"]
    assert "holds vectors of fake/words (sha256:other)" in other.json()["error"]


def test_a_lost_elasticsearch_is_told_and_the_rest_goes_on() -> None:
    encoder = WordEncoder()
    with (
        Elasticsearch("http://127.0.0.1:9", request_timeout=5, max_retries=0) as client,
        served(encoder, index=Index(client, "any", encoder.identity)) as url,
    ):
        lost = httpx.post(f"{url}/search", json={"query": "old"}, timeout=60)
        examples = httpx.get(f"{url}/examples", timeout=60)
        assert all_hits(ask(url, "/compare", query="old", text="It is old."))
    assert (lost.status_code, examples.status_code) == (502, 502)
    assert "127.0.0.1:9: cannot be reached" in lost.json()["error"]


def test_a_search_with_too_many_tokens_is_refused(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    client, encoder = filled
    index = Index(client, INDEX, encoder.identity)
    with served(encoder, index=index, limits=Limits(request_tokens=100)) as url:
        refused = httpx.post(f"{url}/search", json={"query": QUERIES[0]}, timeout=60)
        assert all_hits(ask(url, "/search", query=QUERIES[0], candidates=1, k=1))
    assert (refused.status_code, "at most 100" in refused.json()["error"]) == (422, True)


def test_sentences_are_no_inputs() -> None:
    with served(WordEncoder(), limits=Limits(inputs=3)) as few:
        said = ask(few, "/compare", query="old lakes", text=LETTER, max_tokens=100)
    assert sum(piece["similarity"] is not None for piece in hits_of(said, "late")[0]["passage"]) == 6


def test_it_says_what_is_served(url: str) -> None:
    assert httpx.get(f"{url}/about").json() == {"model": "fake/words", "index": INDEX}
    assert "/search" in httpx.get(f"{url}/openapi.json").json()["paths"]
    with served(WordEncoder()) as plain:
        assert httpx.get(f"{plain}/about").json() == {"model": "fake/words", "index": None}
        assert "/search" not in httpx.get(f"{plain}/openapi.json").json()["paths"]


def test_the_page_s_files_name_no_other_place(url: str) -> None:
    for path in page.FILES:
        answer = httpx.get(f"{url}{path}")
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        names = set(re.findall(r"(?:https?:)?//[\w.-]+", re.sub(r"// .*", "", answer.text)))
        assert names <= {"http://www.w3.org"}  # a namespace, which is never asked for
        assert "innerHTML" not in answer.text
    assert httpx.head(url).headers["content-type"] == "text/html; charset=utf-8"


def test_without_an_index_elasticsearch_s_client_stays_away() -> None:
    code = "import sys, es_latechunk.serve.app; print([m for m in sys.modules if m.startswith('elastic')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_the_command_refuses_what_it_cannot_compare(
    filled: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: WordEncoder(weights="sha256:b")
    )
    there = ("--url", elasticsearch_url, "--port", 0)
    assert "index nowhere does not exist" in error_of(run("serve", "--index", "nowhere", *there), 2)
    assert "the model given is fake/words (sha256:b)" in error_of(run("serve", "--index", INDEX, *there), 2)
    lost = run("serve", "--index", INDEX, "--url", "http://127.0.0.1:9")
    assert "cannot be reached" in error_of(lost, 2)
    assert error_of(run("serve", *there), 2) == "--url is of no use without an index; add --index NAME"


GAPS = st.sampled_from(["", " ", "\n\n", "\n \n\n   "])
WORDS = st.text("ab. ", min_size=1, max_size=6).filter(str.strip).map(str.strip)


@given(st.lists(st.tuples(WORDS, GAPS), min_size=1, max_size=5), st.data())
def test_the_hit_is_found_in_its_passage(parts: list[tuple[str, str]], data: st.DataObject) -> None:
    text, hits = "", []
    for ordinal, (content, gap) in enumerate(parts):
        start = len(text) + (len(gap) if ordinal else 0)
        text += (gap if ordinal else "") + content
        hits.append(Hit(f"d#{ordinal}", "d", ordinal, 1.0, start, start + len(content), content, "", {}))
    place = data.draw(st.integers(0, len(hits) - 1))
    before = join_passage(hits[: place + 1]).text
    shown = shown_passage(hits[place], join_passage(hits))
    assert shown.text[shown.hit.start : shown.hit.end] == hits[place].content
    if all(len(gap) < 3 for _, gap in parts):
        assert shown.hit.end == len(before)


@given(st.lists(st.tuples(WORDS, GAPS), min_size=1, max_size=6), st.data())
def test_pieces_are_the_whole_passage(parts: list[tuple[str, str]], data: st.DataObject) -> None:
    text, chunks, sentences = "", [], []
    for content, gap in parts:
        chunks.append(ChunkSpan(len(text), len(text) + len(content)))
        sentences += [
            ChunkSpan(len(text) + match.start(), len(text) + match.end())
            for match in re.finditer(r"[^\s.]+|\.+", content)
        ]
        text += content + gap
    ordinal = data.draw(st.integers(0, len(chunks) - 1))
    shown = passage_in(text, chunks, ordinal, data.draw(st.integers(0, 3)))
    rows = pieces(shown, sentences, np.arange(len(sentences), dtype=np.float32))
    assert "".join(row["text"] for row in rows) == text[shown.start : shown.end]
    chunk = chunks[ordinal]
    assert "".join(row["text"] for row in rows if row["hit"]) == text[chunk.start : chunk.end]
    assert all((row["similarity"] is None) == (not row["text"].strip()) for row in rows)
