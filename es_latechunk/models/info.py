"""All that is known of a model without running it: from the table, its files, and what this machine has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.resolve import ModelFolder, resolve_model
from es_latechunk.models.checkpoint.weights import weights_fingerprint
from es_latechunk.models.jina_api.hosted import find_hosted
from es_latechunk.models.load import open_model
from es_latechunk.models.local.forward import check_checkpoint
from es_latechunk.models.local.kinship import find_kinship
from es_latechunk.models.local.metadata import read_architecture, read_folder
from es_latechunk.models.local.spec import ModelOptions
from es_latechunk.models.registry import FAMILIES, JINA_API, Family, find_family


@dataclass(frozen=True, slots=True)
class ModelSurvey:
    """`window` and `max_tokens` count tokens, special and prefix tokens included; None: not known.

    `reason` says why late chunking does not fit. `folder` is where the weights were found, "" where they
    are not on this machine; `weights` is their fingerprint.
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


def survey_known() -> Iterator[ModelSurvey]:
    """The models of the table, in its order."""
    for family in FAMILIES:
        for model in family.dimensions:
            yield _from_table(model, family)


def survey(name: str) -> ModelSurvey:
    """All about one model: a folder, a hub id, or "jina-api:NAME". Nothing is downloaded.

    ModelError where neither this machine nor the table has it; a model that late chunking does not fit is
    no error here.
    """
    if name.startswith(JINA_API):
        return _hosted(name)
    family = find_family(name)
    try:
        found = resolve_model(name, offline=True)
    except ModelError:
        if family is None or Path(name).expanduser().is_dir():
            raise
        return _from_table(name, family)
    return _from_folder(found)


def _from_table(model: str, family: Family) -> ModelSurvey:
    dimensions = family.dimensions[model]
    return ModelSurvey(
        model=model,
        late_chunking=not family.refusal,
        reason=family.refusal,
        pooling=family.pooling,
        window=family.window,
        max_tokens=family.max_tokens,
        dimensions=dimensions,
        shorter_dimensions=tuple(cut for cut in family.cuts if cut < dimensions),
        document_prefix=family.document_prefix,
        query_prefix=family.query_prefix,
        licence=family.licence,
    )


def _from_folder(folder: ModelFolder) -> ModelSurvey:
    facts = read_folder(folder.path, folder.name)
    kinship = find_kinship(folder.path, folder.name, facts.config)
    known, kin = kinship.known, kinship.kin
    told = f"{facts.pooling} ({facts.pooling_file})" if facts.pooling else ""
    read = ModelSurvey(
        model=folder.name,
        late_chunking=False,
        pooling=told or (known.pooling if known else "no file says it"),
        licence=kin.licence if kin else "",
        folder=str(folder.path.resolve()),
        weights=weights_fingerprint(folder.path),
        revision=folder.revision,
    )
    try:
        architecture = read_architecture(folder.path, facts.config, folder.name)
        read = replace(read, dimensions=architecture.hidden, max_tokens=architecture.positions)
        spec, _ = open_model(folder, ModelOptions())
        check_checkpoint(spec)
    except ModelError as error:
        return replace(read, reason=str(error).removeprefix(f"model {folder.name}: "))
    return replace(
        read,
        late_chunking=True,
        window=spec.window,
        max_tokens=spec.max_tokens,
        dimensions=spec.dimensions,
        shorter_dimensions=tuple(cut for cut in spec.cuts if cut < spec.dimensions),
        document_prefix=spec.document_prefix,
        query_prefix=spec.query_prefix,
    )


def _hosted(name: str) -> ModelSurvey:
    model = find_hosted(name.removeprefix(JINA_API))
    return ModelSurvey(
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
