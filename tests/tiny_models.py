"""Tiny random checkpoints of every architecture, and their vectors computed once more in a few lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tiny_tokenizers import FAST
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

POSITIONS = 96
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
# name -> (configuration class, tokenizer, settings)
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "word_piece", {**SIZES, "max_position_embeddings": POSITIONS}),
    "roberta": (
        "RobertaConfig",
        "byte_level",
        {**SIZES, "max_position_embeddings": POSITIONS + 2, "pad_token_id": 1},
    ),
    "xlm-roberta": (
        "XLMRobertaConfig",
        "unigram",
        {**SIZES, "max_position_embeddings": POSITIONS + 2, "pad_token_id": 1},
    ),
    "mpnet": ("MPNetConfig", "word_piece", {**SIZES, "max_position_embeddings": POSITIONS + 2}),
    "distilbert": (
        "DistilBertConfig",
        "word_piece",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": POSITIONS},
    ),
    "modernbert": (
        "ModernBertConfig",
        "byte_level_trimmed",
        {
            **SIZES,
            "max_position_embeddings": POSITIONS,
            "local_attention": 16,
            **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id"), 0),
            **dict.fromkeys(("eos_token_id", "sep_token_id"), 1),
        },
    ),
    "nomic_bert": ("NomicBertConfig", "word_piece", {**SIZES, "max_position_embeddings": POSITIONS}),
    "gemma": (
        "Gemma3TextConfig",
        "byte_fallback",
        {
            **SIZES,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": POSITIONS,
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 16,
            "use_bidirectional_attention": True,
            "query_pre_attn_scalar": 8,
        },
    ),
}


def save_model(folder: Path, kind: str = "bert", **changes: Any) -> Path:
    """A checkpoint of transformers' own architecture, as `save_pretrained` writes it: no pooling is told."""
    class_name, tokenizer_name, settings = ARCHITECTURES[kind]
    tokenizer = FAST[tokenizer_name]
    config = getattr(transformers, class_name)(**{"vocab_size": len(tokenizer), **settings, **changes})
    torch.manual_seed(0)
    save_spread(AutoModel.from_config(config), folder)
    save_tokenizer(folder, tokenizer)
    return folder


def save_spread(model: Any, folder: Path) -> None:
    """Save with weights so large that another input gives clearly another output."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    model.save_pretrained(folder)


def save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.save_pretrained(folder)


def add_modules(folder: Path, *kinds: str, style: str = "new") -> Path:
    """modules.json as sentence-transformers 6 ("new") or 2 to 5 ("old") writes it, after a Transformer."""
    new = {"Pooling": "sentence_transformer", "Transformer": "base", "Dense": "base", "Normalize": "base"}
    rows = []
    for number, kind in enumerate(("Transformer", *kinds)):
        place = f"{number}_{kind}" if number else ""
        module = "models" if style == "old" else f"{new.get(kind, 'base')}.modules.{kind.lower()}"
        rows.append(
            {
                "idx": number,
                "name": str(number),
                "path": place,
                "type": f"sentence_transformers.{module}.{kind}",
            }
        )
        if place:
            mean = {"embedding_dimension": 32, "pooling_mode": "mean"}
            write_json(folder / place / "config.json", mean if kind == "Pooling" else {})
    write_json(folder / "modules.json", rows)
    return folder


def add_dense(
    folder: Path, place: str, weight: np.ndarray[Any, Any], bias: np.ndarray[Any, Any] | None = None
) -> None:
    from safetensors.numpy import save_file

    write_json(
        folder / place / "config.json",
        {
            "in_features": weight.shape[1],
            "out_features": weight.shape[0],
            "bias": bias is not None,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    tensors = {"linear.weight": weight} if bias is None else {"linear.weight": weight, "linear.bias": bias}
    save_file(tensors, folder / place / "model.safetensors")


def add_prompts(folder: Path, prompts: dict[str, str | None], default: str | None = None) -> None:
    write_json(
        folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": default}
    )


def change_config(folder: Path, **changes: Any) -> None:
    """Set values in config.json; None takes one out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text("utf-8")), **changes}
    write_json(path, {key: value for key, value in config.items() if value is not None})


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def expected_mean(folder: Path, text: str, prefix: str = "") -> np.ndarray[Any, Any]:
    """The text's mean-pooled vector (hidden,): the whole text at once, through transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoding = tokenizer(
        prefix + text,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        truncation=False,
        padding=False,
    )
    with torch.inference_mode():
        model = AutoModel.from_pretrained(folder).eval()
        hidden = model(input_ids=torch.tensor([encoding["input_ids"]])).last_hidden_state[0]
    rows = zip(encoding["offset_mapping"], encoding["special_tokens_mask"], strict=True)
    own = [not special and end > len(prefix) for (_, end), special in rows]
    assert 1 < sum(own) < len(own) <= POSITIONS
    mean: np.ndarray[Any, Any] = hidden[torch.tensor(own)].mean(0).numpy()
    return mean


def unit(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    scaled: np.ndarray[Any, Any] = vector / np.linalg.norm(vector)
    return scaled
