"""The encoder on torch: its operations, and the module that a checkpoint becomes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from es_latechunk.models.native.checkpoint import NativeCheckpoint, read_weights
from es_latechunk.models.native.encoder import Encoder
from es_latechunk.models.native.shape import UNSEEN, Activation
from es_latechunk.types import FloatArray

# What one block's bias (B, heads, rows, keys) may weigh where it has to be written out.
BLOCK_BYTES = 64 * 2**20
# Fused kernels on GPUs want each row of the bias to start at a multiple of 16 bytes.
ALIGNED = 8


class BlockBias:
    """The bias of attention scores, for a block of queries at a time.

    Between the positions i and j it depends on j - i alone. So with the queries in reverse order each row is one ramp,
    shifted by one to the row before: a matrix that is a strided view of the ramp, which costs no memory on a CPU.
    """

    def __init__(
        self,
        length: int,
        slopes: FloatArray | None,
        reach: int | None,
        mask: Tensor | None,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        distance = (torch.arange(2 * length + ALIGNED, device=device) - length).abs()
        ramp = torch.zeros(1, len(distance), device=device)
        if slopes is not None:
            ramp = -torch.from_numpy(slopes).to(device)[:, None] * distance
        # In float32, whatever the weights are: above 256 bfloat16 cannot tell a distance from the next one.
        self._ramp = ramp if reach is None else ramp.masked_fill(distance > reach, UNSEEN)
        self._length = length
        self._reach = reach
        self._hidden = None if mask is None else ~mask[:, None, None, :]
        # CPU kernels take any strides, and float32 beside queries of any type; GPU kernels take neither.
        self._dtype = None if device.type == "cpu" else dtype
        rows = 1 if self._hidden is None else len(self._hidden)
        self._rows = max(1, BLOCK_BYTES // (4 * rows * len(ramp) * (length + ALIGNED)))

    def blocks(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Queries, keys, and the bias (B or 1, heads or 1, queries, keys) between them, queries in reverse order."""
        for first in range(0, self._length, self._rows):
            last = min(first + self._rows, self._length)
            start, end = 0, self._length
            if self._reach is not None:
                start, end = max(0, first - self._reach), min(self._length, last + self._reach)
            yield slice(first, last), slice(start, end), self._block(first, last, start, end)

    def _block(self, first: int, last: int, start: int, end: int) -> Tensor:
        aligned = -(-(end - start) // ALIGNED) * ALIGNED
        shape = (1, len(self._ramp), last - first, aligned)
        # Row r is query last - 1 - r, and the ramp has distance 0 at `length`.
        offset = self._length + start - (last - 1)
        block = self._ramp.as_strided(shape, (0, self._ramp.stride(0), 1, 1), offset)
        if self._hidden is not None:
            hidden = F.pad(self._hidden[..., start:end], (0, aligned - (end - start)))
            block = block.masked_fill(hidden, UNSEEN)
        if self._dtype is not None:
            block = block.to(self._dtype, memory_format=torch.contiguous_format, copy=True)
        return block[..., : end - start]


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
    ) -> Tensor | BlockBias | None:
        """A tensor where only a mask hides keys, as that is the same for all queries."""
        if slopes is None and reach is None:
            return None if mask is None else mask[:, None, None, :]
        return BlockBias(ids.shape[1], slopes, reach, mask, device=self.device, dtype=self.dtype)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | BlockBias | None) -> Tensor:
        if not isinstance(bias, BlockBias):
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
            return mixed.transpose(1, 2).flatten(2)
        batch, heads, length, size = query.shape
        joined = query.new_empty(batch, length, heads, size)
        for queries, keys, block in bias.blocks():
            turned = query[:, :, queries].flip(2)
            mixed = F.scaled_dot_product_attention(
                turned, key[:, :, keys], value[:, :, keys], attn_mask=block
            )
            joined[:, queries] = mixed.flip(2).transpose(1, 2)
        return joined.flatten(2)


class NativeTorchModel(nn.Module):
    """Token ids (B, T) -> last hidden state (B, T, hidden), in `dtype`; the checkpoint's values are checked."""

    converted = True  # to its precision: nothing is left for autocast

    def __init__(
        self, checkpoint: NativeCheckpoint, name: str, *, device: str, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        ops = TorchOps(torch.device(device), dtype)
        weights = {key: ops.constant(array) for key, array in read_weights(checkpoint, name).items()}
        self._encoder: Encoder[Tensor, Tensor | BlockBias] = Encoder(checkpoint.shape, weights, ops)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`attention_mask` (B, T) is 0 at padding, which is on the right; what is computed there means nothing."""
        mask = None if attention_mask is None or bool(attention_mask.all()) else attention_mask.bool()
        return self._encoder(input_ids, mask)
