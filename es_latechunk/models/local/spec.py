"""The description of a local model that the rest of the package works from: its files, the table and the options."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from es_latechunk.errors import ModelError, UsageError, setting
from es_latechunk.models.checkpoint.weights import Checkpoint
from es_latechunk.models.local.dense import dense_output
from es_latechunk.models.local.family import FamilyMatch, match_family
from es_latechunk.models.local.metadata import Architecture, FolderFacts, read_architecture, read_folder
from es_latechunk.models.native.adapters import TASKS
from es_latechunk.models.registry import Family

log = logging.getLogger(__name__)

SHORTEST_WINDOW = 8
USUAL_POSITIONS = 512  # the limit to assume if no file states one
QUERY_PROMPTS = ("query", "search_query", "retrieval.query")
DOCUMENT_PROMPTS = ("document", "passage", "corpus", "search_document", "retrieval.passage")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The settings that a user may override; None keeps what the model was trained with.

    `matryoshka`: the user knows that the model was trained for shorter vectors, although no file states it.
    `document_task` and `query_task` are for models with an adapter for each task.
    """

    window: int | None = None
    dimensions: int | None = None
    document_prefix: str | None = None
    query_prefix: str | None = None
    assume_mean_pooling: bool = False
    matryoshka: bool = False
    document_task: str | None = None
    query_task: str | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model folder with every setting decided, ready to be loaded.

    `window` and `max_tokens` are numbers of tokens, including special tokens and the prefix. `hidden` is the size of
    a token vector, `dimensions` the size of a finished chunk vector.
    """

    name: str
    checkpoint: Checkpoint
    vocabulary: int
    max_tokens: int
    window: int
    hidden: int
    dimensions: int
    matryoshka_dims: tuple[int, ...]
    document_prefix: str
    query_prefix: str
    lower_case: bool
    dense: tuple[Path, ...]
    assumed_mean_pooling: bool
    assumed_matryoshka: bool
    document_task: str = ""
    query_task: str = ""


def describe(checkpoint: Checkpoint, options: ModelOptions) -> ModelSpec:
    """Read a model folder and decide every setting.

    Raises ModelError if late chunking does not suit the model, and UsageError for an option that the model does not
    allow.
    """
    name = checkpoint.name
    facts = read_folder(checkpoint)
    match = match_family(checkpoint)
    family = match.trained_like
    assumed = _check_pooling(name, facts, match.listed, options)
    if facts.unsupported:
        raise ModelError(
            f"model {name}: {facts.unsupported}; choose another model (es-latechunk models lists them)"
        )
    architecture = read_architecture(checkpoint)
    full = _full_dimensions(facts, architecture, name)
    matryoshka_dims = _matryoshka_dims(checkpoint, facts, match.listed)
    dimensions = _dimensions(name, facts, matryoshka_dims, options, full)
    max_tokens = _max_tokens(architecture, family, facts)
    document_task, query_task = _tasks(checkpoint, family, options)
    _warn_about_prefixes(name, facts, match, options)
    return ModelSpec(
        name=name,
        checkpoint=checkpoint,
        vocabulary=architecture.vocabulary,
        max_tokens=max_tokens,
        window=_window(name, facts, match, options, max_tokens),
        hidden=architecture.hidden,
        dimensions=dimensions,
        matryoshka_dims=matryoshka_dims,
        document_prefix=_prefix(
            options.document_prefix, facts, *_known_prompt(document_task, 0, DOCUMENT_PROMPTS, family)
        ),
        query_prefix=_prefix(
            options.query_prefix, facts, *_known_prompt(query_task, 1, QUERY_PROMPTS, family)
        ),
        lower_case=facts.lower_case,
        dense=facts.dense,
        assumed_mean_pooling=assumed,
        assumed_matryoshka=dimensions not in (full, *matryoshka_dims),
        document_task=document_task,
        query_task=query_task,
    )


def _check_pooling(name: str, facts: FolderFacts, listed: Family | None, options: ModelOptions) -> bool:
    """Refuse any pooling but the mean; return True if mean pooling is only assumed, on the user's word."""
    if facts.pooling == "mean":
        return False
    if facts.pooling:
        raise ModelError(
            f"model {name}: {facts.pooling_file} says {facts.pooling} pooling, late chunking needs mean pooling; "
            "choose a mean-pooled model (es-latechunk models lists them)"
        )
    if facts.pooling_file:
        raise ModelError(
            f"model {name}: {facts.pooling_file} names no pooling mode; download the model again, or choose a "
            "mean-pooled model (es-latechunk models lists them)"
        )
    if listed is not None:
        if listed.pooling != "mean":
            raise ModelError(f"model {name}: {listed.refusal}; choose a mean-pooled model")
        return False
    if not options.assume_mean_pooling:
        raise ModelError(
            f"model {name}: no file says how it pools (1_Pooling/config.json is missing); late chunking needs "
            f"mean pooling: if you know that it was trained with it, pass {setting('assume_mean_pooling')}"
        )
    return True


def _max_tokens(architecture: Architecture, family: Family | None, facts: FolderFacts) -> int:
    limits = [limit for limit in (architecture.positions, family.max_tokens if family else None) if limit]
    return min(limits) if limits else max(facts.lengths, default=USUAL_POSITIONS)


