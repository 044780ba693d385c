"""The child's side of a benchmark process: one JSON request per line on stdin, one JSON answer per line on stdout.

It stands alone because it is imported in every environment, so it knows no library.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

Operation = Callable[..., dict[str, Any]]
LIBRARIES = (
    "chonkie",
    "elasticsearch",
    "es-latechunk",
    "numpy",
    "openvino",
    "optimum",
    "optimum-intel",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)


# What libraries print must not stand between the answers, so this is done before any of them is used.
_answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def answer_requests(operations: Mapping[str, Operation], *, precision: str) -> None:
    """Say that all is loaded, with the versions; then run the operation that each request names."""
    _send({"precision": precision, "versions": versions()})
    for line in sys.stdin:
        request = json.loads(line)
        _send(operations[request.pop("operation")](**request))


def _send(answer: Mapping[str, Any]) -> None:
    _answers.write(json.dumps(answer) + "\n")
    _answers.flush()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are installed in this environment."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
