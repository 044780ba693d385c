"""What is read from a model's folder: pooling, modules, prompts, lengths; and what is refused because of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logs import warnings_told
from made_models import add_dense, add_modules, add_prompts, change_config, save_model, write_json

from es_latechunk.errors import ModelError, UsageError
from es_latechunk.models import MINILM, find_local
from es_latechunk.models.checkpoint.weights import Checkpoint
from es_latechunk.models.local.spec import ModelOptions, ModelSpec, describe

FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
CONFIG: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 32, "vocab_size": 9, "max_position_embeddings": 64},
    "nomic_bert": {"n_embd": 768, "n_positions": 8192, "auto_map": {"AutoModel": "nomic-bert-2048--m.M"}},
    "gemma3_text": {"hidden_size": 768, "use_bidirectional_attention": True, "max_position_embeddings": 2048},
}


def model(folder: Path, model_type: str = "bert", **changes: Any) -> Path:
    """A folder without weights: describing reads none."""
    folder.mkdir(exist_ok=True)
    config = {**CONFIG.get(str(model_type), CONFIG["bert"]), "model_type": model_type, **changes}
    write_json(folder / "config.json", {key: value for key, value in config.items() if value is not None})
    return add_modules(folder, "Pooling", "Normalize")


def set_pooling(folder: Path, **settings: Any) -> Path:
    write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": 32, **settings})
    return folder


def spec(folder: Path, name: str = "m", **options: Any) -> ModelSpec:
    return describe(Checkpoint(folder, name), ModelOptions(**options))


def refusal(folder: Path, name: str = "m", **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        spec(folder, name, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"model {name}: ")
    return str(caught.value)


def flags(*on: str) -> dict[str, bool]:
    return {f"pooling_mode_{flag}": flag in on for flag in FLAGS}


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling_mode": "mean", "include_prompt": True},
        {"pooling_mode": "mean", "include_prompt": False},
        {"pooling_mode": ["mean"]},
        {**flags("mean_tokens"), "include_prompt": True},
        {"pooling_mode_mean_tokens": True},
    ],
)
@pytest.mark.parametrize("style", ["old", "new"])
def test_mean_pooling_in_all_forms(tmp_path: Path, settings: dict[str, Any], style: str) -> None:
    folder = add_modules(model(tmp_path / "m"), "Pooling", "Normalize", style=style)
    found = spec(set_pooling(folder, **settings))
    assert (found.dimensions, found.assumed_mean_pooling) == (32, False)
    (folder / "modules.json").unlink()
    assert spec(folder).dimensions == 32


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode": ["mean", "max"]}, "mean + max"),
        (flags("cls_token"), "cls"),
        (flags("max_tokens"), "max"),
        (flags("lasttoken"), "lasttoken"),
        (flags("weightedmean_tokens"), "weightedmean"),
        (flags("mean_sqrt_len_tokens"), "mean_sqrt_len"),
        (flags("mean_tokens", "cls_token"), "cls + mean"),
    ],
)
@pytest.mark.parametrize("assume", [True, False])
def test_other_pooling_is_refused(tmp_path: Path, settings: Any, named: str, assume: bool) -> None:
    folder = set_pooling(model(tmp_path / "m"), **settings)
    expected = f"1_Pooling/config.json says {named} pooling, late chunking needs mean pooling"
    assert expected in refusal(folder, assume_mean_pooling=assume)


def test_pooling_in_another_place(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    package = "sentence_transformers.models"
    rows = [{"path": "", "type": f"{package}.Transformer"}, {"path": "pool", "type": f"{package}.Pooling"}]
    write_json(folder / "modules.json", rows)
    assert f"{folder / 'pool' / 'config.json'}: cannot be read" in refusal(folder)
    write_json(folder / "pool" / "config.json", {"pooling_mode": "max"})
    assert "pool/config.json says max pooling" in refusal(folder)


def test_a_pooling_file_that_names_no_mode(tmp_path: Path) -> None:
    assert "1_Pooling/config.json names no pooling mode" in refusal(set_pooling(model(tmp_path / "m")))
    folder = set_pooling(model(tmp_path / "m"), **flags())
    assert "1_Pooling/config.json names no pooling mode" in refusal(folder, assume_mean_pooling=True)


def test_unknown_pooling_is_refused_or_assumed_and_recorded(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    (folder / "modules.json").unlink()
    (folder / "1_Pooling" / "config.json").unlink()
    assert "pass assume_mean_pooling" in refusal(folder)
    assert spec(folder, assume_mean_pooling=True).assumed_mean_pooling
    write_json(folder / "modules.json", [{"path": "", "type": "sentence_transformers.models.Transformer"}])
    assert "pass assume_mean_pooling" in refusal(folder)
    assert not spec(folder, "sentence-transformers/all-MiniLM-L6-v2").assumed_mean_pooling
    assert "it pools the first token" in refusal(folder, "BAAI/bge-m3", assume_mean_pooling=True)
    change_config(folder, emb_pooler="mean")
    assert not spec(folder).assumed_mean_pooling
    change_config(folder, emb_pooler="cls")
    assert "config.json (emb_pooler) says cls pooling" in refusal(folder)


def test_an_architecture_alone_tells_no_pooling_and_no_cuts(tmp_path: Path) -> None:
    """A NomicBERT may be trained in another way; a Gemma 3 that reads to the left alone is a language model."""
    folder = model(tmp_path / "m", "nomic_bert")
    with pytest.raises(UsageError, match="dimensions 256: model m was not trained for shorter vectors"):
        spec(folder, dimensions=256)
    assert spec(folder, "nomic-ai/nomic-embed-text-v1.5", dimensions=256).dimensions == 256
    assert spec(folder, "nomic-embed-text-v1.5", dimensions=256).dimensions == 256
    (folder / "modules.json").unlink()
    (folder / "1_Pooling" / "config.json").unlink()
    assert "no file says how it pools" in refusal(folder)
    gemma = model(tmp_path / "g", "gemma3_text", use_bidirectional_attention=False)
    assert spec(gemma).document_prefix == ""
    assert spec(model(tmp_path / "g", "gemma3_text")).document_prefix == "title: none | text: "


@pytest.mark.parametrize(
    "kinds",
    [
        ("Dense", "Pooling"),
        ("Pooling", "Normalize", "Dense"),
        ("Pooling", "LayerNorm"),
        ("Pooling", "Pooling"),
        ("Normalize", "Pooling"),
        ("Pooling", "WeightedLayerPooling"),
    ],
)
def test_modules_that_change_vectors_in_another_way(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    message = refusal(add_modules(model(tmp_path / "m"), *kinds))
    assert f"modules.json lists {', '.join(('Transformer', *kinds))}; what is computed here is" in message


def test_a_router_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    write_json(folder / "modules.json", [{"path": "", "type": "sentence_transformers.models.Router"}])
    assert "modules.json lists Router;" in refusal(folder)


def test_a_module_of_remote_code_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    rows = json.loads((folder / "modules.json").read_text("utf-8"))
    rows[0]["type"] = "custom_st.Transformer"
    write_json(folder / "modules.json", rows)
    assert "modules.json lists custom_st.Transformer, Pooling, Normalize;" in refusal(folder)


def test_another_output_of_the_transformer_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    write_json(folder / "sentence_bert_config.json", {"modality_config": {"text": text}})
    assert spec(folder).dimensions == 32
    text["method_output_name"] = "pooler_output"
    write_json(folder / "sentence_bert_config.json", {"modality_config": {"text": text}})
    assert "pools 'pooler_output', not the last hidden state" in refusal(folder)


@pytest.mark.parametrize(
    ("prompts", "default", "expected"),
    [
        ({"query": "q: ", "document": "d: "}, None, ("d: ", "q: ")),
        ({"query": "q: ", "passage": "p: "}, "query", ("p: ", "q: ")),
        ({"corpus": "c: ", "query": None}, None, ("c: ", "")),
        ({"document": "d: ", "passage": "p: "}, None, ("d: ", "")),
        ({"query": "", "document": ""}, None, ("", "")),
        ({"all": "x: ", "query": "q: "}, "all", ("x: ", "q: ")),
        ({"clustering": "x: "}, None, ("", "")),
        ({"clustering": "x: "}, "gone", ("", "")),
        ({}, None, ("", "")),
    ],
)
def test_prompts(tmp_path: Path, prompts: Any, default: str | None, expected: tuple[str, str]) -> None:
    folder = model(tmp_path / "m")
    add_prompts(folder, prompts, default)
    found = spec(folder)
    assert (found.document_prefix, found.query_prefix) == expected
    own = spec(folder, document_prefix="mine: ", query_prefix="")
    assert (own.document_prefix, own.query_prefix) == ("mine: ", "")


def test_a_family_knows_its_prefixes_where_the_folder_says_nothing(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", "nomic_bert")
    assert spec(folder).document_prefix == "search_document: "
    add_prompts(folder, {"query": "", "document": ""})
    assert spec(folder).query_prefix == "search_query: "
    add_prompts(folder, {"query": "other: "})
    assert spec(folder).query_prefix == "other: "
    e5 = spec(model(tmp_path / "e"), "intfloat/multilingual-e5-base")
    assert (e5.document_prefix, e5.query_prefix) == ("passage: ", "query: ")


E5 = ("passage: ", "query: ")


@pytest.mark.parametrize(
    ("place", "origin", "expected", "noted"),
    [
        ("m", "intfloat/e5-base-v2", E5, ""),  # what transformers before 5 wrote of where a model came from
        ("models--intfloat--e5-small-v2/snapshots/0a1b", "", E5, ""),
        ("e5-large-v2", "", E5, "its name alone says so, so it gets them"),
        ("e5-large-v2", "intfloat/e5-large-v2", E5, ""),
        ("m", "/models/multilingual-e5-base", E5, "its name alone says so, so it gets them"),
        ("our-e5-tuned", "", ("", ""), "its name hints at it, no file says so, so it does not get them"),
        ("m", "tmp/e5_legal", ("", ""), "no file says so, so it does not get them"),
        ("made5", "", ("", ""), ""),
        ("m", "", ("", ""), ""),
    ],
)
def test_a_copied_folder_keeps_its_prefixes_or_a_note_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str, origin: str, expected: Any, noted: str
) -> None:
    (tmp_path / place).mkdir(parents=True)
    folder = model(tmp_path / place, _name_or_path=origin or None)
    with caplog.at_level(logging.WARNING, "es_latechunk"):
        found = spec(folder, folder.name)
        assert (found.document_prefix, found.query_prefix) == expected
        assert noted in caplog.text
        assert len(warnings_told(caplog)) == bool(noted)
        caplog.clear()
        spec(folder, folder.name, query_prefix="query: ")
        add_prompts(folder, {"query": "q: "})
        spec(folder, folder.name)
    assert warnings_told(caplog) == [], "the user or a file says it"


def test_a_descendant_keeps_the_length_that_its_own_files_say(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", _name_or_path=MINILM, max_position_embeddings=512)
    assert spec(folder).window == 256
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 128})
    assert spec(folder).window == 128


def test_published_weights_are_known_under_any_name(tmp_path: Path) -> None:
    found = find_local(MINILM)
    assert found
    copied = tmp_path / "mine"
    copied.mkdir()
    for name in ("config.json", "model.safetensors"):
        (copied / name).symlink_to(found / name)
    assert (spec(copied).window, spec(copied).assumed_mean_pooling) == (256, False)


def test_original_nomic_config_has_gpt2_names(tmp_path: Path) -> None:
    """transformers takes its own defaults for what it does not know there: they are this model's sizes."""
    found = spec(model(tmp_path / "m", "nomic_bert"))
    assert (found.hidden, found.dimensions, found.max_tokens, found.window) == (768, 768, 2048, 2048)


