"""Two ranked lists made one: numbers by hand, and what holds for any lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_latechunk.elastic.search.fusion import Candidate, collapse, convex_sum, reciprocal_rank


def hit(name: str, score: float, index: str = "x") -> Candidate:
    return Candidate(index, name, score)


def scored(hits: list[Candidate]) -> list[tuple[str, float]]:
    return [(found.id, pytest.approx(found.score)) for found in hits]


BM25 = [hit("a", 9.0), hit("b", 5.0), hit("c", 1.0)]
KNN = [hit("c", 0.9), hit("d", 0.8), hit("a", 0.4)]


def test_the_convex_sum_by_hand() -> None:
    """BM25 stretches to a 1, b .5, c 0; kNN to c 1, d .8, a 0."""
    assert scored(convex_sum(BM25, KNN, bm25_weight=0.6)) == [("a", 0.6), ("c", 0.4), ("d", 0.32), ("b", 0.3)]


def test_reciprocal_rank_by_hand() -> None:
    fused = reciprocal_rank(BM25, KNN, bm25_weight=0.6, constant=60)
    expected = {"a": 0.6 / 61 + 0.4 / 63, "b": 0.6 / 62, "c": 0.6 / 63 + 0.4 / 61, "d": 0.4 / 62}
    assert scored(fused) == sorted(expected.items(), key=lambda row: -row[1])


def test_a_list_of_equal_scores_counts_in_full() -> None:
    """One hit is a list whose lowest score is its highest: it was found, so it has the whole weight."""
    assert scored(convex_sum([hit("a", 3.0)], [], bm25_weight=0.6)) == [("a", 0.6)]
    assert scored(convex_sum([hit("b", 3.0), hit("a", 3.0)], KNN[:1], bm25_weight=0.5)) == [
        ("a", 0.5),
        ("b", 0.5),
        ("c", 0.5),
    ]


def test_no_hits_at_all() -> None:
    assert convex_sum([], [], bm25_weight=0.6) == []
    assert reciprocal_rank([], [], bm25_weight=0.6, constant=60) == []


def test_the_same_id_in_two_indices_is_two_chunks() -> None:
    fused = convex_sum([hit("a", 2.0, "x"), hit("a", 1.0, "y")], [], bm25_weight=1)
    assert [(found.index, found.score) for found in fused] == [("x", 1.0), ("y", 0.0)]


def test_collapse_keeps_the_best_of_each_document() -> None:
    hits = [hit("a#1", 9), hit("b#0", 8), hit("a#0", 7), hit("c#4", 6), hit("a#2", 5), hit("a#3", 4)]
    first, second, third = collapse(hits, inner=2)
    assert (first.id, [inner.id for inner in first.inner or ()]) == ("a#1", ["a#0", "a#2"])
    assert (second.id, second.inner) == ("b#0", ())
    assert (third.id, third.inner) == ("c#4", ())


names = st.sampled_from([f"{letter}{number}" for letter in "abcdef" for number in range(3)])
ranked = st.dictionaries(names, st.integers(0, 20).map(float), max_size=12).map(
    lambda scores: [
        hit(name, scores[name]) for name in sorted(scores, key=lambda name: (-scores[name], name))
    ]
)
weights = st.floats(0, 1)


@pytest.mark.parametrize("method", ["convex", "rrf"])
@given(bm25=ranked, knn=ranked, weight=weights)
def test_the_union_best_first(
    method: str, bm25: list[Candidate], knn: list[Candidate], weight: float
) -> None:
    if method == "convex":
        fused = convex_sum(bm25, knn, bm25_weight=weight)
    else:
        fused = reciprocal_rank(bm25, knn, bm25_weight=weight, constant=60)
    assert sorted(found.id for found in fused) == sorted({found.id for found in [*bm25, *knn]})
    keys = [(-found.score, found.id) for found in fused]
    assert keys == sorted(keys)
    assert all(0 <= found.score <= 1 + 1e-9 for found in fused)


@given(bm25=ranked, knn=ranked, weight=weights)
def test_both_lists_have_the_same_rights(bm25: list[Candidate], knn: list[Candidate], weight: float) -> None:
    there = convex_sum(bm25, knn, bm25_weight=weight)
    back = convex_sum(knn, bm25, bm25_weight=1 - weight)
    assert {found.id: pytest.approx(found.score) for found in there} == {
        found.id: found.score for found in back
    }


@given(bm25=ranked, knn=ranked)
def test_the_whole_weight_on_one_list_keeps_its_order(bm25: list[Candidate], knn: list[Candidate]) -> None:
    """The list's last hit has 0 of the stretched scores, as has what the list lacks."""
    for fused, single in (
        (convex_sum(bm25, knn, bm25_weight=1), bm25),
        (convex_sum(bm25, knn, bm25_weight=0), knn),
    ):
        assert [found.id for found in fused if found.score > 0] == [
            found.id
            for found in single
            if found.score > single[-1].score or single[0].score == single[-1].score
        ]


@given(bm25=ranked, knn=ranked, scale=st.integers(1, 100), shift=st.integers(-50, 50))
def test_the_convex_sum_does_not_depend_on_a_list_s_scale(
    bm25: list[Candidate], knn: list[Candidate], scale: int, shift: int
) -> None:
    moved = [hit(found.id, scale * found.score + shift) for found in bm25]
    scores = {found.id: found.score for found in convex_sum(bm25, knn, bm25_weight=0.6)}
    again = {found.id: pytest.approx(found.score) for found in convex_sum(moved, knn, bm25_weight=0.6)}
    assert scores == again
