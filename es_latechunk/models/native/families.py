"""What each family is made of: its tensors' names and its options, mapped onto the one encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from es_latechunk.models.native.adapters import TASKS
from es_latechunk.models.native.jina_bert import read_jina_shape
from es_latechunk.models.native.shape import Activation, EncoderShape

Config = Mapping[str, Any]

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
# Families that number positions from their padding id + 1 on.
COUNTING_FROM_PADDING = frozenset({"roberta", "xlm-roberta", "camembert"})
# Settings that change no vector: for training, for other tasks, about the file itself.
NEUTRAL = (
    *("_name_or_path", "architectures", "attention_dropout", "attention_probs_dropout_prob"),
    *("auto_map", "bos_token_id", "classifier_activation", "classifier_bias", "classifier_dropout"),
    *("classifier_pooling", "cls_token_id", "decoder_bias", "deterministic_flash_attn"),
    *("directionality", "dtype", "embedding_dropout", "eos_token_id", "finetuning_task"),
    *("gradient_checkpointing", "hidden_dropout_prob", "id2label", "initializer_cutoff_factor"),
    *("initializer_range", "label2id", "matryoshka_dimensions", "mlp_dropout", "model_type"),
    *("output_past", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
    *("pooler_size_per_head", "pooler_type", "reference_compile", "sep_token_id"),
    *("sparse_pred_ignore_index", "sparse_prediction", "tie_word_embeddings", "tokenizer_class"),
    *("torch_dtype", "transformers_version", "use_cache"),
)
# Settings that must be absent or have one of these values.
PLAIN: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "chunk_size_feed_forward": (0,),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "output_attentions": (False,),
    "output_hidden_states": (False,),
    "pruned_heads": ({}, None),
}
SIZES = {
    "vocabulary": "vocab_size",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
    "intermediate": "intermediate_size",
}


class UnknownOptionError(Exception):
    """A setting that the encoder here does not compute."""


@dataclass(frozen=True, slots=True)
class NativeFamily:
    """`sources` names a part's tensors in the checkpoint, "{}" being the layer; several are stacked in that order.

    `prefixes` may stand before all names; tensors that begin with one of `unused` are not needed.
    """

    read: Callable[[Config], EncoderShape]
    sources: Mapping[str, tuple[str, ...]]
    prefixes: tuple[str, ...]
    unused: tuple[str, ...]


def _size(config: Config, key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise UnknownOptionError(f"{key} {value!r}")
    return value


def _number(config: Config, key: str, default: float) -> float:
    value = config.get(key, default)
    if type(value) not in (int, float) or not value > 0:
        raise UnknownOptionError(f"{key} {value!r}")
    return float(cast(float, value))


def _flag(config: Config, key: str) -> bool:
    value = config.get(key, False)
    if not isinstance(value, bool):
        raise UnknownOptionError(f"{key} {value!r}")
    return value


def _common(config: Config, activation: str, known: str) -> dict[str, Any]:
    """The sizes; `known` are the settings that the family reads beside them."""
    understood = {*NEUTRAL, *PLAIN, *SIZES.values(), *known.split()}
    if unknown := set(config) - understood:
        raise UnknownOptionError(f"{sorted(unknown)}")
    for key, values in PLAIN.items():
        if key in config and config[key] not in values:
            raise UnknownOptionError(f"{key} {config[key]!r}")
    sizes = {ours: _size(config, theirs) for ours, theirs in SIZES.items()}
    if sizes["hidden"] % sizes["heads"] or activation not in ACTIVATIONS:
        raise UnknownOptionError(f"{sizes}, {activation!r}")
    return {**sizes, "activation": ACTIVATIONS[activation]}


def _bert(config: Config) -> EncoderShape:
    known = "hidden_act layer_norm_eps max_position_embeddings pad_token_id position_embedding_type type_vocab_size"
    common = _common(config, config.get("hidden_act", ""), known)
    if config.get("position_embedding_type") not in (None, "absolute"):
        raise UnknownOptionError("position_embedding_type")
    rows, first = _size(config, "max_position_embeddings"), 0
    if config["model_type"] in COUNTING_FROM_PADDING:
        padding = config.get("pad_token_id")
        if type(padding) is not int or not 0 <= padding < rows - 1:
            raise UnknownOptionError(f"pad_token_id {padding!r}")
        first = padding + 1
    return EncoderShape(
        **common,
        epsilon=_number(config, "layer_norm_eps", 1e-12),
        token_types=_size(config, "type_vocab_size"),
        most_tokens=rows - first,
        first_position=first,
    )


def _jina_bert_es(config: Config) -> EncoderShape:
    return replace(read_jina_shape(config), norm_queries=True)


def _jina_bert_code(config: Config) -> EncoderShape:
    return replace(_jina_bert_es(config), gate="second", second_residual=True)


def _nomic_bert(config: Config) -> EncoderShape:
    known = "head_dim hidden_act layer_norm_eps max_position_embeddings pad_token_id rope_parameters type_vocab_size"
    common = _common(config, config.get("hidden_act", ""), known)
    if config.get("head_dim") not in (None, common["hidden"] // common["heads"]):
        raise UnknownOptionError("head_dim")
    return EncoderShape(
        **common,
        epsilon=_number(config, "layer_norm_eps", 1e-12),
        token_types=_size(config, "type_vocab_size"),
        most_tokens=_size(config, "max_position_embeddings"),
        positions="rotary",
        gate="first",
        thetas=(_theta(config.get("rope_parameters")),) * common["layers"],
        unbiased=frozenset({"qkv", "out", "up", "down"}),
    )


def _theta(settings: object) -> float:
    """The base of plain rotary positions; scaled ones are not known here."""
    if not isinstance(settings, dict) or set(settings) != {"rope_type", "rope_theta"}:
        raise UnknownOptionError(f"rope_parameters {settings!r}")
    if settings["rope_type"] != "default":
        raise UnknownOptionError(f"rope_parameters {settings!r}")
    return _number(settings, "rope_theta", 0)


def _jina_v3(config: Config) -> EncoderShape:
    known = """
        emb_pooler hidden_act layer_norm_eps load_trained_adapters lora_adaptations lora_alpha lora_dropout_p
        lora_main_params_trainable lora_rank max_position_embeddings pad_token_id position_embedding_type
        rope_parameters rotary_emb_base task_instructions truncate_dim type_vocab_size use_flash_attn use_reg_tokens
    """
    common = _common(config, config.get("hidden_act", ""), known)
    rope = config.get("rope_parameters")
    if config.get("use_reg_tokens") or config.get("emb_pooler") not in (None, "mean"):
        raise UnknownOptionError("use_reg_tokens, emb_pooler")
    if TASKS in config and not (_number(config, "lora_rank", 0) and _number(config, "lora_alpha", 0)):
        raise UnknownOptionError("lora_rank, lora_alpha")
    theta = _number(config, "rotary_emb_base", 0) if rope is None else _theta(rope)
    return EncoderShape(
        **common,
        epsilon=_number(config, "layer_norm_eps", 1e-5),
        token_types=_size(config, "type_vocab_size"),
        most_tokens=_size(config, "max_position_embeddings"),
        positions="rotary",
        thetas=(theta,) * common["layers"],
    )


def _modernbert(config: Config) -> EncoderShape:
    known = """
        attention_bias global_attn_every_n_layers global_rope_theta hidden_activation layer_norm_eps layer_types
        local_attention local_rope_theta max_position_embeddings mlp_bias norm_bias norm_eps pad_token_id
        position_embedding_type rope_parameters
    """
    common = _common(config, config.get("hidden_activation", "gelu"), known)
    kinds = config.get("layer_types")
    if kinds is None:
        every = _size(config, "global_attn_every_n_layers")
        kinds = ["sliding_attention" if i % every else "full_attention" for i in range(common["layers"])]
    thetas = {
        "full_attention": _number(config, "global_rope_theta", 160_000),
        "sliding_attention": _number(config, "local_rope_theta", 10_000),
    }
    if rope := config.get("rope_parameters"):
        if not isinstance(rope, dict) or set(rope) != set(thetas):
            raise UnknownOptionError(f"rope_parameters {rope!r}")
        thetas = {kind: _theta(settings) for kind, settings in rope.items()}
    if not isinstance(kinds, list) or len(kinds) != common["layers"] or set(kinds) - set(thetas):
        raise UnknownOptionError(f"layer_types {kinds!r}")
    if config.get("position_embedding_type") not in (None, "absolute", "sans_pos"):
        raise UnknownOptionError("position_embedding_type")
    reach = _size(config, "local_attention") // 2
    unbiased: set[str] = set() if _flag(config, "attention_bias") else {"qkv", "out"}
    unbiased |= set() if _flag(config, "mlp_bias") else {"up", "down"}
    unbiased |= set() if _flag(config, "norm_bias") else {"norm", "attention_norm", "mlp_norm", "last_norm"}
    return EncoderShape(
        **common,
        epsilon=_number(config, "norm_eps", 1e-5),
        most_tokens=_size(config, "max_position_embeddings"),
        positions="rotary",
        gate="first",
        norm_first=True,
        thetas=tuple(thetas[kind] for kind in kinds),
        reaches=tuple(reach if kind == "sliding_attention" else None for kind in kinds),
        unbiased=frozenset(unbiased),
    )


_BERT = {
    "words": ("embeddings.word_embeddings",),
    "types": ("embeddings.token_type_embeddings",),
    "positions": ("embeddings.position_embeddings",),
    "norm": ("embeddings.LayerNorm",),
    "qkv": tuple(f"encoder.layer.{{}}.attention.self.{part}" for part in ("query", "key", "value")),
    "out": ("encoder.layer.{}.attention.output.dense",),
    "attention_norm": ("encoder.layer.{}.attention.output.LayerNorm",),
    "up": ("encoder.layer.{}.intermediate.dense",),
    "down": ("encoder.layer.{}.output.dense",),
    "mlp_norm": ("encoder.layer.{}.output.LayerNorm",),
}
_JINA_BERT = {
    **_BERT,
    "up": ("encoder.layer.{}.mlp.gated_layers",),
    "down": ("encoder.layer.{}.mlp.wo",),
    "mlp_norm": ("encoder.layer.{}.mlp.layernorm",),
}
_JINA_BERT_ES = {
    **_JINA_BERT,
    "query_norm": ("encoder.layer.{}.attention.self.layer_norm_q",),
    "key_norm": ("encoder.layer.{}.attention.self.layer_norm_k",),
}
_JINA_BERT_CODE = {
    **_JINA_BERT_ES,
    "second_norm": ("encoder.layer.{}.layer_norm_1",),
    "up": ("encoder.layer.{}.mlp.up_gated_layer",),
    "down": ("encoder.layer.{}.mlp.down_layer",),
    "mlp_norm": ("encoder.layer.{}.layer_norm_2",),
}
_NOMIC_BERT = {
    "words": ("embeddings.word_embeddings",),
    "types": ("embeddings.token_type_embeddings",),
    "norm": ("emb_ln",),
    "qkv": ("encoder.layers.{}.attn.Wqkv",),
    "out": ("encoder.layers.{}.attn.out_proj",),
    "attention_norm": ("encoder.layers.{}.norm1",),
    "up": ("encoder.layers.{}.mlp.fc12", "encoder.layers.{}.mlp.fc11"),  # fc12 is the gate
    "down": ("encoder.layers.{}.mlp.fc2",),
    "mlp_norm": ("encoder.layers.{}.norm2",),
}
_JINA_V3 = {
    "words": ("embeddings.word_embeddings",),
    "types": ("embeddings.token_type_embeddings",),
    "norm": ("emb_ln",),
    "qkv": ("encoder.layers.{}.mixer.Wqkv",),
    "out": ("encoder.layers.{}.mixer.out_proj",),
    "attention_norm": ("encoder.layers.{}.norm1",),
    "up": ("encoder.layers.{}.mlp.fc1",),
    "down": ("encoder.layers.{}.mlp.fc2",),
    "mlp_norm": ("encoder.layers.{}.norm2",),
}
_MODERNBERT = {
    "words": ("embeddings.tok_embeddings",),
    "norm": ("embeddings.norm",),
    "attention_norm": ("layers.{}.attn_norm",),
    "qkv": ("layers.{}.attn.Wqkv",),
    "out": ("layers.{}.attn.Wo",),
    "up": ("layers.{}.mlp.Wi",),
    "down": ("layers.{}.mlp.Wo",),
    "mlp_norm": ("layers.{}.mlp_norm",),
    "last_norm": ("final_norm",),
}
_UNUSED = ("pooler.", "embeddings.position_ids", "cls.", "lm_head.")
_PREFIXED = ("pooler.", "embeddings.position_ids")


def _unused(prefix: str) -> tuple[str, ...]:
    return (*_UNUSED, *(prefix + name for name in _PREFIXED))


_ROBERTA = NativeFamily(_bert, _BERT, ("roberta.",), _unused("roberta."))
FAMILIES = {
    "bert": NativeFamily(_bert, _BERT, ("bert.",), _unused("bert.")),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "jina_bert": NativeFamily(read_jina_shape, _JINA_BERT, ("bert.",), _unused("bert.")),
    "jina_bert_es": NativeFamily(_jina_bert_es, _JINA_BERT_ES, ("bert.",), _unused("bert.")),
    "jina_bert_code": NativeFamily(_jina_bert_code, _JINA_BERT_CODE, ("bert.",), _unused("bert.")),
    "nomic_bert": NativeFamily(_nomic_bert, _NOMIC_BERT, ("nomic_bert.",), _unused("nomic_bert.")),
    "jina_embeddings_v3": NativeFamily(_jina_v3, _JINA_V3, ("roberta.",), _unused("roberta.")),
    "modernbert": NativeFamily(_modernbert, _MODERNBERT, ("model.",), ("head.", "decoder.")),
}
