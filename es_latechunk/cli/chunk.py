"""`es-latechunk chunk`: cut documents into spans."""

from __future__ import annotations

import click

from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.cli.options.help import Command
from es_latechunk.cli.options.shared import (
    ModelChoice,
    chunker_option,
    json_option,
    max_tokens_option,
    model_options,
)
from es_latechunk.cli.options.sources import Reader, reader_options
from es_latechunk.cli.output.messages import Failures, UnreadableNotes, chunk_rows, print_json
from es_latechunk.documents import unique_documents
from es_latechunk.errors import DocumentError


@click.command(
    cls=Command,
    examples=(
        "es-latechunk chunk notes/berlin.txt",
        "es-latechunk chunk notes/ --chunker paragraphs --max-tokens 64",
    ),
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@chunker_option
@max_tokens_option
@reader_options
@model_options
@json_option
def chunk(
    paths: tuple[str, ...], chunker: str, max_tokens: int, reader: Reader, model: ModelChoice, as_json: bool
) -> None:
    """Split documents into chunks and print them as NDJSON: doc_id, ordinal, start, end, content.

    start and end count characters (Unicode code points); end is exclusive. Only the model's tokenizer is used.
    "-" reads standard input.
    """
    failures, unreadable = Failures(), UnreadableNotes()
    tokenizer = model.load().tokenizer
    cut = make_chunker(chunker, tokenizer=tokenizer, max_tokens=max_tokens)
    for document in failures.named(unique_documents(reader.read(paths))):
        try:
            chunked = chunk_document(document, chunker=cut, tokenizer=tokenizer)
        except DocumentError as error:
            failures.add(error)
            continue
        unreadable(document.id, chunked.tokens)
        for row in chunk_rows(chunked):
            print_json(row)
    unreadable.summary()
    failures.exit()
