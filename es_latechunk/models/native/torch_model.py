"""The encoder as a torch module, for GPUs and where OpenVINO is not installed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from es_latechunk.models.native.encoder import Encoder
from es_latechunk.models.native.families import NativeCheckpoint
from es_latechunk.models.native.loading import read_weights
from es_latechunk.models.native.torch_ops import TorchOps


class NativeTorchModel(nn.Module):
    """Token ids (B, T) -> last hidden state (B, T, hidden), in `dtype`; the checkpoint's values are checked."""

    converted = True  # to its precision: nothing is left for autocast

    def __init__(
        self, checkpoint: NativeCheckpoint, name: str, *, device: str, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        ops = TorchOps(torch.device(device), dtype)
        weights = {key: ops.constant(array) for key, array in read_weights(checkpoint, name).items()}
        self._encoder = Encoder(checkpoint.shape, weights, ops)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`attention_mask` (B, T) is 0 at padding, which is on the right; what is computed there means nothing."""
        mask = None if attention_mask is None or bool(attention_mask.all()) else attention_mask.bool()
        return self._encoder(input_ids, mask)
