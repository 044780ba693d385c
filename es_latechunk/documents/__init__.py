"""Sources of documents: files, folders and standard input, one document at a time."""

from es_latechunk.documents.identity import SeenIds, document_hash
from es_latechunk.documents.read import FORMATS, read_documents

__all__ = ["FORMATS", "SeenIds", "document_hash", "read_documents"]
