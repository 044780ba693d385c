"""`es-latechunk inference`: endpoints through which Elasticsearch itself computes vectors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from es_latechunk.cli.options.help import Group
from es_latechunk.cli.options.shared import connection_options, json_option
from es_latechunk.cli.output.messages import note, on_screen, print_json
from es_latechunk.types import DEFAULT_RETRY_FOR

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.elastic.inference import Service

SERVICES = ("hugging_face", "openai", "jinaai", "elasticsearch")
KEYS = {"hugging_face": "ES_LATECHUNK_TOKEN", "openai": "ES_LATECHUNK_TOKEN", "jinaai": "JINA_API_KEY"}
QUESTION = "How many people live in Berlin?"


@click.group(cls=Group)
def inference() -> None:
    """Create, show and delete inference endpoints, with which Elasticsearch embeds texts by itself."""


@inference.command(examples=("es-latechunk inference put late --serve-url http://192.0.2.7:8000",))
@click.argument("name")
@click.option(
    "--service",
    type=click.Choice(SERVICES),
    default="hugging_face",
    show_default=True,
    help="Protocol or provider of the endpoint.",
)
@click.option("--serve-url", metavar="URL", help="Address at which Elasticsearch reaches es-latechunk serve.")
@click.option(
    "--model-id", metavar="ID", help="Model id at the service; for openai, the model name that serve prints."
)
@click.option(
    "--service-key",
    metavar="KEY",
    help="Key of the service. Prefer ES_LATECHUNK_TOKEN, or JINA_API_KEY for jinaai.",
)
@click.option(
    "--queries",
    is_flag=True,
    help="Embed texts as queries, for a served model with separate prefixes.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=DEFAULT_RETRY_FOR,
    show_default=True,
    help="Seconds to wait for the first vector.",
)
@connection_options
@json_option
def put(
    name: str,
    service: Service,
    serve_url: str | None,
    model_id: str | None,
    service_key: str | None,
    queries: bool,
    wait: float,
    client: Elasticsearch,
    as_json: bool,
) -> None:
    """Create an inference endpoint, wait for its first vector, and print example requests.

    hugging_face and openai call `es-latechunk serve`; jinaai calls the Jina API with late chunking; elasticsearch
    runs a model inside the cluster. The cluster needs an Enterprise licence or a trial.
    """
    from es_latechunk.elastic.console import console_request
    from es_latechunk.elastic.inference import (
        Endpoint,
        put_endpoint,
        semantic_query,
        semantic_text_mapping,
        words_to_vector_query,
    )

    key = service_key or os.environ.get(KEYS.get(service, ""))
    endpoint = Endpoint(service, url=serve_url, model_id=model_id, key=key, queries=queries)
    dimensions = put_endpoint(client, name, endpoint, wait=wait)
    if as_json:
        print_json({"inference_id": name, "service": service, "dimensions": dimensions})
        return
    note(f"inference endpoint {name}: {service}, {dimensions} dimensions")
    click.echo(console_request("PUT", "semantic-notes", semantic_text_mapping(name)))
    click.echo(console_request("GET", "semantic-notes/_search", semantic_query(QUESTION)))
    click.echo(console_request("GET", "notes/_search", words_to_vector_query(name, QUESTION)))


@inference.command(examples=("es-latechunk inference show late",))
@click.argument("name")
@connection_options
@json_option
def show(name: str, client: Elasticsearch, as_json: bool) -> None:
    """Show the settings of an endpoint; keys are never shown."""
    from es_latechunk.elastic.console import render_json
    from es_latechunk.elastic.inference import show_endpoint

    found = show_endpoint(client, name)
    if as_json:
        print_json(found)
    else:
        click.echo(on_screen(render_json(found), keep="\n"))


@inference.command(examples=("es-latechunk inference delete late",))
@click.argument("name")
@click.option("--force", is_flag=True, help="Delete it even if an index or a pipeline uses it.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@connection_options
@json_option
def delete(name: str, force: bool, yes: bool, client: Elasticsearch, as_json: bool) -> None:
    """Delete an endpoint, after a confirmation."""
    from es_latechunk.elastic.inference import delete_endpoint

    if not yes:
        click.confirm(f"Delete inference endpoint {name}?", abort=True, err=True)
    delete_endpoint(client, name, force=force)
    if as_json:
        print_json({"inference_id": name, "deleted": True})
        return
    note(f"inference endpoint {name} deleted")
