"""Poolings of token vectors against plain loops: blends, token weights, neighbours, in any windows and batches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from fakes import PositionEncoder, WordTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from test_late_pooling import chunked, vectors_of, words

from es_latechunk import load_encoder
from es_latechunk.errors import UsageError
from es_latechunk.late import (
    SifWeights,
    TokenVectors,
    choose_windows,
    chunk_vectors,
    embed_chunks,
    l2_normalise,
)
from es_latechunk.late.combine import blend, mix_neighbours
from es_latechunk.late.pieces import PieceSpans
from es_latechunk.late.token_weights import A
from es_latechunk.types import (
    ChunkedDocument,
    ChunkSpan,
    Document,
    FloatArray,
    IntArray,
    PieceVector,
    PoolingOptions,
    Tokens,
)

OPTIONS = st.builds(
    PoolingOptions,
    st.sampled_from(["late", "naive", "blend"]),
    st.sampled_from(["none", "sif"]),
    st.sampled_from([0.0, 0.3, 1.0]),
    pieces=st.sampled_from([None, 1, 2, 5]),
    embed_title=st.sampled_from([0.0, 0.2, 1.0]),
)
TITLES = st.sampled_from(["", " ", "w3", "the new title of it", words(31), words(40, first=5)])


class UnitEncoder(PositionEncoder):
    """The encoder of positions, whose finished vectors have length 1, as a real one's have."""

    def finish(self, pooled: FloatArray) -> FloatArray:
        return l2_normalise(pooled)


def unit(vector: FloatArray) -> FloatArray:
    return vector / np.linalg.norm(vector)


