"""The one description of a local model that everything else works from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from es_latechunk.errors import ModelError, UsageError, setting
from es_latechunk.models.local.dense import dense_output
from es_latechunk.models.local.kinship import Kinship, find_kinship
from es_latechunk.models.local.metadata import Architecture, FolderFacts, read_architecture, read_folder
from es_latechunk.models.native.adapters import TASKS
from es_latechunk.models.registry import Family

log = logging.getLogger(__name__)

SHORTEST_WINDOW = 8
USUAL_POSITIONS = 512  # where no file says how long a text the model can read
QUERY_PROMPTS = ("query", "search_query", "retrieval.query")
DOCUMENT_PROMPTS = ("document", "passage", "corpus", "search_document", "retrieval.passage")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What a user may override; None means: as the model was trained.

    `matryoshka` says that the model was trained for shorter vectors of any size, although no file says so.
    """

    window: int | None = None
    dimensions: int | None = None
    document_prefix: str | None = None
    query_prefix: str | None = None
    assume_mean_pooling: bool = False
    matryoshka: bool = False
    document_task: str | None = None  # of models with an adapter for each task
    query_task: str | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model folder, ready to be loaded. `window` and `max_tokens` count special and prefix tokens too."""

    name: str
    path: Path
    config: dict[str, Any]
    vocabulary: int
    max_tokens: int
    window: int
    hidden: int
    dimensions: int
    cuts: tuple[int, ...]
    document_prefix: str
    query_prefix: str
    lower_case: bool
    dense: tuple[Path, ...]
    assumed_mean_pooling: bool
    assumed_matryoshka: bool
    revision: str | None
    document_task: str = ""
    query_task: str = ""


def describe(path: Path, *, name: str, options: ModelOptions, revision: str | None = None) -> ModelSpec:
    """Read a model folder's facts and settle every setting, or refuse with the reason (ModelError)."""
    facts = read_folder(path, name)
    kinship = find_kinship(path, name, facts.config)
    known, kin = kinship.known, kinship.kin
    assumed = _check_pooling(name, facts, known, options)
    _check_fit(name, facts, kin)
    architecture = read_architecture(path, facts.config, name)
    full = _full_dimensions(facts, architecture, name)
    cuts = _cuts(facts, known)
    dimensions = _dimensions(name, facts, cuts, options, full)
    max_tokens = _max_tokens(architecture, kin, facts)
    tasks = _tasks(name, facts, kin, options)
    _tell_of_prefixes(name, facts, kinship, options)
    return ModelSpec(
        name=name,
        path=path,
        config=facts.config,
        vocabulary=architecture.vocabulary,
        max_tokens=max_tokens,
        window=_window(name, facts, kinship, options, max_tokens),
        hidden=architecture.hidden,
        dimensions=dimensions,
        cuts=cuts,
        document_prefix=_prefix(
            options.document_prefix, facts, *_own_prompt(tasks[0], 0, DOCUMENT_PROMPTS, kin)
        ),
        query_prefix=_prefix(options.query_prefix, facts, *_own_prompt(tasks[1], 1, QUERY_PROMPTS, kin)),
        lower_case=facts.lower_case,
        dense=facts.dense,
        assumed_mean_pooling=assumed,
        assumed_matryoshka=dimensions not in (full, *cuts),
        revision=revision,
        document_task=tasks[0],
        query_task=tasks[1],
    )


def _check_pooling(name: str, facts: FolderFacts, known: Family | None, options: ModelOptions) -> bool:
    """True where mean pooling is only assumed, because the user says so."""
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
    if known is not None:
        if known.pooling != "mean":
            raise ModelError(f"model {name}: {known.refusal}; choose a mean-pooled model")
        return False
    if not options.assume_mean_pooling:
        raise ModelError(
            f"model {name}: no file says how it pools (1_Pooling/config.json is missing); late chunking needs "
            f"mean pooling: if you know that it was trained with it, pass {setting('assume_mean_pooling')}"
        )
    return True


def _check_fit(name: str, facts: FolderFacts, kin: Family | None) -> None:
    if facts.unfit:
        raise ModelError(
            f"model {name}: {facts.unfit}; choose another model (es-latechunk models lists them)"
        )
    if kin and kin.refusal and kin.pooling == "mean":
        raise ModelError(f"model {name}: {kin.refusal}")


def _max_tokens(architecture: Architecture, kin: Family | None, facts: FolderFacts) -> int:
    limits = [limit for limit in (architecture.positions, kin.max_tokens if kin else None) if limit]
    return min(limits) if limits else max(facts.lengths, default=USUAL_POSITIONS)


