"""The encoder itself, written once: from token ids to the last hidden state, in the operations of `Ops`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np

from es_latechunk.models.native.shape import Activation, EncoderShape, alibi_slopes, rotary_tables
from es_latechunk.types import FloatArray

T = TypeVar("T")
Bias = TypeVar("Bias")


class Ops(Protocol[T, Bias]):
    """What the encoder is computed with. B sequences of S tokens; a linear layer's weight is (out, in).

    `Bias` is how an engine keeps what is added to attention scores. Whole, at 8,192 tokens and with 12 heads, it would
    take 3.2 GB: an engine may keep what it is computed from, and compute it for a block of queries at a time.
    """

    def constant(self, array: FloatArray) -> T:
        """Weights, in the precision that is computed in."""

    def table(self, array: FloatArray) -> T:
        """What keeps its precision."""

    def embed(self, table: T, ids: T) -> T:
        """Rows (B, S, H) of a table (V, H)."""

    def rows(self, table: T, ids: T) -> T:
        """The first S rows of a table: (S, H)."""

    def count(self, ids: T, padding: int) -> T:
        """RoBERTa's positions (B, S): tokens that are not `padding` are numbered from padding + 1 on.

        The padding's own id can be a real token's, where tokenizer and configuration disagree: then it has the
        position `padding`, and its successors count on without it.
        """

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

    def bias(self, ids: T, slopes: FloatArray | None, reach: int | None, mask: T | None) -> Bias | None:
        """What is added to attention scores (B or 1, heads or 1, S, S); None if it is zero.

        -slope * distance (ALiBi; slopes (heads,)), and nothing is seen beyond `reach` and where `mask` (B, S) is false.
        """

    def attend(self, query: T, key: T, value: T, bias: Bias | None) -> T:
        """softmax(q k / sqrt(d) + bias) v, heads joined again: (B, heads, S, d) -> (B, S, heads * d)."""


class Encoder(Generic[T, Bias]):
    """The encoder of one shape, with its weights as the operations take them."""

    def __init__(self, shape: EncoderShape, weights: Mapping[str, T], ops: Ops[T, Bias]) -> None:
        self._shape = shape
        self._weights = weights
        self._ops = ops
        self._slopes = np.array(alibi_slopes(shape.heads), np.float32) if shape.positions == "alibi" else None
        self._reaches = shape.reaches or (None,) * shape.layers
        self._tables = {
            theta: (ops.table(cosines), ops.table(sines))
            for theta, (cosines, sines) in rotary_tables(shape).items()
        }

    def __call__(self, ids: T, mask: T | None = None) -> T:
        """Token ids (B, S) -> last hidden state (B, S, hidden). Without a mask, every token is real."""
        ops = self._ops
        biases = {reach: ops.bias(ids, self._slopes, reach, mask) for reach in set(self._reaches)}
        turns = {
            theta: (ops.rows(cosines, ids), ops.rows(sines, ids))
            for theta, (cosines, sines) in self._tables.items()
        }
        x = self._embed(ids)
        for layer in range(self._shape.layers):
            turn = turns[self._shape.thetas[layer]] if turns else None
            mix = partial(self._attention, layer=layer, bias=biases[self._reaches[layer]], turn=turn)
            x = self._norm_first(x, layer, mix) if self._shape.norm_first else self._norm_last(x, layer, mix)
        return self._norm(x, "last_norm") if self._shape.norm_first else x

    def _embed(self, ids: T) -> T:
        x = self._ops.embed(self._weights["words.weight"], ids)
        if self._shape.token_types:
            x = self._ops.add(x, self._weights["types.weight"])
        if self._shape.positions == "table":
            x = self._ops.add(x, self._positions(ids))
        return self._norm(x, "norm")

    def _positions(self, ids: T) -> T:
        table, first = self._weights["positions.weight"], self._shape.first_position
        if not first:
            return self._ops.rows(table, ids)
        return self._ops.embed(table, self._ops.count(ids, first - 1))

    def _norm_last(self, x: T, layer: int, mix: Callable[[T], T]) -> T:
        """A layer of BERT and its relatives: each part is added to its input, then the sum is normalised."""
        y = self._norm(self._ops.add(mix(x), x), f"{layer}.attention_norm")
        if self._shape.second_residual:
            y = self._norm(self._ops.add(x, y), f"{layer}.second_norm")
        return self._norm(self._ops.add(self._feed_forward(y, layer), y), f"{layer}.mlp_norm")

    def _norm_first(self, x: T, layer: int, mix: Callable[[T], T]) -> T:
        """A layer of ModernBERT: what goes into each part is normalised, the first layer's input already is."""
        x = self._ops.add(x, mix(self._norm(x, f"{layer}.attention_norm") if layer else x))
        return self._ops.add(x, self._feed_forward(self._norm(x, f"{layer}.mlp_norm"), layer))

    def _attention(self, x: T, *, layer: int, bias: Bias | None, turn: tuple[T, T] | None) -> T:
        ops, count = self._ops, self._shape.heads
        query, key, value = ops.split(self._linear(x, f"{layer}.qkv"), 3)
        if self._shape.norm_queries:
            query = self._norm(query, f"{layer}.query_norm")
            key = self._norm(key, f"{layer}.key_norm")
        query, key, value = ops.heads(query, count), ops.heads(key, count), ops.heads(value, count)
        if turn is not None:
            query, key = ops.rotate(query, *turn), ops.rotate(key, *turn)
        return self._linear(ops.attend(query, key, value, bias), f"{layer}.out")

    def _feed_forward(self, x: T, layer: int) -> T:
        ops, activation = self._ops, self._shape.activation
        up = self._linear(x, f"{layer}.up")
        if not self._shape.gate:
            return self._linear(ops.activate(up, activation), f"{layer}.down")
        first, second = ops.split(up, 2)
        gate, straight = (first, second) if self._shape.gate == "first" else (second, first)
        return self._linear(ops.multiply(ops.activate(gate, activation), straight), f"{layer}.down")

    def _linear(self, x: T, name: str) -> T:
        return self._ops.linear(x, self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias"))

    def _norm(self, x: T, name: str) -> T:
        weight, bias = self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias")
        return self._ops.norm(x, weight, bias, self._shape.epsilon)
