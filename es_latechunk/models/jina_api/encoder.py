"""A hosted Jina model as an encoder: chunk texts out, chunk vectors back."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from es_latechunk.errors import DocumentError, JinaApiError, ModelError
from es_latechunk.models.jina_api.client import JinaApiClient
from es_latechunk.models.jina_api.hosted import HostedModel, find_hosted
from es_latechunk.models.jina_api.requests import (
    CONTEXT_SHARE,
    LARGEST_SEGMENT_SHARE,
    Segment,
    chunk_texts,
    merge,
    plan_requests,
    segment,
)
from es_latechunk.models.jina_api.tokenizer import UnicodeTokenizer, estimate_tokens
from es_latechunk.models.registry import JINA_API
from es_latechunk.threads import Call, Workers
from es_latechunk.types import ChunkedDocument, EncoderIdentity, FloatArray, Pooling, Tokenizer, TokenWindow

PREFIX = JINA_API
HALVINGS = 3  # an eighth of a window by our estimate is less than half of one in bytes, so in any tokens
LOOK_AHEAD = 2  # documents held for each request in flight


class JinaApiEncoder:
    """Late chunking by the Jina API (`types.ChunkEncoder`): one document's chunks a request, no weights here.

    `dimensions`, `document_task`, `query_task` and `window` (tokens of one request) default to the
    model's own; what it does not accept is a UsageError. A document that the service refuses is a
    DocumentError; a refused key, spent credit or an absent service ends the work (see JinaApiClient).
    """

    def __init__(
        self,
        model: HostedModel,
        client: JinaApiClient,
        *,
        dimensions: int | None = None,
        document_task: str | None = None,
        query_task: str | None = None,
        window: int | None = None,
    ) -> None:
        self._model = model
        self._client = client
        self._window = model.check_window(window)
        self._identity = EncoderIdentity(
            model=PREFIX + model.name,
            weights=None,
            dimensions=model.check_dimensions(dimensions),
            window=self._window,
            document_task=model.check_task(document_task, "retrieval.passage"),
            query_task=model.check_task(query_task, "retrieval.query"),
        )
        self._tokenizer = UnicodeTokenizer()

    @classmethod
    def from_environment(
        cls,
        name: str,
        *,
        dimensions: int | None = None,
        document_task: str | None = None,
        query_task: str | None = None,
        window: int | None = None,
        **connection: Any,
    ) -> JinaApiEncoder:
        """The hosted model `name`, `jina-api:` in front or not, with JINA_API_KEY and JINA_API_BASE_URL.

        `connection` is what JinaApiClient takes: concurrency, timeout, retry_for.
        """
        model = find_hosted(name.removeprefix(PREFIX))
        return cls(
            model,
            JinaApiClient.from_environment(**connection),
            dimensions=dimensions,
            document_task=document_task,
            query_task=query_task,
            window=window,
        )

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    @property
    def dim(self) -> int:
        return self._identity.dimensions

    @property
    def tokenizer(self) -> Tokenizer:
        """Its token counts are estimates: the hosted model's own vocabulary is not here."""
        return self._tokenizer

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def encode_documents(self, texts: Sequence[str]) -> FloatArray:
        """One vector (N, dim) per text, each text as one chunk; a long text's parts see each other."""
        long = {row for row, text in enumerate(texts) if estimate_tokens(text) > self._window}
        short = [row for row in range(len(texts)) if row not in long]
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        task = self._identity.document_task
        vectors[short] = self._encode("documents", [texts[row] for row in short], task=task, late=False)
        for row in sorted(long):
            late = self._model.late_chunking
            vectors[row] = self._encode(f"document {row}", [texts[row]], task=task, late=late)[0]
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> FloatArray:
        """One vector (N, dim) per query, with the query task."""
        return self._encode("queries", texts, task=self._identity.query_task, late=False)

    def encode_chunks(self, document: ChunkedDocument, pooling: Pooling) -> FloatArray:
        """Vectors (N, dim) of the document's N chunks; "naive" sends each chunk's text by itself."""
        late = self._is_late(pooling)
        spans, text = document.spans, document.document.text
        texts = chunk_texts(document) if late else [text[span.start : span.end] for span in spans]
        return self._encode(document.document.id, texts, task=self._identity.document_task, late=late)

    def encode_many(
        self, documents: Iterable[ChunkedDocument], pooling: Pooling
    ) -> Iterator[FloatArray | DocumentError]:
        """`encode_chunks` for a stream, in order; a refused document gives its error in their place.

        When the stream ends early, by an error or Ctrl-C, no request is tried again or waited for.
        """
        self._is_late(pooling)
        source = iter(documents)
        workers: Workers[FloatArray | DocumentError] = Workers(self._client.concurrency)
        with self._client.one_stream() as client:
            encoder = copy.copy(self)
            encoder._client = client

            def start(count: int) -> Iterator[Call[FloatArray | DocumentError]]:
                for document in islice(source, count):
                    yield workers.submit(partial(encoder._encode_or_error, document, pooling))

            try:
                ahead = deque(start(LOOK_AHEAD * client.concurrency))
                while ahead:
                    answer = ahead.popleft().result()
                    ahead.extend(start(1))
                    yield answer
            finally:
                workers.end()

    def _encode_or_error(self, document: ChunkedDocument, pooling: Pooling) -> FloatArray | DocumentError:
        try:
            return self.encode_chunks(document, pooling)
        except DocumentError as error:
            return error

    def _is_late(self, pooling: Pooling) -> bool:
        if pooling == "late" and not self._model.late_chunking:
            raise ModelError(
                f"{self._identity.model}: the API chunks late only with v3 and v4; use one of them,"
                f" or jinaai/{self._model.name} on this machine"
            )
        return pooling == "late"

    def _encode(self, name: str, texts: Sequence[str], *, task: str, late: bool) -> FloatArray:
        size = self._window
        for _ in range(HALVINGS):
            try:
                return self._encode_in(size, texts, task=task, late=late)
            except JinaApiError as error:
                if not error.too_long:
                    raise DocumentError(name, str(error)) from error
            size //= 2
        try:
            return self._encode_in(size, texts, task=task, late=late)
        except JinaApiError as error:
            raise DocumentError(name, str(error)) from error

    def _encode_in(self, size: int, texts: Sequence[str], *, task: str, late: bool) -> FloatArray:
        """The texts' vectors by requests of at most `size` estimated tokens."""
        whole = sum(map(estimate_tokens, texts)) <= size
        segments = segment(texts, size if whole or not late else size // LARGEST_SEGMENT_SHARE)
        context = size // CONTEXT_SHARE if late else 0
        kept = [
            self._ask(window, segments, task=task, late=late)
            for window in plan_requests([part.tokens for part in segments], size, context=context)
        ]
        return merge(segments, np.concatenate([np.empty((0, self.dim), np.float32), *kept]), len(texts))

    def _ask(self, window: TokenWindow, segments: list[Segment], *, task: str, late: bool) -> FloatArray:
        answer = self._client.embed(
            [part.text for part in segments[window.start : window.end]],
            model=self._model.name,
            dimensions=self.dim if self._model.matryoshka else None,
            task=task,
            late_chunking=late,
        )
        if answer.vectors.shape[1] != self.dim:
            raise JinaApiError(
                f"the answer's vectors have {answer.vectors.shape[1]} dimensions, not {self.dim}"
            )
        if late and answer.tokens is not None and answer.tokens >= self._model.context:
            raise JinaApiError(
                f"{answer.tokens} tokens fill the context of {self._model.context}: the end may be cut off;"
                " make the chunks or the window smaller",
                too_long=True,
            )
        return answer.vectors[window.keep_start - window.start : window.keep_end - window.start]
