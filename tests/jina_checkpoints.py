"""Random JinaBERT checkpoints, and the formulas once more: full matrices, float64, no torch.nn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

REMOTE = {
    "v1": "jinaai/jina-bert-implementation",
    "code": "jinaai/jina-bert-v2-qk-post-norm",
    "es": "jinaai/jina-bert-v2-qk-devlin-norm-1e-2",  # v1's layers, and queries and keys normalised
}


def make_config(
    family: str, *, heads: int = 12, hidden: int = 48, layers: int = 2, **changes: Any
) -> dict[str, Any]:
    return {
        "auto_map": {"AutoModel": f"{REMOTE[family]}--modeling_bert.JinaBertModel"},
        "model_type": "bert",
        "position_embedding_type": "alibi",
        "feed_forward_type": "geglu",
        "hidden_act": "gelu",
        "emb_pooler": "mean",
        "vocab_size": 100,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 2 * hidden,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        **changes,
    }


def make_tensors(family: str, config: dict[str, Any], *, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    h, i = config["hidden_size"], config["intermediate_size"]
    tensors: dict[str, Tensor] = {}

    def add(name: str, *shape: int) -> None:
        spread = 1.0 if len(shape) == 2 and "embeddings" in name else 1.5 / h**0.5
        tensors[name] = torch.randn(shape, generator=generator) * spread

    def linear(name: str, out: int, into: int, *, bias: bool = True) -> None:
        add(f"{name}.weight", out, into)
        if bias:
            add(f"{name}.bias", out)

    def norm(name: str) -> None:
        add(f"{name}.weight", h)
        tensors[f"{name}.weight"] += 1
        add(f"{name}.bias", h)

    add("embeddings.word_embeddings.weight", config["vocab_size"], h)
    add("embeddings.token_type_embeddings.weight", config["type_vocab_size"], h)
    norm("embeddings.LayerNorm")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{part}", h, h)
        norm(f"{layer}.attention.output.LayerNorm")
        if family == "es":
            norm(f"{layer}.attention.self.layer_norm_q")
            norm(f"{layer}.attention.self.layer_norm_k")
        if family in ("v1", "es"):
            linear(f"{layer}.mlp.gated_layers", 2 * i, h, bias=False)
            linear(f"{layer}.mlp.wo", h, i)
            norm(f"{layer}.mlp.layernorm")
        else:
            linear(f"{layer}.mlp.up_gated_layer", 2 * i, h, bias=False)
            linear(f"{layer}.mlp.down_layer", h, i)
            for name in (
                "attention.self.layer_norm_q",
                "attention.self.layer_norm_k",
                "layer_norm_1",
                "layer_norm_2",
            ):
                norm(f"{layer}.{name}")
    return tensors


def save_checkpoint(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


def reference(
    family: str,
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor | None = None,
) -> Tensor:
    """Last hidden state (B, T, hidden) float64."""
    w = {name: tensor.double() for name, tensor in tensors.items()}
    heads, inner = config["num_attention_heads"], config["intermediate_size"]
    batch, length = input_ids.shape

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + config["layer_norm_eps"]).sqrt()
        return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros((), dtype=torch.float64))

    def gelu(x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.erf(x / 2**0.5))

    def split(x: Tensor) -> Tensor:
        return x.reshape(batch, length, heads, -1).transpose(1, 2)

    position = torch.arange(length, dtype=torch.float64)
    slopes = torch.tensor(slopes_by_hand(heads), dtype=torch.float64)
    bias = -slopes[:, None, None] * (position[:, None] - position[None, :]).abs()
    bias = bias[None] + torch.where(attention_mask.bool(), 0.0, -torch.inf)[:, None, None, :]

    types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    x = (
        w["embeddings.word_embeddings.weight"][input_ids]
        + w["embeddings.token_type_embeddings.weight"][types]
    )
    x = norm("embeddings.LayerNorm", x)
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        q, k, v = (linear(f"{layer}.attention.self.{name}", x) for name in ("query", "key", "value"))
        if family in ("code", "es"):
            q, k = (
                norm(f"{layer}.attention.self.layer_norm_q", q),
                norm(f"{layer}.attention.self.layer_norm_k", k),
            )
        scores = split(q) @ split(k).transpose(2, 3) / (config["hidden_size"] // heads) ** 0.5
        mixed = ((scores + bias).softmax(-1) @ split(v)).transpose(1, 2).reshape(batch, length, -1)
        attended = norm(
            f"{layer}.attention.output.LayerNorm", linear(f"{layer}.attention.output.dense", mixed) + x
        )
        if family in ("v1", "es"):
            g = linear(f"{layer}.mlp.gated_layers", attended)
            z = gelu(g[..., :inner]) * g[..., inner:]
            x = norm(f"{layer}.mlp.layernorm", linear(f"{layer}.mlp.wo", z) + attended)
        else:
            y = norm(f"{layer}.layer_norm_1", x + attended)
            g = linear(f"{layer}.mlp.up_gated_layer", y)
            z = g[..., :inner] * gelu(g[..., inner:])
            x = norm(f"{layer}.layer_norm_2", y + linear(f"{layer}.mlp.down_layer", z))
    return x


def slopes_by_hand(heads: int) -> list[float]:
    if heads & (heads - 1) == 0:
        return [(2 ** (-8 / heads)) ** k for k in range(1, heads + 1)]
    power = 1 << (heads.bit_length() - 1)
    return slopes_by_hand(power) + slopes_by_hand(2 * power)[::2][: heads - power]
