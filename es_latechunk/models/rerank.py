"""Rerankers: a model reads the query and a chunk together, and says how well the one answers the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np

from es_latechunk.errors import ModelError, UsageError
from es_latechunk.models.checkpoint.json_files import read_json_object
from es_latechunk.models.checkpoint.resolve import resolve_model
from es_latechunk.models.checkpoint.weights import Checkpoint
from es_latechunk.models.hardware import choose_hardware
from es_latechunk.models.local.forward import load_errors, read_checkpoint
from es_latechunk.models.local.metadata import quiet, usable_positions
from es_latechunk.models.registry import JINA_API
from es_latechunk.types import FloatArray, Reranker

BATCH = 32  # pairs
HEAD = "ForSequenceClassification"

_log = logging.getLogger(__name__)


def load_reranker(
    name: str, *, revision: str | None = None, device: str = "auto", offline: bool = False
) -> Reranker:
    """Load the cross-encoder of a folder or a Hugging Face id, or a hosted one ("jina-api:jina-reranker-m0").

    `revision`, `device` and `offline` are those of `load_encoder`; a hosted one ignores them. Raises ModelError if the
    model cannot be loaded or gives no single score, UsageError if sentence-transformers or the API's key is missing.
    """
    if name.startswith(JINA_API):
        return JinaApiReranker(name.removeprefix(JINA_API))
    if find_spec("sentence_transformers") is None:
        raise UsageError(
            "a reranker runs in sentence-transformers, which is not installed; "
            "install it: pip install 'es-latechunk[rerank]'"
        )
    folder = resolve_model(name, revision=revision, offline=offline)
    return CrossEncoderReranker(folder, device=choose_hardware(device, "float32").device)


class CrossEncoderReranker:
    """A local cross-encoder, in float32; the weights are loaded at the first call."""

    def __init__(self, folder: Checkpoint, *, device: str) -> None:
        _check_head(folder)
        self.name = folder.name
        self._folder = folder
        self._device = device

    @cached_property
    def _model(self) -> Any:
        import torch
        from sentence_transformers import CrossEncoder

        with load_errors(f"reranker {self.name}: cannot be loaded", "check its files"):
            labels = _check_whole(self._folder)
            model = CrossEncoder(
                str(self._folder.path),
                device=self._device,
                local_files_only=True,
                model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            )
        if labels != 1:
            raise ModelError(
                f"reranker {self.name}: gives {labels} scores for a pair, where one is needed; choose a model that "
                "was trained to rank"
            )
        # XLM-R's tokenizer files often name no length, or one that counts the positions before the first token.
        limits = (model.max_seq_length, usable_positions(model.config))
        model.max_seq_length = min((limit for limit in limits if limit is not None), default=None)
        return model

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        """One score (N,) float32 per text, the higher the better; what the model cannot read whole is logged."""
        if not texts:
            return np.zeros(0, dtype=np.float32)
        self._warn_about_long_pairs(query, texts)
        pairs = [(query, text) for text in texts]
        scores = np.asarray(self._model.predict(pairs, batch_size=BATCH, show_progress_bar=False), np.float32)
        if not np.isfinite(scores).all():
            raise ModelError(f"reranker {self.name}: gives scores that are not finite; check the weights")
        return scores

    def _warn_about_long_pairs(self, query: str, texts: Sequence[str]) -> None:
        limit = self._model.max_seq_length
        if limit is None:
            return
        with quiet():
            pairs = self._model.tokenizer([query] * len(texts), list(texts))["input_ids"]
        if too_long := sum(len(ids) > limit for ids in pairs):
            _log.warning(
                "reranker %s: %d of %d chunks are, with the query, longer than the %d tokens that it reads; the "
                "rest of them does not count",
                self.name,
                too_long,
                len(texts),
                limit,
            )


class JinaApiReranker:
    """A reranker behind the Jina API, with JINA_API_KEY and JINA_API_BASE_URL."""

    def __init__(self, model: str) -> None:
        from es_latechunk.models.jina_api.client import JinaApiClient

        self.name = JINA_API + model
        self._model = model
        self._client = JinaApiClient.from_environment()

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        """One score (N,) float32 per text, the higher the better."""
        scores = np.zeros(len(texts), dtype=np.float32)
        for index, score in self._client.rerank(query, texts, model=self._model):
            scores[index] = score
        return scores


def _check_whole(folder: Checkpoint) -> int:
    """The number of scores for a pair; ModelError if the architecture has weights that the folder lacks.

    sentence-transformers does not say so, as with models that need code from their repository.
    """
    from transformers import AutoModelForSequenceClassification

    model = read_checkpoint(AutoModelForSequenceClassification, folder.path, folder.name)
    return int(model.config.num_labels)


def _check_head(folder: Checkpoint) -> None:
    """Refuse what is no cross-encoder: an embedding model would load as well, with a last layer of random numbers."""
    path = folder.path / "config.json"
    architectures = read_json_object(path).get("architectures") or []
    if not any(str(name).endswith(HEAD) for name in architectures):
        raise ModelError(
            f"reranker {folder.name}: {path} names {', '.join(map(str, architectures)) or 'no architecture'}, which "
            f"ranks no pairs; give a cross-encoder (...{HEAD})"
        )
