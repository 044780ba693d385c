"""Measure the effect of late chunking on the user's own data."""

from es_latechunk.evaluation.compare import ComparedChunk, compare

__all__ = ["ComparedChunk", "compare"]
