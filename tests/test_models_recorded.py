"""An index's model is set up as it was then, wherever its folder lies now."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_models import add_modules, change_config, save_model

from es_latechunk.errors import ModelError, UsageError
from es_latechunk.models import default_model, load_encoder, load_recorded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = save_model(tmp_path / "mine")
    change_config(folder, matryoshka_dimensions=[8, 16])
    return folder


OPTIONS: dict[str, Any] = {
    "window": 64, "dimensions": 16, "document_prefix": "a: ", "query_prefix": "b: ", "assume_mean_pooling": True
}  # fmt: skip


def test_all_settings_come_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = load_encoder(str(folder), **OPTIONS).identity
    assert recorded.assumed_mean_pooling
    monkeypatch.chdir(folder.parent)
    assert load_recorded(recorded).identity == recorded
    assert load_recorded(recorded, name=str(folder)).identity == recorded
    changed = load_recorded(recorded, window=32, query_prefix="")
    assert changed.identity == replace(recorded, window=32, query_prefix="")


def test_the_same_weights_elsewhere_are_set_up_alike(folder: Path, tmp_path: Path) -> None:
    recorded = replace(load_encoder(str(folder), **OPTIONS).identity, revision="abc", model="owner/mine")
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    found = load_recorded(recorded, name=str(moved)).identity
    assert found == replace(recorded, model="moved", revision=None, folder=str(moved))


def test_a_user_s_word_for_shorter_vectors_is_recorded(folder: Path, tmp_path: Path) -> None:
    change_config(folder, matryoshka_dimensions=None)
    encoder = load_encoder(str(folder), **{**OPTIONS, "dimensions": 12}, matryoshka=True, dtype="float32")
    assert encoder.identity.assumed_matryoshka
    assert load_recorded(encoder.identity).identity == encoder.identity
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    found = load_recorded(encoder.identity, name=str(moved), dtype="float32")
    assert (found.dim, found.identity.assumed_matryoshka) == (12, True)
    whole = load_encoder(str(folder), **{**OPTIONS, "dimensions": None}, dtype="float32")
    cut = whole.encode_documents(["a fox"])[:, :12]
    np.testing.assert_allclose(found.encode_documents(["a fox"]), cut / np.linalg.norm(cut), atol=1e-6)


def test_other_weights_keep_their_own_settings(folder: Path, tmp_path: Path) -> None:
    recorded = load_encoder(str(folder), **OPTIONS).identity
    other = add_modules(save_model(tmp_path / "other", num_hidden_layers=1), "Pooling")
    found = load_recorded(recorded, name=str(other)).identity
    assert (found.window, found.dimensions, found.document_prefix) == (96, 32, "")


def test_a_folder_is_found_again_from_anywhere(folder: Path) -> None:
    recorded = load_encoder(str(folder), **OPTIONS).identity
    assert recorded.folder == str(folder)
    assert load_recorded(recorded).identity == recorded


def test_a_folder_that_is_gone_is_asked_for(folder: Path) -> None:
    recorded = load_encoder(str(folder), **OPTIONS).identity
    folder.rename(folder.parent / "elsewhere")
    with pytest.raises(
        ModelError, match=r"model mine: it was a folder when the index was made.*model FOLDER"
    ):
        load_recorded(recorded)


def test_no_model_named_and_none_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_model() == "sentence-transformers/all-MiniLM-L6-v2"
    monkeypatch.setattr("es_latechunk.models.load.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pass model FOLDER_OR_ID"):
        load_encoder()
