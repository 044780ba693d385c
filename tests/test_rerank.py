"""Rerankers: a cross-encoder's own scores, one behind the API, and the order that a search takes from them."""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from commands import error_of, run
from elasticsearch import Elasticsearch
from indices import WordEncoder, made_up_index, rows_of
from jina_server import KEY, serve
from logs import warnings_told
from made_models import (
    ARCHITECTURES,
    FAST,
    POSITIONS,
    change_config,
    save_model,
    save_spread,
    save_tokenizer,
    write_json,
)
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing

from es_latechunk import load_reranker, search
from es_latechunk.elastic.search.query import SearchOptions, first_stage
from es_latechunk.errors import ModelError, UsageError
from es_latechunk.types import FloatArray

pytestmark = pytest.mark.every_version

INDEX = "reranked"
QUERY_WEIGHTS = "bert.encoder.layer.0.attention.self.query.weight"
QUERY = "copper tower by the river"
TEXTS = [
    "Berlin is big.",
    "The old city lies on the river.",
    "Trams",
    "Its hills are steep, the city is old.",
]


def save_cross_encoder(folder: Path, kind: str = "bert", **changes: Any) -> Path:
    """A tiny random model of pairs, as transformers saves it."""
    tokenizer = copy.deepcopy(FAST["word_piece"])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    class_name, _, settings = ARCHITECTURES[kind]
    settings = {"vocab_size": len(tokenizer), "num_labels": 1, **settings, **changes}
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(
        getattr(transformers, class_name)(**settings)
    )
    save_spread(model, folder)
    save_tokenizer(folder, tokenizer)
    return folder


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_cross_encoder(tmp_path_factory.mktemp("models") / "pairs")


def expected_scores(folder: Path, query: str, texts: Sequence[str]) -> FloatArray:
    """Sigmoid of the only logit, one pair at a time, through transformers alone."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = [model(**tokenizer(query, text, return_tensors="pt")).logits for text in texts]
    return torch.sigmoid(torch.cat(logits)).numpy()[:, 0]


def test_a_cross_encoder_scores_pairs(cross_encoder: Path) -> None:
    reranker = load_reranker(str(cross_encoder), device="cpu")
    scores = reranker.score("The city is old.", TEXTS)
    assert reranker.name == "pairs"
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected_scores(cross_encoder, "The city is old.", TEXTS), atol=1e-6)
    assert len(set(scores.tolist())) == len(TEXTS)
    assert reranker.score("The city is old.", []).shape == (0,)


def test_a_chunk_that_it_cannot_read_whole_is_told(
    cross_encoder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reranker = load_reranker(str(cross_encoder), device="cpu")
    with caplog.at_level(logging.WARNING, "es_latechunk"):
        reranker.score("city", TEXTS)
        assert warnings_told(caplog) == []
        assert np.isfinite(reranker.score("city", [*TEXTS, "river " * POSITIONS])).all()
    assert warnings_told(caplog)[0].startswith(
        f"reranker pairs: 1 of 5 chunks are, with the query, longer than the {POSITIONS}"
    )


@pytest.mark.parametrize("told", [None, POSITIONS + 2, 10**30, 20])
def test_a_pair_is_cut_to_the_positions_that_the_model_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, told: int | None
) -> None:
    """XLM-R numbers positions from its padding id + 1 on, so that two rows of its table are never used."""
    folder = save_cross_encoder(tmp_path / "xlm", "xlm-roberta")
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    write_json(folder / "tokenizer_config.json", {**settings, "model_max_length": told})
    reranker = load_reranker(str(folder), device="cpu")
    with caplog.at_level(logging.WARNING, "es_latechunk"):
        scores = reranker.score("city", [*TEXTS, "river " * POSITIONS])
    assert np.isfinite(scores).all()
    assert f"longer than the {min(told or POSITIONS, POSITIONS)} tokens" in caplog.text
    short = expected_scores(folder, "city", TEXTS[2:3])
    np.testing.assert_allclose(scores[2:3], short, atol=1e-6)


def test_what_ranks_no_pairs_is_refused(tmp_path: Path) -> None:
    """Loaded as a cross-encoder, an embedding model would get a last layer of random numbers."""
    with pytest.raises(ModelError, match=r"config\.json names BertModel, which ranks no pairs"):
        load_reranker(str(save_model(tmp_path / "embedder")))
    three = save_cross_encoder(tmp_path / "three", num_labels=3)
    with pytest.raises(ModelError, match="gives 3 scores for a pair, where one is needed"):
        load_reranker(str(three)).score("a", ["b"])
    lacking = save_cross_encoder(tmp_path / "lacking")
    tensors = load_file(lacking / "model.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if k != QUERY_WEIGHTS},
        lacking / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ModelError, match=f"model lacking: .* lacks: {QUERY_WEIGHTS}"):
        load_reranker(str(lacking)).score("a", ["b"])
    cut_off = save_cross_encoder(tmp_path / "cut-off")
    weights = cut_off / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="reranker cut-off: cannot be loaded"):
        load_reranker(str(cut_off)).score("a", ["b"])
    unknown = save_cross_encoder(tmp_path / "unknown")
    change_config(unknown, model_type="unheard_of")
    with pytest.raises(ModelError, match="reranker unknown: cannot be loaded"):
        load_reranker(str(unknown)).score("a", ["b"])
    with pytest.raises(ModelError, match="no such folder"):
        load_reranker(str(tmp_path / "nothing here"))


def test_without_sentence_transformers_it_says_what_to_install(
    cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setattr("es_latechunk.models.rerank.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'es-latechunk\[rerank\]'"):
        load_reranker(str(cross_encoder))


class Longest:
    """The longest chunk is the best; what lay before a search's first hits is never seen."""

    name = "fake/longest"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        assert query == QUERY
        self.seen = list(texts)
        return np.array([len(text) for text in texts], dtype=np.float32)


