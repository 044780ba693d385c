"""Attention with linear biases (ALiBi, symmetric form), for packed sequences, in blocks of queries.

The bias of head h between positions i and j is -m_h * |i - j|, with the slopes m_h of Press et al. 2022
(https://arxiv.org/abs/2108.12409) and no causal mask (https://arxiv.org/abs/2310.19923). With the keys in
reverse order, j' = T - 1 - j, it depends on i + j' alone: a matrix whose rows are one ramp, each shifted by
one. Such a matrix is a strided view of that ramp, so on a CPU it costs no memory at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

# What one block's bias (heads, rows, T) may weigh where it has to be written out.
BLOCK_BYTES = 256 * 2**20
# Fused kernels on GPUs want each row of the bias to start at a multiple of 16 bytes.
ALIGNED = 8


def alibi_slopes(heads: int) -> list[float]:
    """Slopes m_h, one per head. With p the largest power of two <= heads: the p slopes of p heads, then, for
    the heads beyond p, every second slope of 2p heads; not sorted, as in the original code."""
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * k / power) for k in range(1, power + 1)]
    between = [2 ** (-8 * (2 * k - 1) / (2 * power)) for k in range(1, heads - power + 1)]
    return slopes + between


@dataclass(frozen=True, slots=True)
class Span:
    """One sequence's place [start, end) among packed tokens; `keep` (end - start,) where some are no keys."""

    start: int
    end: int
    keep: Tensor | None = None


class AlibiBias:
    """The biases of all sequences up to `longest` tokens, as one ramp (heads, 2 * longest - 1 + ALIGNED)."""

    def __init__(self, slopes: Sequence[float], longest: int, device: torch.device) -> None:
        distance = torch.arange(2 * longest - 1 + ALIGNED, device=device, dtype=torch.float32) - (longest - 1)
        # In float32, whatever the weights are: above 256 bfloat16 cannot tell a distance from the next one.
        self.ramp = -torch.tensor(slopes, device=device)[:, None] * distance.abs()
        self.longest = longest
        # CPU kernels take any strides, and float32 beside queries of any type; GPU kernels take neither.
        self.written_out = device.type != "cpu"

    def rows(self, length: int) -> int:
        """How many queries of a sequence of `length` tokens make one block."""
        row_bytes = self.ramp.shape[0] * (length + ALIGNED) * self.ramp.element_size()
        return max(1, BLOCK_BYTES // row_bytes)

    def block(self, first: int, rows: int, span: Span, dtype: torch.dtype) -> Tensor:
        """Bias (1, heads, rows, T) of the queries [first, first + rows), keys in reverse order.

        A float32 view of the ramp, or, where it must be written out, a tensor of the queries' `dtype`.
        """
        length = span.end - span.start
        aligned = -(-length // ALIGNED) * ALIGNED
        shape = (1, self.ramp.shape[0], rows, aligned)
        view = self.ramp.as_strided(shape, (0, self.ramp.stride(0), 1, 1), self.longest - length + first)
        if self.written_out:
            view = view.to(dtype, memory_format=torch.contiguous_format, copy=True)
        view = view[..., :length]
        return view if span.keep is None else view.masked_fill(~span.keep.flip(0), -torch.inf)


def attend(query: Tensor, key: Tensor, value: Tensor, spans: Sequence[Span], bias: AlibiBias) -> Tensor:
    """softmax(q k / sqrt(d) + bias) v (N, heads, d) for N packed tokens, each within its own span."""
    key, value = key.flip(0), value.flip(0)
    mixed = torch.empty_like(value)
    for span in spans:
        reversed_keys = slice(len(key) - span.end, len(key) - span.start)
        keys, values = _heads_first(key[reversed_keys]), _heads_first(value[reversed_keys])
        for first, last in _blocks(span, bias):
            here = slice(span.start + first, span.start + last)
            mask = bias.block(first, last - first, span, value.dtype)
            queries = _heads_first(query[here])
            block = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
            mixed[here] = block[0].transpose(0, 1)
    return mixed


def _blocks(span: Span, bias: AlibiBias) -> Iterator[tuple[int, int]]:
    length = span.end - span.start
    rows = bias.rows(length)
    for first in range(0, length, rows):
        yield first, min(first + rows, length)


def _heads_first(tokens: Tensor) -> Tensor:
    return tokens.transpose(0, 1).unsqueeze(0)
