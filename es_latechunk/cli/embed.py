"""`es-latechunk embed`: print the chunk vectors of documents."""

from __future__ import annotations

import sys
from typing import Any

import click

from es_latechunk.cli.options.help import Command
from es_latechunk.cli.options.shared import (
    ModelChoice,
    PoolingChoice,
    chunker_option,
    json_option,
    max_tokens_option,
    model_options,
    overlap_option,
    pooling_options,
)
from es_latechunk.cli.options.sources import Reader, reader_options
from es_latechunk.cli.output.messages import Failures, UnreadableNotes, print_json
from es_latechunk.cli.output.progress import EmbedProgress, SourceProgress, bytes_of, progress_bar
from es_latechunk.documents import unique_documents
from es_latechunk.embed import embed_documents
from es_latechunk.errors import DocumentError
from es_latechunk.types import PieceVector, Tokens


@click.command(
    cls=Command,
    examples=("es-latechunk embed notes/berlin.txt --max-tokens 32 > vectors.ndjson",),
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@chunker_option
@max_tokens_option
@pooling_options
@overlap_option
@reader_options
@model_options
@json_option
def embed(
    paths: tuple[str, ...],
    chunker: str,
    max_tokens: int,
    pooling: PoolingChoice,
    overlap: int | None,
    reader: Reader,
    model: ModelChoice,
    as_json: bool,
) -> None:
    """Print the chunk vectors of documents as NDJSON: doc_id, ordinal, start, end, content, vector.

    Every vector has length 1. With --pieces, a chunk also has "pieces", each with start, end and vector. "-" reads
    standard input.
    """
    failures, unreadable, progress = Failures(), UnreadableNotes(), EmbedProgress()
    quiet = sys.stdout.isatty()  # the vectors run over the same screen
    read = SourceProgress(bytes_of(lambda: reader.count_bytes(paths), quiet=quiet))

    def on_tokens(doc_id: str, tokens: Tokens) -> None:
        unreadable(doc_id, tokens)
        progress.add_tokens(tokens)

    encoder = model.load()
    chunks = embed_documents(
        unique_documents(read.counted(reader.read(paths, on_read=read.add_bytes))),
        encoder=encoder,
        max_tokens=max_tokens,
        chunker=chunker,
        pooling=pooling.options(encoder),
        overlap=overlap,
        on_tokens=on_tokens,
    )
    with progress_bar(read, progress.counts, quiet=quiet):
        for chunk in chunks:
            progress.add_chunk(chunk)
            if isinstance(chunk, DocumentError):
                failures.add(chunk)
                continue
            print_json(
                {
                    "doc_id": chunk.doc_id,
                    "ordinal": chunk.ordinal,
                    "start": chunk.start,
                    "end": chunk.end,
                    "content": chunk.content,
                    "vector": chunk.vector.tolist(),
                    **({"pieces": [_piece_row(piece) for piece in chunk.pieces]} if chunk.pieces else {}),
                }
            )
    unreadable.summary()
    failures.exit()


def _piece_row(piece: PieceVector) -> dict[str, Any]:
    return {"start": piece.start, "end": piece.end, "vector": piece.vector.tolist()}
