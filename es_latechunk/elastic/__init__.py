"""Elasticsearch: the mapping, the way in, and the way out."""
