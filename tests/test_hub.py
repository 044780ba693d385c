"""A model's name leads to its files: a folder, an installed package, or a download from a real server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import COMMIT, HubServer
from made_models import make_config, make_tensors, save_checkpoint
from safetensors.torch import save_file

from es_latechunk.errors import ModelError
from es_latechunk.models import load_encoder, load_recorded
from es_latechunk.models.checkpoint.resolve import resolve_model
from es_latechunk.models.checkpoint.weights import weights_fingerprint
from es_latechunk.types import EncoderIdentity

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
OFFICIAL_MINILM = "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ASK = """
import json, sys
from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.resolve import resolve_model
name, options = sys.argv[1], json.loads(sys.argv[2])
try:
    found = resolve_model(name, **options)
    print(json.dumps([str(found.path), found.name, found.revision]))
except ModelError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    config = make_config("v1")
    return save_checkpoint(tmp_path / "tiny-jina", config, make_tensors("v1", config))


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[HubServer]:
    server = HubServer()
    server.repositories["owner/tiny-jina"] = checkpoint
    yield server
    server.close()


def ask(name: str, *, endpoint: str, home: Path, env: dict[str, str] | None = None, **options: Any) -> Any:
    """`resolve_model` in a process of its own, as the hub's client reads its settings at import."""
    cleared = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))
    }
    settings = {**cleared, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "NO_PROXY": "*", **(env or {})}
    command = [sys.executable, "-c", ASK, name, json.dumps(options)]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)  # stdout holds nothing else: progress goes to stderr
    assert not (isinstance(answer, str) and "\n" in answer)
    return answer


