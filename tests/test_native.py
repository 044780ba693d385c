"""The encoder here computes what transformers' own classes compute, on torch and on OpenVINO."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from made_models import BFLOAT16_ENGINES, add_modules, change_config, padded, save_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from es_latechunk.errors import ModelError, UsageError
from es_latechunk.models import Dtype, load_encoder
from es_latechunk.models.checkpoint.weights import Checkpoint
from es_latechunk.models.local.encoder import LocalEncoder
from es_latechunk.models.local.spec import ModelOptions, ModelSpec, describe
from es_latechunk.models.native import openvino_engine
from es_latechunk.models.native.checkpoint import NativeCheckpoint, open_native, read_weights
from es_latechunk.models.native.openvino_engine import OpenVinoModel, has_bfloat16
from es_latechunk.models.native.torch_engine import NativeTorchModel

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
    return open_native(Checkpoint(folder, folder.name))


def spec_of(folder: Path) -> ModelSpec:
    return describe(Checkpoint(folder, folder.name), ModelOptions(assume_mean_pooling=True))


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
    engine = openvino_model(spec_of(folder), checkpoint, "float32")
    assert_close(engine.run(batch), wanted)
    assert_close([engine.run([window])[0] for window in batch], wanted)


def openvino_model(spec: ModelSpec, checkpoint: NativeCheckpoint, dtype: Dtype) -> OpenVinoModel:
    return OpenVinoModel(checkpoint, name=spec.name, window=spec.window, dtype=dtype)


def named(folder: Path) -> Any:
    return SimpleNamespace(name=folder.name, window=128)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bert", {"hidden_act": "gelu_fast"}),
        ("bert", {"position_embedding_type": "relative_key"}),
        ("bert", {"is_decoder": True}),
        ("bert", {"a_new_option": 1}),
        ("bert", {"num_attention_heads": None}),
        ("roberta", {"pad_token_id": None}),
        ("nomic_bert", {"head_dim": 16}),
        ("nomic_bert", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10.0, "factor": 2.0}}),
        ("modernbert", {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}),
        ("modernbert", {"layer_types": ["full_attention", "chunked_attention"]}),
        ("modernbert", {"norm_bias": "yes"}),
        ("mpnet", {}),
        ("distilbert", {}),
    ],
)
def test_what_is_not_known_here_is_left_to_transformers(
    kind: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = save_model(tmp_path / "m", kind)
    assert (native(folder) is None) == (kind in ("mpnet", "distilbert"))
    change_config(folder, **changes)
    assert native(folder) is None


@pytest.mark.parametrize("change", ["more", "less", "misshapen", "a bias"])
def test_other_tensors_than_the_shape_needs_are_left_to_transformers(tmp_path: Path, change: str) -> None:
    folder = save_model(tmp_path / "m", "modernbert")
    tensors = load_file(folder / "model.safetensors")
    name = "layers.1.mlp.Wi.weight"
    if change == "more":
        tensors["layers.2.mlp.Wi.weight"] = tensors[name].clone()
    elif change == "a bias":
        tensors["layers.1.mlp.Wi.bias"] = torch.zeros(80)
    else:
        tensors[name] = tensors[name][:, :-1].contiguous()
        if change == "less":
            del tensors[name]
    save_file(tensors, folder / "model.safetensors")
    assert native(folder) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_in_other_precisions(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = save_model(tmp_path / "m", "bert")
    tensors = {key: each.to(dtype) for key, each in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    checkpoint = native(folder)
    assert checkpoint is not None
    for key, array in read_weights(checkpoint, "m").items():
        if len(checkpoint.weights[key]) == 1 and key != "types.weight":
            assert np.array_equal(array, tensors[checkpoint.weights[key][0].name].float().numpy())


@pytest.mark.parametrize("dtype", ["float32", *(["bfloat16"] if "openvino" in BFLOAT16_ENGINES else [])])
def test_batching_changes_nothing(tmp_path: Path, dtype: Dtype) -> None:
    """Invariant 5: a window's vectors do not depend on what it was run with."""
    folder = save_model(tmp_path / "m", "bert")
    checkpoint = native(folder)
    assert checkpoint is not None
    engine = openvino_model(spec_of(folder), checkpoint, dtype)
    batch = windows(checkpoint.shape.vocabulary)
    together = engine.run([*batch, *windows(checkpoint.shape.vocabulary, seed=1), *batch])
    for number, window in enumerate(batch):
        (alone,) = engine.run([window])
        for other in (together[number], together[number - len(batch)]):
            assert cosines(alone, other).min() > 0.9999
    precise = openvino_model(spec_of(folder), checkpoint, "float32").run(batch)
    assert all(cosines(a, b).min() > 0.999 for a, b in zip(together, precise, strict=False))


def cosines(one: Any, other: Any) -> Any:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / lengths