def _window(name: str, facts: FolderFacts, kinship: Kinship, options: ModelOptions, max_tokens: int) -> int:
    """The length that the family was trained at, or that the folder's own files cut texts to."""
    if options.window is not None:
        if not SHORTEST_WINDOW <= options.window <= max_tokens:
            raise UsageError(
                f"{setting('window')} {options.window} does not fit model {name}: choose {SHORTEST_WINDOW} to "
                f"{max_tokens} tokens"
            )
        return options.window
    known, kin = kinship.known, kinship.kin
    if known:
        return min(known.window, max_tokens)
    return min(*facts.lengths, *([kin.window] if kin else []), max_tokens, max_tokens)


def _full_dimensions(facts: FolderFacts, architecture: Architecture, name: str) -> int:
    size = architecture.hidden
    for folder in facts.dense:
        size = dense_output(folder, size, name)
    return size


def _cuts(facts: FolderFacts, known: Family | None) -> tuple[int, ...]:
    """The sizes of shorter vectors: the family's or those of config.json, and the one that the folder asks for."""
    sizes = known.cuts if known else facts.config.get("matryoshka_dimensions")
    own = [size for size in sizes if isinstance(size, int)] if isinstance(sizes, (list, tuple)) else []
    return tuple(sorted({*own, *([facts.truncate] if facts.truncate else [])}))


def _dimensions(
    name: str, facts: FolderFacts, cuts: tuple[int, ...], options: ModelOptions, full: int
) -> int:
    wanted = options.dimensions
    if wanted is None:
        return min(facts.truncate or full, full)
    if wanted == full or (options.matryoshka and 0 < wanted < full):
        return wanted
    allowed = sorted(cut for cut in cuts if 0 < cut < full)
    if not allowed:
        raise UsageError(
            f"{setting('dimensions')} {wanted}: model {name} was not trained for shorter vectors (Matryoshka) by what "
            f"its files say, its vectors have {full} dimensions; leave the option out, or add "
            f"{setting('matryoshka')} if you know that it was"
        )
    if wanted not in allowed:
        choices = ", ".join(str(cut) for cut in [*allowed, full])
        raise UsageError(
            f"{setting('dimensions')} {wanted}: model {name} was trained for {choices}; choose one of them"
        )
    return wanted


def _tell_of_prefixes(name: str, facts: FolderFacts, kinship: Kinship, options: ModelOptions) -> None:
    """Say where prefixes are used, or left out, by a folder's name alone; silent where the user or a file tells."""
    told = options.document_prefix is not None or options.query_prefix is not None
    family = (kinship.kin if kinship.by_name else None) or kinship.hint
    if family is None or told or any(facts.prompts.values()) or not family.query_prefix:
        return
    prefixes = f"{family.document_prefix!r} before documents and {family.query_prefix!r} before queries"
    does = (
        "its name alone says so, so it gets"
        if kinship.by_name
        else "its name hints at it, no file says so, so it does not get"
    )
    log.warning(
        "model %s: models such as %s need the prefixes %s; %s them: if that is wrong, give the prefixes "
        "yourself (document_prefix and query_prefix, or --document-prefix and --query-prefix)",
        name,
        next(iter(family.dimensions)),
        prefixes,
        does,
    )


def _tasks(name: str, facts: FolderFacts, kin: Family | None, options: ModelOptions) -> tuple[str, str]:
    """The adapters for documents and queries; empty for a model that has none."""
    if kin is None or not kin.tasks:
        if asked := options.document_task or options.query_task:
            raise UsageError(
                f"the task {asked}: model {name} has no adapters for tasks; leave the option out"
            )
        return "", ""
    known = facts.config.get(TASKS, kin.tasks)
    chosen = options.document_task or kin.tasks[0], options.query_task or kin.tasks[1]
    for option, task in zip(("document_task", "query_task"), chosen, strict=True):
        if task not in known:
            raise UsageError(
                f"{setting(option)} {task}: model {name} has adapters for {', '.join(known)}; choose one of them"
            )
    return chosen


def _own_prompt(
    task: str, role: int, names: tuple[str, ...], kin: Family | None
) -> tuple[tuple[str, ...], str]:
    """The prompts to look for, and the family's: a task has its own, which is no other's."""
    known = (kin.document_prefix, kin.query_prefix)[role] if kin else ""
    if not (kin and task):
        return names, known
    return (task,), known if task == kin.tasks[role] else ""


def _prefix(given: str | None, facts: FolderFacts, names: tuple[str, ...], known: str) -> str:
    """The user's, else the folder's for this role, else the family's, else the folder's for all texts.

    sentence-transformers writes empty prompts where nothing was said: they say nothing here either.
    """
    if given is not None:
        return given
    own = [facts.prompts[name] for name in names if facts.prompts.get(name)]
    return own[0] if own else known or facts.prompts.get(facts.default_prompt, "")
