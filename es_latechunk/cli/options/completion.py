"""The --index option and the names of indices, which a shell can complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

INDEX_VARIABLE = "ES_LATECHUNK_INDEX"
SECONDS = 2.0  # to answer the Tab key


def complete_index(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the indices and aliases of es-latechunk that begin like `incomplete`; none if the cluster is silent."""
    from es_latechunk.elastic.connection import Connection, connect
    from es_latechunk.elastic.index.admin import list_indices
    from es_latechunk.errors import LateChunkError

    given = {name: context.params.get(name) for name in Connection.__dataclass_fields__}
    try:
        with connect(**{name: value for name, value in given.items() if value}) as client:
            rows = list_indices(client.options(request_timeout=SECONDS, max_retries=0))
    except LateChunkError:
        return []  # an error would be printed into the line that is being typed
    names = {name for row in rows for name in (row["index"], *row["aliases"])}
    return sorted(name for name in names if name.startswith(incomplete))


def index_option(*, required: bool, help: str) -> Callable[[Any], Any]:
    """Return the option --index, which can also be set by ES_LATECHUNK_INDEX."""
    return click.option(
        "--index",
        envvar=INDEX_VARIABLE,
        show_envvar=True,
        required=required,
        metavar="NAME",
        help=help,
        shell_complete=complete_index,
    )
