"""Fixtures that every test file can ask for."""

import os
import signal

from indices import client
from servers import (
    elasticsearch_node,
    elasticsearch_url,
    index_name,
    node_home,
    nodes,
    pytest_generate_tests,
    server_version,
)

__all__ = [
    "client",
    "elasticsearch_node",
    "elasticsearch_url",
    "index_name",
    "node_home",
    "nodes",
    "pytest_generate_tests",
    "server_version",
]

# The tests' nodes live for minutes: Java's optimising compiler would cost more than it gives.
os.environ.setdefault("ES_JAVA_OPTS", "-XX:TieredStopAtLevel=1")

# A shell starts background jobs with Ctrl-C ignored, and what the tests start would inherit it.
# So would a hang-up that nohup has it ignore.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
