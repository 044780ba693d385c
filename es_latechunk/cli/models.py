"""`es-latechunk models`: what is known of models, and what runs here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from es_latechunk.cli.options import json_option
from es_latechunk.cli.output import print_json
from es_latechunk.models import find_local, load_encoder
from es_latechunk.models.families import FAMILIES, Family, find_family

COLUMNS = ("late chunking", "pooling", "window", "here", "model")


@click.command()
@click.argument("name", required=False)
@json_option
def models(name: str | None, as_json: bool) -> None:
    """List the known models, or tell all about one: a folder, a Hugging Face id, or jina-api:NAME."""
    if name:
        _show_one(_facts(name), as_json=as_json)
        return
    rows = [_row(model, family) for family in FAMILIES for model in family.ids]
    if as_json:
        for row in rows:
            print_json(row)
        return
    _print_table(rows)


def _row(model: str, family: Family) -> dict[str, Any]:
    return {
        "model": model,
        "late chunking": "no" if family.refusal else "yes",
        "pooling": family.pooling,
        "dimensions": family.dimensions,
        "max tokens": family.max_tokens,
        "window": family.window,
        "here": "yes" if find_local(model) else "no",
        "document prefix": family.document_prefix,
        "query prefix": family.query_prefix,
        "shorter dimensions": list(family.cuts),
        "licence": family.licence,
        "reason": family.refusal,
    }


def _facts(name: str) -> dict[str, Any]:
    """All about one model; a model that late chunking does not fit is a ModelError with the reason."""
    family = find_family(name)
    encoder = load_encoder(name)
    known = _row(name, family) if family else {}
    weights = find_local(name)
    return {
        "model": name,
        **{key: known[key] for key in ("licence", "shorter dimensions", "max tokens") if key in known},
        **asdict(encoder.identity),
        "weights found in": str(weights) if weights else "nowhere on this machine",
    }


def _show_one(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        click.echo(f"{key.replace('_', ' '):<21} {value!r}")


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(row[column]) for column in COLUMNS))
    Console(highlight=False).print(table)
