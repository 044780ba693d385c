"""Read documents from files, folders and standard input, one at a time."""

from es_latechunk.documents.ids import USED_BEFORE, SeenIds, document_hash, unique_documents
from es_latechunk.documents.options import DEFAULT_MAX_DOCUMENT_BYTES, FORMATS
from es_latechunk.documents.read import STDIN, count_bytes, read_documents
from es_latechunk.documents.sources import check_paths, printable

__all__ = [
    "DEFAULT_MAX_DOCUMENT_BYTES",
    "FORMATS",
    "STDIN",
    "USED_BEFORE",
    "SeenIds",
    "check_paths",
    "count_bytes",
    "document_hash",
    "printable",
    "read_documents",
    "unique_documents",
]
