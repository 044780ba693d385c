"""Late chunking for Elasticsearch: chunk vectors that know their document.

The names here are the whole public interface; each is loaded when it is first used, so that importing the
package costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from es_latechunk.async_index import AsyncIndex, AsyncIngestRun
    from es_latechunk.bootstrap import create_index
    from es_latechunk.documents import read_documents
    from es_latechunk.dry_run import DryRun, IngestPlan
    from es_latechunk.elastic.connection import connect
    from es_latechunk.elastic.index.from_index import read_index
    from es_latechunk.elastic.search.query import Filter, Fusion, Mode
    from es_latechunk.elastic.write.alias import Promotion, promote
    from es_latechunk.embed import OnTokens, embed_documents
    from es_latechunk.errors import (
        DocumentError,
        IndexBusyError,
        IndexMismatchError,
        IndexNotFoundError,
        IndexRefusedError,
        JinaApiError,
        LateChunkError,
        ModelError,
        NodeError,
        PreconditionError,
        ServerError,
        TooMuchError,
        UsageError,
        WriteError,
        raise_errors,
    )
    from es_latechunk.evaluation import (
        ComparedChunk,
        KnnAccuracy,
        StoredProblem,
        VerifyReport,
        compare,
        verify,
    )
    from es_latechunk.evaluation.evaluate import Axes, evaluate
    from es_latechunk.evaluation.questions.pseudo_queries import PseudoQueries, make_pseudo_queries
    from es_latechunk.evaluation.questions.read import Question, read_questions
    from es_latechunk.evaluation.questions.relevance import Relevance
    from es_latechunk.evaluation.results.combinations import (
        Combination,
        EvaluatedCombination,
        EvaluationReport,
    )
    from es_latechunk.evaluation.results.measures import Interval, QuestionScores
    from es_latechunk.evaluation.vectors.chunkings import OnProgress
    from es_latechunk.index import Index
    from es_latechunk.ingest import IngestKeywords, IngestRun, ingest
    from es_latechunk.models import Dtype, EncoderLoader, EngineName, load_encoder
    from es_latechunk.models.rerank import load_reranker
    from es_latechunk.report import DocumentResult, IngestProgress, IngestReport, Outcome
    from es_latechunk.scale import RayCluster
    from es_latechunk.search import SearchKeywords, SearchResult, search, search_many
    from es_latechunk.stages import StageSeconds
    from es_latechunk.types import (
        ChunkSpan,
        ChunkVector,
        Document,
        Encoder,
        EncoderIdentity,
        FloatArray,
        Hit,
        IntArray,
        ListScore,
        Passage,
        PieceVector,
        Pooling,
        PoolingOptions,
        Reranker,
        Tokenizer,
        Tokens,
        TokenWeights,
    )

_MODULES = {
    "AsyncIndex": "async_index",
    "AsyncIngestRun": "async_index",
    "Axes": "evaluation.evaluate",
    "ChunkSpan": "types",
    "ChunkVector": "types",
    "Combination": "evaluation.results.combinations",
    "ComparedChunk": "evaluation",
    "Document": "types",
    "DocumentError": "errors",
    "DocumentResult": "report",
    "DryRun": "dry_run",
    "Dtype": "models",
    "Encoder": "types",
    "EncoderIdentity": "types",
    "EncoderLoader": "models",
    "EngineName": "models",
    "EvaluatedCombination": "evaluation.results.combinations",
    "EvaluationReport": "evaluation.results.combinations",
    "Filter": "elastic.search.query",
    "FloatArray": "types",
    "Fusion": "elastic.search.query",
    "Hit": "types",
    "Index": "index",
    "IndexBusyError": "errors",
    "IndexMismatchError": "errors",
    "IndexNotFoundError": "errors",
    "IndexRefusedError": "errors",
    "IngestKeywords": "ingest",
    "IngestPlan": "dry_run",
    "IngestProgress": "report",
    "IngestReport": "report",
    "IngestRun": "ingest",
    "IntArray": "types",
    "Interval": "evaluation.results.measures",
    "JinaApiError": "errors",
    "KnnAccuracy": "evaluation",
    "LateChunkError": "errors",
    "ListScore": "types",
    "Mode": "elastic.search.query",
    "ModelError": "errors",
    "NodeError": "errors",
    "OnProgress": "evaluation.vectors.chunkings",
    "OnTokens": "embed",
    "Outcome": "report",
    "Passage": "types",
    "PieceVector": "types",
    "Pooling": "types",
    "PoolingOptions": "types",
    "PreconditionError": "errors",
    "Promotion": "elastic.write.alias",
    "PseudoQueries": "evaluation.questions.pseudo_queries",
    "Question": "evaluation.questions.read",
    "QuestionScores": "evaluation.results.measures",
    "RayCluster": "scale",
    "Relevance": "evaluation.questions.relevance",
    "Reranker": "types",
    "SearchKeywords": "search",
    "SearchResult": "search",
    "ServerError": "errors",
    "StageSeconds": "stages",
    "StoredProblem": "evaluation",
    "TokenWeights": "types",
    "Tokenizer": "types",
    "Tokens": "types",
    "TooMuchError": "errors",
    "UsageError": "errors",
    "VerifyReport": "evaluation",
    "WriteError": "errors",
    "compare": "evaluation",
    "connect": "elastic.connection",
    "create_index": "bootstrap",
    "embed_documents": "embed",
    "evaluate": "evaluation.evaluate",
    "ingest": "ingest",
    "load_encoder": "models",
    "load_reranker": "models.rerank",
    "make_pseudo_queries": "evaluation.questions.pseudo_queries",
    "promote": "elastic.write.alias",
    "raise_errors": "errors",
    "read_documents": "documents",
    "read_index": "elastic.index.from_index",
    "read_questions": "evaluation.questions.read",
    "search": "search",
    "search_many": "search",
    "verify": "evaluation",
}
__all__ = [
    "AsyncIndex",
    "AsyncIngestRun",
    "Axes",
    "ChunkSpan",
    "ChunkVector",
    "Combination",
    "ComparedChunk",
    "Document",
    "DocumentError",
    "DocumentResult",
    "DryRun",
    "Dtype",
    "Encoder",
    "EncoderIdentity",
    "EncoderLoader",
    "EngineName",
    "EvaluatedCombination",
    "EvaluationReport",
    "Filter",
    "FloatArray",
    "Fusion",
    "Hit",
    "Index",
    "IndexBusyError",
    "IndexMismatchError",
    "IndexNotFoundError",
    "IndexRefusedError",
    "IngestKeywords",
    "IngestPlan",
    "IngestProgress",
    "IngestReport",
    "IngestRun",
    "IntArray",
    "Interval",
    "JinaApiError",
    "KnnAccuracy",
    "LateChunkError",
    "ListScore",
    "Mode",
    "ModelError",
    "NodeError",
    "OnProgress",
    "OnTokens",
    "Outcome",
    "Passage",
    "PieceVector",
    "Pooling",
    "PoolingOptions",
    "PreconditionError",
    "Promotion",
    "PseudoQueries",
    "Question",
    "QuestionScores",
    "RayCluster",
    "Relevance",
    "Reranker",
    "SearchKeywords",
    "SearchResult",
    "ServerError",
    "StageSeconds",
    "StoredProblem",
    "TokenWeights",
    "Tokenizer",
    "Tokens",
    "TooMuchError",
    "UsageError",
    "VerifyReport",
    "WriteError",
    "compare",
    "connect",
    "create_index",
    "embed_documents",
    "evaluate",
    "ingest",
    "load_encoder",
    "load_reranker",
    "make_pseudo_queries",
    "promote",
    "raise_errors",
    "read_documents",
    "read_index",
    "read_questions",
    "search",
    "search_many",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """Python binds a module in its package when it is first imported: `ingest` and `search` stay the functions."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
