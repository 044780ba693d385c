"""Requests in the syntax of Kibana's Dev Tools, sent as Kibana would send them."""

from __future__ import annotations

import json
from typing import Any

from elasticsearch import Elasticsearch


def send(client: Elasticsearch, text: str) -> Any:
    """Send one request: a line with method and path, then its body, which is JSON or, for _msearch, JSON lines."""
    head, _, body = text.partition("\n")
    method, path = head.split(" ", 1)
    many = path.endswith("_msearch")
    kind = "application/x-ndjson" if many else "application/json"
    headers = {"content-type": kind, "accept": "application/json"}
    lines: Any = [json.loads(line) for line in body.splitlines()] if many else json.loads(body or "null")
    return client.perform_request(method, path, headers=headers, body=lines).body


def requests_of(text: str) -> list[str]:
    """Split a file into its requests: they have an empty line between them, and comments begin with #."""
    blocks = (
        "\n".join(line for line in block.splitlines() if line[:1] != "#") for block in text.split("\n\n")
    )
    return [block for block in blocks if block]
