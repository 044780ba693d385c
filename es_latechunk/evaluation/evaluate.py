"""Measures every combination of model, window, chunker, chunk size, pooling and search mode on labelled questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from es_latechunk.chunking import DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS
from es_latechunk.dry_run import TEXT_FACTOR, vector_bytes
from es_latechunk.elastic.search.query import DEFAULT_BM25_WEIGHT, MODES, Mode
from es_latechunk.errors import DocumentError, UsageError, setting
from es_latechunk.evaluation.html import check_target, report_page, write_page
from es_latechunk.evaluation.questions.read import Question, check_questions
from es_latechunk.evaluation.questions.relevance import (
    Relevance,
    choose_relevance,
    chunk_qrels,
    document_qrels,
)
from es_latechunk.evaluation.results.combinations import (
    Combination,
    CombinationResult,
    EvaluatedCombination,
    Evaluation,
    EvaluationReport,
    file_name,
)
from es_latechunk.evaluation.results.differences import differences, find_baseline
from es_latechunk.evaluation.results.measures import (
    NDCG_CUTOFF,
    Qrels,
    QuestionScores,
    check_installed,
    measure,
    write_qrels,
    write_run,
)
from es_latechunk.evaluation.results.recommendation import recommend
from es_latechunk.evaluation.search.bm25 import ContextualBM25
from es_latechunk.evaluation.search.ranking import Found, Scores, best, blocks, by_document
from es_latechunk.evaluation.search.real_index import RealIndex, check_no_pseudo_queries, scopes_of
from es_latechunk.evaluation.vectors.cache import DEFAULT_CACHE_BYTES, ArrayCache, default_cache_folder
from es_latechunk.evaluation.vectors.chunkings import (
    Chunking,
    ChunkingVectors,
    Embedded,
    OnProgress,
    Variant,
    cut_documents,
)
from es_latechunk.evaluation.vectors.source import VectorSource
from es_latechunk.models import measured_pooling
from es_latechunk.types import (
    Document,
    Encoder,
    FloatArray,
    Pooling,
    PoolingOptions,
    TokenWeights,
)

if TYPE_CHECKING:
    from es_latechunk.index import Index

INDEX_TYPE = "int8_hnsw"  # that of an index made by default
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Axes:
    """The settings that are combined with each other, for each encoder. A `None` is the encoder's default.

    Without `poolings`, what measured best for the encoder is compared with late and naive pooling, which then have no
    share of the title unless `embed_titles` says so.

    `shared_windows=False` gives the vectors that an index has, by one pass through the model for each chunking.
    """

    max_tokens: Sequence[int] = (DEFAULT_MAX_TOKENS,)
    chunkers: Sequence[str] = (DEFAULT_CHUNKER,)
    poolings: Sequence[Pooling] = ()
    token_weights: Sequence[TokenWeights] = ("none",)
    neighbour_shares: Sequence[float] = (0.0,)
    late_windows: Sequence[int | None] = (None,)
    overlaps: Sequence[int | None] = (None,)
    pieces: Sequence[int | None] = (None,)
    embed_titles: Sequence[float | None] = (None,)
    modes: Sequence[Mode] = MODES
    shared_windows: bool = True

    def _variants(self, encoder: Encoder) -> list[Variant]:
        """Return every way to make the vectors; naive pooling has no windows over the document, and so comes once."""
        measured = None if self.poolings else measured_pooling(encoder.identity)
        made = [Variant(measured.options, measured.overlap, self.shared_windows)] if measured else []
        made += [
            Variant(PoolingOptions(pooling, weights, share, late_window), overlap, self.shared_windows)
            if pooling != "naive"
            else Variant(PoolingOptions(pooling, weights, share))
            for pooling, weights, share, late_window, overlap in product(
                self.poolings or ("late", "naive"),
                self.token_weights,
                self.neighbour_shares,
                self.late_windows,
                self.overlaps,
            )
        ]
        made = [
            replace(variant, options=replace(variant.options, pieces=size))
            for variant in made
            for size in self.pieces
        ]
        made = [
            variant
            if share is None
            else replace(variant, options=replace(variant.options, embed_title=share))
            for variant in made
            for share in self.embed_titles
        ]
        return list(dict.fromkeys(made))

    def _check(self) -> None:
        """Raise UsageError for a value that does not exist, and for a setting without any value."""
        for name in Axes.__dataclass_fields__:
            if name not in ("poolings", "shared_windows") and not getattr(self, name):
                raise UsageError(f"{setting(name)} is empty; give at least one value")
        for mode in self.modes:
            if mode not in MODES:
                names = ", ".join(MODES)
                raise UsageError(f"{setting('mode')}: {mode!r} is not known; choose one of {names}")


def evaluate(
    documents: Iterable[Document | DocumentError],
    questions: Iterable[Question | DocumentError],
    *,
    encoders: Sequence[Encoder],
    axes: Axes | None = None,
    relevance: Relevance | None = None,
    k: int = NDCG_CUTOFF,
    bm25_weight: float = DEFAULT_BM25_WEIGHT,
    baseline: str | None = None,
    index: Index | None = None,
    runs: Path | None = None,
    report: Path | None = None,
    commands: Callable[[EvaluatedCombination], Sequence[str]] | None = None,
    cache_dir: Path | None = None,
    cache_size: int = DEFAULT_CACHE_BYTES,
    on_progress: OnProgress = lambda what, done, total: None,
) -> EvaluationReport:
    """Search for every question with every combination of settings, compare what is found, and recommend one.

    Scores are exact and need no server: cosines of all chunks, and BM25 as the index computes it. `encoders` and `axes`
    are what is combined. `relevance` is "span" (a chunk counts if it overlaps an answer) or "document" (its best chunk
    ranks a document); by default, what the questions have. The measures are nDCG@10, and recall and the reciprocal rank
    in the first `k` hits, at least 10. `bm25_weight` is that of a hybrid search. `baseline` has words of the
    combination that all others are compared with, such as "naive 128 hybrid"; by default, it is the one that is nearest
    to a new index. `index` is a real index that is asked the same questions, in the same modes. `runs` is a folder for
    files in TREC's format, and `report` the HTML page that is written; `commands` returns lines that the page shows
    below the recommendation. Token vectors are kept in `cache_dir`, by default below the user's cache folder, which
    holds at most `cache_size` bytes. `on_progress` gets what is being done, how much of it is done, and how much there
    is.

    What is wrong with a document or a question is in the report's `errors`, and the others are evaluated. Raises
    UsageError if no question is left, and PreconditionError without the extra `evaluate`.
    """
    if report is not None:
        check_target(report, "report")
    if runs is not None:
        runs.mkdir(parents=True, exist_ok=True)
    evaluation = measure_combinations(
        documents,
        questions,
        encoders=encoders,
        cache=ArrayCache(cache_dir or default_cache_folder(), max_bytes=cache_size),
        axes=axes,
        relevance=relevance,
        k=k,
        bm25_weight=bm25_weight,
        index=None if index is None else RealIndex.open(index.client, index.name, index.encoder),
        runs=runs,
        on_progress=on_progress,
    )
    base = find_baseline(evaluation, baseline)
    gains = differences(evaluation.results, base)
    advice = recommend(evaluation, base)
    combinations = [
        EvaluatedCombination.of(result, gain.in_corpus, gain.in_document)
        for result, gain in zip(evaluation.results, gains, strict=True)
    ]
    places = {id(result): place for place, result in enumerate(evaluation.results)}
    recommended = None if advice.chosen is None else combinations[places[id(advice.chosen)]]
    if report is not None:
        lines = commands(recommended) if commands and recommended else ()
        write_page(report, report_page(evaluation, gains, base, advice, lines), "report")
    return EvaluationReport(
        evaluation.questions,
        evaluation.relevance,
        k,
        combinations,
        combinations[places[id(base)]],
        recommended,
        advice.sentence,
        evaluation.errors,
    )


def measure_combinations(
    documents: Iterable[Document | DocumentError],
    questions: Iterable[Question | DocumentError],
    *,
    encoders: Sequence[Encoder],
    cache: ArrayCache,
    axes: Axes | None = None,
    relevance: Relevance | None = None,
    k: int = NDCG_CUTOFF,
    bm25_weight: float = DEFAULT_BM25_WEIGHT,
    index: RealIndex | None = None,
    runs: Path | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Evaluation:
    """Search for every question with every combination, and measure what is found; see `evaluate`.

    `runs` is a folder that exists.
    """
    check_installed()
    axes = axes or Axes()
    axes._check()
    for encoder in encoders:
        for variant in axes._variants(encoder):
            variant.check(encoder)
    if k < NDCG_CUTOFF:
        raise UsageError(f"{setting('k')} {k} is less than the {NDCG_CUTOFF} hits that nDCG looks at")
    errors: list[DocumentError] = []
    chunkings, uncut = cut_documents(
        _usable(documents, errors),
        encoders=encoders,
        chunkers=axes.chunkers,
        max_tokens=axes.max_tokens,
        on_progress=on_progress,
    )
    errors += uncut
    texts = [chunked.document for chunked in chunkings[0].documents]
    asked = _usable(check_questions(questions, texts), errors)
    if not asked:
        raise UsageError(f"no question can be evaluated{f'; the first error: {errors[0]}' if errors else ''}")
    check_no_pseudo_queries(index, asked)
    search = _Search(asked, choose_relevance(asked, relevance), k, bm25_weight, runs, on_progress)
    results: list[CombinationResult] = []
    for encoder in encoders:
        own = [chunking for chunking in chunkings if chunking.encoder is encoder]
        source = VectorSource(encoder, cache)
        variants: Sequence[Variant] = axes._variants(encoder) if set(axes.modes) - {"bm25"} else ()
        queries = source.embed_queries([question.text for question in asked]) if variants else None
        vectors = ChunkingVectors(own, variants, source, on_progress=on_progress)
        errors += vectors.errors
        for number, chunking in enumerate(own):
            embedded = [vectors.of(number, variant) for variant in variants]
            results += search.measure(chunking, embedded, queries, axes.modes)
    if index is not None:
        results += search.measure_index(index, texts, axes.modes)
    return Evaluation(asked, search.relevance, k, results, errors)


def _combination(chunking: Chunking, variant: Variant | None, mode: Mode) -> Combination:
    identity = chunking.encoder.identity
    options = variant.options if variant else PoolingOptions()
    return Combination(
        identity.model,
        identity.window,
        chunking.chunker,
        chunking.max_tokens,
        options.pooling if variant else "",
        options.token_weights,
        options.neighbour_share,
        options.late_window,
        variant.overlap if variant else None,
        options.pieces,
        options.embed_title,
        mode,
    )


def _usable(items: Iterable[T | DocumentError], errors: list[DocumentError]) -> list[T]:
    kept: list[T] = []
    for item in items:
        if isinstance(item, DocumentError):
            errors.append(item)
        else:
            kept.append(item)
    return kept


@dataclass(frozen=True, slots=True)
class _Search:
    """The questions, and how their searches are measured."""

    questions: Sequence[Question]
    relevance: Relevance
    k: int
    bm25_weight: float
    runs: Path | None
    on_progress: OnProgress

    def measure(
        self,
        chunking: Chunking,
        poolings: Sequence[Embedded],
        queries: FloatArray | None,
        modes: Sequence[Mode],
    ) -> Iterator[CombinationResult]:
        """Yield the results of one chunking, by every pooling and mode."""
        asked: list[tuple[Embedded | None, Mode]] = [(None, "bm25")] if "bm25" in modes else []
        asked += [(pooling, mode) for pooling in poolings for mode in modes if mode != "bm25"]
        found = self._search(chunking, asked, queries)
        ids, qrels = self._judged(chunking)
        for (embedded, mode), (corpus, document) in zip(asked, found, strict=True):
            combination = _combination(chunking, embedded.variant if embedded else None, mode)
            vectors = embedded.vector_count if embedded else 0
            size = sum(len(chunked.document.text.encode()) for chunked in chunking.documents)
            yield CombinationResult(
                combination,
                chunking,
                self._measured(combination, "corpus", corpus, ids, qrels),
                self._measured(combination, "document", document, ids, qrels) if document else None,
                corpus,
                embedded.tokens if embedded else 0,
                embedded.seconds if embedded else 0.0,
                round(size * TEXT_FACTOR) + vectors * vector_bytes(chunking.encoder.dim, INDEX_TYPE),
            )

    def measure_index(
        self, index: RealIndex, documents: Sequence[Document], modes: Sequence[Mode]
    ) -> Iterator[CombinationResult]:
        """Yield the results of a real index, by every mode."""
        chunking = index.cut(documents, self.on_progress)
        ids, qrels = self._judged(chunking)
        variant = Variant(index.identity.pooling, index.identity.overlap)
        for number, mode in enumerate(modes):
            self.on_progress(f"index {index.name}", number, len(modes))
            combination = replace(
                _combination(chunking, None if mode == "bm25" else variant, mode), index=index.name
            )
            corpus, *inside = (
                index.search(
                    chunking, self.questions, mode, k=self.k, bm25_weight=self.bm25_weight, scope=scope
                )
                for scope in scopes_of(self.relevance)
            )
            yield CombinationResult(
                combination,
                chunking,
                self._measured(combination, "corpus", corpus, ids, qrels),
                self._measured(combination, "document", inside[0], ids, qrels) if inside else None,
                corpus,
                0,
                0.0,
                index.bytes(),
            )

    def _judged(self, chunking: Chunking) -> tuple[list[str], dict[str, dict[str, int]]]:
        """Return the ids of what is found, by their numbers, and the relevant ones of each question."""
        if self.relevance == "document":
            return [chunked.document.id for chunked in chunking.documents], document_qrels(self.questions)
        named = {chunked.document.id: chunked for chunked in chunking.documents}
        return chunking.ids(), chunk_qrels(self.questions, named)

    def _search(
        self,
        chunking: Chunking,
        asked: Sequence[tuple[Embedded | None, Mode]],
        queries: FloatArray | None,
    ) -> list[tuple[Found, Found | None]]:
        """Return, for each pooling and mode, what is found in all documents, and in the question's own one."""
        starts = chunking.starts()
        words = None
        if any(mode != "knn" for _, mode in asked):
            words = ContextualBM25(chunking.contents())
        own = self._own_documents(chunking)
        corpus: list[list[Found]] = [[] for _ in asked]
        document: list[list[Found]] = [[] for _ in asked]
        rows = max([int(starts[-1]), *(embedded.vector_count for embedded, _ in asked if embedded)])
        for block in blocks(len(self.questions), rows):
            texts = [question.text for question in self.questions[block]]
            scores = Scores(None, words.scores(texts) if words else None)
            compared: Embedded | None = None
            for place, (embedded, mode) in enumerate(asked):
                if embedded is not None and embedded is not compared and queries is not None:
                    scores, compared = scores.with_cosines(embedded.cosines(queries[block])), embedded
                ranked = scores.of(mode, k=self.k, bm25_weight=self.bm25_weight)
                if self.relevance == "document":
                    corpus[place].append(best(by_document(ranked, starts[:-1]), self.k))
                    continue
                corpus[place].append(best(ranked, self.k))
                document[place].append(self._within(scores, mode, own[block], starts))
            self.on_progress("searching", block.stop, len(self.questions))
        return [
            (Found.joined(one), Found.joined(other) if other else None)
            for one, other in zip(corpus, document, strict=True)
        ]

    def _own_documents(self, chunking: Chunking) -> npt.NDArray[np.intp]:
        numbers = {chunked.document.id: number for number, chunked in enumerate(chunking.documents)}
        return np.array([numbers.get(question.doc_id, -1) for question in self.questions], dtype=np.intp)

    def _within(
        self, scores: Scores, mode: Mode, own: npt.NDArray[np.intp], starts: npt.NDArray[np.intp]
    ) -> Found:
        """Return what a search with a filter on the question's own document finds, by the chunks' numbers."""
        parts = Found.empty(len(own), self.k)
        for number in np.unique(own):
            rows = np.flatnonzero(own == number)
            inside = slice(starts[number], starts[number + 1])
            ranked = scores.part(rows, inside).of(mode, k=self.k, bm25_weight=self.bm25_weight)
            parts.place(rows, best(ranked, self.k), first=int(starts[number]))
        return parts

    def _measured(
        self, combination: Combination, scope: str, found: Found, ids: Sequence[str], qrels: Qrels
    ) -> QuestionScores:
        names = [question.id for question in self.questions]
        run = {
            name: {ids[item]: float(score) for item, score in zip(items, scores, strict=True) if item >= 0}
            for name, items, scores in zip(names, found.items.tolist(), found.falling(), strict=True)
        }
        if self.runs is not None:
            write_run(self.runs / f"{file_name(combination)}.{scope}.run", run, "es-latechunk")
            write_qrels(self.runs / f"{file_name(combination)}.qrels", qrels)
        return measure(run, qrels, names, k=self.k)
