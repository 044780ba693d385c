"""Documents with each sentence shaded by its similarity to a query, late at the left and naive at the right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from es_latechunk.evaluation.compare import ComparedSentences
from es_latechunk.evaluation.html.page import escaped, page, quoted
from es_latechunk.types import ChunkSpan, Pooling


def comparison_page(query: str, compared: Sequence[ComparedSentences], pooling: Pooling = "late") -> str:
    """Return the page. Shades are relative to the lowest and highest similarity of each pooling on the whole page."""
    body = [
        f"<p>{quoted(query)}</p>",
        '<p class="quiet">The stronger a sentence is shaded, the more similar it is to the query, among all sentences '
        "on the same side: similarities of different poolings are on different scales. Point at a sentence to see its "
        "number.</p>",
    ]
    sides = [(pooling, [one.late for one in compared]), ("naive", [one.naive for one in compared])]
    for number, document in enumerate(compared):
        body.append(f'<h2>{quoted(document.document.title or document.document.id)}</h2><div class="sides">')
        for name, similarities in sides:
            values = [value for of_document in similarities for value in of_document]
            low, high = min(values), max(values)
            shaded = "".join(
                _shaded(document.document.text, document.sentences, similarities[number], low, high)
            )
            body.append(
                f'<div class="card"><p class="quiet">{name}</p><div class="text" dir="auto">{shaded}</div></div>'
            )
        body.append("</div>")
    return page(f"{pooling.capitalize()} next to naive pooling", body)


def _shaded(
    text: str, sentences: Sequence[ChunkSpan], similarities: Sequence[float], low: float, high: float
) -> Iterator[str]:
    """Yield the whole text, its sentences shaded."""
    reached = 0
    for span, similarity in zip(sentences, similarities, strict=True):
        yield escaped(text[reached : span.start])
        share = (similarity - low) / (high - low) if high > low else 1.0
        yield (
            f'<span class="sentence" style="--share:{share:.3f}" title="similarity {similarity:.3f}">'
            f"{escaped(text[span.start : span.end])}</span>"
        )
        reached = span.end
    yield escaped(text[reached:])
