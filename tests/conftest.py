"""Fixtures that every test file can ask for."""

import signal

from indices import client
from servers import elasticsearch_node, elasticsearch_url, index_name, node_home, server_version

__all__ = ["client", "elasticsearch_node", "elasticsearch_url", "index_name", "node_home", "server_version"]

# A shell starts background jobs with Ctrl-C ignored, and what the tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)
