"""Describe a model without running it: from the table of families, its files, and what is on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.resolve import resolve_model
from es_latechunk.models.checkpoint.weights import Checkpoint
from es_latechunk.models.jina_api.hosted import find_hosted
from es_latechunk.models.load import open_model
from es_latechunk.models.local.family import match_family
from es_latechunk.models.local.forward import check_checkpoint
from es_latechunk.models.local.metadata import read_architecture, read_folder
from es_latechunk.models.local.spec import ModelOptions
from es_latechunk.models.registry import FAMILIES, JINA_API, Family, find_family, whole_name


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What `es-latechunk models NAME` shows about a model.

    `reason` is why late chunking does not suit the model. `window` and `max_tokens` are numbers of tokens, including
    special tokens and the prefix; None if they are not known. `folder` holds the weights ("" if they are not on this
    machine), and `weights` is their fingerprint.
    """

    model: str
    late_chunking: bool
    reason: str = ""
    pooling: str = ""
    window: int | None = None
    max_tokens: int | None = None
    dimensions: int | None = None
    shorter_dimensions: tuple[int, ...] = ()
    document_prefix: str = ""
    query_prefix: str = ""
    licence: str = ""
    folder: str = ""
    weights: str = ""
    revision: str | None = None


def known_models() -> Iterator[ModelInfo]:
    """Yield the models of the table, in its order."""
    for family in FAMILIES:
        for model in family.dimensions:
            yield _from_table(model, family)


def model_info(name: str) -> ModelInfo:
    """Describe one model: a folder, a hub id, or "jina-api:NAME". Nothing is downloaded.

    Raises ModelError if neither this machine nor the table has the model. A model that does not suit late chunking is
    no error: it is described, with the reason.
    """
    if name.startswith(JINA_API):
        return _hosted(name)
    if not Path(name).expanduser().is_dir():
        name = whole_name(name) or name
    family = find_family(name)
    try:
        found = resolve_model(name, offline=True)
    except ModelError as error:
        from huggingface_hub.errors import LocalEntryNotFoundError

        if Path(name).expanduser().is_dir():
            raise
        if family is None:
            if not isinstance(error.__cause__, LocalEntryNotFoundError):
                raise
            raise ModelError(
                f"model {name}: it is not in the list (es-latechunk models), and no files of it are on this machine; "
                "check the name, or pass the model's folder"
            ) from error
        return _from_table(name, family)
    return _from_folder(found)


def _from_table(model: str, family: Family) -> ModelInfo:
    dimensions = family.dimensions[model]
    return ModelInfo(
        model=model,
        late_chunking=not family.refusal,
        reason=family.refusal,
        pooling=family.pooling,
        window=family.window,
        max_tokens=family.max_tokens,
        dimensions=dimensions,
        shorter_dimensions=tuple(size for size in family.matryoshka_dims if size < dimensions),
        document_prefix=family.document_prefix,
        query_prefix=family.query_prefix,
        licence=family.licence,
    )


def _from_folder(folder: Checkpoint) -> ModelInfo:
    facts = read_folder(folder)
    match = match_family(folder)
    stated = f"{facts.pooling} ({facts.pooling_file})" if facts.pooling else ""
    found = ModelInfo(
        model=folder.name,
        late_chunking=False,
        pooling=stated or (match.listed.pooling if match.listed else "no file says it"),
        licence=match.trained_like.licence if match.trained_like else "",
        folder=str(folder.path.resolve()),
        weights=folder.fingerprint,
        revision=folder.revision,
    )
    try:
        architecture = read_architecture(folder)
        found = replace(found, dimensions=architecture.hidden, max_tokens=architecture.positions)
        spec, _ = open_model(folder, ModelOptions())
        check_checkpoint(spec)
    except ModelError as error:
        return replace(found, reason=str(error).removeprefix(f"model {folder.name}: "))
    return replace(
        found,
        late_chunking=True,
        window=spec.window,
        max_tokens=spec.max_tokens,
        dimensions=spec.dimensions,
        shorter_dimensions=tuple(size for size in spec.matryoshka_dims if size < spec.dimensions),
        document_prefix=spec.document_prefix,
        query_prefix=spec.query_prefix,
    )


def _hosted(name: str) -> ModelInfo:
    model = find_hosted(name.removeprefix(JINA_API))
    return ModelInfo(
        model=name,
        late_chunking=model.late_chunking,
        reason="" if model.late_chunking else "the service chunks late with other models only",
        pooling="mean",
        window=model.window,
        max_tokens=model.context,
        dimensions=model.dimensions,
        shorter_dimensions=tuple(size for size in model.matryoshka if size < model.dimensions),
        licence="the service's own terms",
    )
