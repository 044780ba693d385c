"""`es-latechunk index`: create, show, promote and delete."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from es_latechunk.bootstrap import create_index
from es_latechunk.chunking import CHUNKERS, DEFAULT_MAX_TOKENS
from es_latechunk.cli.options import ModelChoice, connection_options, json_option, model_options
from es_latechunk.cli.output import note, on_screen, print_json
from es_latechunk.elastic.index.template import QUANTIZATIONS
from es_latechunk.types import Pooling

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


@click.group()
def index() -> None:
    """Create, show, promote and delete indices."""


@index.command()
@click.argument("name")
@click.option("--chunker", type=click.Choice(CHUNKERS), default="sentences", show_default=True)
@click.option("--max-tokens", type=click.IntRange(1), default=DEFAULT_MAX_TOKENS, show_default=True)
@click.option("--pooling", type=click.Choice(["late", "naive"]), default="late", show_default=True)
@click.option("--quantization", type=click.Choice(list(QUANTIZATIONS)), default="int8", show_default=True)
@click.option("--shards", type=click.IntRange(1), help="Default: 1.")
@click.option("--replicas", type=click.IntRange(0), help="Default: 1 where the cluster has a second node.")
@click.option("--no-context-fields", is_flag=True, help="Leave the neighbours' words out of BM25.")
@click.option("--language", metavar="NAME", help="A language analyzer of the cluster, such as german.")
@click.option("--mapping", type=click.Path(path_type=Path), help="Your own template, JSON.")
@model_options
@connection_options
@json_option
def create(
    name: str,
    chunker: str,
    max_tokens: int,
    pooling: Pooling,
    quantization: str,
    shards: int | None,
    replicas: int | None,
    no_context_fields: bool,
    language: str | None,
    mapping: Path | None,
    model: ModelChoice,
    client: Elasticsearch,
    as_json: bool,
) -> None:
    """Create an index for a model's vectors; an index that is there with the same settings is fine."""
    encoder = model.load()
    created = create_index(
        name,
        encoder=encoder,
        client=client,
        max_tokens=max_tokens,
        chunker=chunker,
        pooling=pooling,
        quantization=quantization,
        shards=shards,
        replicas=replicas,
        template=mapping,
        context_fields=not no_context_fields,
        language=language,
    )
    identity = encoder.identity
    if as_json:
        print_json(
            {"index": name, "created": created, "model": identity.model, "dimensions": identity.dimensions}
        )
        return
    state = "created" if created else "was there already, for the same model and chunks"
    note(f"index {name} {state}: {identity.model}, {identity.dimensions} dimensions, {pooling} pooling")


@index.command()
@click.argument("name")
@click.option("--console", is_flag=True, help="Print requests for Kibana's Dev Tools that look into it.")
@connection_options
@json_option
def show(name: str, console: bool, client: Elasticsearch, as_json: bool) -> None:
    """What an index holds: chunks, documents, size, and the model that it records."""
    from es_latechunk.elastic.example_requests import console_tour
    from es_latechunk.elastic.index.admin import describe_index

    if console:
        click.echo(on_screen(console_tour(client, name), keep="\n"))
        return
    facts = describe_index(client, name)
    if as_json:
        print_json(facts)
        return
    if facts["bytes"] is None:
        facts["bytes"] = "not visible without the privilege monitor on the index"
    for key, value in facts.items():
        click.echo(f"{key:<16} {on_screen(str(value))}")


@index.command()
@click.argument("alias")
@click.option("--allow-failed", is_flag=True, help="Although documents failed in its ingest.")
@connection_options
@json_option
def promote(alias: str, allow_failed: bool, client: Elasticsearch, as_json: bool) -> None:
    """Swap an alias to the index that `ingest --alias` has filled, in one step.

    The index before it stays until you delete it, so that you can look, and go back.
    """
    from es_latechunk.elastic.write.alias import promote as run_promote

    done = run_promote(client, alias, allow_failed=allow_failed)
    if as_json:
        print_json(asdict(done))
        return
    note(f"alias {alias} stands for {done.index} ({done.chunks} chunks)")
    for old in done.before:
        note(f"the index before it stays; delete it with: es-latechunk index delete {old}")


@index.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@connection_options
@json_option
def delete(name: str, yes: bool, client: Elasticsearch, as_json: bool) -> None:
    """Delete an index with all its chunks. Asks, unless --yes is given."""
    from es_latechunk.elastic.index.admin import delete_index, describe_index

    facts = describe_index(client, name)
    if not yes:
        click.confirm(f"Delete index {name} with {facts['chunks']} chunks?", abort=True, err=True)
    delete_index(client, name)
    if as_json:
        print_json({"index": name, "deleted": True, "chunks": facts["chunks"]})
        return
    note(f"index {name} deleted ({facts['chunks']} chunks)")
