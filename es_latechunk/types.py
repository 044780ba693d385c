"""The values that pass from stage to stage, and the two roles that can be filled from outside.

Character positions are Python code points, token positions count tokens of the document itself
(special and prefix tokens are never counted); every range is half-open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from es_latechunk.errors import DocumentError, UsageError, setting

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
Pooling = Literal["late", "naive"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
DEFAULT_RETRY_FOR = 120.0  # seconds, of any request to a server: about as long as a node takes to restart


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """A chunk's place in its document: characters [start, end)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """One text to be chunked. `spans`, where given, are the chunks that the caller has already cut.

    `pages`, where the source has any, are the characters at which its pages begin, the first one's included.
    """

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    spans: tuple[ChunkSpan, ...] | None = None
    pages: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text's tokens without special or prefix tokens: `ids` (T,) and character `offsets` (T, 2).

    `unknown_id` stands for every text that the vocabulary does not hold, where it has such a token.
    """

    ids: IntArray
    offsets: IntArray
    unknown_id: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unknown(self) -> int:
        """How many tokens stand for a text that the model cannot read."""
        return 0 if self.unknown_id is None else int(np.count_nonzero(self.ids == self.unknown_id))

    @property
    def unknown_share(self) -> float:
        """The share (0 to 1) of the text that the model cannot read: of its tokens or characters, which is more.

        Both say something: of Chinese, each character may be an unknown token; a word of 5,000 letters is one.
        """
        if not self.unknown:
            return 0.0
        characters = self.offsets[:, 1] - self.offsets[:, 0]
        read = int(characters[self.ids != self.unknown_id].sum())
        return max(self.unknown / len(self), 1 - read / int(characters.sum()))


@dataclass(frozen=True, slots=True)
class TokenWindow:
    """Tokens [start, end) go through the model together; the vectors of [keep_start, keep_end) are kept."""

    start: int
    end: int
    keep_start: int
    keep_end: int


@dataclass(frozen=True, slots=True)
class ChunkedDocument:
    """A document with its chunks in order, and its tokens where a tokenizer has seen it."""

    document: Document
    spans: tuple[ChunkSpan, ...]
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class ChunkVector:
    """A chunk with its L2-normalised vector (dim,) float32; `content` is the document's `text[start:end]`."""

    doc_id: str
    ordinal: int
    start: int
    end: int
    content: str
    vector: FloatArray


@dataclass(frozen=True, slots=True)
class Passage:
    """A hit with the chunks around it as one text: characters [start, end) of the document.

    Chunks do not hold the whitespace between them: it is written as a space, or as a blank line where the
    document has more than one character there.
    """

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that a search found. `score` is Elasticsearch's, the fusion's in hybrid mode.

    The last four are there when they were asked for: the content with the query's words in <em>, the other
    hits of the same document, the passage around the hit, and a reranker's score (then the order is its own).
    """

    id: str
    doc_id: str
    ordinal: int
    score: float
    start: int
    end: int
    content: str
    title: str
    metadata: Mapping[str, Any]
    highlight: str | None = None
    inner_hits: tuple[Hit, ...] | None = None
    passage: Passage | None = None
    rerank_score: float | None = None


@dataclass(frozen=True, slots=True)
class EncoderIdentity:
    """What makes two encoders' vectors comparable. `weights` is "sha256:..." or None for a hosted model."""

    model: str
    weights: str | None
    dimensions: int
    window: int
    document_prefix: str = ""
    query_prefix: str = ""
    assumed_mean_pooling: bool = False
    assumed_matryoshka: bool = False
    # Where the weights came from, to find them again; the same weights elsewhere are the same model.
    revision: str | None = None
    folder: str | None = None
    document_task: str = ""
    query_task: str = ""


class Tokenizer(Protocol):
    """Cuts a text into a vocabulary's tokens and knows where each one stands in the text."""

    def tokenize(self, text: str) -> Tokens:
        """Tokens of `text`, without special tokens; nothing is truncated."""

    @property
    def pieces(self) -> Mapping[int, str]:
        """Id -> the text that the piece stands for, without space markers or continuation marks.

        Pieces whose text cannot be told from the id alone (unknown, special, part of a character) are
        left out: look at the document under the token's offsets instead.
        """


class Chunker(Protocol):
    """Cuts a text into chunks."""

    def split(self, text: str, tokens: Tokens) -> list[ChunkSpan]:
        """Chunks in order: every non-whitespace character of `text` lies in exactly one of them."""


@runtime_checkable
class Encoder(Protocol):
    """What every encoder offers, local or hosted; all vectors are float32 and L2-normalised."""

    @property
    def identity(self) -> EncoderIdentity: ...

    @property
    def dim(self) -> int: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def encode_documents(self, texts: Sequence[str]) -> FloatArray:
        """One vector (N, dim) a text, each text as one chunk; long texts go through windows."""

    def encode_queries(self, texts: Sequence[str]) -> FloatArray:
        """One vector (N, dim) a query, with the query's prefix or task."""


class Reranker(Protocol):
    """A model that reads a query and a text together."""

    @property
    def name(self) -> str: ...

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        """One score (N,) float32 a text, the higher the better; its scale is the model's own."""


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that gives token vectors: `late` windows the document and pools the chunks."""

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        """Token ids (T_i,) -> token vectors (T_i, hidden), special and prefix tokens added and taken off."""

    def finish(self, pooled: FloatArray) -> FloatArray:
        """Mean-pooled chunks (N, hidden) -> final vectors (N, dim): Dense layers, Matryoshka cut, L2 norm."""

    @property
    def window_tokens(self) -> int:
        """The document tokens that fit one window beside the special and prefix tokens."""

    @property
    def batch_tokens(self) -> int:
        """The padded tokens that one call of `encode_windows` should hold at most."""


@runtime_checkable
class ChunkEncoder(Encoder, Protocol):
    """An encoder that does late chunking on its own side: a document's chunk texts in, vectors out."""

    def encode_many(
        self, documents: Iterable[ChunkedDocument], pooling: Pooling
    ) -> Iterable[FloatArray | DocumentError]:
        """The vectors (N, dim) of each document's N chunks, in order, with as many requests at once as it allows.

        A document that is refused gives its error in the place of its vectors; the others go on.
        """


def check_pooling(pooling: str) -> None:
    """Raise a UsageError for a pooling that does not exist."""
    if pooling not in POOLINGS:
        raise UsageError(
            f"{setting('pooling')}: {pooling!r} is not known; choose one of {', '.join(POOLINGS)}"
        )
