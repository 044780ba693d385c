"""The encoder's operations as nodes of an OpenVINO graph.

A file of its own, as importing it imports OpenVINO, which a command that embeds nothing does not need.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from openvino import opset13 as ov

from es_latechunk.models.native.shape import Activation
from es_latechunk.types import FloatArray

Node = Any  # openvino's outputs and nodes are used alike


class OpenVinoOps:
    """An `encoder.Ops` that computes nothing: it builds the graph."""

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

    def bias(self, ids: Node, slopes: FloatArray | None, reach: int | None, mask: Node | None) -> Node | None:
        if mask is not None:
            raise ValueError("sequences of one request have one length here, so nothing is masked")
        if slopes is None and reach is None:
            return None
        length = ov.squeeze(_length(ids), _list(0))
        places = ov.range(_number(0), length, _number(1), "i64")
        distance = ov.absolute(ov.subtract(ov.unsqueeze(places, _list(1)), places))
        total = ov.constant(np.zeros((1, 1, 1, 1), np.float32))
        if slopes is not None:
            total = ov.multiply(ov.convert(distance, "f32"), ov.constant(-slopes[None, :, None, None]))
        if reach is None:
            return total
        far = ov.greater(ov.unsqueeze(distance, _list(0, 1)), _number(reach))
        return ov.select(far, ov.constant(np.float32(-np.inf)), total)

    def attend(self, query: Node, key: Node, value: Node, bias: Node | None) -> Node:
        mixed = ov.scaled_dot_product_attention(query, key, value, bias)
        return ov.reshape(ov.transpose(mixed, _list(0, 2, 1, 3)), _list(0, 0, -1), True)


def _length(ids: Node) -> Node:
    """The number of tokens of each sequence, as a list of one."""
    return ov.gather(ov.shape_of(ids), _list(1), _number(0))


def _number(value: int) -> Node:
    return ov.constant(np.int64(value))


def _list(*values: int) -> Node:
    return ov.constant(np.array(values, np.int64))