@pytest.mark.parametrize(
    ("model_type", "changes", "lengths", "expected"),
    [
        ("bert", {}, {}, (64, 64)),
        ("bert", {}, {"max_seq_length": 48}, (64, 48)),
        ("bert", {}, {"model_max_length": 40}, (64, 40)),
        ("bert", {}, {"max_seq_length": 48, "model_max_length": 40}, (64, 40)),
        ("bert", {}, {"model_max_length": 10**30}, (64, 64)),
        ("bert", {}, {"max_seq_length": 99, "model_max_length": 1e30}, (64, 64)),
        ("bert", {}, {"max_seq_length": None}, (64, 64)),
        ("roberta", {"max_position_embeddings": 514, "pad_token_id": 1}, {}, (512, 512)),
        ("xlm-roberta", {"max_position_embeddings": 8194, "pad_token_id": 1}, {}, (8192, 8192)),
        ("mpnet", {"max_position_embeddings": 514, "pad_token_id": 1}, {"max_seq_length": 384}, (512, 384)),
        ("modernbert", {"max_position_embeddings": 8192}, {"model_max_length": 8192}, (8192, 8192)),
        ("bloom", {"max_position_embeddings": None}, {"model_max_length": 300}, (300, 300)),
        ("bloom", {"max_position_embeddings": None}, {"model_max_length": 10**30}, (512, 512)),
    ],
)
def test_lengths(tmp_path: Path, model_type: str, changes: Any, lengths: Any, expected: Any) -> None:
    folder = model(tmp_path / "m", model_type, **changes)
    sentence = {key: value for key, value in lengths.items() if key == "max_seq_length"}
    write_json(folder / "sentence_bert_config.json", {"do_lower_case": False, **sentence})
    write_json(folder / "tokenizer_config.json", {**lengths, "tokenizer_class": "X"})
    found = spec(folder)
    assert (found.max_tokens, found.window) == expected
    for window in (8, expected[0]):
        assert spec(folder, window=window).window == window
    for window in (0, 7, expected[0] + 1):
        with pytest.raises(UsageError, match=f"window {window} does not fit .* 8 to {expected[0]} tokens"):
            spec(folder, window=window)


