"""Turn validated requests into jobs for the encoder: tokenized, cut into chunks, and checked against the limits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.chunking.chunkers import sentence_spans
from es_latechunk.chunking.sentences import TerminatorIds
from es_latechunk.serve.batcher import LATE, Job
from es_latechunk.serve.limits import Limits, RequestError
from es_latechunk.serve.schemas import (
    CompareRequest,
    EmbeddingsRequest,
    FeatureExtractionRequest,
    InputType,
    LateChunkRequest,
)
from es_latechunk.types import ChunkedDocument, Chunker, ChunkSpan, Document, PoolingOptions, TokenEncoder


class JobBuilder:
    """Makes jobs for one encoder. All methods raise RequestError or DocumentError, and are safe in any thread."""

    def __init__(self, encoder: TokenEncoder, limits: Limits) -> None:
        self._encoder = encoder
        self._limits = limits
        self._terminators = TerminatorIds(encoder.tokenizer)
        self._chunker = lru_cache(maxsize=32)(partial(make_chunker, tokenizer=encoder.tokenizer))
        self.model = encoder.identity.model

    def embeddings(self, request: EmbeddingsRequest, input_type: InputType) -> Job:
        """Make a job with one vector per text."""
        if request.model not in (None, self.model):
            raise RequestError(404, f"model: {self.model!r} is served here; name that one, or none")
        return self._texts(request.input, request.dimensions, request.input_type or input_type)

    def feature_extraction(self, request: FeatureExtractionRequest, input_type: InputType) -> Job:
        """Make a job with one vector per text."""
        return self._texts(request.inputs, request.dimensions, request.prompt_name or input_type)

    def late_chunk(self, request: LateChunkRequest) -> Job:
        """Make a job with one vector per chunk of one document."""
        if request.chunks is not None and request.model_fields_set & {"chunker", "max_tokens"}:
            raise RequestError(
                422,
                "chunks: chunker and max_tokens have no effect on given chunks; leave them out, or leave out chunks",
            )
        spans = (
            None if request.chunks is None else tuple(ChunkSpan(start, end) for start, end in request.chunks)
        )
        document = Document(id=request.id, text=request.text, title=request.title, spans=spans)
        chunker = self._chunker(request.chunker, max_tokens=request.max_tokens)
        return self._within_limits(Job([self._cut(document, chunker)], PoolingOptions(request.pooling)))

    def compare(self, request: CompareRequest) -> Job:
        """Make a job with one vector per chunk of the text in the request."""
        chunker = self._chunker(request.chunker, max_tokens=request.max_tokens)
        return self._within_limits(Job([self._cut(Document(id="text", text=request.text), chunker)]))

    def question(self, query: str) -> Job:
        """Make a job with the vector of a query."""
        document = Document(id="query", text=query, spans=(ChunkSpan(0, len(query)),))
        return self._within_limits(Job([self._cut(document, self._chunker("tokens", max_tokens=1))], "query"))

    def whole(self, texts: Sequence[str]) -> list[ChunkedDocument]:
        """Return each text as one chunk, even if it has no token without its neighbours."""
        tokens = map(self._encoder.tokenizer.tokenize, texts)
        return [
            ChunkedDocument(Document(id=text, text=text), (ChunkSpan(0, len(text)),), found)
            for text, found in zip(texts, tokens, strict=True)
        ]

    def sentences(self, text: str) -> ChunkedDocument:
        """Return a text with each sentence as a chunk."""
        spans = sentence_spans(text, self._encoder.tokenizer.tokenize(text), self._terminators)
        return self._cut(
            Document(id="passage", text=text, spans=spans), self._chunker("tokens", max_tokens=1)
        )

    def _within_limits(self, job: Job) -> Job:
        self._check_inputs(job.chunks)
        return self.with_few_tokens(job)

    def with_few_tokens(self, job: Job) -> Job:
        """Return the job, or raise RequestError if it has too many tokens for one request."""
        if job.tokens > self._limits.request_tokens:
            raise RequestError(
                422,
                f"{job.tokens} tokens in one request, at most {self._limits.request_tokens}; send less at once",
            )
        return job

    def _texts(self, texts: Sequence[str], dimensions: int | None, input_type: InputType) -> Job:
        if dimensions not in (None, self._encoder.dim):
            raise RequestError(
                422,
                f"dimensions: {dimensions} asked, {self._encoder.dim} served; start with --dimensions {dimensions}",
            )
        self._check_inputs(len(texts))
        documents = [
            Document(id=f"input {number}", text=text, spans=(ChunkSpan(0, len(text)),) if text else ())
            for number, text in enumerate(texts)
        ]
        chunker = self._chunker("tokens", max_tokens=1)  # never called, because each text brings its span
        cut = [self._cut(document, chunker) for document in documents]
        return self._within_limits(Job(cut, "query" if input_type == "query" else LATE))

    def _check_inputs(self, count: int) -> None:
        if count > self._limits.inputs:
            raise RequestError(
                422,
                f"{count} texts or chunks in one request, at most {self._limits.inputs}; send fewer at once",
            )

    def _cut(self, document: Document, chunker: Chunker) -> ChunkedDocument:
        return chunk_document(document, chunker=chunker, tokenizer=self._encoder.tokenizer)
