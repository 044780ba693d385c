"""`es-latechunk quickstart`: a node, an index, an ingest, searches and a comparison on one screen."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from es_latechunk.cli.options.help import Command
from es_latechunk.documents import read_documents
from es_latechunk.errors import raise_errors
from es_latechunk.models import load_encoder
from es_latechunk.quickstart import ARTICLES, MAX_TOKENS, SampleQuery, notes_folder, sample_queries

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.node import Node
    from es_latechunk.types import Encoder, Hit

INDEX = "quickstart"
COMPARED = 5
FOUND = 2


@click.command(
    cls=Command,
    examples=("es-latechunk quickstart",),
)
@click.option("--port", type=click.IntRange(1, 65535), help="HTTP port of the local node, if 9200 is taken.")
def quickstart(port: int | None) -> None:
    """Start a local node, index ten short articles, search them, and compare late with naive pooling.

    Each step shows the command that does the same. It can be run again: a node or an index that exists is reused.
    """
    from es_latechunk.elastic.connection import connect_to_node

    with _step(1, "A local Elasticsearch", "node", "start"):
        node = _node(port)
        _say(f"Elasticsearch {node.version} answers at {node.url}")
    encoder = load_encoder()
    articles = os.path.relpath(ARTICLES)
    with connect_to_node(node) as client:
        _fill(client, encoder, articles)
        _search(client, encoder, sample_queries())
    question = sample_queries()[0].query
    options = ("--query", question, "--max-tokens", str(MAX_TOKENS), "-k", str(COMPARED))
    with _step(
        5,
        "Late next to naive pooling: cosine similarity, and rank among all chunks",
        "compare",
        articles,
        *options,
    ):
        _compare(encoder, question)
    _say_what_is_next()


def _node(port: int | None) -> Node:
    from es_latechunk.node import running_node, start_node

    return running_node() or start_node(port=port, progress=lambda text: click.echo(text, err=True))


def _fill(client: Elasticsearch, encoder: Encoder, articles: str) -> None:
    from es_latechunk.bootstrap import create_index
    from es_latechunk.embed import choose_pooling
    from es_latechunk.ingest import ingest

    with _step(
        2, "An index for the model's vectors", "index", "create", INDEX, "--max-tokens", str(MAX_TOKENS)
    ):
        create_index(INDEX, encoder=encoder, client=client, max_tokens=MAX_TOKENS)
        pooling, _ = choose_pooling(encoder, None, None)
        _say(f"{encoder.identity.model}: {encoder.dim} dimensions, chunks of {MAX_TOKENS} tokens, {pooling}")
    with _step(3, "Ten short articles, late-chunked and indexed", "ingest", articles, "--index", INDEX):
        report = ingest(read_documents([ARTICLES]), client=client, index=INDEX, encoder=encoder)
        _say(f"{report.documents} documents, {report.indexed} chunks indexed, {report.unchanged} unchanged")


def _search(client: Elasticsearch, encoder: Encoder, queries: list[SampleQuery]) -> None:
    from es_latechunk.search import search

    click.echo(click.style("4  Three searches", bold=True))
    for sample in queries:
        _show_command("search", sample.query, "--index", INDEX, "-k", str(FOUND))
        first, *others = search(sample.query, client=client, index=INDEX, encoder=encoder, k=FOUND)
        _say(textwrap.fill(_line(first), _width(), subsequent_indent=" " * 12))
        for hit in others:
            _say(_fit(_line(hit)))


def _compare(encoder: Encoder, question: str) -> None:
    from rich.console import Console
    from rich.padding import Padding

    from es_latechunk.cli.compare import compared_table
    from es_latechunk.evaluation import compare

    documents = list(read_documents([ARTICLES]))
    rows = list(raise_errors(compare(documents, question, encoder=encoder, max_tokens=MAX_TOKENS)))
    Console(highlight=False).print(Padding(compared_table(rows[:COMPARED]), (0, 0, 0, 3)))


@contextmanager
def _step(number: int, title: str, *command: str) -> Iterator[None]:
    click.echo(click.style(f"{number}  {title}", bold=True))
    _show_command(*command)
    yield


def _show_command(*command: str) -> None:
    _show_line(f"es-latechunk {shlex.join(command)}")


def _say_what_is_next() -> None:
    notes = os.path.relpath(notes_folder())
    if activate := _activation():
        click.echo("\nSo that this shell finds es-latechunk, once:")
        _show_line(activate)
    click.echo("\nNow a folder; yours works the same:")
    _show_command("index", "create", "notes")
    _show_command("ingest", notes, "--index", "notes")
    _show_command("search", "How many people live in the Norwegian capital?", "--index", "notes")
    click.echo("\nTo clean up:")
    _show_command("index", "delete", INDEX, "--yes")
    _show_command("node", "stop")


def _activation() -> str:
    """Return the line that puts this es-latechunk on PATH, or "" if the shell finds it already."""
    folder = Path(sys.executable).parent
    found = shutil.which("es-latechunk")
    if found and Path(found).parent == folder:
        return ""
    script = folder / "activate"
    place = os.path.relpath(script)
    return f". {shlex.quote(place)}" if script.is_file() else f"export PATH={shlex.quote(str(folder))}:$PATH"


def _show_line(line: str) -> None:
    click.echo(click.style(f"   $ {line}", fg="cyan"))


def _say(text: str) -> None:
    click.echo(f"   {text}")


def _line(hit: Hit) -> str:
    return f"  {hit.score:.3f}  {hit.doc_id}: {' '.join(hit.content.split())}"


def _width() -> int:
    return min(os.get_terminal_size().columns if os.isatty(1) else 100, 120) - 4


def _fit(text: str) -> str:
    """Cut a line to the width of the screen."""
    width = _width()
    return text if len(text) <= width else f"{text[: width - 1]}…"
