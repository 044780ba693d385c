"""Measuring on the user's own data what late chunking does."""

from es_latechunk.evaluation.compare import ComparedChunk, compare

__all__ = ["ComparedChunk", "compare"]
