"""Searching for every question: exact BM25, cosines and hybrids in memory, or a real index."""
