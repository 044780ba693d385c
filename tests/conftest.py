"""Fixtures that every test file can ask for."""

from indices import client
from servers import elasticsearch_node, elasticsearch_url, index_name, node_home, server_version

__all__ = ["client", "elasticsearch_node", "elasticsearch_url", "index_name", "node_home", "server_version"]