def test_a_family_has_the_window_it_was_trained_at(tmp_path: Path) -> None:
    name = "sentence-transformers/all-MiniLM-L6-v2"
    folder = model(tmp_path / "m", max_position_embeddings=512)
    assert (spec(folder, name).window, spec(folder, name).max_tokens) == (256, 512)
    assert spec(folder, name, window=512).window == 512
    assert spec(model(tmp_path / "m"), name).window == 64


def test_dimensions(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    assert spec(folder, dimensions=32).dimensions == 32
    with pytest.raises(UsageError, match=r"dimensions 16: .* not trained for shorter .* 32 dimensions"):
        spec(folder, dimensions=16)
    change_config(folder, matryoshka_dimensions=[8, 16, 64])
    assert spec(folder, dimensions=16).dimensions == 16
    for wrong in (12, 64, 0, -8):
        with pytest.raises(
            UsageError, match=f"dimensions {wrong}: model m was trained for 8, 16, 32; choose"
        ):
            spec(folder, dimensions=wrong)


def test_a_size_that_sentence_transformers_cuts_to_is_the_model_s_own(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    write_json(folder / "config_sentence_transformers.json", {"truncate_dim": 12})
    found = spec(folder)
    assert (found.dimensions, found.matryoshka_dims, found.assumed_matryoshka) == (12, (12,), False)
    assert spec(folder, dimensions=32).dimensions == 32
    assert spec(folder, dimensions=12).dimensions == 12
    with pytest.raises(UsageError, match="dimensions 8: model m was trained for 12, 32; choose"):
        spec(folder, dimensions=8)
    change_config(folder, matryoshka_dimensions=[8, 16])
    assert (spec(folder).dimensions, spec(folder).matryoshka_dims) == (12, (8, 12, 16))
    write_json(folder / "config_sentence_transformers.json", {"truncate_dim": 99})
    assert spec(folder).dimensions == 32
    for wrong in (0, "12", 1.5, True):
        write_json(folder / "config_sentence_transformers.json", {"truncate_dim": wrong})
        assert f"has the truncate_dim {wrong!r}, which is no size" in refusal(folder)


def test_a_user_can_say_that_a_model_was_trained_for_shorter_vectors(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    found = spec(folder, dimensions=12, matryoshka=True)
    assert (found.dimensions, found.assumed_matryoshka) == (12, True)
    assert not spec(folder, dimensions=32, matryoshka=True).assumed_matryoshka
    assert not spec(folder, matryoshka=True).assumed_matryoshka
    change_config(folder, matryoshka_dimensions=[12])
    assert not spec(folder, dimensions=12, matryoshka=True).assumed_matryoshka
    for wrong in (0, -1, 33):
        with pytest.raises(UsageError, match=f"dimensions {wrong}"):
            spec(folder, dimensions=wrong, matryoshka=True)


def test_dense_modules_that_do_not_fit(tmp_path: Path) -> None:
    folder = add_modules(model(tmp_path / "m"), "Pooling", "Dense")
    place = folder / "2_Dense" / "config.json"
    add_dense(folder, "2_Dense", np.zeros((8, 32), np.float32))
    assert spec(folder).dimensions == 8
    add_dense(folder, "2_Dense", np.zeros((8, 30), np.float32))
    assert "2_Dense/config.json says 30 to 8 dimensions, its input has 32" in refusal(folder)
    plain = {"in_features": 32, "out_features": 8, "bias": True}
    write_json(place, {**plain, "activation_function": "torch.nn.modules.activation.Tanh"})
    assert spec(folder).dimensions == 8
    write_json(place, {**plain, "activation_function": "torch.nn.modules.activation.Mish"})
    assert "has the activation Mish, known here are Identity, Tanh, ReLU" in refusal(folder)
    write_json(place, {**plain, "use_residual": True})
    assert "2_Dense/config.json has use_residual True" in refusal(folder)
    write_json(place, {**plain, "module_input_name": "token_embeddings"})
    assert "has module_input_name 'token_embeddings'" in refusal(folder)
    place.unlink()
    assert f"{place}: cannot be read" in refusal(folder)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("config.json", "{", "config.json: is not JSON"),
        ("config.json", "[]", "config.json: is not a JSON object"),
        ("modules.json", '{"a": 1}', "modules.json: is not a list of modules"),
        ("modules.json", "[1]", "modules.json: is not a list of modules"),
        ("1_Pooling/config.json", "mean", "1_Pooling/config.json: is not JSON"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, file: str, content: str, expected: str) -> None:
    folder = model(tmp_path / "m")
    (folder / file).write_text(content)
    assert expected in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "t5"}, "t5 is an encoder with a decoder"),
        ({"model_type": "bart"}, "bart is an encoder with a decoder"),
        ({"model_type": "vit", "vocab_size": None}, "config.json has no hidden_size or vocab_size"),
        ({"model_type": "brand-new"}, "the model_type 'brand-new'; transformers 5"),
        ({"model_type": "new", "auto_map": {"AutoModel": "a/b--m.M"}}, "such code is never run here"),
        ({"model_type": None}, "the model_type None;"),
        ({"model_type": ["bert"]}, "the model_type ['bert'];"),
        ({"hidden_size": "wide"}, "transformers cannot use its config.json"),
    ],
)
def test_architectures_that_are_refused(tmp_path: Path, changes: Any, expected: str) -> None:
    folder = model(tmp_path / "m", **changes)
    assert expected in refusal(folder, assume_mean_pooling=True)


def test_sizes_come_from_what_transformers_reads(tmp_path: Path) -> None:
    folder = add_modules(save_model(tmp_path / "m", "distilbert"), "Pooling")
    found = spec(folder)
    assert (found.hidden, found.max_tokens) == (32, 96)
