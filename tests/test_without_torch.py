"""The extra `local` has no torch: the default model runs without it, and what needs it says so in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_models import add_modules, save_model

from es_latechunk import load_encoder
from es_latechunk.errors import ModelError, UsageError
from es_latechunk.models.hardware import runs_on_cpu

HIDE = "import sys\nsys.modules.update(torch=None, transformers=None)\n"


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where they are not installed: they cannot be found or imported."""
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    return


def test_the_default_model_embeds(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Berlin lies on the Spree. The city is old.")
    code = f"{HIDE}from es_latechunk.cli import main\nmain(['embed', {str(tmp_path / 'a.txt')!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["vector"]) == 384


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return add_modules(save_model(tmp_path / "m"), "Pooling")


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"engine": "torch"}, "engine torch: model m: runs on torch, and torch and transformers are not"),
        ({"device": "cuda"}, "device cuda: torch runs models on other devices than the CPU, and torch"),
    ],
)
def test_what_needs_torch_says_so(folder: Path, no_torch: None, options: dict[str, str], cause: str) -> None:
    encoder = load_encoder(str(folder), **options)  # type: ignore[arg-type]
    with pytest.raises(ModelError) as refusal:
        encoder.encode_queries(["a fox"])
    assert str(refusal.value).startswith(cause)
    assert str(refusal.value).endswith("install them: pip install 'es-latechunk[torch]'")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", '{"version": "1.0", "tru'),
        ("tokenizer.json", '{"version": "1.0"}'),
        ("tokenizer.json", "[1]"),
        ("tokenizer.json", "\ufffd"),
        ("tokenizer_config.json", ""),
        ("special_tokens_map.json", "{"),
    ],
)
def test_a_broken_file_of_the_tokenizer_is_named(
    folder: Path, no_torch: None, file: str, content: str
) -> None:
    """To install torch, as for a tokenizer that only transformers can read, would be no help."""
    (folder / file).write_text(content, encoding="utf-16" if content == "\ufffd" else "utf-8")
    with pytest.raises(ModelError) as refusal:
        load_encoder(str(folder))
    told = str(refusal.value)
    assert f"{folder / file}: is no" in told
    assert told.endswith("; download the model again")
    assert told.isprintable()


@pytest.mark.usefixtures("no_torch")
def test_without_any_engine_a_model_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match="no engine is installed that could run a model"):
        load_encoder()


@pytest.mark.usefixtures("no_torch")
def test_a_gpu_that_cannot_be_used_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_latechunk.models.hardware._has_gpu_driver", lambda: True)
    assert runs_on_cpu("auto")
