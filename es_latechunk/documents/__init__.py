"""Sources of documents: files, folders and standard input, one document at a time."""

from es_latechunk.documents.identity import SeenIds, document_hash
from es_latechunk.documents.read import FORMATS, count_bytes, read_documents
from es_latechunk.documents.sources import shown

__all__ = ["FORMATS", "SeenIds", "count_bytes", "document_hash", "read_documents", "shown"]