def _window(name: str, facts: FolderFacts, match: FamilyMatch, options: ModelOptions, max_tokens: int) -> int:
    """Return the user's window, else the length of the family's training, else the folder's own maximum length."""
    if options.window is not None:
        if not SHORTEST_WINDOW <= options.window <= max_tokens:
            raise UsageError(
                f"{setting('window')} {options.window} does not fit model {name}: choose {SHORTEST_WINDOW} to "
                f"{max_tokens} tokens"
            )
        return options.window
    if match.listed:
        return min(match.listed.window, max_tokens)
    return min([*facts.lengths, *([match.trained_like.window] if match.trained_like else []), max_tokens])


def _full_dimensions(facts: FolderFacts, architecture: Architecture, name: str) -> int:
    size = architecture.hidden
    for folder in facts.dense:
        size = dense_output(folder, size, name)
    return size


def _matryoshka_dims(checkpoint: Checkpoint, facts: FolderFacts, listed: Family | None) -> tuple[int, ...]:
    """Return the allowed sizes of shorter vectors: from the table or config.json, with the folder's truncate_dim."""
    sizes = listed.matryoshka_dims if listed else checkpoint.config.get("matryoshka_dimensions")
    own = [size for size in sizes if isinstance(size, int)] if isinstance(sizes, (list, tuple)) else []
    return tuple(sorted({*own, *([facts.truncate] if facts.truncate else [])}))


def _dimensions(
    name: str, facts: FolderFacts, matryoshka_dims: tuple[int, ...], options: ModelOptions, full: int
) -> int:
    wanted = options.dimensions
    if wanted is None:
        return min(facts.truncate or full, full)
    if wanted == full or (options.matryoshka and 0 < wanted < full):
        return wanted
    allowed = sorted(size for size in matryoshka_dims if 0 < size < full)
    if not allowed:
        raise UsageError(
            f"{setting('dimensions')} {wanted}: model {name} was not trained for shorter vectors (Matryoshka) by what "
            f"its files say, its vectors have {full} dimensions; leave the option out, or add "
            f"{setting('matryoshka')} if you know that it was"
        )
    if wanted not in allowed:
        choices = ", ".join(str(size) for size in [*allowed, full])
        raise UsageError(
            f"{setting('dimensions')} {wanted}: model {name} was trained for {choices}; choose one of them"
        )
    return wanted


def _warn_about_prefixes(name: str, facts: FolderFacts, match: FamilyMatch, options: ModelOptions) -> None:
    """Warn if a name is the only evidence for prefixes; stay silent if the user or a file gives them."""
    given = options.document_prefix is not None or options.query_prefix is not None
    family = (match.trained_like if match.by_name else None) or match.similar_name
    if family is None or given or any(facts.prompts.values()) or not family.query_prefix:
        return
    prefixes = f"{family.document_prefix!r} before documents and {family.query_prefix!r} before queries"
    consequence = (
        "its name alone says so, so it gets"
        if match.by_name
        else "its name hints at it, no file says so, so it does not get"
    )
    log.warning(
        "model %s: models such as %s need the prefixes %s; %s them: if that is wrong, give the prefixes "
        "yourself (document_prefix and query_prefix, or --document-prefix and --query-prefix)",
        name,
        next(iter(family.dimensions)),
        prefixes,
        consequence,
    )


def _tasks(checkpoint: Checkpoint, family: Family | None, options: ModelOptions) -> tuple[str, str]:
    """Return the tasks whose adapters read documents and queries; "" for a model without adapters."""
    if family is None or not family.tasks:
        if task := options.document_task or options.query_task:
            raise UsageError(
                f"the task {task}: model {checkpoint.name} has no adapters for tasks; leave the option out"
            )
        return "", ""
    known = checkpoint.config.get(TASKS, family.tasks)
    chosen = options.document_task or family.tasks[0], options.query_task or family.tasks[1]
    for option, task in zip(("document_task", "query_task"), chosen, strict=True):
        if task not in known:
            raise UsageError(
                f"{setting(option)} {task}: model {checkpoint.name} has adapters for {', '.join(known)}; choose one "
                "of them"
            )
    return chosen


def _known_prompt(
    task: str, role: int, names: tuple[str, ...], family: Family | None
) -> tuple[tuple[str, ...], str]:
    """Return the names of the prompts to look for in the folder, and the prefix that the table knows.

    `role` is 0 for documents and 1 for queries. Each task has its own prompt: the family's prefix belongs to the
    family's default task alone.
    """
    known = (family.document_prefix, family.query_prefix)[role] if family else ""
    if not (family and task):
        return names, known
    return (task,), known if task == family.tasks[role] else ""


def _prefix(given: str | None, facts: FolderFacts, names: tuple[str, ...], known: str) -> str:
    """Return the user's prefix, else the folder's for this role, else the family's, else the folder's default.

    An empty prompt in the folder counts as none: sentence-transformers writes one if nobody has set a prompt.
    """
    if given is not None:
        return given
    own = [facts.prompts[name] for name in names if facts.prompts.get(name)]
    return own[0] if own else known or facts.prompts.get(facts.default_prompt, "")
