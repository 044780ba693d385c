"""A checkpoint that would give wrong vectors gives none: one line, before anything is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from elasticsearch import Elasticsearch
from made_models import (
    ARCHITECTURES,
    FAST,
    add_dense,
    add_modules,
    change_config,
    make_config,
    make_tensors,
    save_checkpoint,
    save_model,
    save_tokenizer,
    write_json,
)
from safetensors.torch import load_file, save_file

from es_latechunk.bootstrap import create_index
from es_latechunk.errors import ModelError, UsageError
from es_latechunk.models import load_encoder
from es_latechunk.models.info import model_info
from es_latechunk.models.local.forward import TokenModel

QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return a_model(tmp_path / "m")


def a_model(folder: Path) -> Path:
    return add_modules(save_model(folder), "Pooling")


def refusal(folder: Path, **options: Any) -> str:
    """What loading the model, or else the first encoding, says."""
    with pytest.raises(ModelError) as caught:
        load_encoder(str(folder), **options, dtype="float32").encode_queries(["a fox"])
    message = str(caught.value)
    assert "\n" not in message
    assert folder.name in message
    return message


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Set tensors, with "__" for dots in their names; None takes one out."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for key, tensor in changes.items():
        name = key.replace("__", ".")
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor
    save_file(tensors, path, metadata={"format": "pt"})


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    change_weights(folder, **{QUERY: None, "embeddings.LayerNorm.bias": None})
    message = refusal(folder)
    assert f"the checkpoint lacks: embeddings.LayerNorm.bias, {QUERY}; its results would be wrong" in message


def test_many_missing_weights_are_counted(tmp_path: Path) -> None:
    folder = add_modules(save_model(tmp_path / "m"), "Pooling")
    change_config(folder, num_hidden_layers=3)
    assert "lacks: encoder.layer.2.attention.output.LayerNorm.bias" in (message := refusal(folder))
    assert "and 11 more" in message


def test_weights_of_another_shape(folder: Path) -> None:
    change_weights(folder, **{QUERY: torch.zeros(32, 31)})
    assert f"has in another shape: {QUERY};" in refusal(folder)


def test_layers_that_the_configuration_leaves_out(folder: Path) -> None:
    change_config(folder, num_hidden_layers=1)
    assert "has beyond the architecture: encoder.layer.1.attention" in refusal(folder)


def test_an_unknown_activation_gate_is_noticed(folder: Path) -> None:
    """A relative of BERT with more weights in each layer, as Jina's first models are."""
    change_weights(folder, **{"encoder.layer.0.mlp.gated_layers.weight": torch.zeros(8, 32)})
    assert "has beyond the architecture: encoder.layer.0.mlp.gated_layers.weight" in refusal(folder)


def test_what_takes_no_part_in_token_vectors_may_be_missing_or_more(folder: Path) -> None:
    encoder = load_encoder(str(folder), dtype="float32")
    before = encoder.encode_documents(["a fox"])
    pooler = {"pooler.dense.weight": None, "pooler.dense.bias": None}
    more = {"cls.predictions.bias": torch.zeros(3), "embeddings.position_ids": torch.arange(96)}
    change_weights(folder, **pooler, **more)
    again = load_encoder(str(folder), dtype="float32").encode_documents(["a fox"])
    assert np.array_equal(before, again)


def test_weights_that_are_not_numbers(folder: Path) -> None:
    change_weights(folder, **{QUERY: torch.full((32, 32), torch.nan)})
    assert f"{QUERY} and 0 more weights hold values that are not finite" in refusal(folder)


def test_vectors_that_are_not_finite(folder: Path) -> None:
    change_weights(folder, **{"encoder.layer.1.output.dense.weight": torch.full((32, 40), 3e38)})
    assert "gives vectors that are not finite in float32" in refusal(folder)


def test_a_dense_layer_that_is_not_finite_or_misshapen(tmp_path: Path) -> None:
    folder = add_modules(save_model(tmp_path / "m"), "Pooling", "Dense")
    weight = np.full((8, 32), np.inf, np.float32)
    add_dense(folder, "2_Dense", weight)
    assert "2_Dense/model.safetensors holds values that are not finite" in refusal(folder)
    config = json.loads((folder / "2_Dense" / "config.json").read_text())
    write_json(folder / "2_Dense" / "config.json", {**config, "out_features": 9})
    assert "2_Dense/model.safetensors holds {'linear.weight': (8, 32)}" in refusal(folder)
    (folder / "2_Dense" / "model.safetensors").unlink()
    assert "2_Dense/model.safetensors is missing; take a revision" in refusal(folder)


def test_no_weights_or_a_pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "neither model.safetensors nor" in refusal(folder)
    torch.save({}, folder / "pytorch_model.bin")
    assert "pytorch_model.bin, a pickle" in refusal(folder)


def test_a_truncated_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    assert "model.safetensors: cannot be read (" in refusal(folder)


def drop_query(folder: Path) -> Path:
    change_weights(folder, **{QUERY: None})
    return folder


def t5_encoder(folder: Path) -> Path:
    """The encoder of an encoder-decoder, saved alone: transformers would give it a decoder of random numbers."""
    config = transformers.T5Config(
        vocab_size=len(FAST["unigram"]), d_model=32, d_ff=40, num_layers=1, num_heads=4, d_kv=8
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)
    change_config(folder, is_encoder_decoder=False)
    save_tokenizer(folder, FAST["unigram"])
    return add_modules(folder, "Pooling")


