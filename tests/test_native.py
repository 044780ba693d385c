"""The encoder here computes what transformers' own classes compute, on torch and on OpenVINO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import save_model
from transformers import AutoModel

from es_latechunk.models.native.checkpoint import read_header
from es_latechunk.models.native.families import NativeCheckpoint, read_native
from es_latechunk.models.native.openvino_model import OpenVinoModel
from es_latechunk.models.native.torch_model import NativeTorchModel
from es_latechunk.models.spec import ModelOptions, ModelSpec, describe

LENGTHS = (1, 2, 7, 33, 33, 96)
TOLERANCE = 2e-5
# family and options -> changes to its tiny configuration
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {}),
    "bert, tanh gelu": ("bert", {"hidden_act": "gelu_new"}),
    "bert, relu": ("bert", {"hidden_act": "relu", "layer_norm_eps": 1e-5}),
    "bert, swish, one head": (
        "bert",
        {"hidden_act": "swish", "num_attention_heads": 1, "type_vocab_size": 1},
    ),
    "roberta": ("roberta", {}),
    "roberta, padding 0": ("roberta", {"pad_token_id": 0, "max_position_embeddings": 97}),
    "xlm-roberta": ("xlm-roberta", {"type_vocab_size": 1}),
    "nomic": ("nomic_bert", {}),
    "nomic, another base": ("nomic_bert", {"rope_parameters": {"rope_type": "default", "rope_theta": 77.0}}),
    "nomic, gelu": ("nomic_bert", {"hidden_act": "gelu"}),
    "modernbert": ("modernbert", {"num_hidden_layers": 3, "layer_types": None}),
    "modernbert, biased": ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True}),
    "modernbert, local only": (
        "modernbert",
        {"layer_types": ["sliding_attention"] * 2, "local_attention": 7},
    ),
}


def spread_biases(folder: Path) -> None:
    """Biases and norms that are not the zeros and ones of a new model, so that a swap would show."""
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)


def native(folder: Path) -> NativeCheckpoint | None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return read_native(config, read_header(folder / "model.safetensors"))


def spec_of(folder: Path) -> ModelSpec:
    return describe(folder, name=folder.name, options=ModelOptions(assume_mean_pooling=True))


def windows(vocabulary: int, seed: int = 0) -> list[Any]:
    random = np.random.default_rng(seed)
    batch = [random.integers(5, vocabulary, length).astype(np.int32) for length in LENGTHS]
    batch[2][[0, 3]] = 1  # RoBERTa's padding, should a tokenizer have another token there
    return batch


def reference(folder: Path, batch: list[Any]) -> list[Any]:
    """Each window alone through transformers, without padding."""
    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return [model(torch.from_numpy(ids[None]).long()).last_hidden_state[0].numpy() for ids in batch]


def assert_close(got: list[Any], wanted: list[Any], tolerance: float = TOLERANCE) -> None:
    assert [each.shape for each in got] == [each.shape for each in wanted]
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=0)


def padded(module: NativeTorchModel, batch: list[Any]) -> list[Any]:
    ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, window in enumerate(batch):
        ids[row, : len(window)] = torch.from_numpy(window)
        mask[row, : len(window)] = 1
    with torch.inference_mode():
        hidden = module(ids, mask)
    return [hidden[row, : len(window)].numpy() for row, window in enumerate(batch)]


@pytest.fixture(scope="module", params=CASES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, changes = CASES[request.param]
    made = save_model(tmp_path_factory.mktemp("native") / "m", kind, **changes)
    spread_biases(made)
    return made


def test_parity_with_transformers(folder: Path) -> None:
    """Each window alone, all together with padding (torch), and all together in requests (OpenVINO)."""
    checkpoint = native(folder)
    assert checkpoint is not None
    batch = windows(checkpoint.shape.vocabulary)
    wanted = reference(folder, batch)
    module = NativeTorchModel(checkpoint, "m", device="cpu")
    assert_close([padded(module, [window])[0] for window in batch], wanted)
    assert_close(padded(module, batch), wanted)
    engine = OpenVinoModel(spec_of(folder), checkpoint, dtype="float32")
    assert_close(engine.run(batch), wanted)
    assert_close([engine.run([window])[0] for window in batch], wanted)
