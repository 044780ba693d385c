"""Two ranked lists made one: numbers by hand, and what holds for any lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from es_latechunk.elastic.search import fusion
from es_latechunk.elastic.search.fusion import Candidate, collapse, reciprocal_rank
from es_latechunk.types import ListScore


def hit(name: str, score: float, index: str = "x") -> Candidate:
    return Candidate(index, name, score)


def scored(hits: list[Candidate]) -> list[tuple[str, float]]:
    return [(found.id, pytest.approx(found.score)) for found in hits]


BM25 = [hit("a", 9.0), hit("b", 5.0), hit("c", 1.0)]
KNN = [hit("c", 0.9), hit("d", 0.8), hit("a", 0.4)]


def convex_sum(
    bm25: list[Candidate], knn: list[Candidate], *, bm25_weight: float, limit: int = 500
) -> list[Candidate]:
    return fusion.convex_sum(bm25, knn, bm25_weight=bm25_weight, limit=limit)


def test_the_convex_sum_of_cut_lists_by_hand() -> None:
    """The lowest scores are the floors: BM25 stretches to a 1, b .5, c 0; kNN to c 1, d .8, a 0."""
    fused = convex_sum(BM25, KNN, bm25_weight=0.6, limit=3)
    assert scored(fused) == [("a", 0.6), ("c", 0.4), ("d", 0.32), ("b", 0.3)]


def test_the_convex_sum_of_whole_lists_by_hand() -> None:
    """The floors are 0 and a cosine of 0, or what is lower: BM25 gives a 9/9, b 5/9, c 1/9; kNN c 1, d .8, a 0."""
    fused = convex_sum(BM25, KNN, bm25_weight=0.6)
    assert scored(fused) == [("a", 0.6), ("c", 0.4 + 0.6 / 9), ("b", 0.6 * 5 / 9), ("d", 0.32)]
    near = [hit("c", 0.9), hit("d", 0.8), hit("a", 0.7)]
    fused = convex_sum(BM25, near, bm25_weight=0.6)
    assert scored(fused) == [
        ("a", 0.6 + 0.4 * 0.2 / 0.4), ("c", 0.4 + 0.6 / 9), ("b", 0.6 * 5 / 9), ("d", 0.4 * 0.3 / 0.4)
    ]  # fmt: skip


def test_a_chunk_that_is_last_of_three_does_not_lose_for_it() -> None:
    """It has two words of three and the nearest vector; the other two have a word more, or a word by chance."""
    bm25 = [hit("unrelated", 3.1), hit("other", 3.0), hit("answer", 2.9)]
    knn = [hit("answer", 0.85), hit("unrelated", 0.6), hit("other", 0.55)]
    assert convex_sum(bm25, knn, bm25_weight=0.6)[0].id == "answer"
    assert convex_sum(bm25, knn, bm25_weight=0.6, limit=3)[0].id == "unrelated", "as the lowest scores decide"


@given(others=st.lists(st.floats(0.5, 0.9), max_size=5))
def test_a_chunk_s_score_does_not_depend_on_chunks_below_the_best(others: list[float]) -> None:
    knn = sorted([hit("best", 0.9), hit("own", 0.7)], key=lambda one: -one.score)
    alone = {one.id: one.score for one in convex_sum([], knn, bm25_weight=0.5)}
    crowd = [*knn, *(hit(f"other {number}", score) for number, score in enumerate(others))]
    crowded = {one.id: one.score for one in convex_sum([], crowd, bm25_weight=0.5)}
    assert crowded["own"] == pytest.approx(alone["own"])


def test_a_fused_chunk_has_the_score_and_rank_of_both_lists() -> None:
    for fused in (
        convex_sum(BM25, KNN, bm25_weight=0.6),
        reciprocal_rank(BM25, KNN, bm25_weight=0.6, constant=60),
    ):
        scores = {one.id: one.scores for one in fused}
        assert scores["a"] == {"bm25": ListScore(9.0, 1), "knn": ListScore(0.4, 3)}
        assert scores["b"] == {"bm25": ListScore(5.0, 2), "knn": None}
        assert scores["d"] == {"bm25": None, "knn": ListScore(0.8, 2)}


def test_reciprocal_rank_by_hand() -> None:
    fused = reciprocal_rank(BM25, KNN, bm25_weight=0.6, constant=60)
    expected = {"a": 0.6 / 61 + 0.4 / 63, "b": 0.6 / 62, "c": 0.6 / 63 + 0.4 / 61, "d": 0.4 / 62}
    assert scored(fused) == sorted(expected.items(), key=lambda row: -row[1])


def test_the_best_of_a_list_counts_in_full() -> None:
    assert scored(convex_sum([hit("a", 3.0)], [], bm25_weight=0.6)) == [("a", 0.6)]
    equal = [("a", 0.5), ("b", 0.5), ("c", 0.5)]
    for limit in (1, 500):
        fused = convex_sum([hit("b", 3.0), hit("a", 3.0)], KNN[:1], bm25_weight=0.5, limit=limit)
        assert scored(fused) == equal
    assert scored(convex_sum([], [hit("far", 0.3)], bm25_weight=0.6)) == [("far", 0.4)]


def test_no_hits_at_all() -> None:
    assert convex_sum([], [], bm25_weight=0.6) == []
    assert reciprocal_rank([], [], bm25_weight=0.6, constant=60) == []


def test_the_same_id_in_two_indices_is_two_chunks() -> None:
    fused = convex_sum([hit("a", 2.0, "x"), hit("a", 1.0, "y")], [], bm25_weight=1)
    assert [(found.index, found.score) for found in fused] == [("x", 1.0), ("y", 0.5)]


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
def test_both_lists_have_the_same_rights_if_they_are_cut(
    bm25: list[Candidate], knn: list[Candidate], weight: float
) -> None:
    there = convex_sum(bm25, knn, bm25_weight=weight, limit=1)
    back = convex_sum(knn, bm25, bm25_weight=1 - weight, limit=1)
    assert {found.id: pytest.approx(found.score) for found in there} == {
        found.id: found.score for found in back
    }


@given(bm25=ranked, knn=ranked, limit=st.sampled_from([1, 500]))
def test_the_whole_weight_on_one_list_keeps_its_order(
    bm25: list[Candidate], knn: list[Candidate], limit: int
) -> None:
    """What stands at the floor has 0 of the scaled scores, as has what the list lacks."""
    for fused, single in (
        (convex_sum(bm25, knn, bm25_weight=1, limit=limit), bm25),
        (convex_sum(bm25, knn, bm25_weight=0, limit=limit), knn),
    ):
        kept = [found.id for found in fused if found.score > 0]
        assert kept == [found.id for found in single][: len(kept)]
        lost = {found.score for found in single[len(kept) :]}
        assert len(lost) <= 1


@given(bm25=ranked, knn=ranked, scale=st.integers(1, 100), shift=st.integers(-50, 50))
def test_the_sum_of_cut_lists_does_not_depend_on_a_list_s_scale(
    bm25: list[Candidate], knn: list[Candidate], scale: int, shift: int
) -> None:
    moved = [hit(found.id, scale * found.score + shift) for found in bm25]
    scores = {found.id: found.score for found in convex_sum(bm25, knn, bm25_weight=0.6, limit=1)}
    again = {
        found.id: pytest.approx(found.score) for found in convex_sum(moved, knn, bm25_weight=0.6, limit=1)
    }
    assert scores == again
