"""`es-latechunk models` and what stands behind it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from commands import error_of
from made_models import add_modules, add_prompts, change_config, save_model, write_json

from es_latechunk.cli import main
from es_latechunk.models import MINILM, find_local
from es_latechunk.models.hardware import CPU_BATCH_TOKENS, MOST_CPU_BATCH_TOKENS, choose_hardware
from es_latechunk.models.info import known_models, model_info
from es_latechunk.models.registry import FAMILIES, find_family, match_config


@pytest.fixture(autouse=True)
def _no_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments], terminal_width=100, env={"COLUMNS": "100"})


def told(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_model_that_is_neither_in_the_list_nor_here() -> None:
    message = error_of(run("owner/nosuch"), 2)
    assert message == (
        "model owner/nosuch: it is not in the list (es-latechunk models), and no files of it are on this machine; "
        "check the name, or pass the model's folder"
    )


def test_the_list_fits_the_terminal_and_names_every_model() -> None:
    done = run()
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["late"]
    assert lines[1].split() == ["model", "chunking", "pooling", "window", "dims", "here"]
    assert max(len(line) for line in lines if "/" in line.split(" ")[0]) <= 80
    rows = {line.split()[0]: line.split() for line in lines[1:] if "/" in line.split(" ")[0]}
    assert list(rows) == [model for family in FAMILIES for model in family.dimensions]
    assert rows[MINILM][1:] == ["yes", "mean", "256", "384", "yes"]
    assert rows["BAAI/bge-m3"][1:] == ["no", "cls", "8192", "1024", "no"]


def test_the_list_as_json_has_a_row_for_each_model() -> None:
    rows = [json.loads(line) for line in run("--json").stdout.splitlines()]
    assert [row["model"] for row in rows] == [row.model for row in known_models()]
    assert all(row["late_chunking"] is not bool(row["reason"]) for row in rows)
    assert [row["model"] for row in rows if row["folder"]] == [MINILM]


def test_the_default_model() -> None:
    found = told(MINILM)
    assert found["late_chunking"]
    assert found["pooling"] == "mean (1_Pooling/config.json)"
    assert (found["window"], found["max_tokens"], found["dimensions"]) == (256, 512, 384)
    assert found["weights"].startswith("sha256:53aa5117")
    assert Path(found["folder"]) == find_local(MINILM)
    text = run(MINILM).stdout
    assert f"weights             {found['folder']}\n" in text
    assert "window              256 tokens\n" in text


def test_a_known_model_that_is_not_here() -> None:
    found = told("google/embeddinggemma-300m")
    assert (found["window"], found["shorter_dimensions"]) == (2048, [128, 256, 512])
    text = run("google/embeddinggemma-300m").stdout
    assert "document prefix     'title: none | text: '\n" in text
    assert "weights             not on this machine; the first use downloads them\n" in text
    assert "licence             Gemma terms of use\n" in text


@pytest.mark.parametrize(
    ("name", "reason", "licence"),
    [
        ("BAAI/bge-m3", "it pools the first token", "Apache-2.0 (bge-m3: MIT)"),
        ("Qwen/Qwen3-Embedding-0.6B", "it pools the last token", "Apache-2.0"),
    ],
)
def test_a_refused_model_is_told_with_the_reason(name: str, reason: str, licence: str) -> None:
    found = told(name)
    assert not found["late_chunking"]
    assert reason in found["reason"]
    assert found["licence"].startswith(licence)
    assert found["window"] >= 8192
    text = run(name).stdout
    assert "late chunking       no: " in text
    assert "weights             not on this machine\n" in text


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    folder = add_modules(save_model(tmp_path / "mine"), "Pooling")
    add_prompts(folder, {"query": "ask: "})
    change_config(folder, matryoshka_dimensions=[8, 16, 32])
    found = told(str(folder))
    assert found["model"] == "mine"
    assert (found["late_chunking"], found["reason"]) == (True, "")
    assert (found["window"], found["dimensions"], found["shorter_dimensions"]) == (96, 32, [8, 16])
    assert found["query_prefix"] == "ask: "
    assert found["folder"] == str(folder)
    assert "licence             not known here" in run(str(folder)).stdout


def test_a_folder_that_does_not_fit(tmp_path: Path) -> None:
    folder = add_modules(save_model(tmp_path / "mine", "nomic_bert"), "Pooling")
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    found = told(str(folder))
    assert not found["late_chunking"]
    assert found["reason"].startswith("1_Pooling/config.json says cls pooling")
    assert found["pooling"] == "cls (1_Pooling/config.json)"
    assert (found["dimensions"], found["max_tokens"], found["licence"]) == (32, 96, "Apache-2.0")
    assert found["weights"].startswith("sha256:")


def test_hosted_models_need_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    found = told("jina-api:jina-embeddings-v3")
    assert found["late_chunking"]
    assert (found["window"], found["dimensions"], found["weights"]) == (8192, 1024, "")
    assert not told("jina-api:jina-embeddings-v2-base-en")["late_chunking"]
    assert "weights             at the service" in run("jina-api:jina-embeddings-v3").stdout


@pytest.mark.parametrize("name", ["./nowhere", "owner/unknown", "jina-api:jina-embeddings-v9"])
def test_nothing_is_known_of_it(name: str) -> None:
    done = run(name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: model {name}: ")
    assert done.stderr.count("\n") == 1


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bge-m3").mkdir()
    assert "config.json is missing" in run(str(tmp_path / "bge-m3")).stderr


def test_families() -> None:
    names = [model for family in FAMILIES for model in family.dimensions]
    assert len(names) == len(set(names))
    for family in FAMILIES:
        assert family.window <= family.max_tokens
        assert bool(family.refusal) or family.pooling == "mean"
        assert not family.matryoshka_dims or max(family.matryoshka_dims) in family.dimensions.values()
    assert find_family("bge-m3") is find_family("BAAI/bge-m3") is not None
    assert find_family("other/bge-m3") is None
    assert match_config({"model_type": "gemma3_text"}) is None
    assert match_config({"model_type": "bert"}) is None


def test_a_survey_reads_no_values_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = add_modules(save_model(tmp_path / "mine"), "Pooling")

    def read(*_: Any) -> None:
        raise AssertionError("a tensor's values were read")

    monkeypatch.setattr("transformers.modeling_utils.safe_open", read)
    monkeypatch.setattr("safetensors.torch.load_file", read)
    assert model_info(str(folder)).late_chunking


def test_the_documented_example_ranks_the_right_text_first() -> None:
    text = (Path(__file__).parent.parent / "docs" / "models.md").read_text("utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 (the project's own page)
    scores = names["documents"] @ names["question"].T
    assert scores[0] > scores[1]


def test_the_documented_models_are_known() -> None:
    text = (Path(__file__).parent.parent / "docs" / "models.md").read_text("utf-8")
    owners = "|".join({model.partition("/")[0] for family in FAMILIES for model in family.dimensions})
    for model in re.findall(rf"`((?:{owners})/[\w.-]+)`", text):
        assert find_family(model) is not None


@pytest.mark.parametrize("capable", [True, False])
def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch, capable: bool) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": capable}, raising=False)
    found = choose_hardware("cpu")
    assert found.dtype == ("bfloat16" if capable else "float32")
    assert choose_hardware("cpu", "float32").dtype == "float32"
    assert choose_hardware("cpu", "bfloat16").dtype == "bfloat16"


@pytest.mark.parametrize(
    ("threads", "tokens"), [(1, CPU_BATCH_TOKENS), (3, 3 * CPU_BATCH_TOKENS), (64, MOST_CPU_BATCH_TOKENS)]
)
def test_more_threads_take_more_at_once(monkeypatch: pytest.MonkeyPatch, threads: int, tokens: int) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    assert choose_hardware("cpu").batch_tokens == tokens
