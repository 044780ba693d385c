"""Serve a local model over HTTP: embeddings for Elasticsearch and other clients, and late chunking."""
