"""The embedded Elasticsearch: a local node, started and stopped from here."""

from es_latechunk.node.layout import Node, Status
from es_latechunk.node.lifecycle import all_nodes, node_status, running_node, start_node, stop_node

__all__ = ["Node", "Status", "all_nodes", "node_status", "running_node", "start_node", "stop_node"]
