"""`es-latechunk models`: the known models, and which of them are on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from es_latechunk.cli.options.help import Command
from es_latechunk.cli.options.shared import json_option
from es_latechunk.cli.output.messages import print_json
from es_latechunk.models import find_local

if TYPE_CHECKING:
    from es_latechunk.models.info import ModelInfo

COLUMNS = ("model", "late\nchunking", "pooling", "window", "dims", "here")  # as wide as 80 columns allow


@click.command(
    cls=Command,
    examples=(
        "es-latechunk models",
        "es-latechunk models jinaai/jina-embeddings-v2-small-en",
    ),
)
@click.argument("name", required=False)
@json_option
def models(name: str | None, as_json: bool) -> None:
    """List the known models, or describe one. NAME is a folder, a Hugging Face id, or jina-api:NAME.

    If late chunking does not work with a model, the reason is given. Nothing is downloaded.
    """
    from es_latechunk.models.info import known_models, model_info

    if name:
        _show_one(model_info(name), as_json=as_json)
    else:
        _show_all(list(known_models()), as_json=as_json)


def _show_one(found: ModelInfo, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(found))
        return
    prefixes = {"document prefix": repr(found.document_prefix), "query prefix": repr(found.query_prefix)}
    rows = {
        "model": found.model,
        "late chunking": "yes" if found.late_chunking else f"no: {found.reason}",
        "pooling": found.pooling,
        "window": f"{found.window} tokens" if found.window else "",
        "max tokens": str(found.max_tokens or ""),
        "dimensions": str(found.dimensions or ""),
        "shorter dimensions": ", ".join(map(str, found.shorter_dimensions)) or "none",
        **(prefixes if found.window else {}),
        "licence": found.licence or "not known here; see the model's own page",
        "weights": found.folder or _where(found),
        "fingerprint": found.weights,
        "revision": found.revision or "",
    }
    for key, value in rows.items():
        if value:
            click.echo(f"{key:<19} {value}")


def _where(found: ModelInfo) -> str:
    if found.model.startswith("jina-api:"):
        return "at the service (texts leave this machine)"
    return "not on this machine" + ("; the first use downloads them" if found.late_chunking else "")


def _show_all(found: list[ModelInfo], *, as_json: bool) -> None:
    folders = {row.model: find_local(row.model) for row in found}
    if as_json:
        for row in found:
            print_json({**asdict(row), "folder": str(folders[row.model] or "")})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for column in COLUMNS:
        table.add_column(column, no_wrap=True, justify="right" if column in ("window", "dims") else "left")
    for row in found:
        fits, is_local = ("yes" if row.late_chunking else "no"), ("yes" if folders[row.model] else "no")
        table.add_row(row.model, fits, row.pooling, str(row.window), str(row.dimensions), is_local)
    Console(highlight=False, soft_wrap=True).print(table)
    click.echo(
        "\nAny other mean-pooled model: a folder or a Hugging Face id. Hosted: jina-api:jina-embeddings-v3."
    )
    click.echo(
        "For the prefixes and the licence of a model, and why it does not fit: es-latechunk models NAME"
    )
