"""The local encoder: windows of token ids through a model, with the model's own prefixes and sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from es_latechunk.chunking import chunk_document
from es_latechunk.errors import DocumentError, UsageError, setting
from es_latechunk.late import embed_chunks, l2_normalise
from es_latechunk.models.local.dense import DenseLayer, load_dense
from es_latechunk.models.local.engines import ChosenEngine
from es_latechunk.models.local.forward import check_checkpoint
from es_latechunk.models.local.spec import ModelSpec
from es_latechunk.models.local.tokenizer import HuggingFaceTokenizer, PrefixedTokenizer
from es_latechunk.types import (
    ChunkedDocument,
    ChunkSpan,
    Document,
    EncoderIdentity,
    FloatArray,
    IntArray,
    Tokens,
)


class LocalEncoder:
    """A mean-pooled model on this machine (a `TokenEncoder`).

    Token vectors come from windows `[CLS] prefix document-tokens [SEP]`; only the document's tokens are
    kept. The weights are loaded at the first use, so that an index can be created without them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: HuggingFaceTokenizer,
        model: ChosenEngine,
        *,
        prefix: str | None = None,
    ) -> None:
        self._spec = spec
        self._base = tokenizer
        self._model = model
        self.tokenizer = PrefixedTokenizer(tokenizer, spec.document_prefix if prefix is None else prefix)
        before, after = tokenizer.wrap
        self._before = np.array([*before, *self.tokenizer.prefix_ids], dtype=np.int32)
        self._after = np.array(after, dtype=np.int32)
        if self.window_tokens < 1:
            taken = len(self._before) + len(self._after)
            raise UsageError(
                f"{setting('window')} {spec.window}: holds nothing beside the {taken} special and prefix tokens of "
                f"model {spec.name}; choose a longer one"
            )

    @cached_property
    def identity(self) -> EncoderIdentity:
        return EncoderIdentity(
            model=self._spec.name,
            weights=self._spec.checkpoint.fingerprint,
            dimensions=self._spec.dimensions,
            window=self._spec.window,
            document_prefix=self._spec.document_prefix,
            query_prefix=self._spec.query_prefix,
            assumed_mean_pooling=self._spec.assumed_mean_pooling,
            assumed_matryoshka=self._spec.assumed_matryoshka,
            revision=self._spec.checkpoint.revision,
            document_task=self._spec.document_task,
            query_task=self._spec.query_task,
            folder=str(self._spec.checkpoint.path.resolve()) if _is_own_folder(self._spec) else None,
        )

    def check_weights(self) -> None:
        """Refuse a checkpoint that the first document would fail on (ModelError), without reading its values."""
        check_checkpoint(self._spec)

    @property
    def dim(self) -> int:
        return self._spec.dimensions

    @property
    def precision(self) -> str:
        """Where and in what precision the model runs, such as "bfloat16 on cpu"."""
        return f"{self._model.hardware.dtype} on {self._model.hardware.device}"

    @property
    def engine(self) -> str:
        """What computes the token vectors: "openvino" or "torch"."""
        return self._model.name

    @property
    def window_tokens(self) -> int:
        return self._spec.window - len(self._before) - len(self._after)

    @property
    def batch_tokens(self) -> int:
        return self._model.hardware.batch_tokens

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        """Token ids (T_i,) -> token vectors (T_i, hidden) float32 of the document's own tokens."""
        whole = [np.concatenate([self._before, window, self._after]) for window in windows]
        start = len(self._before)
        return [
            vectors[start : start + len(window)]
            for vectors, window in zip(self._model.run(whole), windows, strict=True)
        ]

    def finish(self, pooled: FloatArray) -> FloatArray:
        """Pooled chunks (N, hidden) -> unit vectors (N, dim): Dense layers, Matryoshka cut, L2 norm."""
        for layer in self._dense:
            pooled = layer(pooled)
        return l2_normalise(np.ascontiguousarray(pooled[:, : self.dim], dtype=np.float32))

    @cached_property
    def _dense(self) -> list[DenseLayer]:
        return [load_dense(folder, self._spec.name) for folder in self._spec.dense]

    def encode_documents(self, texts: Sequence[str]) -> FloatArray:
        """One vector (N, dim) per text, the whole text as one chunk; a text without tokens is an error."""
        rows = []
        for block in embed_chunks(self._as_documents(texts), encoder=self):
            if isinstance(block, DocumentError):
                raise block
            rows.append(block.vectors)
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), dtype=np.float32)

    def encode_queries(self, texts: Sequence[str]) -> FloatArray:
        """One vector (N, dim) per query, with the model's query prefix."""
        return self._for_queries.encode_documents(texts)

    @cached_property
    def _for_queries(self) -> LocalEncoder:
        model = self._model.for_task(self._spec.query_task)
        if self._spec.query_prefix == self.tokenizer.prefix and model is self._model:
            return self
        return LocalEncoder(self._spec, self._base, model, prefix=self._spec.query_prefix)

    def _as_documents(self, texts: Sequence[str]) -> Iterator[ChunkedDocument]:
        for number, text in enumerate(texts):
            document = Document(id=f"text {number}", text=text)
            yield chunk_document(document, chunker=WholeText(), tokenizer=self.tokenizer)


def _is_own_folder(spec: ModelSpec) -> bool:
    """A folder that the user named, not one of a hub's cache or of a package: its name has no slash."""
    return spec.checkpoint.revision is None and "/" not in spec.name


class WholeText:
    """The chunker (a `Chunker`) that cuts nothing."""

    def split(self, text: str, tokens: Tokens) -> list[ChunkSpan]:
        return [ChunkSpan(0, len(text))]
