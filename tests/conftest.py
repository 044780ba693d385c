"""Fixtures that every test file can ask for."""

from servers import elasticsearch_node, elasticsearch_url, index_name, node_home, server_version

__all__ = ["elasticsearch_node", "elasticsearch_url", "index_name", "node_home", "server_version"]
