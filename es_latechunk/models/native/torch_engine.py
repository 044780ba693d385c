"""The encoder on torch: its operations, and the module that a checkpoint becomes."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from es_latechunk.models.native.encoder import Encoder
from es_latechunk.models.native.families import NativeCheckpoint, read_weights
from es_latechunk.models.native.shape import Activation
from es_latechunk.types import FloatArray


class TorchOps:
    """An `encoder.Ops` of tensors on one device, in one dtype."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype

    def constant(self, array: FloatArray) -> Tensor:
        return torch.from_numpy(array).to(self.device, self.dtype)

    def table(self, array: FloatArray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def embed(self, table: Tensor, ids: Tensor) -> Tensor:
        return F.embedding(ids, table)

    def rows(self, table: Tensor, ids: Tensor) -> Tensor:
        return table[: ids.shape[1]]

    def count(self, ids: Tensor, padding: int) -> Tensor:
        real = (ids != padding).long()
        return real.cumsum(1) * real + padding

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def norm(self, x: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float) -> Tensor:
        return F.layer_norm(x, weight.shape, weight, bias, epsilon)

    def activate(self, x: Tensor, kind: Activation) -> Tensor:
        if kind == "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        if kind == "relu":
            return F.relu(x)
        return F.gelu(x) if kind == "gelu" else F.silu(x)

    def split(self, x: Tensor, parts: int) -> list[Tensor]:
        return list(x.chunk(parts, dim=-1))

    def heads(self, x: Tensor, count: int) -> Tensor:
        return x.view(*x.shape[:2], count, -1).transpose(1, 2)

    def rotate(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        turned = x * cosines + torch.cat([-second, first], dim=-1) * sines
        return turned.to(x.dtype)

    def bias(
        self, ids: Tensor, slopes: FloatArray | None, reach: int | None, mask: Tensor | None
    ) -> Tensor | None:
        if slopes is None and reach is None and mask is None:
            return None
        positions = torch.arange(ids.shape[1], device=self.device)
        distance = (positions[:, None] - positions).abs()
        total = torch.zeros(1, 1, *distance.shape, device=self.device)
        if slopes is not None:
            total = -torch.from_numpy(slopes).to(self.device)[None, :, None, None] * distance
        if reach is not None:
            total = total.masked_fill(distance > reach, -torch.inf)
        if mask is not None:
            total = total.masked_fill(~mask[:, None, None, :], -torch.inf)
        return total.to(self.dtype)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)


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
