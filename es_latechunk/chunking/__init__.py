"""Cut documents into chunks: find boundaries, make units between them, and merge units up to a number of tokens."""

from es_latechunk.chunking.chunkers import CHUNKERS, DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS, make_chunker
from es_latechunk.chunking.document import chunk_document, token_owner
from es_latechunk.chunking.tables import table_headers

__all__ = [
    "CHUNKERS",
    "DEFAULT_CHUNKER",
    "DEFAULT_MAX_TOKENS",
    "chunk_document",
    "make_chunker",
    "table_headers",
    "token_owner",
]
