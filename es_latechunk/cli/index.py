"""`es-latechunk index`: create, list, show, promote and delete indices."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from es_latechunk.bootstrap import create_index
from es_latechunk.cli.options.completion import complete_index
from es_latechunk.cli.options.help import Group
from es_latechunk.cli.options.shared import (
    ModelChoice,
    PoolingChoice,
    chunker_option,
    connection_options,
    json_option,
    max_tokens_option,
    model_options,
    overlap_option,
    pooling_options,
)
from es_latechunk.cli.output.messages import note, on_screen, print_json
from es_latechunk.elastic.index.metadata import mapping_of
from es_latechunk.elastic.index.template import QUANTIZATIONS
from es_latechunk.errors import UsageError
from es_latechunk.models import measured_pooling

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


@click.group(cls=Group)
def index() -> None:
    """Create, list, show, promote and delete indices."""


@index.command(
    examples=(
        "es-latechunk index create notes",
        "es-latechunk index create shop --metadata price=double --metadata published=date",
        "es-latechunk index create papers --model FOLDER_OR_ID --max-tokens 256",
    )
)
@click.argument("name")
@chunker_option
@max_tokens_option
@pooling_options
@overlap_option
@click.option(
    "--quantization",
    type=click.Choice(list(QUANTIZATIONS)),
    default="int8",
    show_default=True,
    help="How Elasticsearch compresses the vectors; _flat searches all of them exactly.",
)
@click.option("--shards", type=click.IntRange(1), metavar="N", help="Number of primary shards. Default: 1.")
@click.option(
    "--replicas",
    type=click.IntRange(0),
    metavar="N",
    help="Number of replicas. Default: 1 if the cluster has a second data node, else 0.",
)
@click.option(
    "--no-context-fields",
    is_flag=True,
    help="Do not make a chunk findable (BM25) by the words of its neighbours.",
)
@click.option(
    "--language", metavar="NAME", help="Elasticsearch language analyzer for the text, such as german."
)
@click.option(
    "--metadata",
    multiple=True,
    metavar="NAME=TYPE",
    help="Give a key of the metadata a type, such as price=double or published=date. Can be repeated.",
)
@click.option(
    "--mapping",
    type=click.Path(path_type=Path),
    help="Index template (JSON) to use instead of the built-in one.",
)
@model_options
@connection_options
@json_option
def create(
    name: str,
    chunker: str,
    max_tokens: int,
    pooling: PoolingChoice,
    overlap: int | None,
    quantization: str,
    shards: int | None,
    replicas: int | None,
    no_context_fields: bool,
    language: str | None,
    metadata: tuple[str, ...],
    mapping: Path | None,
    model: ModelChoice,
    client: Elasticsearch,
    as_json: bool,
) -> None:
    """Create an index for the vectors of a model.

    The pooling is what measured best for the model, unless options choose another one. Options without --pooling change
    that default; with it, all that is not given is off.

    If the index exists with the same settings, nothing is changed; other settings are refused.
    """
    from es_latechunk.elastic.index.admin import read_identity

    types = _types(metadata)
    encoder = model.load()
    given = pooling.options(encoder)
    created = create_index(
        name,
        encoder=encoder,
        client=client,
        max_tokens=max_tokens,
        chunker=chunker,
        pooling=given,
        overlap=overlap,
        quantization=quantization,
        shards=shards,
        replicas=replicas,
        template=mapping,
        context_fields=not no_context_fields,
        language=language,
        metadata=types,
    )
    identity = encoder.identity
    recorded = read_identity(client, name).pooling
    if created and given is None and measured_pooling(identity) is None:
        note(
            f"nobody has measured which pooling is best for {identity.model}, so it is {recorded}; compare them on "
            "your own questions with: es-latechunk evaluate"
        )
    if as_json:
        print_json(
            {"index": name, "created": created, "model": identity.model, "dimensions": identity.dimensions}
        )
        return
    state = "created" if created else "exists already, for the same model and chunks"
    note(f"index {name} {state}: {identity.model}, {identity.dimensions} dimensions, {recorded}")


def _types(choices: tuple[str, ...]) -> dict[str, str]:
    """Return the type of each name; a UsageError for a choice that is not NAME=TYPE with a known type."""
    types: dict[str, str] = {}
    for choice in choices:
        name, _, kind = choice.rpartition("=")
        if not name or types.setdefault(name, kind) != kind:
            raise UsageError(f"--metadata {choice}: {'gives a second type' if name else 'is not NAME=TYPE'}")
    mapping_of(types)  # refuses unknown types before a model is loaded
    return types


@index.command("list", examples=("es-latechunk index list",))
@connection_options
@json_option
def list_(client: Elasticsearch, as_json: bool) -> None:
    """List the indices that es-latechunk has created."""
    from es_latechunk.elastic.index.admin import list_indices

    rows = list_indices(client)
    if as_json:
        for row in rows:
            print_json(row)
        return
    if not rows:
        note("no index yet; create one with: es-latechunk index create NAME")
        return
    table = [("index", "chunks", "documents", "model", "aliases")]
    table += [
        (row["index"], f"{row['chunks']}", f"{row['documents']}", row["model"], " ".join(row["aliases"]))
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(on_screen("  ".join(cells).rstrip()))


@index.command(examples=("es-latechunk index show notes",))
@click.argument("name", shell_complete=complete_index)
@click.option("--console", is_flag=True, help="Print requests that explore the index in Kibana's Dev Tools.")
@connection_options
@json_option
def show(name: str, console: bool, client: Elasticsearch, as_json: bool) -> None:
    """Show an index: its size, and the model that it records."""
    from es_latechunk.elastic.example_requests import example_requests
    from es_latechunk.elastic.index.admin import describe_index

    if console:
        click.echo(on_screen(example_requests(client, name), keep="\n"))
        return
    facts = describe_index(client, name)
    if as_json:
        print_json(facts)
        return
    if facts["bytes"] is None:
        facts["bytes"] = "not visible without the privilege monitor on the index"
    if facts["overlap"] is None:
        local = facts["weights"] is not None
        facts["overlap"] = "a quarter of the window (not recorded)" if local else "decided for each request"
    for key, value in facts.items():
        click.echo(f"{key:<19} {on_screen(str(value))}")


@index.command(examples=("es-latechunk index promote current",))
@click.argument("alias", shell_complete=complete_index)
@click.option(
    "--allow-failed",
    is_flag=True,
    help="Promote even if documents failed in the ingest that filled the index.",
)
@connection_options
@json_option
def promote(alias: str, allow_failed: bool, client: Elasticsearch, as_json: bool) -> None:
    """Switch an alias to the index that `ingest --alias` has filled.

    The switch is atomic: no search sees a mixture. The index that the alias had before is kept until you delete
    it, so that you can go back.
    """
    from es_latechunk.elastic.write.alias import promote as run_promote

    done = run_promote(alias, client=client, allow_failed=allow_failed)
    if as_json:
        print_json(asdict(done))
        return
    note(f"alias {alias} now points to {done.index} ({done.chunks} chunks)")
    for old in done.before:
        note(f"the previous index is kept; delete it with: es-latechunk index delete {old}")


@index.command(examples=("es-latechunk index delete notes",))
@click.argument("name", shell_complete=complete_index)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@connection_options
@json_option
def delete(name: str, yes: bool, client: Elasticsearch, as_json: bool) -> None:
    """Delete an index with all its chunks, after a confirmation."""
    from es_latechunk.elastic.index.admin import delete_index, describe_index

    facts = describe_index(client, name)
    if not yes:
        click.confirm(f"Delete index {name} with {facts['chunks']} chunks?", abort=True, err=True)
    delete_index(client, name)
    if as_json:
        print_json({"index": name, "deleted": True, "chunks": facts["chunks"]})
        return
    note(f"index {name} deleted ({facts['chunks']} chunks)")
