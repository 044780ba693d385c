"""Dense layers after pooling (sentence-transformers' Dense modules), in numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from es_latechunk.errors import ModelError
from es_latechunk.models.folder import read_json
from es_latechunk.types import FloatArray

ACTIVATIONS: dict[str, Callable[[FloatArray], FloatArray]] = {"Identity": lambda x: x, "Tanh": np.tanh}


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """activation(x @ weight.T + bias), with `weight` (out, in) and `bias` (out,)."""

    weight: FloatArray
    bias: FloatArray
    activation: str

    def __call__(self, vectors: FloatArray) -> FloatArray:
        return ACTIVATIONS[self.activation](vectors @ self.weight.T + self.bias)


def dense_output(folder: Path, size: int, name: str) -> int:
    """The output size of a Dense module that must take `size` inputs."""
    config = read_json(folder / "config.json", name)
    activation = _activation(config.get("activation_function"))
    if activation not in ACTIVATIONS:
        raise ModelError(
            f"model {name}: {folder.name} has the activation {activation}, known are {', '.join(ACTIVATIONS)}"
        )
    if config.get("in_features") != size or not isinstance(config.get("out_features"), int):
        raise ModelError(
            f"model {name}: {folder.name} takes {config.get('in_features')} dimensions, its input has {size}"
        )
    return int(config["out_features"])


def load_dense(folder: Path, name: str) -> DenseLayer:
    """Read a Dense module's weights; missing or misshapen ones are ModelErrors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_json(folder / "config.json", name)
    try:
        tensors = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"model {name}: {folder.name}/model.safetensors cannot be read ({error})") from error
    expected: dict[str, tuple[int, ...]] = {"linear.weight": (config["out_features"], config["in_features"])}
    if config.get("bias", True):
        expected["linear.bias"] = (config["out_features"],)
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    if found != expected:
        raise ModelError(f"model {name}: {folder.name} holds the weights {found}, expected are {expected}")
    weight = tensors["linear.weight"].float().numpy()
    bias = (
        tensors["linear.bias"].float().numpy()
        if "linear.bias" in tensors
        else np.zeros(len(weight), np.float32)
    )
    return DenseLayer(weight, bias, _activation(config.get("activation_function")))


def _activation(value: object) -> str:
    return str(value or "torch.nn.modules.activation.Tanh").rpartition(".")[2]
