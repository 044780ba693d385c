"""Print hits: a table for people, JSON lines for machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from es_latechunk.cli.output import on_screen, print_json
from es_latechunk.types import Hit

# Fields of a hit that are None unless an option asks for them; a JSON row leaves them out then.
OPTIONAL_FIELDS = ("highlight", "inner_hits", "passage", "rerank_score", "scores")


def print_hits(hits: Iterable[Hit], *, extra: Mapping[str, Any], as_json: bool) -> None:
    """Print hits as a table, or as JSON lines that each contain `extra` too."""
    if as_json:
        for hit in hits:
            print_json({**hit_row(hit), **extra})
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    hits = list(hits)
    if reranked := any(hit.rerank_score is not None for hit in hits):
        table.add_column("rerank", no_wrap=True)
    table.add_column("score", no_wrap=True)
    table.add_column("chunk", overflow="fold", max_width=30)
    table.add_column("characters", no_wrap=True)
    table.add_column("content", overflow="fold", ratio=1)
    for hit in hits:
        start, end, text = _displayed_text(hit)
        scores = [f"{hit.rerank_score:.4f}"] if reranked else []
        table.add_row(
            *scores, f"{hit.score:.4f}", Text(on_screen(hit.id)), f"{start}-{end}",
            Text(on_screen(" ".join(text.split()))),
        )  # fmt: skip
    Console(highlight=False).print(table if table.row_count else "no hits")


def hit_row(hit: Hit) -> dict[str, Any]:
    """Return a hit as a JSON row, without the fields that no option asked for."""
    row = {name: value for name, value in asdict(hit).items() if name not in OPTIONAL_FIELDS}
    if hit.scores is not None:
        row["scores"] = {name: found and asdict(found) for name, found in hit.scores.items()}
    if hit.rerank_score is not None:
        row["rerank_score"] = hit.rerank_score
    if hit.highlight is not None:
        row["highlight"] = hit.highlight
    if hit.inner_hits is not None:
        row["inner_hits"] = [hit_row(inner) for inner in hit.inner_hits]
    if hit.passage is not None:
        row["passage"] = asdict(hit.passage)
    return row


def _displayed_text(hit: Hit) -> tuple[int, int, str]:
    if hit.passage is not None:
        return hit.passage.start, hit.passage.end, hit.passage.text
    return hit.start, hit.end, hit.highlight or hit.content
