"""What a checkpoint folder says of itself: sentence-transformers' files, and what transformers makes of config.json."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from pathlib import Path
from threading import RLock
from typing import Any

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.json_files import read_json_object, read_modules, read_optional_json
from es_latechunk.models.checkpoint.weights import Checkpoint
from es_latechunk.models.hardware import require_torch
from es_latechunk.models.native.adapters import TASKS
from es_latechunk.models.native.checkpoint import read_shape

UNLIMITED = 1 << 20  # tokenizers write 10**30 for "no limit"
PROMPTS = "config_sentence_transformers.json"
KNOWN_ORDER = re.compile(r"Transformer( Pooling( Dense)*)?( Normalize)?")


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """`pooling` is "mean", another name, or "" if no file states it; `pooling_file` is the file that states it.

    `lengths` are the numbers of tokens that sentence-transformers and the tokenizer cut texts to.

    `truncate` is the size to which sentence-transformers cuts the vectors; None: the model's own.
    `unsupported` says what in the files changes the vectors in a way that is not computed here, or is "".
    """

    pooling: str
    pooling_file: str
    lengths: tuple[int, ...]
    lower_case: bool
    prompts: dict[str, str]
    default_prompt: str
    dense: tuple[Path, ...]
    truncate: int | None
    unsupported: str


def read_folder(checkpoint: Checkpoint) -> FolderFacts:
    """Read the facts; a file that is missing or not JSON is a ModelError that names it."""
    path, name, config = checkpoint.path, checkpoint.name, checkpoint.config
    modules = [(_short_class(type_), folder) for type_, folder in read_modules(path, name)]
    if TASKS in config:  # jina-embeddings-v3 has a Transformer of its own, which chooses the adapter
        modules = [
            ("Transformer" if kind == "custom_st.Transformer" else kind, folder) for kind, folder in modules
        ]
    pooling, pooling_file = _pooling(path, config, modules, name)
    transformer = _transformer(path, name)
    settings = read_optional_json(path / PROMPTS, name)
    prompts = settings.get("prompts") or config.get("task_instructions") or {}
    truncate = settings.get("truncate_dim")
    if truncate is not None and (type(truncate) is not int or truncate < 1):
        raise ModelError(
            f"model {name}: {PROMPTS} has the truncate_dim {truncate!r}, which is no size; give a number"
        )
    tokenizer = read_optional_json(path / "tokenizer_config.json", name)
    lengths = (transformer.get("max_seq_length"), tokenizer.get("model_max_length"))
    return FolderFacts(
        pooling=pooling,
        pooling_file=pooling_file,
        lengths=tuple(n for n in lengths if isinstance(n, int) and 0 < n < UNLIMITED),
        lower_case=transformer.get("do_lower_case") is True,
        prompts={key: value for key, value in prompts.items() if isinstance(value, str)},
        default_prompt=str(settings.get("default_prompt_name") or ""),
        dense=tuple(path / folder for kind, folder in modules if kind == "Dense"),
        truncate=truncate,
        unsupported=_unsupported_modules([kind for kind, _ in modules]) or _unsupported_output(transformer),
    )


def _transformer(path: Path, name: str) -> dict[str, Any]:
    """Read sentence_bert_config.json; early versions have the architecture's name in place of "bert"."""
    files = sorted(path.glob("sentence_*_config.json"))
    return read_json_object(files[0], name) if files else {}


def _short_class(type_: str) -> str:
    """Shorten the class name of sentence-transformers' own modules; any other stays long, and so is unsupported.

    All versions of sentence-transformers end a module's type with its class, but the modules' paths differ.
    """
    return type_.rpartition(".")[2] if type_.startswith("sentence_transformers.") else type_


def _unsupported_modules(kinds: list[str]) -> str:
    if not kinds or KNOWN_ORDER.fullmatch(" ".join(kinds)):
        return ""
    return (
        f"modules.json lists {', '.join(kinds)}; what is computed here is a Transformer, Pooling, then Dense "
        "modules if any, then Normalize if any"
    )


def _unsupported_output(transformer: dict[str, Any]) -> str:
    """sentence-transformers 6 can pool something else than the last hidden state."""
    text = (transformer.get("modality_config") or {}).get("text") or {}
    output = text.get("method_output_name", "last_hidden_state")
    if output == "last_hidden_state":
        return ""
    return f"sentence_bert_config.json pools {output!r}, not the last hidden state"


def _pooling(
    path: Path, config: dict[str, Any], modules: list[tuple[str, str]], name: str
) -> tuple[str, str]:
    """Return how the model pools, and the file that states it; "" for both if no file does."""
    folders = [folder for kind, folder in modules if kind == "Pooling"]
    file = path / (folders[0] if folders else "1_Pooling") / "config.json"
    if folders or file.is_file():
        return _pooling_mode(read_json_object(file, name)), f"{file.parent.name}/config.json"
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


# They number positions from their padding id + 1 on, so that many of the table's rows are never used.
COUNTING_FROM_PADDING = (
    *("camembert", "data2vec-text", "longformer", "mpnet", "roberta", "roberta-prelayernorm"),
    *("xlm-roberta", "xlm-roberta-xl", "xmod"),
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """`hidden` is the size of token vectors; `positions` the most tokens at once, None if nothing limits."""

    hidden: int
    vocabulary: int
    positions: int | None


def read_architecture(checkpoint: Checkpoint) -> Architecture:
    """Read the sizes, or refuse what transformers alone cannot run as a text encoder (ModelError)."""
    if shape := read_shape(checkpoint):
        return Architecture(shape.hidden, shape.vocabulary, shape.most_tokens)
    name = checkpoint.name
    _check_known(checkpoint.config, name)
    read = _auto_config(checkpoint.path, name)
    model_type = str(read.model_type)
    if getattr(read, "is_encoder_decoder", False):
        raise ModelError(
            f"model {name}: {model_type} is an encoder with a decoder, which late chunking here does not run; "
            "choose an encoder (es-latechunk models lists them)"
        )
    hidden, vocabulary = getattr(read, "hidden_size", None), getattr(read, "vocab_size", None)
    if not isinstance(hidden, int) or not isinstance(vocabulary, int):
        raise ModelError(
            f"model {name}: config.json has no hidden_size or vocab_size ({model_type}), so it is no text "
            "encoder; choose one (es-latechunk models lists them)"
        )
    return Architecture(hidden, vocabulary, usable_positions(read))


_QUIET = RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own log and progress bars: a ModelError reports what is wrong with a model."""
    from transformers.utils import logging

    with _QUIET:  # or two threads would each set back what the other has set
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity(CRITICAL)
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _check_known(config: dict[str, Any], name: str) -> None:
    require_torch(f"model {name}: its architecture is read by transformers")
    import transformers

    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type in transformers.CONFIG_MAPPING:
        return
    if "auto_map" in config:
        cause = "runs only with code from its repository (auto_map), and such code is never run here"
    else:
        cause = f"transformers {transformers.__version__} does not know it"
    raise ModelError(
        f"model {name}: config.json has the model_type {model_type!r}; {cause}: choose another model "
        "(es-latechunk models lists them)"
    )


def _auto_config(path: Path, name: str) -> Any:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        with quiet():
            return AutoConfig.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        cause = " ".join(str(error).split())
        raise ModelError(
            f"model {name}: transformers cannot use its config.json ({cause}); download the model again"
        ) from error


def usable_positions(config: Any) -> int | None:
    """The most tokens at once of a model with transformers' `config`; None if nothing limits them."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    if config.model_type in COUNTING_FROM_PADDING:
        return positions - (config.pad_token_id or 0) - 1
    return positions
