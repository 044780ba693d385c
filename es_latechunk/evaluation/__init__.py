"""Measure the effect of late chunking on the user's own data, and verify what an index holds."""

from es_latechunk.evaluation.compare import ComparedChunk, compare
from es_latechunk.evaluation.verify import KnnAccuracy, StoredProblem, VerifyReport, verify

__all__ = ["ComparedChunk", "KnnAccuracy", "StoredProblem", "VerifyReport", "compare", "verify"]
