"""What a JinaBERT config.json says, checked: sizes, and which of the two architectures it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.json_files import read_json_object

Family = Literal["v1", "code"]

# The repository of remote code that a config names; that code is never run, its name only identifies the architecture.
FAMILIES: dict[str, Family] = {
    "jina-bert-implementation": "v1",
    "jina-bert-v2-qk-post-norm": "code",
}
# The repository of jina-embeddings-v2-base-es, whose architecture only the names of its tensors identify.
FAMILY_FROM_TENSORS = "jina-bert-v2-qk-devlin-norm-1e-2"
QUERY_KEY_NORMS = (".attention.self.layer_norm_q.", ".attention.self.layer_norm_k.")
# A tensor's name that only this family has.
MARKS: dict[Family, str] = {"v1": ".mlp.gated_layers.", "code": ".mlp.up_gated_layer."}

# A setting may be absent: then it is what every published checkpoint has.
REQUIRED = {
    "position_embedding_type": "alibi",
    "feed_forward_type": "geglu",
    "hidden_act": "gelu",
    "emb_pooler": "mean",
}


@dataclass(frozen=True, slots=True)
class JinaBertConfig:
    """Sizes of one checkpoint; `family` is None if config.json does not identify it."""

    family: Family | None
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    type_vocab_size: int = 2
    max_position_embeddings: int = 8192
    layer_norm_eps: float = 1e-12

    @classmethod
    def from_folder(cls, folder: Path) -> JinaBertConfig:
        """Read config.json. Raises ModelError if it is missing, broken or describes another architecture."""
        path = folder / "config.json"
        return cls.from_values(read_json_object(path), source=str(path))

    @classmethod
    def from_values(cls, values: Mapping[str, Any], *, source: str) -> JinaBertConfig:
        """Check a config's values; `source` is named in errors."""
        for key, wanted in REQUIRED.items():
            if values.get(key) not in (None, wanted):
                raise ModelError(
                    f"{source}: {key} is {values[key]!r}, JinaBERT here computes {wanted!r} only;"
                    " choose another checkpoint"
                )
        if values.get("position_embedding_type") is None:
            raise ModelError(
                f"{source}: position_embedding_type is missing, so this is not a JinaBERT config"
            )
        config = cls(
            family=_family(values, source),
            vocab_size=_size(values, "vocab_size", source),
            hidden_size=_size(values, "hidden_size", source),
            num_hidden_layers=_size(values, "num_hidden_layers", source),
            num_attention_heads=_size(values, "num_attention_heads", source),
            intermediate_size=_size(values, "intermediate_size", source),
            type_vocab_size=_size(values, "type_vocab_size", source, 2),
            max_position_embeddings=_size(values, "max_position_embeddings", source, 8192),
            layer_norm_eps=_epsilon(values, source),
        )
        if config.hidden_size % config.num_attention_heads:
            raise ModelError(
                f"{source}: hidden_size {config.hidden_size} is not a multiple of num_attention_heads"
                f" {config.num_attention_heads}; download the checkpoint again"
            )
        return config


def family_of(config: JinaBertConfig, keys: Iterable[str], *, source: str) -> Family:
    """The architecture, from the config and the tensors' names. ModelError if the two disagree."""
    names = list(keys)
    present = [family for family, mark in MARKS.items() if any(mark in name for name in names)]
    if len(present) != 1:
        raise ModelError(
            f"{source}: the tensors' names have {'both' if present else 'neither'} of {MARKS['v1']!r} (v1)"
            f" and {MARKS['code']!r} (code), so this is no JinaBERT checkpoint; choose another"
        )
    if config.family not in (None, present[0]):
        raise ModelError(
            f"{source}: config.json says the {config.family!r} architecture, the tensors are of"
            f" {present[0]!r}; download config.json and weights from the same place"
        )
    return present[0]


def normalises_queries(config: JinaBertConfig, keys: Iterable[str]) -> bool:
    """Whether queries and keys go through a LayerNorm, as they do where the checkpoint holds one for them.

    The published code of v1 has none and the code family's always has: there a tensor too many or too few is an error.
    """
    if config.family is not None:
        return config.family == "code"
    return any(mark in name for name in keys for mark in QUERY_KEY_NORMS)


def _family(values: Mapping[str, Any], source: str) -> Family | None:
    named = _named(values)
    if named == {FAMILY_FROM_TENSORS}:
        return None
    known = {FAMILIES[name] for name in named if name in FAMILIES}
    if len(known) > 1 or (named and not known):
        raise ModelError(
            f"{source}: auto_map names {', '.join(sorted(named))}, known are "
            f"{', '.join((*FAMILIES, FAMILY_FROM_TENSORS))};"
            " choose another checkpoint"
        )
    return known.pop() if known else None


def _named(values: Mapping[str, Any]) -> set[str]:
    """Names of the remote code's repositories: `owner/NAME--module.Class` in auto_map."""
    auto_map = values.get("auto_map")
    entries = auto_map.values() if isinstance(auto_map, Mapping) else ()
    named = {entry.split("--")[0] for entry in entries if isinstance(entry, str) and "--" in entry}
    origin = str(values.get("_name_or_path", ""))
    if not named and origin.rpartition("/")[2] in {*FAMILIES, FAMILY_FROM_TENSORS}:
        named = {origin}
    return {name.rpartition("/")[2] for name in named}


def _size(values: Mapping[str, Any], key: str, source: str, default: int | None = None) -> int:
    value = values.get(key, default)
    if type(value) is not int or value < 1:
        raise ModelError(
            f"{source}: {key} is {value!r}, not a positive number; download the checkpoint again"
        )
    return value


def _epsilon(values: Mapping[str, Any], source: str) -> float:
    value = values.get("layer_norm_eps", 1e-12)
    if type(value) not in (int, float) or not 0 <= value < 1:
        raise ModelError(f"{source}: layer_norm_eps is {value!r}; download the checkpoint again")
    return float(value)
