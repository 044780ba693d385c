"""Elasticsearch: the client, the index, writing it and searching it."""
