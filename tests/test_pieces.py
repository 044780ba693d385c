"""Chunks with pieces on a real server: the best piece counts in every search, and nothing of an old one stays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from indices import QUERIES, WordEncoder, load, made_up_documents, make_index, rows_of, stored_chunks

from es_latechunk import Document, create_index, embed_documents, search, search_many, verify
from es_latechunk.bootstrap import stage_index
from es_latechunk.dry_run import DryRun, vector_bytes
from es_latechunk.elastic.index.admin import describe_index, read_identity
from es_latechunk.elastic.search.fusion import Candidate, convex_sum
from es_latechunk.elastic.write import bulk
from es_latechunk.errors import IndexMismatchError, UsageError, raise_errors
from es_latechunk.types import ChunkVector, PoolingOptions

pytestmark = pytest.mark.every_version

INDEX = "with-pieces"
POOLING = PoolingOptions("blend", "sif", 0.2, pieces=4)
MAX_TOKENS = 20
DOCUMENTS = made_up_documents()


@pytest.fixture(scope="module")
def filled(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    """An exact index of chunks with pieces, which tests only read."""
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        encoder = make_index(client, INDEX, max_tokens=MAX_TOKENS, pooling=POOLING, quantization="flat")
        load(client, INDEX, DOCUMENTS, encoder)
        yield client, encoder
        client.indices.delete(index=INDEX)


@pytest.fixture
def model(
    filled: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> WordEncoder:
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: filled[1])
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    return filled[1]


def embedded(documents: list[Document]) -> dict[str, ChunkVector]:
    chunks = embed_documents(documents, encoder=WordEncoder(), max_tokens=MAX_TOKENS, pooling=POOLING)
    return {f"{chunk.doc_id}#{chunk.ordinal}": chunk for chunk in raise_errors(chunks)}


CHUNKS = embedded(DOCUMENTS)


def by_hand(query: str, chosen: str = "") -> dict[str, float]:
    """The score of every chunk that a filter lets pass, by its best piece; the best chunk comes first."""
    [wanted] = WordEncoder().encode_queries([query])
    known = {document.id: {**document.metadata, "doc_id": document.id} for document in DOCUMENTS}
    name, _, value = chosen.partition("=")
    scores = {
        key: (1 + max(float(piece.vector @ wanted) for piece in chunk.pieces)) / 2
        for key, chunk in CHUNKS.items()
        if not chosen or known[chunk.doc_id][name] == value
    }
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def counts(client: Elasticsearch, name: str) -> tuple[int, int]:
    """The chunks and the pieces of an index."""
    client.indices.refresh(index=name)
    answer = client.search(index=name, size=0, aggs={"all": {"nested": {"path": "pieces"}}})
    return answer["hits"]["total"]["value"], answer["aggregations"]["all"]["doc_count"]


def test_every_chunk_has_several_pieces(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    client, _ = filled
    chunks = CHUNKS
    assert {len(chunk.pieces) for chunk in chunks.values()} == {5}
    assert counts(client, INDEX) == (len(chunks), 5 * len(chunks))
    facts = describe_index(client, INDEX)
    assert (facts["pieces"], facts["chunks"], facts["vectors"]) == (4, len(chunks), 6 * len(chunks))


@pytest.mark.parametrize("chosen", ["", "part=odd", "doc_id=doc-03"])
@pytest.mark.parametrize("more", [{}, {"oversample": 2.0}, {"similarity": 0.1}])
def test_knn_ranks_chunks_by_their_best_piece(
    filled: tuple[Elasticsearch, WordEncoder], chosen: str, more: dict[str, float]
) -> None:
    """A filter is over fields of the chunk and applies before the search: there are as many hits as without."""
    client, encoder = filled
    least = (1 + more.get("similarity", -1)) / 2
    filters = (chosen,) if chosen else ()
    asked = search_many(
        QUERIES, index=INDEX, client=client, encoder=encoder, mode="knn", k=8, filters=filters, **more
    )
    for query, result in zip(QUERIES, asked, strict=True):
        expected = {name: score for name, score in by_hand(query, chosen).items() if score >= least}
        assert [hit.id for hit in result.hits] == list(expected)[:8]
        assert [hit.score for hit in result.hits] == pytest.approx(list(expected.values())[:8], abs=1e-5)


def test_the_list_of_candidates_holds_chunks_not_pieces(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    client, encoder = filled
    hits = search(
        QUERIES[0], index=INDEX, client=client, encoder=encoder, mode="knn", k=48, num_candidates=48
    )
    assert {hit.id for hit in hits} == set(by_hand(QUERIES[0]))


@pytest.mark.parametrize("chosen", ["", "part=odd"])
def test_one_hit_per_document(filled: tuple[Elasticsearch, WordEncoder], chosen: str) -> None:
    client, encoder = filled
    scores = by_hand(QUERIES[0], chosen)
    documents: dict[str, list[str]] = {}
    for name in scores:
        documents.setdefault(name.partition("#")[0], []).append(name)
    filters = (chosen,) if chosen else ()
    for mode in ("knn", "hybrid"):
        hits = search(
            QUERIES[0],
            index=INDEX,
            client=client,
            encoder=encoder,
            mode=mode,  # type: ignore[arg-type]
            k=6,
            collapse=True,
            filters=filters,
        )
        assert len({hit.doc_id for hit in hits}) == 6
        for hit in hits:
            inner = hit.inner_hits or ()
            assert {hit.id, *(other.id for other in inner)} == set(documents[hit.doc_id])
            if mode == "knn":
                found = {one.id: one.score for one in (hit, *inner)}
                assert found == pytest.approx({name: scores[name] for name in found}, abs=1e-5)
        if mode == "knn":
            assert [hit.id for hit in hits] == [names[0] for names in documents.values()][:6]


@pytest.mark.parametrize("query", QUERIES[:2])
def test_hybrid_fuses_the_best_pieces_with_the_words(
    filled: tuple[Elasticsearch, WordEncoder], query: str
) -> None:
    client, encoder = filled
    candidates = 20

    def listed(mode: str) -> list[Candidate]:
        hits = search(
            query,
            index=INDEX,
            client=client,
            encoder=encoder,
            mode=mode,  # type: ignore[arg-type]
            k=candidates,
            num_candidates=candidates,
        )
        return [Candidate(INDEX, hit.id, hit.score) for hit in hits]

    fused = convex_sum(listed("bm25"), listed("knn"), bm25_weight=0.5, limit=candidates)
    hits = search(query, index=INDEX, client=client, encoder=encoder, k=8, num_candidates=candidates)
    assert [hit.id for hit in hits] == [one.id for one in fused[:8]]
    assert [hit.score for hit in hits] == pytest.approx([one.score for one in fused[:8]])
    for hit in hits:
        knn = (hit.scores or {})["knn"]
        assert knn is None or knn.score == pytest.approx(by_hand(query)[hit.id], abs=1e-5)


@pytest.mark.usefixtures("model")
def test_passages_and_printed_requests(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    client, _ = filled
    [row] = rows_of(QUERIES[0], "--index", INDEX, "--mode", "knn", "-k", "1", "--neighbours", "1")
    document = next(document for document in DOCUMENTS if document.id == row["doc_id"])
    assert row["passage"]["text"] == document.text
    printed = run("search", QUERIES[0], "--index", INDEX, "--mode", "knn", "-k", "4", "--console")
    head, _, body = printed.stdout.partition("\n")
    assert (printed.exit_code, head) == (0, f"POST /{INDEX}/_search")
    answer = client.search(index=INDEX, **_keywords(json.loads(body)))
    assert [hit["_id"] for hit in answer["hits"]["hits"]] == list(by_hand(QUERIES[0]))[:4]
    both = run("search", QUERIES[0], "--index", INDEX, "--console")
    assert "fuses them afterwards" in both.stderr
    assert "--fusion server" not in both.stderr, "which is refused here"
    examples = run("index", "show", INDEX, "--console")
    assert (examples.exit_code, '"pieces.vector"' in examples.stdout) == (0, True)
    shown = run("index", "show", INDEX)
    assert ["pieces", "4"] in [line.split() for line in shown.stdout.splitlines()]


def _keywords(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key.lstrip("_"): value for key, value in body.items()}


@pytest.mark.usefixtures("model")
def test_what_cannot_work_is_refused() -> None:
    refused = run("search", QUERIES[0], "--index", INDEX, "--fusion", "server")
    assert "--fusion server does not work with the pieces of this index" in error_of(refused, 2)


def test_loading_again_changes_nothing_and_leaves_nothing(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name, max_tokens=MAX_TOKENS, pooling=POOLING)
    whole, _ = load(client, index_name, DOCUMENTS[:6], encoder)
    again, _ = load(client, index_name, DOCUMENTS[:6], encoder)
    assert (again.unchanged, again.indexed, again.tokens) == (whole.chunks, 0, 0)
    shorter = [Document(document.id, document.text[:70], document.title) for document in DOCUMENTS[:6]]
    report, _ = load(client, index_name, shorter, encoder)
    assert (report.deleted, report.failed) == (6, 0)
    expected = embedded(shorter)
    stored = stored_chunks(client, index_name)
    assert {name: chunk["content"] for name, chunk in stored.items()} == {
        name: chunk.content for name, chunk in expected.items()
    }
    for name, chunk in stored.items():
        spans = [(piece["start"], piece["end"]) for piece in chunk["pieces"]]
        assert spans == [(piece.start, piece.end) for piece in expected[name].pieces]
    assert counts(client, index_name) == (6, sum(len(chunk.pieces) for chunk in expected.values()))


def test_requests_stay_small_with_many_vectors(
    client: Elasticsearch, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = make_index(client, index_name, max_tokens=MAX_TOKENS, pooling=PoolingOptions("late", pieces=1))
    sizes: list[int] = []
    send = client.bulk

    def measured(**options: Any) -> Any:
        sizes.append(sum(len(line) + 1 for line in options["operations"]))
        return send(**options)

    monkeypatch.setattr(client, "bulk", measured)
    monkeypatch.setattr(bulk, "BATCH_BYTES", 12_000)
    report, errors = load(client, index_name, DOCUMENTS[:8], encoder)
    assert (report.indexed, errors) == (16, [])
    assert counts(client, index_name) == (16, report.tokens)
    assert len(sizes) > 2
    assert max(sizes) <= 12_000


def test_the_pieces_are_part_of_what_an_index_records(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name, pooling=POOLING)
    assert read_identity(client, index_name).pooling == POOLING
    assert not create_index(index_name, encoder=encoder, client=client, max_tokens=7, pooling=POOLING)
    for pooling in (PoolingOptions("blend", "sif", 0.2), PoolingOptions("blend", "sif", 0.2, pieces=8)):
        with pytest.raises(IndexMismatchError, match="was created with pieces 4, the given setting is"):
            create_index(index_name, encoder=encoder, client=client, max_tokens=7, pooling=pooling)
    with pytest.raises(UsageError, match="pieces 0: give 1 token or more"):
        create_index(f"{index_name}-2", encoder=encoder, client=client, pooling=PoolingOptions(pieces=0))


def test_the_next_index_of_an_alias_has_pieces_too(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name, pooling=POOLING, max_tokens=MAX_TOKENS, quantization="flat")
    alias = f"{index_name}-alias"
    client.indices.put_alias(index=index_name, name=alias)
    staged, _ = stage_index(alias, client=client, encoder=encoder)
    assert read_identity(client, staged).pooling == POOLING
    fields = [
        client.indices.get_mapping(index=name)[name]["mappings"]["properties"]["pieces"]
        for name in (index_name, staged)
    ]
    assert fields[0] == fields[1]
    assert fields[0]["properties"]["vector"]["index_options"]["type"] == "flat"
    other = WordEncoder(dim=8, weights="sha256:other")
    client.indices.delete(index=staged)
    staged, _ = stage_index(alias, client=client, encoder=other)
    mapping = client.indices.get_mapping(index=staged)[staged]["mappings"]["properties"]
    assert mapping["pieces"]["properties"]["vector"]["dims"] == 8


def test_a_dry_run_counts_the_bytes_of_every_vector(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name, max_tokens=MAX_TOKENS, pooling=POOLING)
    plain = f"{index_name}-plain"
    make_index(client, plain, encoder, max_tokens=MAX_TOKENS)
    with_pieces, without = (
        DryRun(DOCUMENTS, index=name, client=client, encoder=encoder).plan for name in (index_name, plain)
    )
    assert with_pieces.chunks == without.chunks == 48
    more = with_pieces.estimated_bytes - without.estimated_bytes
    assert more == 5 * 48 * vector_bytes(encoder.dim, "int8_hnsw")


def test_embed_and_compare_show_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server: the lines of `embed` have what `embed_documents` gives, and `compare` counts the best piece."""
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_encoder", lambda *_, **__: WordEncoder())
    path = tmp_path / "doc.txt"
    path.write_text(DOCUMENTS[0].text)
    options = ("--pooling", "blend", "--token-weights", "sif", "--neighbour-share", "0.2", "--pieces", "4")
    result = run("embed", path, "--max-tokens", "20", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    chunks = list(embedded(DOCUMENTS[:1]).values())
    for line, chunk in zip(result.stdout.splitlines(), chunks, strict=True):
        row = json.loads(line)
        assert row["vector"] == chunk.vector.tolist()
        assert row["pieces"] == [
            {"start": piece.start, "end": piece.end, "vector": piece.vector.tolist()}
            for piece in chunk.pieces
        ]
        assert DOCUMENTS[0].text[row["pieces"][0]["start"] : row["pieces"][-1]["end"]] == row["content"]
    compared = run("compare", path, "--max-tokens", "20", "--query", QUERIES[0], "--json", *options)
    scores = [2 * score - 1 for name, score in by_hand(QUERIES[0]).items() if name.startswith("doc-00#")]
    rows = [json.loads(line) for line in compared.stdout.splitlines()]
    assert [row["late"] for row in rows] == pytest.approx(scores, abs=1e-5)


def test_verify_reads_every_piece(filled: tuple[Elasticsearch, WordEncoder]) -> None:
    client, encoder = filled
    report = verify(INDEX, client=client, encoder=encoder, queries=QUERIES, documents=DOCUMENTS)
    assert (report.chunks, report.vectors, report.problems) == (48, 6 * 48, ())
    [row] = report.knn
    assert (row.recall, row.same_order) == (1.0, 4)
    assert row.largest_error < 1e-6
    assert report.lowest_cosine == pytest.approx(1, abs=1e-6)


def test_verify_names_damaged_pieces(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name, max_tokens=MAX_TOKENS, pooling=POOLING)
    load(client, index_name, DOCUMENTS[:4], encoder)

    def damage(name: str, change: Any) -> None:
        source = client.get(index=index_name, id=name, source_exclude_vectors=False)["_source"]
        source["pieces"] = change(source["pieces"])
        client.index(index=index_name, id=name, document=source, refresh=True)

    other = np.eye(encoder.dim)[0].tolist()
    damage("doc-00#0", lambda pieces: [{**pieces[0], "vector": other}, *pieces[1:]])
    damage("doc-01#0", lambda pieces: pieces[:-1])
    damage("doc-02#1", lambda _: [])
    damage("doc-03#1", lambda pieces: [{**pieces[0], "vector": [2.0, *other[1:]]}, *pieces[1:]])
    report = verify(index_name, client=client, encoder=encoder, documents=DOCUMENTS[:4])
    named = sorted(str(problem).removeprefix(f"index {index_name}: ") for problem in report.problems)
    expected = [
        "doc-00#0: the vector of its piece 0 is not that of its text: the cosine of the two is",
        "doc-01#0: its pieces are [",
        "doc-02#1: has no pieces, so a kNN search does not find it",
        "doc-02#1: its pieces are [], those of its text are [",
        "doc-03#1: its piece 0: its vector has the length 2.0000, not 1",
        "doc-03#1: the vector of its piece 0 is not that of its text: the cosine of the two is",
    ]
    assert len(named) == len(expected)
    for line, beginning in zip(named, expected, strict=True):
        assert line.startswith(beginning), named
