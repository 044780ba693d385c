"""The mapping bootstrapper: an index for an encoder's vectors, new or the next one behind an alias."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from es_latechunk.chunking import DEFAULT_MAX_TOKENS, make_chunker
from es_latechunk.elastic.identity import IndexIdentity
from es_latechunk.elastic.template import index_body, load_template
from es_latechunk.models import check_weights, load_encoder, load_recorded
from es_latechunk.types import Encoder, EncoderIdentity, Pooling

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


def create_index(
    name: str,
    *,
    encoder: Encoder,
    client: Elasticsearch | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    chunker: str = "sentences",
    pooling: Pooling = "late",
    quantization: str = "int8",
    shards: int | None = None,
    replicas: int | None = None,
    template: Path | None = None,
    context_fields: bool = True,
    language: str | None = None,
) -> bool:
    """Create an index for this encoder's vectors; True if it is new, False if it was there already.

    The mapping's `_meta` records the encoder, the chunker and the pooling; an index of the same name that
    records anything else is refused (IndexMismatchError). Without a client: ELASTICSEARCH_URL or the local node.
    """
    from es_latechunk.elastic import connection, mapping

    make_chunker(chunker, tokenizer=encoder.tokenizer, max_tokens=max_tokens)  # refuses what cannot work
    check_weights(encoder)
    identity = IndexIdentity(encoder.identity, chunker, max_tokens, pooling)
    body = index_body(
        identity,
        template=load_template(template),
        quantization=quantization,
        shards=shards,
        replicas=replicas,
        context_fields=context_fields,
        language=language,
    )
    return mapping.create_index(client or connection.connect(), name, body, identity)


def fresh_index(
    alias: str,
    *,
    client: Elasticsearch,
    load: Callable[[], Encoder] = load_encoder,
    load_for: Callable[[EncoderIdentity], Encoder] = load_recorded,
) -> tuple[str, Encoder]:
    """An index that waits for the alias, made like the one behind it now, and the encoder for it.

    `load` gives the encoder for the first index of an alias, `load_for` the one that may take the place of a
    recorded one. A waiting index is used again, if it was made with the same encoder (IndexMismatchError).
    """
    from es_latechunk.elastic import alias as aliases
    from es_latechunk.elastic import mapping

    current = aliases.current_indices(client, alias)
    recorded = mapping.read_identity(client, alias) if current else None
    encoder = load_for(recorded.encoder) if recorded else load()
    check_weights(encoder)

    identity = IndexIdentity(encoder.identity, "sentences", DEFAULT_MAX_TOKENS)
    template = load_template()
    if recorded:
        identity = replace(recorded, encoder=encoder.identity)
        template = mapping.template_of(client, current[0])

    def create(name: str) -> None:
        mapping.create_index(client, name, index_body(identity, template=template), identity)

    return aliases.fresh_index(client, alias, create), encoder
