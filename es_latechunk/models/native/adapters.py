"""The task adapters of jina-embeddings-v3: low-rank matrices that are added to the weights when they are loaded.

For a weight W (out, in) and its task's A (rank, in) and B (out, rank): W + B A * alpha / rank (Hu et al. 2021, arXiv
2106.09685; for this model Sturua et al. 2024, arXiv 2409.10173). The original repository keeps the adapters of all
tasks stacked beside each weight, the `-hf` form has a folder in PEFT's format for each task.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.json_files import read_json_object
from es_latechunk.models.checkpoint.weights import StoredTensor, read_array, read_header
from es_latechunk.types import FloatArray

TASKS = "lora_adaptations"  # the setting of the original that names its tasks, in the order of their adapters
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
_ORIGINAL = re.compile(r"(.+)\.parametrizations\.weight\.(original|0\.lora_A|0\.lora_B)")
_PEFT = re.compile(
    r"base_model\.model\.(?:roberta\.)?(.+?)\.(lora_(?:embedding_)?[AB])(?:\.default)?(?:\.weight)?"
)
_LAYER = re.compile(r"(?:encoder\.)?layers\.(\d+)\.(.+)")
# A module in a layer, in both forms -> the part of `EncoderShape`, and which third of it.
_PARTS = {
    **{f"self_attn.{name}_proj": ("qkv", third) for third, name in enumerate("qkv")},
    **{"mixer.Wqkv": ("qkv", None), "self_attn.o_proj": ("out", None), "mixer.out_proj": ("out", None)},
    **{"mlp.fc1": ("up", None), "mlp.fc2": ("down", None)},
}
_TABLES = {"embeddings.word_embeddings": "words", "embeddings.token_type_embeddings": "types"}
# PEFT's settings that change the formula, and what they must be.
_PLAIN: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("use_dora", "fan_in_fan_out", "lora_bias"), (False, None)),
    **dict.fromkeys(
        ("modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication"), (None, {}, [])
    ),
    "bias": ("none",),
    "peft_type": ("LORA",),
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """left @ right * scale is added to a weight, transposed for a `turned` one, or to one third of its rows.

    `task_index` chooses from matrices that are stacked by task; None if there is only one matrix.
    """

    left: StoredTensor
    right: StoredTensor
    scale: float
    task_index: int | None = None
    turned: bool = False
    third: int | None = None

    def add_to(self, weight: FloatArray) -> None:
        """Change the weight in place; ModelError if the shapes do not fit."""
        left, right = read_array(self.left), read_array(self.right)
        if self.task_index is not None:
            left, right = left[self.task_index], right[self.task_index]
        rows = slice(None)
        if self.third is not None:
            size = len(weight) // 3
            rows = slice(self.third * size, (self.third + 1) * size)
        change = left @ right * np.float32(self.scale)
        change = change.T if self.turned else change
        if change.shape != weight[rows].shape or not np.isfinite(change).all():
            raise ModelError(
                f"{self.left.file}: {self.left.name} gives {change.shape} for a weight of {weight[rows].shape}, or "
                "values that are not finite; download the model again"
            )
        weight[rows] += change


Adapters = Mapping[str, tuple[Adapter, ...]]


def split_original(
    config: Mapping[str, Any], stored: Mapping[str, StoredTensor], task: str
) -> tuple[dict[str, StoredTensor], dict[str, Adapter]]:
    """The original's plain weights, and the adapters of one task by the name of the weight that they change."""
    plain: dict[str, StoredTensor] = {}
    pairs: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in stored.items():
        if match := _ORIGINAL.fullmatch(name):
            module, part = match.groups()
            if part == "original":
                plain[f"{module}.weight"] = tensor
            else:
                pairs.setdefault(f"{module}.weight", {})[part[-1]] = tensor
        else:
            plain[name] = tensor
    index = config[TASKS].index(task)
    scale = config["lora_alpha"] / config["lora_rank"]
    adapters = {}
    for name, pair in pairs.items():
        # For a table the original has the two the other way round.
        table = name.endswith("_embeddings.weight")
        left, right = (pair["A"], pair["B"]) if table else (pair["B"], pair["A"])
        adapters[name] = Adapter(left, right, scale, task_index=index)
    return plain, adapters


def peft_folder(folder: Path, task: str) -> Path:
    """Where the `-hf` form keeps a task's adapter: "retrieval.query" in retrieval_query."""
    return folder / re.sub(r"\W", "_", task)


def read_peft(folder: Path, task: str) -> dict[str, tuple[Adapter, ...]]:
    """The adapters of one task by the names of `EncoderShape`'s weights; what is not known here is a ModelError."""
    adapter_folder = peft_folder(folder, task)
    if not (adapter_folder / SETTINGS).is_file():
        raise ModelError(
            f"{adapter_folder / SETTINGS}: is missing; the model needs the adapter of the task {task}: "
            "download it again"
        )
    settings = read_json_object(adapter_folder / SETTINGS)
    try:
        rank, alpha = int(settings["r"]), float(settings["lora_alpha"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{adapter_folder / SETTINGS}: has no usable r and lora_alpha ({error!r}); download the model again"
        ) from error
    unknown = [key for key, plain in _PLAIN.items() if key in settings and settings[key] not in plain]
    if unknown:
        raise ModelError(
            f"{adapter_folder / SETTINGS}: {unknown[0]} is {settings[unknown[0]]!r}, which is not computed here"
        )
    scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    pairs: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in read_header(adapter_folder / WEIGHTS).items():
        match = _PEFT.fullmatch(name)
        if match is None:
            raise ModelError(f"{adapter_folder / WEIGHTS}: has {name}, which is not known here")
        pairs.setdefault(match[1], {})[match[2]] = tensor
    adapters: dict[str, tuple[Adapter, ...]] = {}
    for module, pair in pairs.items():
        if not module.startswith("pooler."):
            key, third = _weight(module, adapter_folder)
            kind = "lora_embedding_" if key in ("words.weight", "types.weight") else "lora_"
            if set(pair) != {f"{kind}A", f"{kind}B"}:
                raise ModelError(
                    f"{adapter_folder / WEIGHTS}: has {', '.join(sorted(pair))} alone for {module}"
                )
            adapter = Adapter(pair[f"{kind}B"], pair[f"{kind}A"], scale, turned=kind != "lora_", third=third)
            adapters[key] = (*adapters.get(key, ()), adapter)
    return adapters


def _weight(module: str, adapter_folder: Path) -> tuple[str, int | None]:
    if module in _TABLES:
        return f"{_TABLES[module]}.weight", None
    layer = _LAYER.fullmatch(module)
    if layer is None or layer[2] not in _PARTS:
        raise ModelError(f"{adapter_folder / WEIGHTS}: changes {module}, which is not known here")
    part, third = _PARTS[layer[2]]
    return f"{layer[1]}.{part}.weight", third
