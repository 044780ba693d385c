"""Late chunking for Elasticsearch."""
