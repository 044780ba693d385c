"""Runs a local model over batches of token ids: the only place that holds torch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from es_latechunk.errors import ModelError
from es_latechunk.models.precision import Dtype, Hardware, choose_hardware, torch_dtype
from es_latechunk.models.spec import ModelSpec
from es_latechunk.types import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

UNUSED_WEIGHTS = ("pooler.",)


class TokenModel:
    """Token ids in, last hidden states out; the weights are loaded at the first call."""

    def __init__(self, spec: ModelSpec, *, device: str, dtype: Dtype, pad_id: int) -> None:
        self._spec = spec
        self._device = device
        self._dtype = dtype
        self._pad_id = pad_id

    @cached_property
    def hardware(self) -> Hardware:
        """The device and precision in use; torch is asked at the first look."""
        return choose_hardware(self._device, self._dtype)

    @cached_property
    def _model(self) -> Any:
        return load_model(self._spec, self.hardware.device)

    def run(self, batch: Sequence[IntArray]) -> list[FloatArray]:
        """Token ids (T_i,) with their special tokens -> vectors (T_i, hidden) float32."""
        import torch

        ids, mask = self._pad(batch)
        device = torch.device(self.hardware.device)
        with torch.inference_mode(), self._precision(device.type):
            hidden = self._call(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
        vectors = hidden.float().cpu().numpy()
        if not np.isfinite(vectors[mask.astype(bool)]).all():
            raise ModelError(
                f"model {self._spec.name}: gives vectors that are not finite in {self.hardware.dtype}; "
                "try --dtype float32, and check the weights"
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

    def _precision(self, kind: str) -> Any:
        import torch

        reduced = self.hardware.dtype == "bfloat16"
        return torch.autocast(kind, dtype=torch_dtype(self.hardware.dtype), enabled=reduced)

    def _call(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        answer = self._model(input_ids=ids, attention_mask=mask)
        hidden: torch.Tensor = getattr(answer, "last_hidden_state", answer)
        return hidden


def load_model(spec: ModelSpec, device: str) -> Any:
    """The torch module in float32 on `device`: our JinaBERT, or transformers' own architecture."""
    if is_jina_bert(spec.config):
        from es_latechunk.models.jina_bert import JinaBertModel

        return JinaBertModel.from_pretrained(spec.path, device=device)
    return _load_transformers(spec.path, spec.name).to(device)


def is_jina_bert(config: dict[str, Any]) -> bool:
    """Jina v2 calls itself "bert", but its positions are ALiBi."""
    return config.get("position_embedding_type") == "alibi"


def _load_transformers(path: Path, name: str) -> Any:
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, info = AutoModel.from_pretrained(
            str(path),
            dtype=torch.float32,
            attn_implementation="sdpa",
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        cause = " ".join(str(error).split())
        raise ModelError(
            f"model {name}: transformers cannot load it ({cause}); pass another model"
        ) from error
    _check_weights(info, name)
    return model.eval()


def _check_weights(info: dict[str, Any], name: str) -> None:
    missing = [key for key in sorted(info["missing_keys"]) if not key.startswith(UNUSED_WEIGHTS)]
    misshapen = [str(row) for row in info["mismatched_keys"]]
    for what, keys in (("lacks the weights", missing), ("has weights of another shape:", misshapen)):
        if keys:
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            raise ModelError(
                f"model {name}: the checkpoint {what} {', '.join(keys[:5])}{more}; it would give random "
                "vectors: download it again or choose another model"
            )
