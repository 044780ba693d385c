"""The weights of a checkpoint as the encoder takes them: parts stacked, a task's adapters added, values checked."""

from __future__ import annotations

import numpy as np

from es_latechunk.errors import ModelError
from es_latechunk.models.native.families import NativeCheckpoint
from es_latechunk.models.weights import read_array
from es_latechunk.types import FloatArray


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
