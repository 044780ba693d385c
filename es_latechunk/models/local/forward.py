"""Runs a local model over batches of token ids: the only place that holds torch tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from es_latechunk.errors import ModelError, setting
from es_latechunk.models.hardware import Dtype, Hardware, choose_hardware, require_torch
from es_latechunk.models.local.metadata import quiet
from es_latechunk.models.local.spec import ModelSpec
from es_latechunk.models.native.checkpoint import open_native
from es_latechunk.types import FloatArray, IntArray

UNUSED_WEIGHTS = ("pooler.",)
# Weights of a layer; not the buffers that old versions stored there, nor heads for other tasks.
INNER_WEIGHTS = re.compile(r"(^|\.)(layers?|blocks?|h)\.\d+\.(?!.*(inv_freq|position_ids|masked_bias)$)")
LISTED = 5


class TokenModel:
    """Token ids in, last hidden states out (an `Engine`), by torch; the weights are loaded at the first call."""

    name = "torch"

    def __init__(self, spec: ModelSpec, *, device: str, dtype: Dtype, pad_id: int, task: str = "") -> None:
        self._spec = spec
        self._device = device
        self._dtype = dtype
        self._pad_id = pad_id
        self._task = task

    @cached_property
    def hardware(self) -> Hardware:
        """The device and precision in use; torch is asked at the first look."""
        return choose_hardware(self._device, self._dtype)

    @cached_property
    def _model(self) -> Any:
        return load_model(self._spec, self.hardware, self._task)

    def run(self, batch: Sequence[IntArray]) -> list[FloatArray]:
        """Token ids (T_i,) with their special tokens -> vectors (T_i, hidden) float32."""
        ids, mask = self._pad(batch)
        vectors = self._forward(ids, mask)
        if not np.isfinite(vectors[mask.astype(bool)]).all():
            raise ModelError(
                f"model {self._spec.name}: gives vectors that are not finite in {self.hardware.dtype}; check the "
                f"weights, or try {setting('dtype')} float32"
            )
        return [vectors[row, : len(window)] for row, window in enumerate(batch)]

    def _pad(self, batch: Sequence[IntArray]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        longest = max(len(window) for window in batch)
        ids = np.full((len(batch), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, window in enumerate(batch):
            ids[row, : len(window)] = window
            mask[row, : len(window)] = 1
        return ids, mask

    def _forward(self, ids: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> FloatArray:
        import torch

        device = torch.device(self.hardware.device)
        try:
            model = self._model
            mixed = self.hardware.dtype == "bfloat16" and not getattr(model, "converted", False)
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                answer = model(
                    input_ids=torch.from_numpy(ids).to(device),
                    attention_mask=torch.from_numpy(mask).to(device),
                )
                hidden = getattr(answer, "last_hidden_state", answer)
                return cast(FloatArray, hidden.float().cpu().numpy())
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"model {self._spec.name}: the memory of {device} does not hold {ids.size} tokens at once; choose a "
                f"shorter {setting('window')}, or {setting('device')} cpu"
            ) from error


def load_model(spec: ModelSpec, hardware: Hardware, task: str = "") -> Any:
    """The torch module on its device: our own encoder, or transformers' architecture.

    Our own encoder has its weights in the precision that is asked for, transformers' module in float32. ModelError if
    the checkpoint is not whole, or holds values that are not finite.
    """
    if found := open_native(spec.checkpoint, task):
        import torch

        from es_latechunk.models.native.torch_engine import NativeTorchModel

        dtype = torch.bfloat16 if hardware.dtype == "bfloat16" else torch.float32
        return NativeTorchModel(found, spec.name, device=hardware.device, dtype=dtype)
    if task:
        raise ModelError(
            f"model {spec.name}: its weights do not fit its config.json, so that the adapters of {task} have no place; "
            "download it again"
        )
    model = _load_transformers(spec.checkpoint.path, spec.name).to(hardware.device)
    # Attention can turn NaN weights into vectors that look like any others.
    broken = [key for key, value in model.named_parameters() if not value.isfinite().all()]
    if broken:
        raise ModelError(
            f"model {spec.name}: {broken[0]} and {len(broken) - 1} more weights hold values that are not finite; "
            "download it again or choose another model"
        )
    return model


def check_checkpoint(spec: ModelSpec) -> None:
    """Raise the ModelError that `load_model` would raise over the checkpoint's tensors, from their names and shapes.

    No value is read: a tensor stands in for each stored one that takes no memory, whatever its shape.
    """
    if open_native(spec.checkpoint, spec.document_task):
        return  # its tensors are exactly those that our own encoder needs, and nothing slow was imported to see it
    require_torch(f"model {spec.name}: its architecture or an option of it runs in transformers only")
    import torch
    from transformers import AutoConfig, AutoModel

    path, stored = spec.checkpoint.path, spec.checkpoint.tensors
    with _transformers_errors(spec.name):
        config = AutoConfig.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            kind = type(AutoModel.from_config(config, trust_remote_code=False))  # type: ignore[no-untyped-call]
        info = kind.from_pretrained(
            None,
            config=config,
            state_dict={key: torch.zeros(()).expand(tensor.shape) for key, tensor in stored.items()},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # _check_weights names them
            output_loading_info=True,
        )[1]
    _check_weights(info, spec.name)


def _load_transformers(path: Path, name: str) -> Any:
    from transformers import AutoModel

    with _transformers_errors(name):
        model = read_checkpoint(AutoModel, path, name)
    model.config.use_cache = False  # a decoder would keep keys and values for words to come
    return model.eval()


def _transformers_errors(name: str) -> AbstractContextManager[None]:
    return load_errors(
        f"model {name}: transformers cannot load it", "download it again or choose another model"
    )


@contextmanager
def load_errors(message: str, advice: str) -> Iterator[None]:
    """Turn what the libraries raise over a checkpoint into a ModelError of one line, and keep them quiet."""
    from safetensors import SafetensorError

    try:
        with quiet():
            yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        cause = " ".join(str(error).split())
        raise ModelError(f"{message} ({cause}); {advice}") from error


def read_checkpoint(kind: Any, path: Path, name: str) -> Any:
    """A model of one of transformers' Auto classes, in float32, with just the weights that the folder has."""
    import torch

    model, info = kind.from_pretrained(
        str(path),
        dtype=torch.float32,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        ignore_mismatched_sizes=True,  # _check_weights names them
        output_loading_info=True,
    )
    _check_weights(info, name)
    return model


def _check_weights(info: dict[str, Any], name: str) -> None:
    """transformers fills gaps with random numbers and drops what it does not know: both give wrong results.

    `info` is what `from_pretrained(output_loading_info=True)` gives; a checkpoint that does not fit is a ModelError.
    """
    missing = [key for key in sorted(info["missing_keys"]) if not key.startswith(UNUSED_WEIGHTS)]
    misshapen = sorted(str(key) for key, *_ in info["mismatched_keys"])
    unknown = [key for key in sorted(info["unexpected_keys"]) if INNER_WEIGHTS.search(key)]
    faults = (
        ("lacks", missing),
        ("has in another shape", misshapen),
        ("has beyond the architecture", unknown),
    )
    for what, keys in faults:
        if keys:
            more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
            raise ModelError(
                f"model {name}: compared with its config.json, the checkpoint {what}: {', '.join(keys[:LISTED])}"
                f"{more}; its results would be wrong: download it again or choose another model"
            )
