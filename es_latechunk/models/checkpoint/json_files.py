"""The JSON files of a checkpoint folder.

It stands alone because every other part reads them: the weights' index, the model's settings, the adapters'. So each
broken file gives the same message, with its path and what to do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from es_latechunk.errors import ModelError


def read_json(path: Path, model: str = "") -> Any:
    """Parse a JSON file. Raises ModelError if it is missing, cannot be read or is not JSON.

    The error begins with the name of the model, if one is given.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{_subject(path, model)}: cannot be read ({error.strerror}); download the model again, or pass a "
            "folder that transformers or sentence-transformers saved"
        ) from error
    except ValueError as error:  # broken JSON, or bytes that are not UTF-8
        raise ModelError(
            f"{_subject(path, model)}: is not JSON ({error}); download the model again"
        ) from error


def read_json_object(path: Path, model: str = "") -> dict[str, Any]:
    """Parse a JSON file that must hold an object; anything else is a ModelError."""
    content = read_json(path, model)
    if not isinstance(content, dict):
        raise ModelError(f"{_subject(path, model)}: is not a JSON object; download the model again")
    return content


def read_optional_json(path: Path, model: str = "") -> dict[str, Any]:
    """Parse a JSON file that must hold an object; an absent file counts as an empty one."""
    return read_json_object(path, model) if path.is_file() else {}


def read_modules(folder: Path, model: str = "") -> list[tuple[str, str]]:
    """Read sentence-transformers' modules.json: (class name, folder) of each module, in order; [] without the file."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        return [(str(module.get("type", "")), str(module["path"])) for module in read_json(path, model)]
    except (AttributeError, KeyError, TypeError) as error:
        raise ModelError(
            f"{_subject(path, model)}: is not a list of modules ({error!r}); download the model again"
        ) from error


def _subject(path: Path, model: str) -> str:
    return f"model {model}: {path}" if model else str(path)
