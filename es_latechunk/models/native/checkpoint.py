"""A checkpoint as the one encoder takes it: its shape, the stored tensors behind each weight, and their values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.weights import Checkpoint, StoredTensor, find_misfits, read_array
from es_latechunk.models.native.adapters import TASKS, Adapters, read_peft, split_original
from es_latechunk.models.native.families import FAMILIES, NativeFamily, UnknownOptionError
from es_latechunk.models.native.jina_bert import jina_kind
from es_latechunk.models.native.shape import EncoderShape
from es_latechunk.types import FloatArray

Config = Mapping[str, Any]
Stored = Mapping[str, StoredTensor]


@dataclass(frozen=True, slots=True)
class NativeCheckpoint:
    """A shape, for each of its weights the stored tensors that are stacked to it, and what a task adds to them."""

    shape: EncoderShape
    weights: Mapping[str, tuple[StoredTensor, ...]]
    adapters: Adapters = field(default_factory=dict)


def open_native(checkpoint: Checkpoint, task: str = "") -> NativeCheckpoint | None:
    """Match a checkpoint with its family, with the adapters of a task if the model has any; no value is read.

    Returns None if it is anything that is not known here, which transformers may run. Adapters that cannot be read
    are a ModelError, as the vectors would be wrong without them, and so is a JinaBERT that does not fit: nothing else
    computes it.
    """
    config, stored = checkpoint.config, checkpoint.tensors
    if not task:
        return _match(checkpoint, stored)
    if TASKS not in config:
        found = _match(checkpoint, stored)
        return None if found is None else replace(found, adapters=read_peft(checkpoint.path, task))
    plain, by_name = split_original(config, stored, task)
    found = _match(checkpoint, plain)
    if found is None:
        return None
    adapters = {
        key: by_name.get(parts[0].name.replace(".parametrizations.weight.original", ".weight"))
        for key, parts in found.weights.items()
    }
    return replace(found, adapters={key: (adapter,) for key, adapter in adapters.items() if adapter})


def read_shape(checkpoint: Checkpoint) -> EncoderShape | None:
    """The sizes that config.json asks for, without a look at the tensors; None if it is not known here."""
    found = _family_and_shape(checkpoint, None)
    return None if found is None else found[1]


def _match(checkpoint: Checkpoint, stored: Stored) -> NativeCheckpoint | None:
    found = _family_and_shape(checkpoint, stored)
    if found is None:
        return None
    family, shape = found
    misfits = ""
    for prefix in ("", *family.prefixes):
        sources = {name: _sources(family, prefix, name) for name, _ in shape.weights()}
        wanted = {
            source: (size[0] // len(sources[name]), *size[1:])
            for name, size in shape.weights()
            for source in sources[name]
        }
        faults = find_misfits(stored, wanted, family.unused)
        if not faults:
            weights = {name: tuple(stored[source] for source in sources[name]) for name in sources}
            return NativeCheckpoint(shape, weights)
        if not misfits or any(name in stored for name in wanted):  # those under the names that are there
            misfits = faults
    if shape.positions == "alibi":
        raise ModelError(
            f"model {checkpoint.name}: the weights do not fit config.json; {misfits}; download the checkpoint again, "
            "or choose one of jina-embeddings-v2"
        )
    return None


def _family_and_shape(
    checkpoint: Checkpoint, stored: Stored | None
) -> tuple[NativeFamily, EncoderShape] | None:
    config = checkpoint.config
    try:
        if config.get("position_embedding_type") == "alibi":
            # The tensors tell which options it has; its sizes are the same in any case.
            kind: str = "jina_bert" if stored is None else jina_kind(config, stored)
        elif config.get("position_embedding_type") == "rotary" and TASKS in config:
            kind = "jina_embeddings_v3"  # the original calls itself "xlm-roberta"
        else:
            kind = str(config.get("model_type"))
        family = FAMILIES.get(kind)
        return None if family is None else (family, family.read(config))
    except UnknownOptionError:
        return None
    except ModelError as error:
        raise ModelError(f"model {checkpoint.name}: {error}") from error


def _sources(family: NativeFamily, prefix: str, name: str) -> tuple[str, ...]:
    """The names that a weight's parts have in the checkpoint, such as those of "3.qkv.bias"."""
    layer, part, kind = re.fullmatch(r"(?:(\d+)\.)?(\w+)\.(weight|bias)", name).groups()  # type: ignore[union-attr]
    return tuple(f"{prefix}{source.format(layer)}.{kind}" for source in family.sources[part])


def read_weights(checkpoint: NativeCheckpoint, name: str) -> dict[str, FloatArray]:
    """Every weight by its name in `EncoderShape`, float32; values that are not finite are a ModelError.

    Attention can turn NaN weights into vectors that look like any others. Of the token types only the first is
    given, as nothing here has another one.
    """
    weights, broken = {}, []
    for key, parts in checkpoint.weights.items():
        arrays = [read_array(part) for part in parts]
        broken += [part.name for part, array in zip(parts, arrays, strict=True) if not _is_finite(array)]
        array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        for adapter in checkpoint.adapters.get(key, ()):
            adapter.add_to(array)
        weights[key] = array[0] if key == "types.weight" else array
    if broken:
        raise ModelError(
            f"model {name}: {broken[0]} and {len(broken) - 1} more weights hold values that are not finite; "
            "download it again or choose another model"
        )
    return weights


def _is_finite(array: FloatArray) -> bool:
    """By the sum in float64, which float32 values cannot overflow: no array of truth values is made."""
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(array.sum(dtype=np.float64)))
