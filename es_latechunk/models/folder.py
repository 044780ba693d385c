"""What a model folder says of itself: sentence-transformers' files and the Hugging Face configuration."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from es_latechunk.errors import ModelError
from es_latechunk.models.native.adapters import TASKS

UNLIMITED = 1 << 20  # tokenizers write 10**30 for "no limit"
PROMPTS = "config_sentence_transformers.json"
KNOWN_ORDER = re.compile(r"Transformer( Pooling( Dense)*)?( Normalize)?")


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """`pooling` is "mean", another name, or "" where no file tells; `pooling_file` is the file that tells.

    `lengths` are the numbers of tokens that sentence-transformers and the tokenizer cut texts to.

    `truncate` is the size to which sentence-transformers cuts the vectors; None: the model's own.
    `unfit` says what in the files changes the vectors in a way that is not computed here, or is "".
    """

    config: dict[str, Any]
    pooling: str
    pooling_file: str
    lengths: tuple[int, ...]
    lower_case: bool
    prompts: dict[str, str]
    default_prompt: str
    dense: tuple[Path, ...]
    truncate: int | None
    unfit: str


def read_folder(path: Path, name: str) -> FolderFacts:
    """Read the facts; a file that is missing or not JSON is a ModelError that names it."""
    config = read_json(path / "config.json", name)
    modules = _modules(path, name)
    if TASKS in config:  # jina-embeddings-v3 has a Transformer of its own, which chooses the adapter
        modules = [
            ("Transformer" if kind == "custom_st.Transformer" else kind, place) for kind, place in modules
        ]
    pooling, pooling_file = _pooling(path, config, modules, name)
    transformer = _transformer(path, name)
    settings = _optional_json(path / PROMPTS, name)
    prompts = settings.get("prompts") or config.get("task_instructions") or {}
    truncate = settings.get("truncate_dim")
    if truncate is not None and (type(truncate) is not int or truncate < 1):
        raise ModelError(
            f"model {name}: {PROMPTS} has the truncate_dim {truncate!r}, which is no size; give a number"
        )
    tokenizer = _optional_json(path / "tokenizer_config.json", name)
    lengths = (transformer.get("max_seq_length"), tokenizer.get("model_max_length"))
    return FolderFacts(
        config=config,
        pooling=pooling,
        pooling_file=pooling_file,
        lengths=tuple(n for n in lengths if isinstance(n, int) and 0 < n < UNLIMITED),
        lower_case=transformer.get("do_lower_case") is True,
        prompts={key: value for key, value in prompts.items() if isinstance(value, str)},
        default_prompt=str(settings.get("default_prompt_name") or ""),
        dense=tuple(path / place for kind, place in modules if kind == "Dense"),
        truncate=truncate,
        unfit=_unfit_modules([kind for kind, _ in modules]) or _unfit_output(transformer),
    )


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file of model `name`."""
    content = _parsed(path, name)
    if not isinstance(content, dict):
        raise ModelError(f"model {name}: {path} is not a JSON object; download the model again")
    return content


def _parsed(path: Path, name: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"model {name}: {path} cannot be read ({error.strerror}); pass a folder that transformers or "
            "sentence-transformers saved"
        ) from error
    except ValueError as error:
        raise ModelError(f"model {name}: {path} is not JSON ({error}); download the model again") from error


def _optional_json(path: Path, name: str) -> dict[str, Any]:
    return read_json(path, name) if path.is_file() else {}


def _transformer(path: Path, name: str) -> dict[str, Any]:
    """sentence_bert_config.json; early versions put the architecture's name for "bert"."""
    files = sorted(path.glob("sentence_*_config.json"))
    return read_json(files[0], name) if files else {}


def _modules(path: Path, name: str) -> list[tuple[str, str]]:
    """(class, folder) of each module, in order: all versions end a module's type with its class."""
    file = path / "modules.json"
    if not file.is_file():
        return []
    try:
        return [(_kind(str(row["type"])), str(row["path"])) for row in _parsed(file, name)]
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"model {name}: modules.json is not a list of modules ({error!r}); download the model again"
        ) from error


def _kind(type_: str) -> str:
    """The class of sentence-transformers' own modules; what else there is stays a name that nothing knows."""
    return type_.rpartition(".")[2] if type_.startswith("sentence_transformers.") else type_


def _unfit_modules(kinds: list[str]) -> str:
    if not kinds or KNOWN_ORDER.fullmatch(" ".join(kinds)):
        return ""
    return (
        f"modules.json lists {', '.join(kinds)}; what is computed here is a Transformer, Pooling, then Dense "
        "modules if any, then Normalize if any"
    )


def _unfit_output(transformer: dict[str, Any]) -> str:
    """sentence-transformers 6 can pool something else than the last hidden state."""
    text = (transformer.get("modality_config") or {}).get("text") or {}
    output = text.get("method_output_name", "last_hidden_state")
    if output == "last_hidden_state":
        return ""
    return f"sentence_bert_config.json pools {output!r}, not the last hidden state"


def _pooling(
    path: Path, config: dict[str, Any], modules: list[tuple[str, str]], name: str
) -> tuple[str, str]:
    places = [place for kind, place in modules if kind == "Pooling"]
    file = path / (places[0] if places else "1_Pooling") / "config.json"
    if places or file.is_file():
        return _pooling_mode(read_json(file, name)), f"{file.parent.name}/config.json"
    if isinstance(config.get("emb_pooler"), str):
        return config["emb_pooler"], "config.json (emb_pooler)"
    return "", ""


def _pooling_mode(settings: dict[str, Any]) -> str:
    """Both forms that sentence-transformers writes: one `pooling_mode`, or a flag for each mode."""
    mode = settings.get("pooling_mode")
    if isinstance(mode, str):
        return mode
    if isinstance(mode, list):
        return " + ".join(str(part) for part in mode)
    flags = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value is True]
    names = [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token") for key in flags
    ]
    return " + ".join(sorted(names))
