"""Cutting documents into chunks: boundaries, then units, then chunks as long as the token budget allows."""

from es_latechunk.chunking.chunkers import CHUNKERS, DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS, make_chunker
from es_latechunk.chunking.document import chunk_document, token_owner

__all__ = [
    "CHUNKERS",
    "DEFAULT_CHUNKER",
    "DEFAULT_MAX_TOKENS",
    "chunk_document",
    "make_chunker",
    "token_owner",
]
