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
from es_latechunk.late.token_weights import A
from es_latechunk.types import ChunkedDocument, FloatArray, IntArray, PoolingOptions

OPTIONS = st.builds(
    PoolingOptions,
    st.sampled_from(["late", "naive", "blend"]),
    st.sampled_from(["none", "sif"]),
    st.sampled_from([0.0, 0.3, 1.0]),
)


class UnitEncoder(PositionEncoder):
    """The encoder of positions, whose finished vectors have length 1, as a real one's have."""

    def finish(self, pooled: FloatArray) -> FloatArray:
        return l2_normalise(pooled)


def unit(vector: FloatArray) -> FloatArray:
    return vector / np.linalg.norm(vector)


def slowly(
    document: ChunkedDocument, sizes: list[int], encoder: UnitEncoder, options: PoolingOptions
) -> list[FloatArray]:
    """Each formula as it is written down, one token and one chunk after the other."""
    table = SifWeights(encoder.tokenizer)
    edges = np.cumsum([0, *sizes])
    ids = document.tokens.ids
    in_windows = []
    for window in choose_windows(encoder).plan(len(ids), edges[:-1]):
        whole = encoder.encode_windows([ids[window.start : window.end]])[0]
        in_windows += list(whole[window.keep_start - window.start : window.keep_end - window.start])

    def alone(first: int, end: int) -> list[FloatArray]:
        found = []
        for window in choose_windows(encoder).plan(end - first, [0]):
            whole = encoder.encode_windows([ids[first + window.start : first + window.end]])[0]
            found += list(whole[window.keep_start - window.start : window.keep_end - window.start])
        return found

    def mean(vectors: list[FloatArray], own_ids: IntArray) -> FloatArray:
        weights = [table(own_ids[place : place + 1])[0] for place in range(len(own_ids))]
        if options.token_weights == "none":
            weights = [1.0] * len(own_ids)
        total = sum(
            weight * vector.astype(np.float64) for weight, vector in zip(weights, vectors, strict=True)
        )
        return unit(total / sum(weights))

    rows = []
    for first, end in pairwise(edges.tolist()):
        late, naive = mean(in_windows[first:end], ids[first:end]), mean(alone(first, end), ids[first:end])
        rows.append({"late": late, "naive": naive, "blend": unit(late + naive)}[options.pooling])
    mixed = []
    for place, row in enumerate(rows):
        near = [rows[other] for other in range(len(rows)) if 0 < abs(other - place) <= 2]
        share = options.neighbour_share if near else 0
        mixed.append(unit((1 - share) * row + share * np.mean(near or [row], axis=0)))
    return mixed


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=15),
    window=st.integers(2, 40),
    batch_tokens=st.integers(1, 90),
    options=OPTIONS,
)
@settings(deadline=None)
def test_every_pooling_is_its_formula_in_any_windows_and_batches(
    sizes: list[int], window: int, batch_tokens: int, options: PoolingOptions
) -> None:
    encoder = UnitEncoder(window=window, batch_tokens=batch_tokens)
    text = " ".join(
        word for word, _ in zip(["the", "of", *words(150).split()], range(sum(sizes)), strict=False)
    )
    document = chunked(text, sizes, encoder.tokenizer)
    expected = slowly(document, sizes, encoder, options)
    found = vectors_of([document], encoder, options)["d"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(
    documents=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=6),
    batch_tokens=st.integers(1, 200),
    options=OPTIONS,
)
@settings(deadline=None)
def test_batching_changes_nothing_in_any_pooling(
    documents: list[list[int]], batch_tokens: int, options: PoolingOptions
) -> None:
    """Invariant 5: neither a blend nor the neighbours reach into another document."""
    encoder = UnitEncoder(batch_tokens=batch_tokens)
    given_documents = [
        chunked(words(sum(sizes), first=100 * number), sizes, encoder.tokenizer, f"d{number}")
        for number, sizes in enumerate(documents)
    ]
    together = vectors_of(given_documents, encoder, options)
    assert list(together) == [document.document.id for document in given_documents]
    for document in given_documents:
        alone = vectors_of([document], encoder, options)[document.document.id]
        np.testing.assert_array_equal(together[document.document.id], alone)


@pytest.mark.parametrize("pooling", ["late", "naive", "blend"])
@pytest.mark.parametrize("weights", ["none", "sif"])
def test_token_vectors_that_are_kept_give_the_same_chunk_vectors(pooling: str, weights: str) -> None:
    """What the model gave once serves every pooling, without running it again."""
    encoder = UnitEncoder(window=100)
    document = chunked("the cat of the house sat by me", [3, 2, 3], encoder.tokenizer)
    options = PoolingOptions(pooling, weights, 0.3)  # type: ignore[arg-type]
    ids, owner = document.tokens.ids, np.array([0, 0, 0, 1, 1, 2, 2, 2], dtype=np.int32)
    alone = encoder.encode_windows([ids[:3], ids[3:5], ids[5:]])
    found = chunk_vectors(
        options,
        late=TokenVectors(encoder.encode_windows([ids])[0], ids, owner),
        naive=TokenVectors(np.concatenate(alone), ids, owner),
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
