"""A JinaBERT checkpoint is loaded whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_models import make_config, make_tensors, save_checkpoint
from safetensors.torch import save_file
from torch import Tensor

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.resolve import resolve_model
from es_latechunk.models.native.checkpoint import NativeCheckpoint, open_native, read_weights
from es_latechunk.types import FloatArray

QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.fixture(params=["v1", "code"])
def checkpoint(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config = make_config(request.param)
    return config, make_tensors(request.param, config)


def opened(folder: Path) -> NativeCheckpoint:
    found = open_native(resolve_model(str(folder)))
    assert found is not None
    return found


def weights(folder: Path) -> dict[str, FloatArray]:
    return read_weights(opened(folder), folder.name)


def assert_same(one: dict[str, FloatArray], other: dict[str, FloatArray]) -> None:
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_extra_and_misshapen_weights_are_listed(tmp_path: Path, checkpoint: Any) -> None:
    config, tensors = checkpoint
    del tensors["embeddings.LayerNorm.bias"]
    tensors["encoder.layer.7.surprise"] = torch.zeros(3)
    tensors[QUERY] = torch.zeros(48, 47)
    message = refusal(save_checkpoint(tmp_path, config, tensors))
    assert "missing: embeddings.LayerNorm.bias" in message
    assert "unexpected: encoder.layer.7.surprise" in message
    assert f"{QUERY} is (48, 47), not (48, 48)" in message


@pytest.mark.parametrize("name", [QUERY, "encoder.layer.0.attention.output.dense.bias"])
def test_each_missing_tensor_is_named(tmp_path: Path, checkpoint: Any, name: str) -> None:
    config, tensors = checkpoint
    del tensors[name]
    assert f"missing: {name};" in refusal(save_checkpoint(tmp_path, config, tensors))


def test_more_layers_stored_than_configured(tmp_path: Path, checkpoint: Any) -> None:
    config, tensors = checkpoint
    message = refusal(save_checkpoint(tmp_path, {**config, "num_hidden_layers": 1}, tensors))
    assert "unexpected: encoder.layer.1.attention" in message


def test_quantised_weights_are_refused(tmp_path: Path, checkpoint: Any) -> None:
    config, tensors = checkpoint
    tensors[QUERY] = tensors[QUERY].to(torch.int8)
    assert f"{QUERY} is I8" in refusal(save_checkpoint(tmp_path, config, tensors))


def test_pooler_and_position_ids_are_harmless(tmp_path: Path, checkpoint: Any) -> None:
    config, tensors = checkpoint
    plain = weights(save_checkpoint(tmp_path / "plain", config, tensors))
    tensors["pooler.dense.weight"] = torch.zeros(48, 48)
    tensors["pooler.dense.bias"] = torch.zeros(48)
    tensors["embeddings.position_ids"] = torch.arange(8192)
    more = weights(save_checkpoint(tmp_path / "more", config, tensors))
    assert_same(more, plain)


def test_saved_with_the_language_model_head(tmp_path: Path, checkpoint: Any) -> None:
    config, tensors = checkpoint
    plain = weights(save_checkpoint(tmp_path / "plain", config, tensors))
    headed = {f"bert.{name}": tensor for name, tensor in tensors.items()}
    headed["cls.predictions.bias"] = torch.zeros(100)
    folder = save_checkpoint(tmp_path / "headed", config, headed)
    assert_same(weights(folder), plain)
    folder = save_checkpoint(
        tmp_path / "stray", config, {**headed, "embeddings.LayerNorm.bias": torch.zeros(48)}
    )
    assert "unexpected: embeddings.LayerNorm.bias" in refusal(folder)
    folder = save_checkpoint(tmp_path / "loose", config, {**tensors, "classifier.weight": torch.zeros(2, 48)})
    assert "unexpected: classifier.weight" in refusal(folder)


def test_shards(tmp_path: Path, checkpoint: Any) -> None:
    config, tensors = checkpoint
    plain = weights(save_checkpoint(tmp_path / "plain", config, tensors))
    folder = save_checkpoint(tmp_path / "shards", config, tensors)
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:10], "model-00002-of-00002.safetensors": names[10:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(weights(folder), plain)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors, which is missing" in refusal(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b.safetensors"}}')
    assert "'../b.safetensors'" in refusal(folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    assert "model.safetensors.index.json: is not a JSON object" in refusal(folder)


def test_pickled_weights_are_refused(tmp_path: Path, checkpoint: Any) -> None:
    config, tensors = checkpoint
    folder = save_checkpoint(tmp_path, config, tensors)
    (folder / "model.safetensors").unlink()
    assert "neither model.safetensors nor" in refusal(folder)
    torch.save(tensors, folder / "pytorch_model.bin")
    message = refusal(folder)
    assert "pytorch_model.bin, a pickle" in message
    assert "save the model as model.safetensors" in message


def test_broken_files_are_refused(tmp_path: Path, checkpoint: Any) -> None:
    folder = save_checkpoint(tmp_path, *checkpoint)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "model.safetensors: cannot be read" in refusal(folder)
    (folder / "config.json").write_text("{")
    assert "config.json: is not JSON" in refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json is missing" in refusal(folder)


def test_config_and_weights_of_two_families(tmp_path: Path) -> None:
    v1, code = make_config("v1"), make_config("code")
    message = refusal(save_checkpoint(tmp_path / "a", v1, make_tensors("code", code)))
    assert "config.json says the 'v1' architecture, the tensors are of 'code'" in message
    message = refusal(save_checkpoint(tmp_path / "b", code, make_tensors("v1", v1)))
    assert "config.json says the 'code' architecture, the tensors are of 'v1'" in message


@pytest.mark.parametrize("family", ["v1", "code"])
def test_without_auto_map_the_tensors_tell(tmp_path: Path, family: str) -> None:
    config = make_config(family, auto_map={"AutoModel": "modeling_bert.JinaBertModel"})
    shape = opened(save_checkpoint(tmp_path, config, make_tensors(family, config))).shape
    assert shape.second_residual == (family == "code")


def test_no_jina_bert_tensors(tmp_path: Path) -> None:
    folder = save_checkpoint(
        tmp_path, make_config("v1"), {"embeddings.word_embeddings.weight": torch.zeros(9, 4)}
    )
    assert "neither of '.mlp.gated_layers.'" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"feed_forward_type": "original"},
            "feed_forward_type is 'original', JinaBERT here computes 'geglu'",
        ),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"emb_pooler": "cls"}, "emb_pooler is 'cls'"),
        ({"num_attention_heads": 7}, "hidden_size 48 is not a multiple of num_attention_heads 7"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"vocab_size": None}, "vocab_size is None"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps is 'small'"),
        ({"auto_map": {"AutoModel": "x/some-other-bert--m.Model"}}, "auto_map names some-other-bert"),
    ],
)
def test_config_of_another_architecture(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    config = make_config("v1")
    assert expected in refusal(save_checkpoint(tmp_path, {**config, **changes}, make_tensors("v1", config)))


def test_the_keys_of_base_es_say_whether_queries_and_keys_are_normalised(tmp_path: Path) -> None:
    config = make_config("es")
    tensors = make_tensors("es", config)
    plain = {name: tensor for name, tensor in tensors.items() if "layer_norm_" not in name}
    half = {name: tensor for name, tensor in tensors.items() if "0.attention.self.layer_norm_k" not in name}
    assert opened(save_checkpoint(tmp_path / "with", config, tensors)).shape.norm_queries
    assert not opened(save_checkpoint(tmp_path / "without", config, plain)).shape.norm_queries
    assert "missing: encoder.layer.0.attention.self.layer_norm_k.bias" in refusal(
        save_checkpoint(tmp_path / "half", config, half)
    )
    v1 = save_checkpoint(tmp_path / "v1", make_config("v1"), tensors)
    assert "unexpected: encoder.layer.0.attention.self.layer_norm_k.bias" in refusal(v1)


def test_no_such_folder(tmp_path: Path) -> None:
    assert "nowhere" in refusal(tmp_path / "nowhere")
