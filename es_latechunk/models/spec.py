"""The one description of a local model that everything else works from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from es_latechunk.errors import ModelError, UsageError
from es_latechunk.models.dense import dense_output
from es_latechunk.models.families import Family, find_family
from es_latechunk.models.folder import FolderFacts, read_folder

UNLIMITED = 1 << 20  # tokenizers write 10**30 for "no limit"
QUERY_PROMPTS = ("query", "search_query", "retrieval.query", "Retrieval-query", "InstructionRetrieval")
DOCUMENT_PROMPTS = ("document", "passage", "search_document", "retrieval.passage", "Retrieval-document")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What a user may override; None means: as the model was trained."""

    window: int | None = None
    dimensions: int | None = None
    document_prefix: str | None = None
    query_prefix: str | None = None
    assume_mean_pooling: bool = False
    document_task: str | None = None  # hosted models only
    query_task: str | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model folder, ready to be loaded. `window` and `max_tokens` count special and prefix tokens too."""

    name: str
    path: Path
    config: dict[str, Any]
    max_tokens: int
    window: int
    hidden: int
    dimensions: int
    document_prefix: str
    query_prefix: str
    dense: tuple[Path, ...]
    assumed_mean_pooling: bool
    revision: str | None


def describe(
    path: Path, *, name: str, options: ModelOptions, tokenizer_limit: int, revision: str | None = None
) -> ModelSpec:
    """Read a model folder's facts and settle every setting, or refuse with the reason (ModelError).

    `tokenizer_limit` is the tokenizer's own `model_max_length`, in tokens.
    """
    facts = read_folder(path, name)
    family = find_family(name, str(facts.config.get("model_type", "")))
    assumed = _check_pooling(name, facts, family, options)
    if family and family.refusal and family.pooling == "mean":
        raise ModelError(f"model {name}: {family.refusal}")
    max_tokens = _max_tokens(facts, family, tokenizer_limit)
    hidden = _hidden(name, facts.config)
    full = _dense_size(facts, hidden, name)
    return ModelSpec(
        name=name,
        path=path,
        config=facts.config,
        max_tokens=max_tokens,
        window=_window(name, facts, family, options, max_tokens),
        hidden=hidden,
        dimensions=_dimensions(name, facts, family, options, full),
        document_prefix=_prefix(
            options.document_prefix, facts, DOCUMENT_PROMPTS, family.document_prefix if family else ""
        ),
        query_prefix=_prefix(
            options.query_prefix, facts, QUERY_PROMPTS, family.query_prefix if family else ""
        ),
        dense=facts.dense,
        assumed_mean_pooling=assumed,
        revision=revision,
    )


def _check_pooling(name: str, facts: FolderFacts, family: Family | None, options: ModelOptions) -> bool:
    """True where mean pooling is only assumed, because the user says so."""
    if facts.pooling == "mean":
        return False
    if facts.pooling:
        raise ModelError(
            f"model {name}: {facts.pooling_file} says {facts.pooling} pooling, late chunking needs mean pooling; "
            "choose a mean-pooled model (es-latechunk models lists them)"
        )
    if family is not None:
        if family.pooling != "mean":
            raise ModelError(f"model {name}: {family.refusal}; choose a mean-pooled model")
        return False
    if not options.assume_mean_pooling:
        raise ModelError(
            f"model {name}: no file says how it pools (1_Pooling/config.json is missing); late chunking needs "
            "mean pooling: if you know that it was trained with it, pass --assume-mean-pooling"
        )
    return True


def _max_tokens(facts: FolderFacts, family: Family | None, tokenizer_limit: int) -> int:
    if family is not None:
        return family.max_tokens
    limits = [limit for limit in (_positions(facts.config), tokenizer_limit) if 0 < limit < UNLIMITED]
    return min(limits, default=facts.max_seq_length or 512)


def _positions(config: dict[str, Any]) -> int:
    """Positions for tokens: RoBERTa's kind counts from its padding id, which takes those below it away."""
    positions = int(config.get("max_position_embeddings") or config.get("n_positions") or 0)
    offset = config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet")
    return positions - int(config.get("pad_token_id") or 0) - 1 if offset else positions


def _window(
    name: str, facts: FolderFacts, family: Family | None, options: ModelOptions, max_tokens: int
) -> int:
    if options.window is not None:
        if not 8 <= options.window <= max_tokens:
            raise UsageError(
                f"--window {options.window} does not fit model {name}: choose 8 to {max_tokens} tokens"
            )
        return options.window
    trained = family.window if family else facts.max_seq_length
    return min(trained or max_tokens, max_tokens)


def _hidden(name: str, config: dict[str, Any]) -> int:
    size = config.get("hidden_size") or config.get("dim") or config.get("d_model")
    if not isinstance(size, int) or size < 1:
        raise ModelError(f"model {name}: config.json has no hidden_size; pass a folder of a text encoder")
    return size


def _dense_size(facts: FolderFacts, hidden: int, name: str) -> int:
    size = hidden
    for folder in facts.dense:
        size = dense_output(folder, size, name)
    return size


def _dimensions(
    name: str, facts: FolderFacts, family: Family | None, options: ModelOptions, full: int
) -> int:
    wanted = options.dimensions
    if wanted is None or wanted == full:
        return full
    cuts = family.cuts if family else tuple(facts.config.get("matryoshka_dimensions") or ())
    allowed = sorted(cut for cut in cuts if isinstance(cut, int) and 0 < cut < full)
    if not allowed:
        raise UsageError(
            f"--dimensions {wanted}: model {name} was not trained for shorter vectors (Matryoshka), "
            f"its vectors have {full} dimensions; leave the option out"
        )
    if wanted not in allowed:
        choices = ", ".join(str(cut) for cut in [*allowed, full])
        raise UsageError(f"--dimensions {wanted}: model {name} was trained for {choices}; choose one of them")
    return wanted


def _prefix(given: str | None, facts: FolderFacts, names: tuple[str, ...], known: str) -> str:
    if given is not None:
        return given
    for name in names:
        if name in facts.prompts:
            return facts.prompts[name]
    return known
