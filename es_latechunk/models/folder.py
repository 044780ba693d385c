"""What a model folder says of itself: sentence-transformers' files and the Hugging Face configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from es_latechunk.errors import ModelError

HARMLESS_MODULES = ("Transformer", "Pooling", "Normalize", "Dense")


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """`pooling` is "mean", another name, or "" where no file tells; `pooling_file` is the file that tells."""

    config: dict[str, Any]
    pooling: str
    pooling_file: str
    max_seq_length: int | None
    prompts: dict[str, str]
    dense: tuple[Path, ...]


def read_folder(path: Path, name: str) -> FolderFacts:
    """Read the facts; files that are not JSON, or modules that change the vectors unseen, are ModelErrors."""
    config = read_json(path / "config.json", name)
    modules = _modules(path, name)
    pooling, pooling_file = _pooling(path, config, modules, name)
    sentence = _optional_json(path / "sentence_bert_config.json", name)
    prompts = _optional_json(path / "config_sentence_transformers.json", name).get("prompts") or {}
    length = sentence.get("max_seq_length")
    return FolderFacts(
        config=config,
        pooling=pooling,
        pooling_file=pooling_file,
        max_seq_length=length if isinstance(length, int) else None,
        prompts={key: value for key, value in prompts.items() if isinstance(value, str)},
        dense=tuple(path / place for kind, place in modules if kind == "Dense"),
    )


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file of model `name`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"model {name}: {path.name} cannot be read ({error.strerror}); pass a folder that transformers saved"
        ) from error
    except ValueError as error:
        raise ModelError(
            f"model {name}: {path.name} is not JSON ({error}); download the model again"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"model {name}: {path.name} is not a JSON object; download the model again")
    return content


def _optional_json(path: Path, name: str) -> dict[str, Any]:
    return read_json(path, name) if path.is_file() else {}


def _modules(path: Path, name: str) -> list[tuple[str, str]]:
    file = path / "modules.json"
    if not file.is_file():
        return []
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        modules = [(str(row["type"]).rpartition(".")[2], str(row["path"])) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"model {name}: modules.json is not a list of modules ({error})") from error
    for kind, _ in modules:
        if kind not in HARMLESS_MODULES:
            raise ModelError(
                f"model {name}: modules.json has a {kind} module, which late chunking does not know; "
                f"only {', '.join(HARMLESS_MODULES)} are: choose another model"
            )
    return modules


def _pooling(
    path: Path, config: dict[str, Any], modules: list[tuple[str, str]], name: str
) -> tuple[str, str]:
    places = [place for kind, place in modules if kind == "Pooling"] or ["1_Pooling"]
    file = path / places[0] / "config.json"
    if file.is_file():
        return _pooling_mode(read_json(file, name)), f"{places[0]}/config.json"
    if isinstance(config.get("emb_pooler"), str):
        return config["emb_pooler"], "config.json (emb_pooler)"
    return "", ""


def _pooling_mode(settings: dict[str, Any]) -> str:
    """Both forms that sentence-transformers writes: one `pooling_mode`, or a flag for each mode."""
    mode = settings.get("pooling_mode")
    if isinstance(mode, str):
        return mode
    if isinstance(mode, list):
        return "+".join(str(part) for part in mode)
    flags = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value is True]
    names = [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token") for key in flags
    ]
    return "+".join(sorted(names))
