"""What the encoder computes for one checkpoint: sizes, options, and the weights that it needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from es_latechunk.types import FloatArray

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
# Which half of the up projection goes through the activation; the other half is multiplied by it.
Gate = Literal["", "first", "second"]
Positions = Literal["table", "rotary", "alibi"]
# Added to the score of a key that a query must not see: its share becomes 0. Minus infinity would make NaN of a row of
# padding that sees nothing at all, and NaN would spread from there.
UNSEEN = -1e30


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """Sizes and options of one checkpoint. `thetas` and `reaches` have one entry per layer.

    `reaches` counts the tokens to either side that a layer's attention sees, None if it sees all.
    `first_position` is the row of the first token in a table of positions.
    """

    vocabulary: int
    hidden: int
    heads: int
    layers: int
    intermediate: int
    epsilon: float
    activation: Activation
    most_tokens: int
    token_types: int = 0
    positions: Positions = "table"
    first_position: int = 0
    gate: Gate = ""
    norm_first: bool = False
    norm_queries: bool = False  # queries and keys are normalised before the split into heads
    second_residual: bool = (
        False  # a layer's input is added once more after the attention, with a norm of its own
    )
    thetas: tuple[float, ...] = ()
    reaches: tuple[int | None, ...] = ()
    unbiased: frozenset[str] = frozenset()  # the parts without a bias, beside the tables

    def weights(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every weight as (name, shape); "3.up.weight" is the up projection of layer 3."""
        yield "words.weight", (self.vocabulary, self.hidden)
        if self.token_types:
            yield "types.weight", (self.token_types, self.hidden)
        if self.positions == "table":
            yield "positions.weight", (self.first_position + self.most_tokens, self.hidden)
        yield from self._part("norm", "norm", (self.hidden,))
        for layer in range(self.layers):
            for kind, shape in self._layer(layer):
                yield from self._part(f"{layer}.{kind}", kind, shape)
        if self.norm_first:
            yield from self._part("last_norm", "last_norm", (self.hidden,))

    def _layer(self, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        size, wide = self.hidden, self.intermediate
        if not (self.norm_first and layer == 0):  # the first layer's input is normalised already
            yield "attention_norm", (size,)
        yield "qkv", (3 * size, size)
        if self.norm_queries:
            yield "query_norm", (size,)
            yield "key_norm", (size,)
        yield "out", (size, size)
        if self.second_residual:
            yield "second_norm", (size,)
        yield "up", (2 * wide if self.gate else wide, size)
        yield "down", (size, wide)
        yield "mlp_norm", (size,)

    def _part(self, name: str, kind: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", shape
        if kind not in self.unbiased:
            yield f"{name}.bias", shape[:1]


def rotary_tables(shape: EncoderShape) -> Mapping[float, tuple[FloatArray, FloatArray]]:
    """By theta: cosines and sines (most_tokens, head size) of every position.

    Rotary positions as in Su et al. 2021 (arXiv 2104.09864), with the two halves of a head rotated against each
    other as transformers does. In float32, as there.
    """
    size = shape.hidden // shape.heads
    tables = {}
    for theta in set(shape.thetas):
        steps = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
        frequencies = np.float32(1) / np.power(np.float32(theta), steps, dtype=np.float32)
        angles = np.arange(shape.most_tokens, dtype=np.float32)[:, None] * frequencies
        angles = np.concatenate([angles, angles], axis=1)
        tables[theta] = (np.cos(angles), np.sin(angles))
    return tables


def alibi_slopes(heads: int) -> list[float]:
    """Slopes m_h, one per head. With p the largest power of two <= heads: the p slopes of p heads, then, for
    the heads beyond p, every second slope of 2p heads; not sorted, as in the original code."""
    power = 2 ** int(math.log2(heads))
    slopes: list[float] = [2 ** (-8 * k / power) for k in range(1, power + 1)]
    between: list[float] = [2 ** (-8 * (2 * k - 1) / (2 * power)) for k in range(1, heads - power + 1)]
    return slopes + between
