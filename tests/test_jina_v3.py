"""jina-embeddings-v3 on this machine: its adapters are added to the weights, in both forms that it is published in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from made_models import FAST, add_modules, change_config, save_model, save_tokenizer, write_json
from safetensors.torch import save_file

from es_latechunk.errors import ModelError, UsageError
from es_latechunk.models import load_encoder, load_recorded
from es_latechunk.models.checkpoint.weights import weights_fingerprint

TASKS = ["retrieval.query", "retrieval.passage", "separation", "classification", "text-matching"]
PROMPTS = {"retrieval.query": "find: ", "retrieval.passage": "read: "}
TEXT = "a quick fox jumps over Berlin."
RANK, ALPHA = 3, 2.0
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
ENGINES = pytest.mark.parametrize("engine", ["openvino", "torch"])


def base_model() -> Any:
    """transformers' own port of the architecture, with random weights and no adapters."""
    config = transformers.JinaEmbeddingsV3Config(
        **SIZES,
        vocab_size=len(FAST["unigram"]),
        max_position_embeddings=98,
        rope_parameters={"rope_type": "default", "rope_theta": 20000.0},
    )
    torch.manual_seed(0)
    model = transformers.JinaEmbeddingsV3Model(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def original_tensors(model: Any) -> dict[str, torch.Tensor]:
    """The model's weights under the names of the original repository, with q, k and v in one matrix."""
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors = {f"embeddings.{name}.weight": own[f"embeddings.{name}.weight"] for name in TABLES}
    for kind in ("weight", "bias"):
        tensors[f"emb_ln.{kind}"] = own[f"embeddings.LayerNorm.{kind}"]
        for number in range(2):
            ours, theirs = f"encoder.layers.{number}", f"layers.{number}"
            parts = [own[f"{theirs}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            tensors[f"{ours}.mixer.Wqkv.{kind}"] = torch.cat(parts)
            for here, there in MODULES.items():
                tensors[f"{ours}.{here}.{kind}"] = own[f"{theirs}.{there}.{kind}"]
    return tensors


TABLES = ("word_embeddings", "token_type_embeddings")
MODULES = {
    "mixer.out_proj": "self_attn.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "norm1": "post_attention_layernorm",
    "norm2": "post_mlp_layernorm",
}


def save_original(folder: Path) -> Path:
    """As jinaai/jina-embeddings-v3 is: parametrised weights beside the adapters of all tasks, stacked."""
    generator = torch.Generator().manual_seed(1)
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in original_tensors(base_model()).items():
        module, _, kind = name.rpartition(".")
        if kind == "bias" or tensor.ndim < 2:
            tensors[f"roberta.{name}"] = tensor
            continue
        rows, columns = tensor.shape
        table = module.endswith("_embeddings")
        a = (len(TASKS), rows, RANK) if table else (len(TASKS), RANK, columns)
        b = (len(TASKS), RANK, columns) if table else (len(TASKS), rows, RANK)
        place = f"roberta.{module}.parametrizations.weight"
        tensors[f"{place}.original"] = tensor
        tensors[f"{place}.0.lora_A"] = torch.randn(a, generator=generator) * 0.2
        tensors[f"{place}.0.lora_B"] = torch.randn(b, generator=generator) * 0.2
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    settings = {
        **{"model_type": "xlm-roberta", "position_embedding_type": "rotary", "rotary_emb_base": 20000.0},
        **{"lora_adaptations": TASKS, "lora_rank": RANK, "lora_alpha": ALPHA, "lora_dropout_p": 0.0},
        **{"hidden_act": "gelu", "layer_norm_eps": 1e-5, "max_position_embeddings": 98, "pad_token_id": 1},
        **{"type_vocab_size": 1, "use_flash_attn": True, "truncate_dim": None, "emb_pooler": None},
        "vocab_size": len(FAST["unigram"]),
        "matryoshka_dimensions": [8, 16, 32],
        "task_instructions": {task: PROMPTS.get(task, "") for task in TASKS},
        "auto_map": {"AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA"},
    }
    write_json(folder / "config.json", {**SIZES, **settings})
    save_tokenizer(folder, FAST["unigram"])
    modules = add_modules(folder, "Pooling", "Normalize") / "modules.json"
    rows = json.loads(modules.read_text())
    rows[0]["type"] = "custom_st.Transformer"
    write_json(modules, rows)
    return folder


def published(folder: Path, text: str, task: str) -> Any:
    """The mean-pooled vector by the published formula: X + (B A, or A B for a table) * alpha / rank."""
    stored = load(folder / "model.safetensors")
    model, place = base_model(), TASKS.index(task)
    changed = {}
    for name in original_tensors(model):
        module = f"roberta.{name.rpartition('.')[0]}"
        weight = stored.get(f"{module}.parametrizations.weight.original")
        if weight is None or name.endswith("bias"):
            changed[name] = stored[f"roberta.{name}"]
            continue
        a, b = (stored[f"{module}.parametrizations.weight.0.lora_{side}"][place] for side in "AB")
        change = a @ b if "_embeddings" in name else b @ a
        changed[name] = weight + change * (ALPHA / RANK)
    return mean(with_tensors(model, changed), text, PROMPTS.get(task, ""))


def with_tensors(model: Any, tensors: dict[str, torch.Tensor]) -> Any:
    own = model.state_dict()
    for kind in ("weight", "bias"):
        own[f"embeddings.LayerNorm.{kind}"] = tensors[f"emb_ln.{kind}"]
        for number in range(2):
            ours, theirs = f"encoder.layers.{number}", f"layers.{number}"
            parts = tensors[f"{ours}.mixer.Wqkv.{kind}"].chunk(3)
            for part, tensor in zip("qkv", parts, strict=True):
                own[f"{theirs}.self_attn.{part}_proj.{kind}"] = tensor
            for here, there in MODULES.items():
                own[f"{theirs}.{there}.{kind}"] = tensors[f"{ours}.{here}.{kind}"]
    for name in TABLES:
        own[f"embeddings.{name}.weight"] = tensors[f"embeddings.{name}.weight"]
    model.load_state_dict(own)
    return model


def mean(model: Any, text: str, prefix: str) -> Any:
    """The text's own tokens behind the prefix, pooled and scaled to length 1."""
    encoding = FAST["unigram"](prefix + text, return_offsets_mapping=True, return_special_tokens_mask=True)
    with torch.inference_mode():
        hidden = model(input_ids=torch.tensor([encoding["input_ids"]])).last_hidden_state[0]
    rows = zip(encoding["offset_mapping"], encoding["special_tokens_mask"], strict=True)
    own = torch.tensor([not special and end > len(prefix) for (_, end), special in rows])
    vector = hidden[own].mean(0).numpy()
    return vector / np.linalg.norm(vector)


def load(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(path))


def encoder_of(folder: Path, engine: Any = "auto", **options: Any) -> Any:
    return load_encoder(str(folder), **options, engine=engine, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_original(tmp_path_factory.mktemp("original") / "jina-embeddings-v3")


@ENGINES
def test_documents_and_queries_have_their_own_adapters(original: Path, engine: str) -> None:
    encoder = encoder_of(original, engine)
    passage, query = (
        published(original, TEXT, "retrieval.passage"),
        published(original, TEXT, "retrieval.query"),
    )
    np.testing.assert_allclose(encoder.encode_documents([TEXT])[0], passage, atol=2e-5)
    np.testing.assert_allclose(encoder.encode_queries([TEXT])[0], query, atol=2e-5)
    assert np.abs(passage - query).max() > 0.01
    identity = encoder.identity
    assert (identity.document_task, identity.query_task) == ("retrieval.passage", "retrieval.query")
    assert (identity.document_prefix, identity.query_prefix) == ("read: ", "find: ")


def test_another_task_by_an_option_is_recorded(original: Path) -> None:
    encoder = encoder_of(original, document_task="text-matching", query_task="text-matching")
    wanted = published(original, TEXT, "text-matching")
    np.testing.assert_allclose(encoder.encode_documents([TEXT])[0], wanted, atol=2e-5)
    np.testing.assert_allclose(encoder.encode_queries([TEXT])[0], wanted, atol=2e-5)
    again = load_recorded(encoder.identity, dtype="float32", device="cpu", name=str(original))
    assert again.identity == encoder.identity
    with pytest.raises(UsageError, match="query_task jokes: model jina-embeddings-v3 has adapters for"):
        encoder_of(original, query_task="jokes")


def test_a_task_of_a_model_without_adapters(tmp_path: Path) -> None:
    folder = add_modules(save_model(tmp_path / "plain"), "Pooling")
    with pytest.raises(UsageError, match=r"the task separation: model plain has no adapters"):
        encoder_of(folder, document_task="separation")


def test_shorter_vectors_under_a_name_of_ones_own(original: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(original, tmp_path / "mine")
    vector = published(original, TEXT, "retrieval.passage")[:16]
    found = encoder_of(copy, dimensions=16).encode_documents([TEXT])[0]
    np.testing.assert_allclose(found, vector / np.linalg.norm(vector), atol=2e-5)


def save_hf(folder: Path, *, tables: bool = True) -> tuple[Path, dict[str, Any]]:
    """As jinaai/jina-embeddings-v3-hf is: transformers' names, a folder in PEFT's format for each task."""
    base_model().save_pretrained(folder)
    change_config(folder, matryoshka_dimensions=[8, 16, 32])
    save_tokenizer(folder, FAST["unigram"])
    add_modules(folder, "Pooling", "Normalize")
    adapted = {}
    for number, task in enumerate(TASKS):
        model = base_model()
        generator = torch.Generator().manual_seed(number)
        tensors = {}
        for name, parameter in model.named_parameters():
            module = name.removesuffix(".weight")
            table = module.endswith("_embeddings")
            if parameter.ndim < 2 or not name.endswith("weight"):
                continue
            rows, columns = parameter.shape[::-1] if table else parameter.shape
            a = torch.randn(RANK, columns, generator=generator) * 0.2
            b = torch.randn(rows, RANK, generator=generator) * 0.2
            change = b @ a * (ALPHA / RANK)
            parameter.data += change.T if table else change
            kind, ending = ("lora_embedding_", "") if table else ("lora_", ".weight")
            tensors[f"base_model.model.{module}.{kind}A{ending}"] = a
            tensors[f"base_model.model.{module}.{kind}B{ending}"] = b
        place = folder / task.replace(".", "_").replace("-", "_")
        write_json(
            place / "adapter_config.json",
            {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "use_dora": False},
        )
        save_file(tensors, place / "adapter_model.safetensors")
        adapted[task] = model
    return folder, adapted


@ENGINES
def test_the_hf_form(tmp_path: Path, engine: str) -> None:
    folder, adapted = save_hf(tmp_path / "jina-embeddings-v3-hf")
    encoder = encoder_of(folder, engine, document_prefix="read: ", query_prefix="find: ")
    for found, task in (
        (encoder.encode_documents([TEXT])[0], "retrieval.passage"),
        (encoder.encode_queries([TEXT])[0], "retrieval.query"),
    ):
        np.testing.assert_allclose(found, mean(adapted[task], TEXT, PROMPTS[task]), atol=2e-5)


def test_what_is_missing_or_unknown_is_an_error(tmp_path: Path) -> None:
    folder, _ = save_hf(tmp_path / "jina-embeddings-v3-hf")
    known = weights_fingerprint(folder)
    place = folder / "retrieval_passage"
    settings = json.loads((place / "adapter_config.json").read_text())
    write_json(place / "adapter_config.json", {**settings, "use_dora": True})
    with pytest.raises(ModelError, match="use_dora is True, which is not computed here"):
        encoder_of(folder).encode_documents([TEXT])
    write_json(place / "adapter_config.json", settings)
    tensors = load(place / "adapter_model.safetensors")
    save_file(
        {**tensors, "base_model.model.layers.0.new.lora_A.weight": torch.ones(2, 2)},
        place / "adapter_model.safetensors",
    )
    with pytest.raises(ModelError, match=r"changes layers\.0\.new, which is not known here"):
        encoder_of(folder).encode_documents([TEXT])
    assert weights_fingerprint(folder) != known
    (place / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match=r"the model needs the adapter of the task retrieval\.passage"):
        encoder_of(folder).encode_documents([TEXT])


def test_weights_that_do_not_fit_are_not_run_without_their_adapters(tmp_path: Path) -> None:
    folder, _ = save_hf(tmp_path / "jina-embeddings-v3-hf")
    change_config(folder, a_new_option=1)
    with pytest.raises(ModelError, match=r"the adapters of retrieval\.passage have no place"):
        encoder_of(folder).encode_documents([TEXT])