def piece_edges(first: int, end: int, size: int) -> list[tuple[int, int]]:
    """The tokens of the fewest pieces of at most `size` tokens; each takes its token as soon as it is due."""
    count = -(-(end - first) // size)
    edges = [first + -(-number * (end - first) // count) for number in range(count + 1)]
    return list(pairwise(edges))


def slowly(
    document: ChunkedDocument, sizes: list[int], encoder: UnitEncoder, options: PoolingOptions
) -> tuple[list[FloatArray], list[list[FloatArray]]]:
    """Each formula as it is written down, one token and one chunk after the other: the chunks and their pieces."""
    table = SifWeights(encoder.tokenizer)
    edges = np.cumsum([0, *sizes])
    ids = document.tokens.ids
    in_windows = []
    for window in choose_windows(encoder).plan(len(ids), edges[:-1]):
        whole = encoder.encode_windows([ids[window.start : window.end]])[0]
        in_windows += list(whole[window.keep_start - window.start : window.keep_end - window.start])

    def alone(own_ids: IntArray) -> list[FloatArray]:
        found = []
        for window in choose_windows(encoder).plan(len(own_ids), [0]):
            whole = encoder.encode_windows([own_ids[window.start : window.end]])[0]
            found += list(whole[window.keep_start - window.start : window.keep_end - window.start])
        return found

    by_itself = [vector for first, end in pairwise(edges.tolist()) for vector in alone(ids[first:end])]

    def mean(vectors: list[FloatArray], own_ids: IntArray) -> FloatArray:
        weights = [table(own_ids[place : place + 1])[0] for place in range(len(own_ids))]
        if options.token_weights == "none":
            weights = [1.0] * len(own_ids)
        total = sum(
            weight * vector.astype(np.float64) for weight, vector in zip(weights, vectors, strict=True)
        )
        return unit(total / sum(weights))

    def row(first: int, end: int) -> FloatArray:
        late, naive = (mean(vectors[first:end], ids[first:end]) for vectors in (in_windows, by_itself))
        return {"late": late, "naive": naive, "blend": unit(late + naive)}[options.pooling]

    title_ids = encoder.tokenizer.tokenize(document.document.title).ids[:32]
    title = mean(alone(title_ids), title_ids) if len(title_ids) else None

    def titled(vector: FloatArray) -> FloatArray:
        share = options.embed_title
        return vector if title is None else unit((1 - share) * vector + share * title)

    rows = [row(first, end) for first, end in pairwise(edges.tolist())]
    chunks, pieces = [], []
    for place, (first, end) in enumerate(pairwise(edges.tolist())):
        near = [rows[other] for other in range(len(rows)) if 0 < abs(other - place) <= 2]
        share = options.neighbour_share if near else 0
        around = share * np.mean(near or [rows[place]], axis=0)
        chunks.append(titled(unit((1 - share) * rows[place] + around)))
        cut = piece_edges(first, end, options.pieces) if options.pieces else []
        pieces.append([titled(unit((1 - share) * row(*edges) + around)) for edges in cut])
    return chunks, pieces


def pieces_of(
    documents: list[ChunkedDocument], encoder: UnitEncoder, options: PoolingOptions
) -> dict[str, list[tuple[PieceVector, ...]]]:
    """The pieces of each chunk of each document."""
    found: dict[str, list[tuple[PieceVector, ...]]] = {}
    for block in embed_chunks(documents, encoder=encoder, pooling=options):
        assert len(block.pieces) == (len(block.vectors) if options.pieces else 0)  # type: ignore[union-attr]
        found.setdefault(block.chunked.document.id, []).extend(block.pieces)  # type: ignore[union-attr]
    return found


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=15),
    window=st.integers(2, 40),
    batch_tokens=st.integers(1, 90),
    options=OPTIONS,
    title=TITLES,
)
@settings(deadline=None)
def test_every_pooling_is_its_formula_in_any_windows_and_batches(
    sizes: list[int], window: int, batch_tokens: int, options: PoolingOptions, title: str
) -> None:
    encoder = UnitEncoder(window=window, batch_tokens=batch_tokens)
    text = " ".join(
        word for word, _ in zip(["the", "of", *words(150).split()], range(sum(sizes)), strict=False)
    )
    document = chunked(text, sizes, encoder.tokenizer, title=title)
    expected, expected_pieces = slowly(document, sizes, encoder, options)
    found = vectors_of([document], encoder, options)["d"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    pieces = pieces_of([document], encoder, options)["d"]
    for own, wanted in zip(pieces, expected_pieces, strict=bool(options.pieces)):
        np.testing.assert_allclose([piece.vector for piece in own], wanted, atol=1e-5)


@given(
    documents=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=6),
    batch_tokens=st.integers(1, 200),
    options=OPTIONS,
    title=TITLES,
)
@settings(deadline=None)
def test_batching_changes_nothing_in_any_pooling(
    documents: list[list[int]], batch_tokens: int, options: PoolingOptions, title: str
) -> None:
    """Invariant 5: neither a blend, nor the neighbours, nor a title reach into another document."""
    encoder = UnitEncoder(batch_tokens=batch_tokens)
    given_documents = [
        chunked(
            words(sum(sizes), first=100 * number),
            sizes,
            encoder.tokenizer,
            f"d{number}",
            f"{title} {number}" if number % 2 else title,
        )
        for number, sizes in enumerate(documents)
    ]
    together = vectors_of(given_documents, encoder, options)
    assert list(together) == [document.document.id for document in given_documents]
    for document in given_documents:
        alone = vectors_of([document], encoder, options)[document.document.id]
        np.testing.assert_array_equal(together[document.document.id], alone)
    if options.pieces:
        pieces = pieces_of(given_documents, encoder, options)
        for document in given_documents:
            [of_one] = pieces_of([document], encoder, options).values()
            for own, wanted in zip(pieces[document.document.id], of_one, strict=True):
                np.testing.assert_array_equal(
                    [piece.vector for piece in own], [piece.vector for piece in wanted]
                )


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    size=st.integers(1, 20),
)
def test_pieces_are_few_and_even_and_stay_in_their_chunk(sizes: list[int], size: int) -> None:
    """Each token of a chunk is in exactly one of its pieces, and the pieces' spans are those of their tokens."""
    tokenizer = WordTokenizer()
    document = chunked(words(sum(sizes)), sizes, tokenizer)
    found = pieces_of([document], UnitEncoder(window=400, batch_tokens=400), PoolingOptions(pieces=size))
    text = document.document.text
    for span, own, tokens in zip(document.spans, found["d"], sizes, strict=True):
        parts = [text[piece.start : piece.end].split() for piece in own]
        assert [word for part in parts for word in part] == text[span.start : span.end].split()
        lengths = [len(part) for part in parts]
        assert len(lengths) == -(-tokens // size)
        assert max(lengths) <= size
        assert max(lengths) - min(lengths) <= 1


def test_a_character_of_several_tokens_may_lie_in_two_pieces() -> None:
    """The spans stay inside the chunk, without the whitespace that some tokenizers count to a token."""
    text = "abc \N{ROCKET} de "
    offsets = np.array([(0, 3), (3, 5), (4, 5), (4, 5), (5, 8)], dtype=np.int32)
    spans = (ChunkSpan(0, 3), ChunkSpan(4, 8))
    document = ChunkedDocument(Document("d", text), spans, Tokens(np.arange(5, dtype=np.int32), offsets))
    found = [PieceSpans(document, 2).of(ordinal) for ordinal in range(2)]
    assert found == [[ChunkSpan(0, 3)], [ChunkSpan(4, 5), ChunkSpan(4, 8)]]


@pytest.mark.parametrize("pooling", ["late", "naive", "blend"])
@pytest.mark.parametrize("weights", ["none", "sif"])
def test_token_vectors_that_are_kept_give_the_same_chunk_vectors(pooling: str, weights: str) -> None:
    """What the model gave once serves every pooling, without running it again."""
    encoder = UnitEncoder(window=100)
    document = chunked("the cat of the house sat by me", [3, 2, 3], encoder.tokenizer, title="house")
    options = PoolingOptions(pooling, weights, 0.3, embed_title=0.2)  # type: ignore[arg-type]
    ids, owner = document.tokens.ids, np.array([0, 0, 0, 1, 1, 2, 2, 2], dtype=np.int32)
    alone = encoder.encode_windows([ids[:3], ids[3:5], ids[5:]])
    found = chunk_vectors(
        options,
        late=TokenVectors(encoder.encode_windows([ids])[0], ids, owner),
        naive=TokenVectors(np.concatenate(alone), ids, owner),
        titles=np.repeat(encoder.finish(encoder.encode_windows([ids[4:5]])[0]), 3, axis=0),
        weights=SifWeights(encoder.tokenizer) if weights == "sif" else None,
        finish=encoder.finish,
    )
    np.testing.assert_array_equal(found, vectors_of([document], encoder, options)["d"])


def test_a_blend_without_one_of_its_halves_is_refused() -> None:
    tokens = TokenVectors(np.ones((1, 2), dtype=np.float32), np.zeros(1, np.int32), np.zeros(1, np.int32))
    with pytest.raises(ValueError, match="blend pooling needs token vectors"):
        chunk_vectors(PoolingOptions("blend"), late=tokens)


def test_neighbours_by_hand() -> None:
    vectors = np.eye(4, dtype=np.float32)
    mixed = mix_neighbours(vectors, 0.3)
    np.testing.assert_allclose(mixed[0], unit(np.array([0.7, 0.15, 0.15, 0])), rtol=1e-6)
    np.testing.assert_allclose(mixed[1], unit(np.array([0.1, 0.7, 0.1, 0.1])), rtol=1e-6)
    np.testing.assert_array_equal(mix_neighbours(vectors[:1], 0.3), vectors[:1])


def test_a_blend_by_hand() -> None:
    late, naive = np.array([[1, 0]], dtype=np.float32), np.array([[0, 1]], dtype=np.float32)
    np.testing.assert_allclose(blend(late, naive), [[0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_a_token_that_comes_early_in_the_vocabulary_weighs_less() -> None:
    tokenizer = WordTokenizer()
    ids = tokenizer.tokenize("the of Zwieback").ids
    sum_of_all = 1 + 1 / 2 + 1 / 3
    expected = [A / (A + 1 / (rank * sum_of_all)) for rank in (1, 2, 3)]
    np.testing.assert_allclose(SifWeights(tokenizer)(ids), expected, rtol=1e-5)
    assert SifWeights(tokenizer)(np.array([3, 999], dtype=np.int32)).tolist() == [1, 1], (
        "no text of their own"
    )


def test_places_that_a_vocabulary_keeps_free_have_no_rank() -> None:
    """BERT's has 994 of them before the first mark, which would make every mark as rare as a name."""
    tokenizer = load_encoder().tokenizer
    weights = SifWeights(tokenizer)
    mark, the, name = (float(weights(tokenizer.tokenize(text).ids)[0]) for text in (".", "the", "lisbon"))
    assert mark < 0.2 < 0.8 < the < name < 1


def test_only_rows_that_wait_are_kept() -> None:
    """The first chunks of an endless document come while it is still read."""
    encoder = UnitEncoder(window=8, batch_tokens=8)
    sizes = [4] * 2000
    document = chunked(words(8000), sizes, encoder.tokenizer)
    blocks = embed_chunks([document], encoder=encoder, pooling=PoolingOptions("blend", "none", 0.3))
    first = next(blocks)
    assert first.first == 0  # type: ignore[union-attr]
    assert sum(sum(batch) for batch in encoder.batches) < 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (PoolingOptions("last"), "pooling: 'last' is not known"),  # type: ignore[arg-type]
        (PoolingOptions(token_weights="idf"), "token_weights: 'idf' is not known"),  # type: ignore[arg-type]
        (PoolingOptions(neighbour_share=1.5), "neighbour_share 1.5 is not a share"),
        (PoolingOptions(neighbour_share=float("nan")), "neighbour_share nan is not a share"),
        (PoolingOptions(embed_title=-0.1), "embed_title -0.1 is not a share"),
        (PoolingOptions(pieces=0), "pieces 0: give 1 token or more"),
        (PoolingOptions(late_window=17), "late_window 17: choose 1 to 16 tokens"),
        (PoolingOptions("naive", late_window=8), "late_window 8: naive pooling"),
    ],
)
def test_options_that_cannot_work_are_refused(options: PoolingOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        next(embed_chunks([], encoder=UnitEncoder(), pooling=options))


def test_the_late_half_has_its_own_window() -> None:
    encoder = UnitEncoder(window=16)
    document = chunked(words(16), [16], encoder.tokenizer)
    list(embed_chunks([document], encoder=encoder, pooling=PoolingOptions("blend", late_window=8)))
    lengths = sorted(length for batch in encoder.batches for length in batch)
    assert lengths == [8, 8, 16], "windows of the late half, and the chunk alone in one piece"


def test_a_document_of_one_chunk_goes_through_the_model_once() -> None:
    encoder = UnitEncoder(window=16)
    document = chunked(words(5), [5], encoder.tokenizer)
    blended = vectors_of([document], encoder, PoolingOptions("blend"))
    assert [length for batch in encoder.batches for length in batch] == [5]
    np.testing.assert_array_equal(blended["d"], vectors_of([document], encoder, "late")["d"])
