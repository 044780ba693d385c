"""Dense layers after pooling (sentence-transformers' Dense modules), in numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.json_files import read_json_object
from es_latechunk.models.checkpoint.weights import read_array, read_header
from es_latechunk.types import FloatArray

WEIGHTS = "model.safetensors"
ACTIVATIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, np.float32(0)),
}
# The defaults are sentence-transformers' own; anything else is computed differently there.
PLAIN = {"use_residual": False, "module_input_name": "sentence_embedding", "module_output_name": None}


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """activation(x @ weight.T + bias), with `weight` (out, in) and `bias` (out,)."""

    weight: FloatArray
    bias: FloatArray
    activation: str

    def __call__(self, vectors: FloatArray) -> FloatArray:
        return ACTIVATIONS[self.activation](vectors @ self.weight.T + self.bias)


def dense_output(folder: Path, size: int, name: str) -> int:
    """The output size of a Dense module that must take `size` inputs; ModelError if it cannot be run."""
    config = read_json_object(folder / "config.json", name)
    file = f"model {name}: {folder.name}/config.json"
    if (activation := _activation(config)) not in ACTIVATIONS:
        raise ModelError(
            f"{file} has the activation {activation}, known here are {', '.join(ACTIVATIONS)}; choose another model"
        )
    for key, plain in PLAIN.items():
        if config.get(key, plain) not in (plain, PLAIN["module_input_name"]):
            raise ModelError(f"{file} has {key} {config[key]!r}, not computed here; choose another model")
    if config.get("in_features") != size or not isinstance(config.get("out_features"), int):
        raise ModelError(
            f"{file} says {config.get('in_features')} to {config.get('out_features')} dimensions, its input has "
            f"{size}; download the model again"
        )
    return int(config["out_features"])


def check_dense(folder: Path, name: str) -> None:
    """Refuse a Dense module without weights, or with others than its config.json says; no value is read."""
    config = read_json_object(folder / "config.json", name)
    file = f"model {name}: {folder.name}/{WEIGHTS}"
    if not (folder / WEIGHTS).is_file():
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        cause = (
            f"is missing, and {pickled[0]} is a pickle, which is never opened" if pickled else "is missing"
        )
        raise ModelError(f"{file} {cause}; take a revision of the model that has it, or choose another model")
    expected: dict[str, tuple[int, ...]] = {"linear.weight": (config["out_features"], config["in_features"])}
    if config.get("bias", True):
        expected["linear.bias"] = (config["out_features"],)
    found = {key: tensor.shape for key, tensor in read_header(folder / WEIGHTS).items()}
    if found != expected:
        raise ModelError(f"{file} holds {found}, its config.json says {expected}; download the model again")


def load_dense(folder: Path, name: str) -> DenseLayer:
    """Read a Dense module's weights; missing, misshapen or not finite ones are ModelErrors."""
    check_dense(folder, name)
    config = read_json_object(folder / "config.json", name)
    file = f"model {name}: {folder.name}/{WEIGHTS}"
    arrays = {key: read_array(tensor) for key, tensor in read_header(folder / WEIGHTS).items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ModelError(f"{file} holds values that are not finite; download the model again")
    bias = arrays.get("linear.bias", np.zeros(config["out_features"], np.float32))
    return DenseLayer(arrays["linear.weight"], bias, _activation(config))


def _activation(config: dict[str, Any]) -> str:
    return str(config.get("activation_function") or "torch.nn.modules.activation.Tanh").rpartition(".")[2]
