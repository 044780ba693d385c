"""What a config.json says: sizes, the limit of positions, and what cannot run here.

What our own encoder knows is read without transformers, which takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from pathlib import Path
from threading import RLock
from typing import Any

from es_latechunk.errors import ModelError
from es_latechunk.models.native.families import read_shape

# They number positions from their padding id + 1 on, so that many of the table's rows are never used.
COUNTING_FROM_PADDING = (
    *("camembert", "data2vec-text", "longformer", "mpnet", "roberta", "roberta-prelayernorm"),
    *("xlm-roberta", "xlm-roberta-xl", "xmod"),
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """`hidden` is the size of token vectors; `positions` the most tokens at once, None where nothing limits."""

    model_type: str
    hidden: int
    vocabulary: int
    positions: int | None


def read_architecture(path: Path, config: dict[str, Any], name: str) -> Architecture:
    """Read the sizes, or refuse what transformers alone cannot run as a text encoder (ModelError)."""
    if shape := read_shape(config):
        return Architecture(str(config["model_type"]), shape.hidden, shape.vocabulary, shape.most_tokens)
    _check_known(config, name)
    read = _auto_config(path, name)
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
    return Architecture(model_type, hidden, vocabulary, usable_positions(read))


_QUIET = RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own log and progress bars: what is wrong with a model is said in a ModelError."""
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
    """The most tokens at once of a model with transformers' `config`; None where nothing limits them."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    if config.model_type in COUNTING_FROM_PADDING:
        return positions - (config.pad_token_id or 0) - 1
    return positions
