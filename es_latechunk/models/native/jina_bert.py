"""JinaBERT (jina-embeddings-v2): which of its architectures a checkpoint has, and the settings that it must have.

config.json calls each of them "bert", and the published code, which is never run, differs: v1 (small-en, base-en,
base-de, base-zh), code (base-code), and base-es, which has v1's layers and normalises queries and keys. transformers
knows none of them, so what does not fit here is an error and never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.weights import StoredTensor
from es_latechunk.models.native.shape import EncoderShape

JinaKind = Literal["jina_bert", "jina_bert_es", "jina_bert_code"]

# The repository of remote code that a config names: its name only identifies the architecture.
REPOSITORIES: dict[str, JinaKind] = {
    "jina-bert-implementation": "jina_bert",
    "jina-bert-v2-qk-post-norm": "jina_bert_code",
    "jina-bert-v2-qk-devlin-norm-1e-2": "jina_bert_es",
}
# A part of tensors' names that only one kind of feed-forward layer has.
V1_LAYERS, CODE_LAYERS = ".mlp.gated_layers.", ".mlp.up_gated_layer."
QUERY_KEY_NORMS = (".attention.self.layer_norm_q.", ".attention.self.layer_norm_k.")
# A setting may be absent: then it is what every published checkpoint has.
REQUIRED = {
    "position_embedding_type": "alibi",
    "feed_forward_type": "geglu",
    "hidden_act": "gelu",
    "emb_pooler": "mean",
}


def jina_kind(config: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> JinaKind:
    """Tell the architecture by the repository that the config names and by the tensors' names.

    Raises ModelError if the two disagree, or if the tensors are of no JinaBERT.
    """
    v1, code = (any(part in name for name in stored) for part in (V1_LAYERS, CODE_LAYERS))
    if v1 == code:
        raise ModelError(
            f"the tensors' names have {'both' if v1 else 'neither'} of {V1_LAYERS!r} (v1) and {CODE_LAYERS!r} (code), "
            "so this is no JinaBERT checkpoint; choose another"
        )
    named = _named_kind(config)
    if named is not None and (named == "jina_bert_code") != code:
        raise ModelError(
            f"config.json says the {'v1' if code else 'code'!r} architecture, the tensors are of "
            f"{'code' if code else 'v1'!r}; download config.json and weights from the same place"
        )
    if code:
        return "jina_bert_code"
    if named == "jina_bert":
        return named  # v1's code has no such norms: one that is stored all the same is an error
    return "jina_bert_es" if any(part in name for name in stored for part in QUERY_KEY_NORMS) else "jina_bert"


def _named_kind(config: Mapping[str, Any]) -> JinaKind | None:
    """The kind that config.json names: by `owner/NAME--module.Class` in auto_map, else by its origin."""
    auto_map = config.get("auto_map")
    entries = auto_map.values() if isinstance(auto_map, Mapping) else ()
    named = {str(entry).split("--")[0].rpartition("/")[2] for entry in entries if "--" in str(entry)}
    origin = str(config.get("_name_or_path", "")).rpartition("/")[2]
    if not named and origin in REPOSITORIES:
        named = {origin}
    kinds = {REPOSITORIES.get(name) for name in named}
    if None in kinds or len(kinds) > 1:
        raise ModelError(
            f"config.json: auto_map names {', '.join(sorted(named))}, known are {', '.join(REPOSITORIES)}; choose "
            "another checkpoint"
        )
    return kinds.pop() if kinds else None


def read_jina_shape(config: Mapping[str, Any]) -> EncoderShape:
    """The shape of v1; raises ModelError for a setting that JinaBERT does not have."""
    for key, wanted in REQUIRED.items():
        if config.get(key) not in (None, wanted):
            raise ModelError(
                f"config.json: {key} is {config[key]!r}, JinaBERT here computes {wanted!r} only; choose another "
                "checkpoint"
            )
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    if hidden % heads:
        raise ModelError(
            f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}; download the "
            "checkpoint again"
        )
    return EncoderShape(
        vocabulary=_size(config, "vocab_size"),
        hidden=hidden,
        heads=heads,
        layers=_size(config, "num_hidden_layers"),
        intermediate=_size(config, "intermediate_size"),
        epsilon=_epsilon(config),
        activation="gelu",
        most_tokens=_size(config, "max_position_embeddings", 8192),
        token_types=_size(config, "type_vocab_size", 2),
        positions="alibi",
        gate="first",
        unbiased=frozenset({"up"}),
    )


def _size(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key, default)
    if type(value) is not int or value < 1:
        raise ModelError(
            f"config.json: {key} is {value!r}, not a positive number; download the checkpoint again"
        )
    return value


def _epsilon(config: Mapping[str, Any]) -> float:
    value = config.get("layer_norm_eps", 1e-12)
    if type(value) not in (int, float) or not 0 <= value < 1:
        raise ModelError(f"config.json: layer_norm_eps is {value!r}; download the checkpoint again")
    return float(value)
