"""The encoder itself, written once: from token ids to the last hidden state, in the operations of `Ops`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

import numpy as np

from es_latechunk.models.native.shape import Activation, EncoderShape, alibi_slopes, rotary_tables
from es_latechunk.types import FloatArray

T = TypeVar("T")


class Ops(Protocol[T]):
    """What the encoder is computed with. B sequences of S tokens; a linear layer's weight is (out, in)."""

    def constant(self, array: FloatArray) -> T: ...

    def embed(self, table: T, ids: T) -> T:
        """Rows (B, S, H) of a table (V, H)."""

    def rows(self, table: T, ids: T, first: int) -> T:
        """Rows `first` ... `first + S - 1` of a table: (S, H)."""

    def add(self, a: T, b: T) -> T: ...

    def multiply(self, a: T, b: T) -> T: ...

    def linear(self, x: T, weight: T, bias: T | None) -> T: ...

    def norm(self, x: T, weight: T, bias: T | None, epsilon: float) -> T:
        """Layer normalisation over the last axis."""

    def activate(self, x: T, kind: Activation) -> T: ...

    def split(self, x: T, parts: int) -> list[T]:
        """Equal parts of the last axis."""

    def heads(self, x: T, count: int) -> T:
        """(B, S, heads * d) -> (B, heads, S, d)."""

    def rotate(self, x: T, cosines: T, sines: T) -> T:
        """x * cosines + (-second half, first half) * sines, for x (B, heads, S, d) and tables (S, d)."""

    def bias(self, ids: T, slopes: FloatArray | None, reach: int | None, mask: T | None) -> T | None:
        """What is added to attention scores (B or 1, heads or 1, S, S); None where it is zero.

        -slope * distance, and minus infinity beyond `reach` and where `mask` (B, S) is false.
        """

    def attend(self, query: T, key: T, value: T, bias: T | None) -> T:
        """softmax(q k / sqrt(d) + bias) v, heads joined again: (B, S, heads * d)."""


def encode(
    shape: EncoderShape, weights: Mapping[str, T], ops: Ops[T], ids: T, mask: T | None = None
) -> T:
    """Token ids (B, S) -> last hidden state (B, S, hidden). Without a mask, every token is real."""
    slopes = np.array(alibi_slopes(shape.heads), np.float32) if shape.positions == "alibi" else None
    biases = {reach: ops.bias(ids, slopes, reach, mask) for reach in set(_reaches(shape))}
    turns = {
        theta: (ops.rows(ops.constant(cosines), ids, 0), ops.rows(ops.constant(sines), ids, 0))
        for theta, (cosines, sines) in rotary_tables(shape).items()
    }

    def linear(x: T, name: str) -> T:
        return ops.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x: T, name: str) -> T:
        return ops.norm(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), shape.epsilon)

    def attention(x: T, layer: int) -> T:
        query, key, value = ops.split(linear(x, f"{layer}.qkv"), 3)
        if shape.norm_queries:
            query, key = norm(query, f"{layer}.query_norm"), norm(key, f"{layer}.key_norm")
        query, key, value = (ops.heads(each, shape.heads) for each in (query, key, value))
        if shape.thetas:
            turn = turns[shape.thetas[layer]]
            query, key = ops.rotate(query, *turn), ops.rotate(key, *turn)
        return linear(ops.attend(query, key, value, biases[_reaches(shape)[layer]]), f"{layer}.out")

    def feed_forward(x: T, layer: int) -> T:
        up = linear(x, f"{layer}.up")
        if not shape.gate:
            return linear(ops.activate(up, shape.activation), f"{layer}.down")
        first, second = ops.split(up, 2)
        gate, straight = (first, second) if shape.gate == "first" else (second, first)
        return linear(ops.multiply(ops.activate(gate, shape.activation), straight), f"{layer}.down")

    x = ops.embed(weights["words.weight"], ids)
    if shape.token_types:
        x = ops.add(x, weights["types.weight"])
    if shape.positions == "table":
        x = ops.add(x, ops.rows(weights["positions.weight"], ids, shape.first_position))
    x = norm(x, "norm")
    for layer in range(shape.layers):
        if shape.norm_first:
            x = ops.add(x, attention(norm(x, f"{layer}.attention_norm") if layer else x, layer))
            x = ops.add(x, feed_forward(norm(x, f"{layer}.mlp_norm"), layer))
            continue
        y = norm(ops.add(attention(x, layer), x), f"{layer}.attention_norm")
        if shape.second_residual:
            y = norm(ops.add(x, y), f"{layer}.second_norm")
        x = norm(ops.add(feed_forward(y, layer), y), f"{layer}.mlp_norm")
    return norm(x, "last_norm") if shape.norm_first else x


def _reaches(shape: EncoderShape) -> tuple[int | None, ...]:
    return shape.reaches or (None,) * shape.layers
