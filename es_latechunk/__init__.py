"""Late chunking for Elasticsearch: chunk vectors that know their document.

The names here are the whole public interface; each is loaded when it is first used, so that importing the
package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from es_latechunk.bootstrap import create_index
    from es_latechunk.documents import read_documents
    from es_latechunk.dry_run import DryRun, IngestPlan
    from es_latechunk.elastic.connection import Connection, connect
    from es_latechunk.embed import embed_documents
    from es_latechunk.errors import DocumentError, LateChunkError, raise_errors
    from es_latechunk.index import Index
    from es_latechunk.ingestion import IngestRun, ingest
    from es_latechunk.models import load_encoder
    from es_latechunk.models.rerank import load_reranker
    from es_latechunk.report import DocumentResult, IngestReport
    from es_latechunk.retrieval import SearchResult, search, search_many
    from es_latechunk.types import ChunkSpan, ChunkVector, Document, Encoder, Hit, Passage, Reranker

_MODULES = {
    "ChunkSpan": "types",
    "ChunkVector": "types",
    "Connection": "elastic.connection",
    "Document": "types",
    "DocumentError": "errors",
    "DocumentResult": "report",
    "DryRun": "dry_run",
    "Encoder": "types",
    "Hit": "types",
    "Index": "index",
    "IngestPlan": "dry_run",
    "IngestReport": "report",
    "IngestRun": "ingestion",
    "LateChunkError": "errors",
    "Passage": "types",
    "Reranker": "types",
    "SearchResult": "retrieval",
    "connect": "elastic.connection",
    "create_index": "bootstrap",
    "embed_documents": "embed",
    "ingest": "ingestion",
    "load_encoder": "models",
    "load_reranker": "models.rerank",
    "raise_errors": "errors",
    "read_documents": "documents",
    "search": "retrieval",
    "search_many": "retrieval",
}
__all__ = [
    "ChunkSpan",
    "ChunkVector",
    "Connection",
    "Document",
    "DocumentError",
    "DocumentResult",
    "DryRun",
    "Encoder",
    "Hit",
    "Index",
    "IngestPlan",
    "IngestReport",
    "IngestRun",
    "LateChunkError",
    "Passage",
    "Reranker",
    "SearchResult",
    "connect",
    "create_index",
    "embed_documents",
    "ingest",
    "load_encoder",
    "load_reranker",
    "raise_errors",
    "read_documents",
    "search",
    "search_many",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