def test_the_engine_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = add_modules(save_model(tmp_path / "known"), "Pooling")
    other = add_modules(save_model(tmp_path / "other", "distilbert"), "Pooling")

    def engine_of(folder: Path, name: Any = "auto", **options: Any) -> str:
        encoder = load_encoder(str(folder), engine=name, device="cpu", **options)
        assert isinstance(encoder, LocalEncoder)
        return encoder.engine

    assert [engine_of(known), engine_of(known, "openvino"), engine_of(known, "torch")] == [
        "openvino",
        "openvino",
        "torch",
    ]
    assert engine_of(other) == "torch"
    with pytest.raises(UsageError, match="engine openvino: model other: its architecture"):
        engine_of(other, "openvino")
    a, b = (load_encoder(str(known), engine=name, dtype="float32") for name in ("openvino", "torch"))
    assert a.identity == b.identity
    np.testing.assert_allclose(a.encode_queries(["a fox"]), b.encode_queries(["a fox"]), atol=TOLERANCE)
    monkeypatch.setattr("es_latechunk.models.local.engines.find_spec", lambda name: None)
    assert engine_of(known) == "torch"
    with pytest.raises(UsageError, match=r"engine openvino: it is not installed.*es-latechunk\[openvino\]"):
        engine_of(known, "openvino")


def test_bfloat16_where_openvino_would_compute_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = add_modules(save_model(tmp_path / "m"), "Pooling")
    monkeypatch.setattr("es_latechunk.models.local.engines.computes_bfloat16", lambda core: False)

    def load(**options: Any) -> LocalEncoder:
        encoder = load_encoder(str(folder), device="cpu", **options)
        assert isinstance(encoder, LocalEncoder)
        return encoder

    assert load().engine == "openvino"
    chosen = load(dtype="bfloat16")
    assert (chosen.engine, chosen.precision) == ("torch", "bfloat16 on cpu")
    with pytest.raises(
        UsageError, match=r"engine openvino: model m: OpenVINO has no bfloat16 on this processor; "
    ):
        _ = load(dtype="bfloat16", engine="openvino").engine
    monkeypatch.setattr("es_latechunk.models.hardware.find_spec", lambda name: None)
    with pytest.raises(
        ModelError, match=r"no bfloat16 on this processor; choose dtype auto, .*are not installed"
    ):
        _ = load(dtype="bfloat16").engine


def test_long_windows_of_modernbert(tmp_path: Path) -> None:
    """Its local attention goes through the queries in blocks, and each block sees the keys that it can reach."""
    folder = save_model(tmp_path / "long", "modernbert", max_position_embeddings=1024, local_attention=100)
    spread_biases(folder)
    checkpoint = native(folder)
    assert checkpoint is not None
    random = np.random.default_rng(0)
    batch = [random.integers(5, 100, length).astype(np.int32) for length in (1000, 300, 129, 129, 128, 3)]
    wanted = reference(folder, batch)
    assert spec_of(folder).window > openvino_engine.LONGEST_WHOLE_BIAS
    assert_close(openvino_model(spec_of(folder), checkpoint, "float32").run(batch), wanted)
    assert_close(padded(NativeTorchModel(checkpoint, "m", device="cpu"), batch), wanted)


def test_threads_share_an_engine(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m", "bert")
    checkpoint = native(folder)
    assert checkpoint is not None
    engine = openvino_model(spec_of(folder), checkpoint, "float32")
    batches = [windows(checkpoint.shape.vocabulary, seed) for seed in range(8)]
    alone = [engine.run(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for got, wanted in zip(pool.map(engine.run, batches * 4), alone * 4, strict=True):
            assert_close(got, wanted)


@pytest.mark.parametrize(
    ("capabilities", "flags", "expected"),
    [
        (["BF16", "FP32"], "fma avx512_bf16 sse", True),
        (["BF16", "FP32"], "fma avx512f sse", False),
        (["FP32"], "fma avx512_bf16", False),
        (["BF16"], None, True),
    ],
)
def test_bfloat16_where_the_processor_multiplies_it(
    capabilities: list[str],
    flags: str | None,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "cpuinfo"
    if flags is not None:
        path.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr("es_latechunk.models.native.openvino_engine.CPU_INFO", path)
    core = SimpleNamespace(get_property=lambda device, name: capabilities)
    assert has_bfloat16(core) is expected


@pytest.mark.parametrize(
    ("kind", "class_name"),
    [
        ("bert", "BertForMaskedLM"),
        ("bert", "BertForPreTraining"),
        ("roberta", "RobertaForMaskedLM"),
        ("xlm-roberta", "XLMRobertaForMaskedLM"),
        ("nomic_bert", "NomicBertForMaskedLM"),
        ("modernbert", "ModernBertForMaskedLM"),
    ],
)
def test_checkpoints_with_a_head_and_in_shards(tmp_path: Path, kind: str, class_name: str) -> None:
    """Their names have a prefix, and the head's weights stand beside the encoder's."""
    config = transformers.AutoConfig.from_pretrained(save_model(tmp_path / "plain", kind))
    folder = tmp_path / "head"
    getattr(transformers, class_name)(config).save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    checkpoint = native(folder)
    assert checkpoint is not None
    batch = windows(checkpoint.shape.vocabulary)
    engine = openvino_model(named(folder), checkpoint, "float32")
    assert_close(engine.run(batch), reference(folder, batch))


def test_camembert_is_read_as_roberta_is(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m", "roberta")
    change_config(folder, model_type="camembert")
    checkpoint = native(folder)
    assert checkpoint is not None
    batch = windows(checkpoint.shape.vocabulary)
    engine = openvino_model(named(folder), checkpoint, "float32")
    assert_close(engine.run(batch), reference(folder, batch))
