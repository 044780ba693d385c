"""Read documents from files, folders, stores, web servers and standard input, one at a time."""

from es_latechunk.documents.ids import USED_BEFORE, SeenIds, document_hash, unique_documents
from es_latechunk.documents.options import DEFAULT_MAX_DOCUMENT_BYTES, FORMATS
from es_latechunk.documents.parts import PartReading
from es_latechunk.documents.read import (
    STDIN,
    Item,
    SourceDocuments,
    check_sources,
    count_bytes,
    parse_sources,
    read_documents,
    through,
)
from es_latechunk.documents.remote.address import shown_source
from es_latechunk.documents.sources import printable

__all__ = [
    "DEFAULT_MAX_DOCUMENT_BYTES",
    "FORMATS",
    "STDIN",
    "USED_BEFORE",
    "Item",
    "PartReading",
    "SeenIds",
    "SourceDocuments",
    "check_sources",
    "count_bytes",
    "document_hash",
    "parse_sources",
    "printable",
    "read_documents",
    "shown_source",
    "through",
    "unique_documents",
]
