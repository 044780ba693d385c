"""Late chunking for Elasticsearch: chunk vectors that know their document.

The names here are the whole public interface; each is loaded when it is first used, so that importing the
package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from es_latechunk.documents import read_documents
    from es_latechunk.elastic.connection import Connection, connect
    from es_latechunk.elastic.query import SearchOptions
    from es_latechunk.elastic.report import IngestReport
    from es_latechunk.errors import LateChunkError
    from es_latechunk.models import load_encoder
    from es_latechunk.models.rerank import load_reranker
    from es_latechunk.pipeline import create_index, embed_documents, ingest, search
    from es_latechunk.types import ChunkSpan, ChunkVector, Document, Hit

_PLACES = {
    "ChunkSpan": "types",
    "ChunkVector": "types",
    "Connection": "elastic.connection",
    "Document": "types",
    "Hit": "types",
    "SearchOptions": "elastic.query",
    "IngestReport": "elastic.report",
    "LateChunkError": "errors",
    "connect": "elastic.connection",
    "create_index": "pipeline",
    "embed_documents": "pipeline",
    "ingest": "pipeline",
    "load_encoder": "models",
    "load_reranker": "models.rerank",
    "read_documents": "documents",
    "search": "pipeline",
}
__all__ = [
    "ChunkSpan",
    "ChunkVector",
    "Connection",
    "Document",
    "Hit",
    "IngestReport",
    "LateChunkError",
    "SearchOptions",
    "connect",
    "create_index",
    "embed_documents",
    "ingest",
    "load_encoder",
    "load_reranker",
    "read_documents",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