def test_a_folder_is_itself(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve_model(str(checkpoint))
    assert (found.path, found.name, found.revision) == (checkpoint, "tiny-jina", None)
    monkeypatch.chdir(checkpoint)
    assert resolve_model(".").name == "tiny-jina"
    with pytest.raises(ModelError, match="has no revision 'v2'"):
        resolve_model(str(checkpoint), revision="v2")


def test_a_folder_that_lacks_something(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "elsewhere")
    with pytest.raises(ModelError, match=r"neither model\.safetensors nor .*whole checkpoint"):
        resolve_model(str(checkpoint))
    (checkpoint / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        resolve_model(str(checkpoint))


@pytest.mark.parametrize("name", ["./not/here", "/not/here", "~/not-here", "a/b/c", "owner/has space", ""])
def test_what_can_only_be_a_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        resolve_model(name)


def test_minilm_comes_from_the_installed_package() -> None:
    found = resolve_model(MINILM, offline=True)
    assert (found.name, found.revision) == (MINILM, None)
    assert weights_fingerprint(found.path) == OFFICIAL_MINILM


def test_download_takes_safetensors_and_settings_only(
    hub: HubServer, checkpoint: Path, tmp_path: Path
) -> None:
    torch.save({}, checkpoint / "pytorch_model.bin")
    for name in (
        "modeling.py",
        "vocab.txt",
        "tokenizer.json",
        "1_Pooling/config.json",
        "onnx/model.onnx",
        "onnx/config.json",
    ):
        (checkpoint / name).parent.mkdir(exist_ok=True)
        (checkpoint / name).write_text("{}")
    (checkpoint / "2_Dense").mkdir()
    save_file({"linear.weight": torch.zeros(2, 2)}, checkpoint / "2_Dense" / "model.safetensors")
    path, name, revision = ask("owner/tiny-jina", endpoint=hub.url, home=tmp_path / "home")
    assert (name, revision) == ("owner/tiny-jina", COMMIT)
    expected = [
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.txt",
    ]
    assert hub.downloads == expected
    assert sorted(p.relative_to(path).as_posix() for p in Path(path).rglob("*") if p.is_file()) == expected
    assert (Path(path) / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()


def test_the_cache_serves_without_the_hub(hub: HubServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = ask("owner/tiny-jina", endpoint=hub.url, home=home)
    hub.requests.clear()
    assert ask("owner/tiny-jina", endpoint=hub.url, home=home, offline=True) == first
    assert ask("owner/tiny-jina", endpoint=hub.url, home=home, env={"HF_HUB_OFFLINE": "1"}) == first
    assert hub.requests == []
    hub.broken = True
    assert ask("owner/tiny-jina", endpoint=hub.url, home=home) == first
    hub.close()
    assert ask("owner/tiny-jina", endpoint=hub.url, home=home) == first


def test_a_revision_is_what_the_hub_has(hub: HubServer, tmp_path: Path) -> None:
    *_, revision = ask("owner/tiny-jina", endpoint=hub.url, home=tmp_path / "home", revision=COMMIT)
    assert revision == COMMIT
    answer = ask("owner/tiny-jina", endpoint=hub.url, home=tmp_path / "home", revision="v9")
    assert "the hub has no revision 'v9' of it; check revision" in answer


def test_an_explicit_revision_of_minilm_goes_to_the_hub(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[MINILM] = hub.repositories["owner/tiny-jina"]
    answer = ask(MINILM, endpoint=hub.url, home=tmp_path, revision="main")
    assert answer[1:] == [MINILM, COMMIT]


@pytest.mark.parametrize("offline", [{"offline": True}, {"env": {"HF_HUB_OFFLINE": "1"}}])
def test_offline_without_a_copy(hub: HubServer, tmp_path: Path, offline: dict[str, Any]) -> None:
    answer = ask("owner/tiny-jina", endpoint=hub.url, home=tmp_path, **offline)
    assert "offline, and the cache has no whole copy of it; run once with the network" in answer
    assert hub.requests == []


def test_a_name_that_nobody_knows(hub: HubServer, tmp_path: Path) -> None:
    answer = ask("owner/tiny-gina", endpoint=hub.url, home=tmp_path)
    assert answer.startswith("model owner/tiny-gina: no such folder here, and the hub does not know it")
    assert "check the spelling" in answer
    assert "hf auth login" in answer


def test_a_gated_model(hub: HubServer, tmp_path: Path) -> None:
    hub.gated.add("owner/tiny-jina")
    answer = ask("owner/tiny-jina", endpoint=hub.url, home=tmp_path)
    assert "accept them on its page and run `hf auth login`" in answer


def test_a_hub_that_fails(hub: HubServer, tmp_path: Path) -> None:
    hub.broken = True
    answer = ask("owner/tiny-jina", endpoint=hub.url, home=tmp_path)
    assert f"cannot be downloaded from {hub.url}" in answer
    assert "500" in answer
    assert "pass its folder" in answer


def test_no_network(hub: HubServer, tmp_path: Path) -> None:
    hub.close()
    answer = ask("owner/tiny-jina", endpoint=hub.url, home=tmp_path)
    assert f"cannot be downloaded from {hub.url}" in answer
    assert "Connection refused" in answer
    assert "check the network and try again" in answer


def test_a_repository_without_safetensors(hub: HubServer, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    answer = ask("owner/tiny-jina", endpoint=hub.url, home=tmp_path / "home")
    assert "its repository has no safetensors weights, and a pickle is never opened" in answer
    assert "pytorch_model.bin" not in hub.downloads


def test_fingerprint_of_one_file(checkpoint: Path) -> None:
    content = (checkpoint / "model.safetensors").read_bytes()
    assert weights_fingerprint(checkpoint) == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_fingerprint_of_several_files_is_that_of_sha256sum(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "model-00002-of-00002.safetensors")
    save_file({"z": torch.zeros(1)}, checkpoint / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00002-of-00002.safetensors", "z": "model-00001-of-00002.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    for place in ("1_Pooling", "2_Dense", "3_Unlisted"):
        (checkpoint / place).mkdir()
        save_file({"linear.weight": torch.ones(2, 2)}, checkpoint / place / "model.safetensors")
    (checkpoint / "1_Pooling" / "model.safetensors").unlink()
    modules = [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]
    (checkpoint / "modules.json").write_text(json.dumps(modules))
    listed = "2_Dense/model.safetensors model-00001-of-00002.safetensors model-00002-of-00002.safetensors"
    lines = "".join(
        f"{hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()}  {name}\n" for name in listed.split()
    )
    before = weights_fingerprint(checkpoint)
    assert before == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    save_file({"linear.weight": torch.zeros(2, 2)}, checkpoint / "2_Dense" / "model.safetensors")
    assert weights_fingerprint(checkpoint) != before


@pytest.mark.parametrize("name", ["BAAI/bge-m3", "baai/BGE-M3", "Qwen/Qwen3-Embedding-0.6B"])
@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_model_that_is_known_to_be_unfit_is_refused_before_the_hub_is_asked(
    name: str, offline: bool, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    load: Any = load_encoder
    if recorded:
        index = EncoderIdentity(MINILM, "sha256:x", 384, 256)
        load = lambda name, **options: load_recorded(index, name=name, **options)  # noqa: E731
    with pytest.raises(
        ModelError, match=rf"model {name}: it pools the (first|last) token; .*es-latechunk mod"
    ):
        load(name, offline=offline)