def pickled_dense(folder: Path) -> Path:
    add_modules(folder, "Pooling", "Dense")
    add_dense(folder, "2_Dense", np.ones((8, 32), np.float32))
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    return folder


def cut_off(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    return folder


def jina_without_a_tensor(folder: Path) -> Path:
    config = make_config("v1", vocab_size=len(FAST["word_piece"]), max_position_embeddings=64)
    tensors = make_tensors("v1", config)
    del tensors[QUERY]
    save_tokenizer(save_checkpoint(folder, config, tensors), FAST["word_piece"])
    return folder


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        (drop_query, f"the checkpoint lacks: {QUERY}"),
        (t5_encoder, "the checkpoint lacks: decoder."),
        (pickled_dense, "2_Dense/model.safetensors is missing, and pytorch_model.bin is a pickle"),
        (cut_off, "model.safetensors: cannot be read ("),
        (jina_without_a_tensor, f"missing: {QUERY};"),
    ],
)
def test_a_model_that_cannot_embed_is_told_before_the_first_document(
    tmp_path: Path, broken: Any, cause: str
) -> None:
    """By `models`, and by `index create` before it asks the cluster anything."""
    folder = tmp_path / "m"
    folder = broken(folder if broken in (t5_encoder, jina_without_a_tensor) else a_model(folder))
    found = model_info(str(folder))
    assert not found.late_chunking
    assert cause in found.reason
    with pytest.raises(ModelError) as caught, Elasticsearch("http://127.0.0.1:9") as nowhere:
        create_index("notes", encoder=load_encoder(str(folder), dtype="float32"), client=nowhere)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_a_whole_checkpoint_is_not_refused(tmp_path: Path, kind: str) -> None:
    folder = add_modules(save_model(tmp_path / "m", kind), "Pooling")
    assert model_info(str(folder)).reason == ""


def test_a_tokenizer_of_another_model(folder: Path) -> None:
    save_tokenizer(folder, FAST["mini_lm"])
    message = refusal(folder)
    assert f"gives ids up to 30521, its embedding matrix has {len(FAST['word_piece'])} rows" in message


def test_special_tokens_beyond_the_matrix_are_no_fault(folder: Path) -> None:
    """Gemma 3 has one for images, which no text gives."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    assert len(tokenizer) > json.loads((folder / "config.json").read_text())["vocab_size"]
    save_tokenizer(folder, tokenizer)
    assert load_encoder(str(folder), dtype="float32").encode_documents(["an <image> here"]).shape == (1, 32)


def test_no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    refusal(folder)


def test_a_slow_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"東京"]))
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic"},
    )
    assert "BertJapaneseTokenizer is a slow tokenizer, without offsets" in refusal(folder)


def test_remote_code_is_never_run(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text("raise SystemExit('remote code was run')")
    auto_map = {"AutoConfig": "modeling_evil.Config", "AutoModel": "modeling_evil.Model"}
    change_config(folder, model_type="evil", auto_map=auto_map)
    assert "such code is never run here" in refusal(folder)
    change_config(folder, model_type="bert")
    assert load_encoder(str(folder), dtype="float32").encode_documents(["a fox"]).shape == (1, 32)


def test_a_language_model_is_not_taken_for_an_encoder(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=len(FAST["byte_fallback"]),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=40,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    save_tokenizer(tmp_path / "llama", FAST["byte_fallback"])
    assert "no file says how it pools" in refusal(tmp_path / "llama")


@pytest.mark.parametrize("family", ["v1", "code"])
def test_jina_bert_with_a_missing_tensor(tmp_path: Path, family: str) -> None:
    config = make_config(family, vocab_size=len(FAST["word_piece"]), max_position_embeddings=64)
    tensors = make_tensors(family, config)
    del tensors[QUERY]
    save_tokenizer(save_checkpoint(tmp_path / "jina", config, tensors), FAST["word_piece"])
    assert f"missing: {QUERY};" in refusal(tmp_path / "jina")


def test_jina_bert_with_cls_pooling(tmp_path: Path) -> None:
    config = make_config("v1", vocab_size=len(FAST["word_piece"]))
    save_tokenizer(save_checkpoint(tmp_path / "jina", config, make_tensors("v1", config)), FAST["word_piece"])
    write_json(tmp_path / "jina" / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    assert "1_Pooling/config.json says cls pooling" in refusal(tmp_path / "jina")


def test_memory_that_does_not_suffice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TokenModel, "_model", full)
    with pytest.raises(ModelError, match="the memory of cpu does not hold"):
        load_encoder(str(folder), dtype="float32", engine="torch").encode_queries(["a fox"])


def embed(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own: transformers writes to stderr by itself."""
    command = [sys.executable, "-m", "es_latechunk", "embed", "-", "--model", str(folder), *options]
    return subprocess.run(command, input="a fox", capture_output=True, text=True, check=False)


def test_the_command_line_says_it_in_one_line(folder: Path) -> None:
    change_weights(folder, **{QUERY: None})
    done = embed(folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"error: model m: compared with its config.json, the checkpoint lacks: {QUERY}"
    )
    assert done.stderr.count("\n") == 1


def test_devices_that_are_not_here(folder: Path) -> None:
    with pytest.raises(UsageError, match="device abacus is no device of torch"):
        load_encoder(str(folder), device="abacus").encode_queries(["a"])
    with pytest.raises(UsageError, match=r"device cuda:99: torch has here 1 cpu.*; choose one of them"):
        load_encoder(str(folder), device="cuda:99").encode_queries(["a"])
    with pytest.raises(UsageError, match="device meta: torch has here"):
        load_encoder(str(folder), device="meta").encode_queries(["a"])
