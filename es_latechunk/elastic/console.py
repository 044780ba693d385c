"""Formats requests in the syntax of Kibana's Dev Tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote


def console_request(method: str, path: str, body: Mapping[str, Any] | None = None) -> str:
    """Format a request to paste into Dev Tools; a list of numbers stays on one line."""
    head = f"{method} /{quote(path, safe='/,*_-.?=&')}"
    return head if body is None else f"{head}\n{render_json(body)}"


def console_msearch(index: str, bodies: Sequence[Mapping[str, Any]]) -> str:
    """Format several searches of one index as one request: one line per header and per body."""
    lines = [
        "{}" if number % 2 == 0 else json.dumps(bodies[number // 2], ensure_ascii=False)
        for number in range(2 * len(bodies))
    ]
    return "\n".join([f"POST /{quote(index, safe=',*_-.')}/_msearch", *lines])


def render_json(value: Any, indent: int = 0) -> str:
    """Format JSON for people: nested like `json.dumps(indent=2)`, but with lists of plain values on one line."""
    inner = " " * (indent + 2)
    if isinstance(value, Mapping) and value:
        rows = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {render_json(item, indent + 2)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"
    if isinstance(value, list | tuple) and any(isinstance(item, dict | list | tuple) for item in value):
        rows = [f"{inner}{render_json(item, indent + 2)}" for item in value]
        return "[\n" + ",\n".join(rows) + "\n" + " " * indent + "]"
    return json.dumps(value, ensure_ascii=False)
