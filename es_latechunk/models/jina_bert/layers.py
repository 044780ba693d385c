"""The layers of both JinaBERT architectures; attributes are named as the tensors in the checkpoints are.

All of them work on packed tokens (N, hidden): padding is taken out before the first layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from es_latechunk.models.jina_bert.alibi import AlibiBias, Span, attend
from es_latechunk.models.jina_bert.config import Family, JinaBertConfig


class Embeddings(nn.Module):
    """Word and token type vectors, summed and normalised; no positions, ALiBi has them."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = _norm(config)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        words: Tensor = self.word_embeddings(input_ids)
        return self.LayerNorm(words + self.token_type_embeddings(token_type_ids))  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """Queries, keys and values; with `qk_norm`, queries and keys are normalised before the split into heads."""

    def __init__(self, config: JinaBertConfig, qk_norm: bool) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        if qk_norm:
            self.layer_norm_q = _norm(config)
            self.layer_norm_k = _norm(config)
        self.qk_norm = qk_norm

    def forward(self, x: Tensor, spans: Sequence[Span], bias: AlibiBias) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)
        if self.qk_norm:
            query, key = self.layer_norm_q(query), self.layer_norm_k(key)
        query, key, value = (
            each.to(value.dtype).unflatten(1, (self.heads, -1)) for each in (query, key, value)
        )
        # Autocast would write the bias out in a lower precision; the types are right as they are.
        with torch.autocast(x.device.type, enabled=False):
            return attend(query, key, value, spans, bias).flatten(1)


class AttentionOutput(nn.Module):
    """LayerNorm(dense(attention) + input)."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = _norm(config)

    def forward(self, attention: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(attention) + x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Self-attention and its output layer."""

    def __init__(self, config: JinaBertConfig, qk_norm: bool) -> None:
        super().__init__()
        self.self = SelfAttention(config, qk_norm)
        self.output = AttentionOutput(config)

    def forward(self, x: Tensor, spans: Sequence[Span], bias: AlibiBias) -> Tensor:
        return self.output(self.self(x, spans, bias), x)  # type: ignore[no-any-return]


class MlpV1(nn.Module):
    """LayerNorm(wo(gelu(g[:I]) * g[I:]) + y) with g = gated_layers(y), I = intermediate_size."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.gated_layers = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.wo = nn.Linear(config.intermediate_size, config.hidden_size)
        self.layernorm = _norm(config)

    def forward(self, y: Tensor) -> Tensor:
        gate, linear = self.gated_layers(y).chunk(2, dim=-1)
        return self.layernorm(self.wo(F.gelu(gate).mul_(linear)) + y)  # type: ignore[no-any-return]


class MlpCode(nn.Module):
    """down_layer(g[:I] * gelu(g[I:])) with g = up_gated_layer(y): the gate is the other half of v1's."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.up_gated_layer = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down_layer = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, y: Tensor) -> Tensor:
        linear, gate = self.up_gated_layer(y).chunk(2, dim=-1)
        return self.down_layer(F.gelu(gate).mul_(linear))  # type: ignore[no-any-return]


class LayerV1(nn.Module):
    """Attention, then the MLP, each with its residual and its LayerNorm inside."""

    def __init__(self, config: JinaBertConfig, qk_norm: bool) -> None:
        super().__init__()
        self.attention = Attention(config, qk_norm)
        self.mlp = MlpV1(config)

    def forward(self, x: Tensor, spans: Sequence[Span], bias: AlibiBias) -> Tensor:
        return self.mlp(self.attention(x, spans, bias))  # type: ignore[no-any-return]


class LayerCode(nn.Module):
    """The input is added a second time after the attention's own residual and LayerNorm."""

    def __init__(self, config: JinaBertConfig, qk_norm: bool) -> None:
        super().__init__()
        self.attention = Attention(config, qk_norm)
        self.layer_norm_1 = _norm(config)
        self.layer_norm_2 = _norm(config)
        self.mlp = MlpCode(config)

    def forward(self, x: Tensor, spans: Sequence[Span], bias: AlibiBias) -> Tensor:
        y = self.layer_norm_1(x + self.attention(x, spans, bias))
        return self.layer_norm_2(y + self.mlp(y))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """All layers in order; the bias is the same in each."""

    def __init__(self, config: JinaBertConfig, family: Family, qk_norm: bool) -> None:
        super().__init__()
        kind = LayerV1 if family == "v1" else LayerCode
        self.layer = nn.ModuleList(kind(config, qk_norm) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, spans: Sequence[Span], bias: AlibiBias) -> Tensor:
        for layer in self.layer:
            x = layer(x, spans, bias)
        return x


def _norm(config: JinaBertConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
