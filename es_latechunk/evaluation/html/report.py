"""The report of an evaluation: the recommendation, charts, a table, and the questions that go worst."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from es_latechunk.evaluation.html.charts import Point, category_chart, cost_chart, legend, value_range
from es_latechunk.evaluation.html.page import escaped, page, quoted, table
from es_latechunk.evaluation.questions.read import Question
from es_latechunk.evaluation.questions.relevance import relevant_chunks
from es_latechunk.evaluation.results.combinations import CombinationResult, Evaluation, count_in_words
from es_latechunk.evaluation.results.differences import Difference
from es_latechunk.evaluation.results.measures import CONFIDENCE, QuestionScores, intervals
from es_latechunk.evaluation.results.recommendation import Recommendation, described, shown

WORST = 10  # questions
LISTED = 5  # hits of each list
CHARACTERS = 400  # of a hit that are shown


def report_page(
    evaluation: Evaluation,
    gains: Sequence[Difference],
    baseline: CombinationResult,
    advice: Recommendation,
    commands: Sequence[str],
) -> str:
    """Return the report as one HTML page. `gains` are the differences of all results to the baseline."""
    chosen = advice.chosen or baseline
    others = [result for result in evaluation.results if result is not chosen]
    other = baseline if baseline is not chosen else max(others, key=_mean, default=None)
    lines = escaped("\n".join(commands))
    facts = f"{count_in_words(evaluation.questions)}, relevance by {evaluation.relevance}, {CONFIDENCE} % intervals"
    return page(
        "Evaluation",
        [
            f'<p class="quiet">{facts}</p>',
            f'<div class="card"><p>{escaped(advice.sentence)}</p>',
            f"<pre>{lines}</pre></div>" if commands else "</div>",
            *_charts(evaluation),
            "<h2>All combinations</h2>",
            _table(evaluation, gains, baseline),
            *_worst(evaluation, chosen, other),
        ],
    )


def _mean(result: CombinationResult) -> float:
    return float(result.in_corpus.ndcg.mean())


def _charts(evaluation: Evaluation) -> Iterator[str]:
    results = evaluation.results
    names = list(dict.fromkeys(_series(result, results) for result in results))
    yield "<h2>Quality by chunk size</h2>"
    yield legend(names)
    scopes = [("in-corpus", [result.in_corpus for result in results])]
    if evaluation.relevance == "span":
        scopes.append(("in-document", [one.in_document for one in results if one.in_document is not None]))
    sizes = sorted({result.combination.max_tokens for result in results})
    for scope, scores in scopes:
        points = _points(evaluation, names, scores)
        shared = value_range([point.at(0) for point in points])
        yield '<div class="charts">'
        for mode in dict.fromkeys(result.combination.mode for result in results):
            chosen = [
                point.at(sizes.index(result.combination.max_tokens))
                for result, point in zip(results, points, strict=True)
                if result.combination.mode == mode
            ]
            names_of_sizes = [str(size) for size in sizes]
            yield category_chart(f"{mode}, {scope}", names_of_sizes, chosen, y_name="nDCG@10", y_range=shared)
        yield "</div>"
    yield "<h2>Cost against quality</h2>"
    points = _points(evaluation, names, scopes[0][1])
    yield '<div class="charts">'
    for title, costs in (
        ("tokens that the model reads", [float(result.tokens) for result in results]),
        ("seconds of the model, on this machine", [result.seconds for result in results]),
        ("bytes of the index", [float(result.index_bytes) for result in results]),
    ):
        placed = [point.at(cost) for point, cost in zip(points, costs, strict=True)]
        yield cost_chart("in-corpus", placed, title, "nDCG@10")
    yield "</div>"


@dataclass(frozen=True, slots=True)
class _Measured:
    """A point whose place on the x axis is still open."""

    series: int
    value: float
    low: float
    high: float
    label: str

    def at(self, x: float) -> Point:
        return Point(self.series, x, self.value, self.low, self.high, self.label)


def _points(
    evaluation: Evaluation, names: Sequence[str], scores: Sequence[QuestionScores]
) -> list[_Measured]:
    """Return the mean nDCG of each result, with the interval of that mean."""
    found = []
    means = intervals(np.array([one.ndcg for one in scores]))
    for result, mean in zip(evaluation.results, means, strict=True):
        name = described(result.combination, evaluation.results)
        label = f"{name}: {mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})"
        series = names.index(_series(result, evaluation.results))
        found.append(_Measured(series, mean.mean, mean.low, mean.high, label))
    return found


def _series(result: CombinationResult, results: Sequence[CombinationResult]) -> str:
    """Name what stands for a result beside its chunk size and mode."""
    combination = result.combination
    if not combination.pooling:
        return "no vectors"
    left_out = {str(combination.max_tokens), combination.mode}
    shared = set.intersection(*(set(one.combination.words) for one in results if one.combination.pooling))
    return " ".join(
        word for word in combination.words if word not in left_out | (shared - {combination.pooling})
    )


def _table(evaluation: Evaluation, gains: Sequence[Difference], baseline: CombinationResult) -> str:
    spans = evaluation.relevance == "span"
    columns = ["combination", "in-corpus", "above the baseline"]
    columns += ["in-document", "above the baseline"] if spans else []
    columns += [
        f"recall@{evaluation.k}",
        f"MRR@{evaluation.k}",
        "chunks",
        "tokens read",
        "seconds",
        "index MB",
    ]
    rows = []
    for result, gain in zip(evaluation.results, gains, strict=True):
        row = [str(result.combination), f"{_mean(result):.3f}"]
        row.append("baseline" if result is baseline else shown(gain.in_corpus))
        if result.in_document is not None and gain.in_document is not None:
            row.append(f"{result.in_document.ndcg.mean():.3f}")
            row.append("baseline" if result is baseline else shown(gain.in_document))
        row += [f"{result.in_corpus.recall.mean():.3f}", f"{result.in_corpus.mrr.mean():.3f}"]
        row += [f"{result.chunks:,}", f"{result.tokens:,}", f"{result.seconds:.1f}"]
        rows.append([*row, f"{result.index_bytes / 1e6:.1f}"])
    return table(columns, rows, texts=1)


def _worst(
    evaluation: Evaluation, chosen: CombinationResult, other: CombinationResult | None
) -> Iterator[str]:
    """Show the questions with the lowest nDCG@10; of equal ones, those first that the other combination answers."""
    sides = [chosen] if other is None else [chosen, other]
    own = chosen.in_corpus.ndcg
    against = own if other is None else -other.in_corpus.ndcg
    worst = np.lexsort((against, own))[:WORST].tolist()
    yield "<h2>The worst questions</h2>"
    yield (
        '<p class="quiet">Those with the lowest nDCG@10 in-corpus, with the first hits. A line at the left of a hit '
        "marks what is relevant.</p>"
    )
    for row in worst:
        question = evaluation.questions[row]
        yield f"<h3>{quoted(question.text)}</h3>"
        if answers := _answers(question, chosen):
            yield f'<p class="quiet">Answer: {answers}</p>'
        yield '<div class="sides">'
        for result in sides:
            name = escaped(described(result.combination, evaluation.results))
            yield f'<div class="card"><p class="quiet">{name}: nDCG@10 {result.in_corpus.ndcg[row]:.3f}</p>'
            yield f"<ol>{''.join(_hits(evaluation, question, result, row))}</ol></div>"
        yield "</div>"


def _answers(question: Question, result: CombinationResult) -> str:
    if not question.answers:
        return ""
    texts = {one.document.id: one.document.text for one in result.chunking.documents}
    text = texts[question.doc_id]
    parts = dict.fromkeys(text[span.start : span.end] for span in question.answers)
    return " · ".join(quoted(part) for part in parts)


def _hits(evaluation: Evaluation, question: Question, result: CombinationResult, row: int) -> Iterator[str]:
    documents = result.chunking.documents
    starts = result.chunking.starts()
    for item in result.found.items[row, :LISTED].tolist():
        if item < 0:
            return
        if evaluation.relevance == "document":
            document = documents[item].document
            relevant = document.id in question.documents
            place, text = document.id, document.text
        else:
            number = int(np.searchsorted(starts, item, side="right")) - 1
            chunked, ordinal = documents[number], item - int(starts[number])
            span = chunked.spans[ordinal]
            relevant = chunked.document.id == question.doc_id and ordinal in relevant_chunks(
                question, chunked
            )
            place = f"{chunked.document.id}#{ordinal}"
            text = chunked.document.text[span.start : span.end]
        marked = ' class="relevant"' if relevant else ""
        text = text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} …"
        yield f'<li{marked}><span class="quiet">{quoted(place)}</span><br>{quoted(text)}</li>'
