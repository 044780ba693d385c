"""Creates an index for the vectors of an encoder, and the staged index of an alias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from es_latechunk.chunking import DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS, make_chunker
from es_latechunk.elastic.index.identity import IndexIdentity
from es_latechunk.elastic.index.template import index_body, load_template
from es_latechunk.embed import choose_pooling
from es_latechunk.models import EncoderLoader, check_weights, choose_encoder, measured_pooling
from es_latechunk.types import Encoder, Pooling, PoolingOptions

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


def create_index(
    name: str,
    *,
    encoder: Encoder,
    client: Elasticsearch | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    chunker: str = DEFAULT_CHUNKER,
    pooling: Pooling | PoolingOptions | None = None,
    overlap: int | None = None,
    quantization: str = "int8",
    shards: int | None = None,
    replicas: int | None = None,
    template: Path | None = None,
    context_fields: bool = True,
    language: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bool:
    """Create an index for the vectors of `encoder`; return True if it is new, False if it exists already.

    - `chunker`, `max_tokens`, `pooling`, `overlap`: as in `embed_documents`.
    - `quantization`: "int8", "int4", "bbq" or "none". With "_flat" ("flat" for none) there is no graph, and few chunks
      are searched exactly.
    - `shards`, `replicas`: without them, those of the template, or else one shard, and a replica if there are several
      nodes.
    - `template`: a file with settings and mappings to start from.
    - `context_fields`: index the words of each chunk's neighbours too, for BM25.
    - `language`: a language analyzer of the cluster, such as "english".
    - `metadata`: the types of keys of the metadata, such as {"price": "double"}, so that filters can be ranges over
      them; a document with a value that does not fit is refused.

    The mapping's `_meta` records the encoder, the chunker, the pooling and the overlap; an index of the same name that
    records anything else is refused (IndexMismatchError). Without a `client`, the cluster is that of ELASTICSEARCH_URL,
    or the local node.
    """
    from es_latechunk.elastic import connection
    from es_latechunk.elastic.index import admin

    options, windows = choose_pooling(encoder, pooling, overlap)
    make_chunker(
        chunker, tokenizer=encoder.tokenizer, max_tokens=max_tokens
    )  # raises UsageError if they cannot work
    check_weights(encoder)
    asked = IndexIdentity(encoder.identity, chunker, max_tokens, options, overlap)
    identity = replace(asked, overlap=windows.overlap if windows else None)
    body = index_body(
        identity,
        template=load_template(template),
        quantization=quantization,
        shards=shards,
        replicas=replicas,
        context_fields=context_fields,
        language=language,
        metadata=metadata,
    )
    return admin.create_index(client or connection.connect(), name, body, asked, keep_pooling=pooling is None)


def stage_index(
    alias: str, *, client: Elasticsearch, encoder: Encoder | EncoderLoader | None = None
) -> tuple[str, Encoder]:
    """Return the staged index of an alias, created like the index behind the alias now, and the encoder for it.

    `encoder` is that of `ingest`; without one, the recorded model is loaded, or the default model for the first index
    of an alias. An index that is staged already is used again; IndexMismatchError if it is for another encoder.
    """
    from es_latechunk.elastic.index import admin
    from es_latechunk.elastic.write import alias as aliases

    current = aliases.current_indices(client, alias)
    recorded = admin.read_identity(client, alias) if current else None
    chosen = choose_encoder(encoder, recorded.encoder if recorded else None)
    check_weights(chosen)

    options, windows = choose_pooling(chosen, None, None)
    overlap = windows.overlap if windows else None
    identity = IndexIdentity(chosen.identity, DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS, options, overlap)
    template = load_template()
    if recorded:
        identity = _for_encoder(recorded, chosen)
        template = admin.template_of(client, current[0])

    def create(name: str) -> None:
        admin.create_index(client, name, index_body(identity, template=template), identity)

    return aliases.open_staged_index(client, alias, create), chosen


def _for_encoder(recorded: IndexIdentity, encoder: Encoder) -> IndexIdentity:
    """Return the identity of another index like one that exists, for an encoder that may be another one.

    What was measured for a model is no choice for another one, and an overlap belongs to the window that it was chosen
    for. A pooling that was chosen stays; UsageError if the encoder cannot have it.
    """
    measured = measured_pooling(recorded.encoder)
    same_model = recorded.encoder.weights == encoder.identity.weights
    by_default = not same_model and measured is not None and recorded.pooling == measured.options
    options, windows = choose_pooling(encoder, None if by_default else recorded.pooling, None)
    same_window = recorded.encoder.window == encoder.identity.window and not by_default
    overlap = recorded.overlap if same_window else windows.overlap if windows else None
    return replace(recorded, encoder=encoder.identity, pooling=options, overlap=overlap)
