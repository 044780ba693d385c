"""`es-latechunk node`: the embedded Elasticsearch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from es_latechunk.cli.options.help import Group
from es_latechunk.errors import NodeError

_name = click.option("--name", default="default", show_default=True, help="Name of the node.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
_folder = click.Path(file_okay=False, exists=True, path_type=Path)


@click.group(cls=Group)
def node() -> None:
    """Start, stop and inspect a local Elasticsearch."""


@node.command(
    examples=(
        "es-latechunk node start",
        "es-latechunk node start --port 9201 --name second --heap 2g",
    )
)
@_name
@click.option(
    "--port", type=click.IntRange(1, 65535), help="HTTP port.  [default: the port of the last start, or 9200]"
)
@click.option(
    "--java-home", type=_folder, help="Java to run Elasticsearch on.  [default: the best one found]"
)
@click.option(
    "--elasticsearch-home",
    type=_folder,
    help="Unpacked Elasticsearch distribution to run instead; it is not changed.",
)
@click.option(
    "--elasticsearch-version", metavar="VERSION", help="Version to run: 9.5.0 (needs a full JDK 21) or 9.2.4."
)
@click.option(
    "--heap",
    metavar="SIZE",
    help="Java heap, such as 768m or 2g.  [default: a quarter of the memory, 512m to 1g]",
)
@click.option(
    "--secure/--no-secure",
    default=None,
    help="Require TLS and a password.  [default: as at the last start, or not]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=180,
    show_default=True,
    help="Seconds to wait until the node answers.",
)
@_json
def start(
    name: str,
    port: int | None,
    java_home: Path | None,
    elasticsearch_home: Path | None,
    elasticsearch_version: str | None,
    heap: str | None,
    secure: bool | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Start a node in the background and wait until it answers.

    The first start downloads Elasticsearch (about 100 MB). The data is kept when the node stops.
    """
    from es_latechunk.node import start_node

    with _progress() as progress:
        started = start_node(
            name,
            port=port,
            java_home=java_home,
            elasticsearch_home=elasticsearch_home,
            elasticsearch_version=elasticsearch_version,
            heap=heap,
            secure=secure,
            timeout=timeout,
            progress=progress,
        )
    _show([started.as_json()], as_json=as_json)


@node.command(examples=("es-latechunk node stop",))
@_name
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    help="Seconds to wait before the node is killed.",
)
@_json
def stop(name: str, timeout: float, as_json: bool) -> None:
    """Stop a node; its data is kept."""
    from es_latechunk.node import stop_node

    stopped = stop_node(name, timeout=timeout, progress=_say)
    if stopped is None:
        _say(f"node {name!r} is not running")
    else:
        _show([stopped.as_json()], as_json=as_json)


@node.command(examples=("es-latechunk node status",))
@click.option("--name", help="Name of the node.  [default: all nodes]")
@_json
def status(name: str | None, as_json: bool) -> None:
    """Show the nodes: their status, URL, version and files."""
    from es_latechunk.node import all_nodes, node_status

    if name is None:
        nodes = all_nodes()
    elif one := node_status(name):
        nodes = [one]
    else:
        raise NodeError(f"no node is named {name!r}: es-latechunk node start --name {name}")
    if not nodes:
        _say("no node yet: es-latechunk node start")
    _show([one.as_json() for one in nodes], as_json=as_json)


def _show(nodes: list[dict[str, object]], *, as_json: bool) -> None:
    for facts in nodes:
        if as_json:
            click.echo(json.dumps(facts))
            continue
        click.echo(f"{facts['name']}  {facts['status']}  {facts['url']}  Elasticsearch {facts['version']}")
        details = ("pid", "java", "home", "username", "password_file", "ca_certs")
        for key in details:
            if facts.get(key) is not None:
                click.echo(f"  {key:14}{facts[key]}")


def _say(message: str) -> None:
    click.echo(message, err=True)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show progress on stderr: a line that is redrawn on a terminal, plain lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _say
        return
    with console.status("") as line:
        yield lambda message: line.update(message)
