"""The index that a run writes or plans to write, with its own encoder and all that decides its vectors."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from es_latechunk.chunking import make_chunker
from es_latechunk.late import Windows, recorded_windows
from es_latechunk.models import EncoderLoader, choose_encoder
from es_latechunk.types import Chunker, Encoder

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.elastic.index.admin import IndexRecord
    from es_latechunk.elastic.index.identity import IndexIdentity
    from es_latechunk.elastic.index.ownership import IndexState

PACKED_VECTORS_SINCE = (9, 3)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """The index and its encoder, as the stages need them.

    `vectors` describes what determines a vector (it enters the hash of a document); `packed` tells whether vectors are
    sent as base64.
    """

    record: IndexRecord
    encoder: Encoder
    windows: Windows | None
    chunker: Chunker
    vectors: str
    packed: bool
    retry_for: float


def recorded_chunking(identity: IndexIdentity, encoder: Encoder) -> tuple[Chunker, Windows | None]:
    """Return the chunker and the windows that an index records; a hosted encoder has windows of its own (None)."""
    chunker = make_chunker(identity.chunker, tokenizer=encoder.tokenizer, max_tokens=identity.max_tokens)
    windows = recorded_windows(encoder, identity.overlap, late_window=identity.pooling.late_window)
    return chunker, windows


def open_target(
    client: Elasticsearch,
    index: IndexState,
    encoder: Encoder | EncoderLoader | None,
    *,
    retry_for: float,
    retry_unreachable: bool = False,
) -> Target:
    """Read what the index records; raise IndexMismatchError if the encoder is not the index's own.

    `retry_unreachable` is for a load that is under way: its server was there, and is more often back soon than gone.
    """
    from es_latechunk.elastic.connection import server_version
    from es_latechunk.elastic.index.admin import read_record
    from es_latechunk.elastic.index.identity import check_encoder
    from es_latechunk.elastic.retry import retry_transient

    record = retry_transient(
        lambda: read_record(client, index.name), retry_for=retry_for, retry_unreachable=retry_unreachable
    )
    identity = record.identity
    encoder = choose_encoder(encoder, identity.encoder, retry_for=retry_for)
    check_encoder(index.name, identity.encoder, encoder.identity)
    chunker, windows = recorded_chunking(identity, encoder)
    version = retry_transient(
        lambda: server_version(client), retry_for=retry_for, retry_unreachable=retry_unreachable
    )
    if version is None:
        log.info("no right to see the server's version (monitor), so vectors are sent as lists of numbers")
    # As base64 they are shorter and parsed faster, but every node has to accept them.
    packed = version is not None and version >= PACKED_VECTORS_SINCE
    return Target(record, encoder, windows, chunker, identity.digest(), packed, retry_for)