@pytest.fixture(scope="module")
def filled(elasticsearch_url: str) -> Iterator[tuple[Elasticsearch, WordEncoder]]:
    with made_up_index(elasticsearch_url, INDEX) as both:
        yield both


@pytest.mark.parametrize("mode", ["knn", "bm25", "hybrid"])
@pytest.mark.parametrize(("window", "read"), [(None, 50), (20, 20), (5, 5)])
def test_the_first_hits_are_put_in_the_reranker_s_order(
    filled: tuple[Elasticsearch, WordEncoder], mode: Any, window: int | None, read: int
) -> None:
    client, encoder = filled
    ask: Any = {"client": client, "index": INDEX, "encoder": encoder}
    first = search(QUERY, k=read, mode=mode, **ask)
    longest = Longest()
    hits = search(QUERY, k=5, mode=mode, reranker=longest, rank_window_size=window, **ask)
    assert longest.seen == [hit.content for hit in first]
    order = sorted(first, key=lambda hit: -len(hit.content))[:5]
    assert [(hit.id, hit.score, hit.rerank_score) for hit in hits] == [
        (hit.id, hit.score, len(hit.content)) for hit in order
    ]


def test_the_window_lies_between_k_and_the_candidates() -> None:
    assert first_stage(SearchOptions(k=80), None).k == 80
    assert first_stage(SearchOptions(k=5, num_candidates=30), None).k == 30
    for window in (9, 301):
        with pytest.raises(UsageError, match=f"rank_window_size {window} is not between k 10 and 300"):
            first_stage(SearchOptions(num_candidates=300), window)


@pytest.fixture
def command(
    filled: tuple[Elasticsearch, WordEncoder], elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: filled[1])
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)


@pytest.mark.usefixtures("command")
def test_the_command_prints_both_scores(cross_encoder: Path) -> None:
    asked = (QUERY, "--index", INDEX, "-k", "4", "--rank-window-size", "12")
    rows = rows_of(*asked, "--rerank", str(cross_encoder), "--neighbours", "1")
    first = {row["id"]: row for row in rows_of(QUERY, "--index", INDEX, "-k", "12")}
    scores = dict(
        zip(
            first,
            expected_scores(cross_encoder, QUERY, [row["content"] for row in first.values()]),
            strict=True,
        )
    )
    best = sorted(first, key=lambda id: -scores[id])[:4]
    assert [(row["id"], row["score"]) for row in rows] == [(id, first[id]["score"]) for id in best]
    np.testing.assert_allclose([row["rerank_score"] for row in rows], [scores[id] for id in best], atol=1e-6)
    assert all(row["content"] in row["passage"]["text"] for row in rows)
    lines = run("search", *asked, "--rerank", cross_encoder).stdout.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [[f"{scores[id]:.4f}", id] for id in best]


@pytest.mark.usefixtures("command")
def test_the_console_shows_the_first_stage(cross_encoder: Path) -> None:
    asked = ("search", QUERY, "--index", INDEX, "--mode", "bm25", "--console")
    assert '"size": 50' in run(*asked, "--rerank", "not/loaded").stdout
    message = error_of(run(*asked, "--rank-window-size", "50"), 2)
    assert message == "--rank-window-size is of no use without --rerank; name a reranker"


@pytest.mark.usefixtures("command")
def test_a_reranker_behind_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server:
        monkeypatch.setenv("JINA_API_KEY", KEY)
        monkeypatch.setenv("JINA_API_BASE_URL", server.url)
        rows = rows_of(QUERY, "--index", INDEX, "--rerank", "jina-api:jina-reranker-m0")
        [request] = server.requests
    assert request["model"] == "jina-reranker-m0"
    assert len(request["documents"]) == 50
    scores = [row["rerank_score"] for row in rows]
    assert len(rows) == 10
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    monkeypatch.setenv("JINA_API_KEY", "")
    refused = run("search", QUERY, "--index", INDEX, "--rerank", "jina-api:jina-reranker-m0")
    assert "JINA_API_KEY is not set" in error_of(refused, 2)
