"""The encoder's operations as nodes of an OpenVINO graph.

A file of its own, as importing it imports OpenVINO, which a command that embeds nothing does not need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from openvino import Model
from openvino import opset13 as ov

from es_latechunk.models.native.shape import UNSEEN, Activation
from es_latechunk.types import FloatArray

Node = Any  # openvino's outputs and nodes are used alike
# Queries in a block: 12 heads' bias of so many at 8,192 keys takes 50 MB.
BLOCK = 128


@dataclass(frozen=True, slots=True)
class BlockBias:
    """What a bias is computed from, for a block of queries at a time."""

    slopes: FloatArray | None
    reach: int | None


class OpenVinoOps:
    """An `encoder.Ops` that computes nothing: it builds the graph.

    `in_blocks`: attention with a bias goes through the queries in blocks, in memory that grows with the window's
    length and not with its square. At 2,048 tokens that took a fifth more time than all at once in float32, a third
    more in bfloat16.
    """

    def __init__(self, *, in_blocks: bool) -> None:
        self._in_blocks = in_blocks

    def constant(self, array: FloatArray) -> Node:
        return ov.constant(np.ascontiguousarray(array), shared_memory=True)

    def table(self, array: FloatArray) -> Node:
        return self.constant(array)

    def embed(self, table: Node, ids: Node) -> Node:
        return ov.gather(table, ids, _number(0))

    def rows(self, table: Node, ids: Node) -> Node:
        return ov.slice(table, _list(0), _length(ids), _list(1), _list(0))

    def count(self, ids: Node, padding: int) -> Node:
        real = ov.convert(ov.not_equal(ids, ov.constant(np.int32(padding))), "i32")
        counted = ov.cum_sum(real, _number(1))
        return ov.add(ov.multiply(counted, real), ov.constant(np.int32(padding)))

    def add(self, a: Node, b: Node) -> Node:
        return ov.add(a, b)

    def multiply(self, a: Node, b: Node) -> Node:
        return ov.multiply(a, b)

    def linear(self, x: Node, weight: Node, bias: Node | None) -> Node:
        product = ov.matmul(x, weight, False, True)
        return product if bias is None else ov.add(product, bias)

    def norm(self, x: Node, weight: Node, bias: Node | None, epsilon: float) -> Node:
        scaled = ov.multiply(ov.mvn(x, _list(-1), True, epsilon, "inside_sqrt"), weight)
        return scaled if bias is None else ov.add(scaled, bias)

    def activate(self, x: Node, kind: Activation) -> Node:
        if kind in ("gelu", "gelu_tanh"):
            return ov.gelu(x, "erf" if kind == "gelu" else "tanh")
        return ov.relu(x) if kind == "relu" else ov.swish(x)

    def split(self, x: Node, parts: int) -> list[Node]:
        return list(ov.split(x, _number(-1), parts).outputs())

    def heads(self, x: Node, count: int) -> Node:
        parted = ov.reshape(x, _list(0, 0, count, -1), True)
        return ov.transpose(parted, _list(0, 2, 1, 3))

    def rotate(self, x: Node, cosines: Node, sines: Node) -> Node:
        first, second = ov.split(x, _number(-1), 2).outputs()
        turned = ov.concat([ov.negative(second), first], -1)
        return ov.add(ov.multiply(x, cosines), ov.multiply(turned, sines))

    def bias(
        self, ids: Node, slopes: FloatArray | None, reach: int | None, mask: Node | None
    ) -> Node | BlockBias | None:
        if mask is not None:
            raise ValueError("sequences of one request have one length here, so nothing is masked")
        if slopes is None and reach is None:
            return None
        if self._in_blocks:
            return BlockBias(slopes, reach)
        positions = _positions(_list(0), _length(ids))
        return _bias(positions, positions, slopes, reach)

    def attend(self, query: Node, key: Node, value: Node, bias: Node | BlockBias | None) -> Node:
        if isinstance(bias, BlockBias):
            return _attend_in_blocks(query, key, value, bias)
        mixed = ov.scaled_dot_product_attention(query, key, value, bias)
        return ov.reshape(ov.transpose(mixed, _list(0, 2, 1, 3)), _list(0, 0, -1), True)


def _attend_in_blocks(query: Node, key: Node, value: Node, bias: BlockBias) -> Node:
    """A loop over blocks of queries, each with the bias of its own rows and the keys that it can reach.

    A loop joins only what has the same shape in every turn, so the queries are filled up to whole blocks before it, and
    what comes of the filling is cut off behind it.
    """
    length = _length(query, axis=2)
    turns = ov.divide(ov.add(length, _list(BLOCK - 1)), _list(BLOCK))
    filling = ov.subtract(ov.multiply(turns, _list(BLOCK)), length)
    ends = ov.concat([_list(0, 0), filling, _list(0)], 0)
    filled = ov.pad(query, _list(0, 0, 0, 0), ends, "constant", ov.constant(np.float32(0)))

    turn = ov.parameter([], np.int64)
    queries, keys, values = (
        ov.parameter(each.get_partial_shape(), np.float32) for each in _outputs(query, key, value)
    )
    first = ov.unsqueeze(ov.multiply(turn, _number(BLOCK)), _list(0))
    last = ov.add(first, _list(BLOCK))
    start, end = _list(0), _length(keys, axis=2)
    if bias.reach is not None:
        start = ov.maximum(ov.subtract(first, _list(bias.reach)), _list(0))
        end = ov.minimum(ov.add(last, _list(bias.reach)), end)
    mixed = ov.scaled_dot_product_attention(
        _rows(queries, first, last),
        _rows(keys, start, end),
        _rows(values, start, end),
        _bias(_positions(first, last), _positions(start, end), bias.slopes, bias.reach),
    )
    again = ov.constant(np.array(True))
    body = Model([ov.result(again), ov.result(ov.unsqueeze(mixed, _list(0)))], [turn, queries, keys, values])

    loop = ov.loop(ov.squeeze(turns, _list(0)), again)
    loop.set_function(body)
    loop.set_special_body_ports([0, 0])  # the number of the turn, and whether another one follows
    for inner, outer in zip((queries, keys, values), _outputs(filled, key, value), strict=True):
        loop.set_invariant_input(inner, outer)
    blocks = loop.get_concatenated_slices(body.results[1].output(0), 0, 1, 1, -1, 0)
    joined = ov.reshape(ov.transpose(blocks, _list(1, 0, 3, 2, 4)), _list(0, -1, _width(query)), True)
    return ov.slice(joined, _list(0), length, _list(1), _list(1))


def _bias(rows: Node, columns: Node, slopes: FloatArray | None, reach: int | None) -> Node:
    """The bias (1, heads or 1, rows, columns) of queries and keys at these positions."""
    distance = ov.absolute(ov.subtract(ov.unsqueeze(rows, _list(1)), columns))
    total = ov.constant(np.zeros((1, 1, 1, 1), np.float32))
    if slopes is not None:
        total = ov.multiply(ov.convert(distance, "f32"), ov.constant(-slopes[None, :, None, None]))
    if reach is None:
        return total
    far = ov.greater(ov.unsqueeze(distance, _list(0, 1)), _number(reach))
    return ov.select(far, ov.constant(np.float32(UNSEEN)), total)


def _positions(first: Node, last: Node) -> Node:
    """The numbers from `first` up to `last`, both lists of one."""
    return ov.range(ov.squeeze(first, _list(0)), ov.squeeze(last, _list(0)), _number(1), "i64")


def _rows(heads: Node, first: Node, last: Node) -> Node:
    """The tokens [first, last) of (B, heads, S, d)."""
    return ov.slice(heads, first, last, _list(1), _list(2))


def _length(x: Node, axis: int = 1) -> Node:
    """The number of tokens of each sequence, as a list of one."""
    return ov.gather(ov.shape_of(x), _list(axis), _number(0))


def _width(query: Node) -> int:
    """The size of all heads together."""
    shape = next(_outputs(query)).get_partial_shape()
    return int(shape[1].get_length() * shape[3].get_length())


def _outputs(*nodes: Node) -> Iterator[Node]:
    return (node.output(0) if hasattr(node, "output") else node for node in nodes)


def _number(value: int) -> Node:
    return ov.constant(np.int64(value))


def _list(*values: int) -> Node:
    return ov.constant(np.array(values, np.int64))
