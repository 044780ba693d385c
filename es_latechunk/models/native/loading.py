"""The weights of a checkpoint as the encoder takes them: parts stacked, values checked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from es_latechunk.errors import ModelError
from es_latechunk.models.native.checkpoint import read_array
from es_latechunk.models.native.families import NativeCheckpoint
from es_latechunk.types import FloatArray


def read_weights(checkpoint: NativeCheckpoint, name: str) -> Iterator[tuple[str, FloatArray]]:
    """Every weight by its name in `EncoderShape`, float32; values that are not finite are a ModelError.

    Attention can turn NaN weights into vectors that look like any others. Of the token types only the first is
    given, as nothing here has another one.
    """
    for key, parts in checkpoint.weights.items():
        arrays = [read_array(part) for part in parts]
        array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        if not np.isfinite(array).all():
            raise ModelError(
                f"model {name}: the weights of {key} hold values that are not finite; download it again or choose "
                "another model"
            )
        yield key, array[0] if key == "types.weight" else array
