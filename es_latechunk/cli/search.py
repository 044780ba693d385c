"""`es-latechunk search`: a query to hits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from es_latechunk.cli.options import ModelChoice, connection_options, json_option, model_options
from es_latechunk.cli.output import print_hits
from es_latechunk.elastic.console import console_request
from es_latechunk.elastic.query import SearchOptions, parse_filter

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


@click.command()
@click.argument("query")
@click.option("--index", required=True, metavar="NAME")
@click.option("-k", type=int, default=10, show_default=True, metavar="N", help="How many hits.")
@click.option(
    "--num-candidates", type=int, metavar="N", help="Looked at on each shard; default 10 k, at least 100."
)
@click.option(
    "--filter", "filters", multiple=True, metavar="FIELD=VALUE", help="A chunk's field or a metadata key."
)
@click.option(
    "--console", is_flag=True, help="Print the request for Kibana's Dev Tools instead of sending it."
)
@model_options
@connection_options
@json_option
def search(
    query: str,
    index: str,
    k: int,
    num_candidates: int | None,
    filters: tuple[str, ...],
    console: bool,
    model: ModelChoice,
    client: Elasticsearch,
    as_json: bool,
) -> None:
    """Find the chunks nearest to QUERY by kNN; the score is (1 + cosine) / 2."""
    from es_latechunk.elastic.mapping import read_identity
    from es_latechunk.elastic.search import query_request, run_search

    options = SearchOptions(k, num_candidates, tuple(parse_filter(text) for text in filters))
    options.candidates()
    encoder = model.load_for(read_identity(client, index).encoder)
    request = query_request(query, client=client, index=index, encoder=encoder, options=options)
    if console:
        click.echo(console_request("POST", f"{index}/_search", request))
        return
    print_hits(run_search(client, index, request), as_json=as_json)
