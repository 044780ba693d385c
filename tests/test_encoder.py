"""Local encoders give what a few lines of torch give: for every architecture, with prefixes, in windows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_models import (
    ARCHITECTURES,
    POSITIONS,
    add_dense,
    add_modules,
    add_prompts,
    change_config,
    expected_mean,
    save_model,
    unit,
)
from transformers import AutoModel

from es_latechunk.chunking import chunk_document, token_owner
from es_latechunk.errors import DocumentError, UsageError
from es_latechunk.late import embed_chunks
from es_latechunk.late.windows import choose_windows
from es_latechunk.models import load_encoder
from es_latechunk.models.local.encoder import LocalEncoder
from es_latechunk.types import ChunkSpan, Document, Encoder, TokenEncoder

TEXT = "a quick fox jumps over Berlin. It costs 3.6 dollars."
TEXTS = [TEXT, "The city is large.", "Really? Yes! You said so.", "Then it grew", "x"]
LONG = " ".join(f"{TEXT} {number} times she said: “The dog”." for number in range(12))


def load(folder: Path, *, dtype: Any = "float32", **options: Any) -> LocalEncoder:
    encoder = load_encoder(str(folder), **options, dtype=dtype, device="cpu")
    assert isinstance(encoder, LocalEncoder)
    return encoder


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind: str = request.param
    return add_modules(save_model(tmp_path_factory.mktemp(kind) / kind, kind), "Pooling", "Normalize")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_modules(save_model(tmp_path_factory.mktemp("bert") / "tiny"), "Pooling")


def test_a_short_text_is_its_mean_pooled_tokens(folder: Path) -> None:
    encoder = load(folder, document_prefix="", query_prefix="")
    assert isinstance(encoder, TokenEncoder)
    assert isinstance(encoder, Encoder)
    vectors = encoder.encode_documents([TEXT])
    assert vectors.dtype == np.float32
    assert vectors.shape == (1, encoder.dim) == (1, 32)
    np.testing.assert_allclose(vectors[0], unit(expected_mean(folder, TEXT)), atol=1e-5)


def test_prefix_tokens_are_read_and_never_pooled(folder: Path) -> None:
    encoder = load(folder, document_prefix="passage: ", query_prefix="ask me: ")
    document = unit(expected_mean(folder, TEXT, "passage: "))
    query = unit(expected_mean(folder, TEXT, "ask me: "))
    np.testing.assert_allclose(encoder.encode_documents([TEXT])[0], document, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_queries([TEXT])[0], query, atol=1e-5)
    assert np.abs(document - query).max() > 1e-3
    assert np.abs(document - unit(expected_mean(folder, TEXT))).max() > 1e-3


def test_neighbours_and_padding_change_nothing(folder: Path) -> None:
    encoder = load(folder)
    together = encoder.encode_documents([*TEXTS, LONG])
    alone = np.concatenate([encoder.encode_documents([text]) for text in [*TEXTS, LONG]])
    np.testing.assert_allclose(together, alone, atol=2e-5)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS[::-1])[::-1], alone[:-1], atol=2e-5)


def test_each_window_of_a_long_text_is_run_with_its_own_prefix(folder: Path) -> None:
    """Against the model run on every window by hand, and against the pooled chunks of the whole."""
    encoder = load(folder, window=48, document_prefix="passage: ")
    tokens = encoder.tokenizer.tokenize(LONG)
    assert len(tokens) > 4 * encoder.window_tokens
    wrapped = encoder.encode_windows([tokens.ids[:5]])
    assert wrapped[0].shape == (5, 32)
    model = AutoModel.from_pretrained(folder).eval()
    before, after = encoder._base.wrap
    prefix = encoder._base.tokenize("passage: a").ids[: len(encoder.tokenizer.prefix_ids)]
    kept = []
    for window in choose_windows(encoder).plan(len(tokens), [0]):
        ids = [*before, *prefix, *tokens.ids[window.start : window.end], *after]
        assert len(ids) <= 48
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        start = len(before) + len(prefix) - window.start
        kept.append(hidden[start + window.keep_start : start + window.keep_end].numpy())
    vectors = np.concatenate(kept)
    assert len(vectors) == len(tokens)
    np.testing.assert_allclose(encoder.encode_documents([LONG])[0], unit(vectors.mean(0)), atol=1e-5)

    cuts = [0, LONG.index("2 times"), LONG.index("7 times"), len(LONG)]
    spans = tuple(ChunkSpan(a, b) for a, b in pairwise(cuts))
    document = chunk_document(
        Document("long", LONG, spans=spans), chunker=_Unused(), tokenizer=encoder.tokenizer
    )
    blocks = list(embed_chunks([document], encoder=encoder))
    got = np.concatenate([block.vectors for block in blocks if not isinstance(block, DocumentError)])
    owner = token_owner(spans, LONG, tokens)
    want = [unit(vectors[owner == ordinal].mean(0)) for ordinal in range(len(spans))]
    np.testing.assert_allclose(got, want, atol=1e-5)


class _Unused:
    def split(self, text: str, tokens: Any) -> list[ChunkSpan]:
        raise AssertionError("the document brings its own spans")


def test_bfloat16_stays_close(folder: Path) -> None:
    exact, reduced = load(folder), load(folder, dtype="bfloat16")
    assert reduced.precision == "bfloat16 on cpu"
    a, b = exact.encode_documents(TEXTS), reduced.encode_documents(TEXTS)
    assert b.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(b, axis=1), 1, atol=1e-5)
    assert np.abs(a - b).max() > 0
    assert (a * b).sum(1).min() > 0.999


def test_the_default_window_is_what_the_positions_allow(folder: Path) -> None:
    assert load(folder).identity.window == POSITIONS
    with pytest.raises(UsageError, match=f"window {POSITIONS + 1} does not fit .* 8 to {POSITIONS} tokens"):
        load(folder, window=POSITIONS + 1)


def test_dense_layers_come_after_pooling_and_before_the_cut(tmp_path: Path) -> None:
    folder = add_modules(save_model(tmp_path / "m"), "Pooling", "Dense", "Dense", "Normalize")
    change_config(folder, matryoshka_dimensions=[8, 12])
    random = np.random.default_rng(0)
    wide, narrow = random.normal(size=(48, 32)), random.normal(size=(20, 48))
    bias = random.normal(size=48)
    add_dense(folder, "2_Dense", wide.astype(np.float32), bias.astype(np.float32))
    add_dense(folder, "3_Dense", narrow.astype(np.float32))
    full = narrow @ (wide @ expected_mean(folder, TEXT) + bias)
    assert load(folder).dim == 20
    np.testing.assert_allclose(load(folder).encode_documents([TEXT])[0], unit(full), atol=1e-5)
    cut = load(folder, dimensions=12)
    assert cut.dim == cut.identity.dimensions == 12
    np.testing.assert_allclose(cut.encode_queries([TEXT])[0], unit(full[:12]), atol=1e-5)


def test_prompts_of_the_folder_are_used(tmp_path: Path) -> None:
    folder = add_modules(save_model(tmp_path / "m"), "Pooling")
    add_prompts(folder, {"query": "ask: ", "document": "read: "})
    encoder = load(folder)
    identity = encoder.identity
    assert (identity.document_prefix, identity.query_prefix) == ("read: ", "ask: ")
    np.testing.assert_allclose(
        encoder.encode_queries([TEXT])[0], unit(expected_mean(folder, TEXT, "ask: ")), atol=1e-5
    )


def test_lower_casing_that_only_sentence_transformers_does(tmp_path: Path) -> None:
    folder = add_modules(save_model(tmp_path / "m", "roberta"), "Pooling")
    (folder / "sentence_roberta_config.json").write_text('{"max_seq_length": 64, "do_lower_case": true}')
    encoder = load(folder)
    assert encoder.identity.window == 64
    np.testing.assert_allclose(
        encoder.encode_documents([TEXT])[0], unit(expected_mean(folder, TEXT.lower())), atol=1e-5
    )


def test_texts_without_content_are_errors_that_name_them(bert: Path) -> None:
    encoder = load(bert)
    for empty in ("", " \n\t"):
        with pytest.raises(DocumentError, match=r"^text 1: its text is empty"):
            encoder.encode_documents([TEXT, empty])
        with pytest.raises(DocumentError, match=r"^text 0: its text is empty"):
            encoder.encode_queries([empty])
    assert encoder.encode_documents([]).shape == (0, 32)


def test_a_window_must_hold_more_than_the_prefix(bert: Path) -> None:
    with pytest.raises(UsageError, match=r"window 8: holds nothing beside the .* special and prefix tokens"):
        load(bert, window=8, document_prefix="Represent this passage for retrieval: ")


def test_the_weights_are_read_at_the_first_use_only(tmp_path: Path) -> None:
    folder = add_modules(save_model(tmp_path / "m"), "Pooling")
    encoder = load(folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(b"")
    assert encoder.dim == 32
    assert encoder.window_tokens == POSITIONS - 2
    (folder / "model.safetensors").write_bytes(weights)
    assert encoder.encode_documents([TEXT]).shape == (1, 32)


def test_identity_follows_the_weights_and_the_options(tmp_path: Path) -> None:
    folder = add_modules(save_model(tmp_path / "m"), "Pooling")
    first = load(folder).identity
    assert first.model == "m"
    assert first.weights is not None
    assert first.weights.startswith("sha256:")
    assert load(folder, window=32).identity.window == 32
    other = add_modules(save_model(tmp_path / "n", layer_norm_eps=1e-5, num_hidden_layers=1), "Pooling")
    assert load(other).identity.weights != first.weights
