"""The values that pass from stage to stage, and the protocols that a user of the library can implement.

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
Pooling = Literal["late", "naive", "blend"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
TokenWeights = Literal["none", "sif"]
TOKEN_WEIGHTS: tuple[TokenWeights, ...] = get_args(TokenWeights)
DEFAULT_RETRY_FOR = 120.0  # seconds; a node needs less than that to restart


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """The position of a chunk in its document: characters [start, end)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """One text to be chunked. `spans`, if given, are the chunks that the caller has cut already.

    `pages`, if the source has any, are the characters at which its pages begin, including the first page. If
    `plain_text` is true, a line that begins with `# ` is no heading: it may be a comment.
    """

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    spans: tuple[ChunkSpan, ...] | None = None
    pages: tuple[int, ...] = ()
    plain_text: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text's tokens without special or prefix tokens: `ids` (T,) and character `offsets` (T, 2).

    `unknown_id` is the id of the token for text that is not in the vocabulary, if there is such a token.
    """

    ids: IntArray
    offsets: IntArray
    unknown_id: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unknown(self) -> int:
        """The number of tokens that stand for text that the model cannot read."""
        return 0 if self.unknown_id is None else int(np.count_nonzero(self.ids == self.unknown_id))

    @property
    def unknown_share(self) -> float:
        """The share (0 to 1) of the text that the model cannot read, by tokens or by characters, whichever is larger.

        Neither suffices alone: in Chinese each character may be an unknown token, but so may a word of 5,000 letters.
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
    """A document with its chunks in order, its tokens, and the heading path of each chunk."""

    document: Document
    spans: tuple[ChunkSpan, ...]
    tokens: Tokens
    headings: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class PieceVector:
    """A piece of a chunk, the characters [start, end) of the document, with its L2-normalised vector (dim,) float32."""

    start: int
    end: int
    vector: FloatArray


@dataclass(frozen=True, slots=True)
class ChunkVector:
    """A chunk with its L2-normalised vector (dim,) float32; `content` is the document's `text[start:end]`.

    `pieces` are those of the chunk, in order, if the pooling asks for them, or ().
    """

    doc_id: str
    ordinal: int
    start: int
    end: int
    content: str
    vector: FloatArray
    pieces: tuple[PieceVector, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A hit with the chunks around it as one text: characters [start, end) of the document.

    Chunks do not contain the whitespace between them. It is written as a space, or as a blank line if the document has
    more than one character there.
    """

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class ListScore:
    """The score of a chunk in one of the two lists of a hybrid search, and its rank there, from 1."""

    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that a search found. `score` is Elasticsearch's, or that of the fusion in hybrid mode.

    `headings` are those above the chunk, from the highest level down; () if it has none, or the index keeps none.
    The five before it are None unless the search asked for them: the content with the query's words in <em>, other
    hits of the same document, the passage around the hit, the score of a reranker, which then also decides the order,
    and, in hybrid mode, the score and rank in each list by "bm25" and "knn", which is None if the chunk is not in it.
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
    scores: Mapping[str, ListScore | None] | None = None
    headings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolingOptions:
    """How token vectors become chunk vectors; the same for every vector of an index.

    `late` takes token vectors from windows over the document, `naive` from each chunk alone, and `blend` is the
    normalised sum of both. `token_weights="sif"` lets frequent words count less. `neighbour_share` (0 to 1) is the part
    of a vector that comes from the chunks before and after it. `late_window` is the number of tokens in a window of
    `late` and `blend`, including special and prefix tokens, if it is shorter than the encoder's own window. With
    `pieces`, each chunk is cut into pieces of at most so many tokens, and has the vector of each piece besides its own.
    `embed_title` (0 to 1) is the part of a vector that comes from the document's title and the headings above the
    chunk, if there are any.
    """

    pooling: Pooling = "late"
    token_weights: TokenWeights = "none"  # noqa: S105
    neighbour_share: float = 0.0
    late_window: int | None = None
    pieces: int | None = None
    embed_title: float = 0.0

    def __str__(self) -> str:
        """Return the settings in words, without those that change nothing."""
        words = [f"{self.pooling} pooling"]
        if self.late_window is not None:
            words.append(f"windows of {self.late_window} tokens")
        if self.token_weights != "none":  # noqa: S105
            words.append(f"{self.token_weights} token weights")
        if self.neighbour_share:
            words.append(f"a share of {self.neighbour_share:g} from the neighbours")
        if self.pieces is not None:
            words.append(f"pieces of {self.pieces} tokens")
        if self.embed_title:
            words.append(f"a share of {self.embed_title:g} from the title")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class EncoderIdentity:
    """What must agree for the vectors of two encoders to be comparable.

    `weights` is "sha256:...", or None for a hosted model.
    """

    model: str
    weights: str | None
    dimensions: int
    window: int
    document_prefix: str = ""
    query_prefix: str = ""
    assumed_mean_pooling: bool = False
    assumed_matryoshka: bool = False
    # The origin of the weights, to find them again. It is not compared: the same weights elsewhere are the same model.
    revision: str | None = None
    folder: str | None = None
    document_task: str = ""
    query_task: str = ""

    def fields_of_origin(self) -> frozenset[str]:
        """Return the fields that change no vector: where the weights come from, and the name if they are known."""
        return frozenset({"revision", "folder", *(["model"] if self.weights else [])})


class Tokenizer(Protocol):
    """Cuts a text into the tokens of a vocabulary, with the position of each one in the text."""

    def tokenize(self, text: str) -> Tokens:
        """Return the tokens of `text`, without special tokens; nothing is truncated."""

    @property
    def pieces(self) -> Mapping[int, str]:
        """The text of each token id, without space markers or continuation marks.

        Ids that do not determine their text (unknown, special, part of a character) are left out: use the offsets of
        the token in the document instead.
        """


class Chunker(Protocol):
    """Cuts a text into chunks."""

    def split(self, text: str, tokens: Tokens) -> list[ChunkSpan]:
        """Return the chunks in order; every non-whitespace character of `text` is in exactly one of them."""


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
        """Return one vector per text (N, dim), each text as one chunk; long texts go through windows."""

    def encode_queries(self, texts: Sequence[str]) -> FloatArray:
        """Return one vector per query (N, dim), with the prefix or task for queries."""


class Reranker(Protocol):
    """A model that reads a query and a text together."""

    @property
    def name(self) -> str: ...

    def score(self, query: str, texts: Sequence[str]) -> FloatArray:
        """Return one score per text (N,) float32; higher is better, and the scale depends on the model."""


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that gives token vectors: `late` windows the document and pools the chunks."""

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        """Return the token vectors (T_i, hidden) of token ids (T_i,).

        The encoder adds special and prefix tokens, and removes their vectors again.
        """

    def finish(self, pooled: FloatArray) -> FloatArray:
        """Turn mean-pooled chunks (N, hidden) into final vectors (N, dim): Dense layers, Matryoshka cut, L2 norm."""

    @property
    def window_tokens(self) -> int:
        """The number of document tokens that fit into a window besides the special and prefix tokens."""

    @property
    def batch_tokens(self) -> int:
        """The maximum number of padded tokens in one call of `encode_windows`."""


@runtime_checkable
class ChunkEncoder(Encoder, Protocol):
    """An encoder that does the late chunking itself, such as a hosted model: it gets the chunks of a document."""

    def encode_many(
        self, documents: Iterable[ChunkedDocument], pooling: Pooling
    ) -> Iterable[FloatArray | DocumentError]:
        """Yield the vectors (N, dim) of each document's N chunks, in order, with several requests at the same time.

        A document that is refused gives a DocumentError instead of its vectors, and the run continues.
        """


def check_pooling(options: PoolingOptions, encoder: Encoder) -> None:
    """Raise a UsageError for options that do not exist, or that this encoder cannot have."""
    for name, value, known in (
        ("pooling", options.pooling, POOLINGS),
        ("token_weights", options.token_weights, TOKEN_WEIGHTS),
    ):
        if value not in known:
            raise UsageError(f"{setting(name)}: {value!r} is not known; choose one of {', '.join(known)}")
    for name, share in (
        ("neighbour_share", options.neighbour_share),
        ("embed_title", options.embed_title),
    ):
        if not 0 <= share <= 1:
            raise UsageError(f"{setting(name)} {share} is not a share; give 0 to 1, such as 0.2")
    if options.pieces is not None and options.pieces < 1:
        raise UsageError(f"{setting('pieces')} {options.pieces}: give 1 token or more per piece, such as 32")
    if options.late_window is not None and options.pooling == "naive":
        raise UsageError(
            f"{setting('late_window')} {options.late_window}: naive pooling reads each chunk alone, in no window of "
            f"the document; leave it out, or choose {setting('pooling')} late or blend"
        )
    if isinstance(encoder, TokenEncoder):
        taken = encoder.identity.window - encoder.window_tokens
        if options.late_window is not None and not taken < options.late_window <= encoder.identity.window:
            raise UsageError(
                f"{setting('late_window')} {options.late_window}: choose {taken + 1} to {encoder.identity.window} "
                f"tokens, the window of model {encoder.identity.model}"
            )
    elif isinstance(encoder, ChunkEncoder):
        _check_hosted_pooling(options, encoder)
    else:
        raise TypeError(f"{type(encoder).__name__} gives neither token vectors nor chunk vectors")


def _check_hosted_pooling(options: PoolingOptions, encoder: Encoder) -> None:
    """Refuse what needs token vectors, which a hosted model does not give."""
    for name, value, possible in (
        ("pooling", options.pooling, options.pooling != "blend"),
        ("token_weights", options.token_weights, options.token_weights == "none"),  # noqa: S105
        ("late_window", options.late_window, options.late_window is None),
        ("pieces", options.pieces, options.pieces is None),
    ):
        if not possible:
            raise UsageError(
                f"{setting(name)} {value}: {encoder.identity.model} is hosted and gives vectors of whole chunks, this "
                "needs those of tokens; leave it out, or use a model on this machine"
            )
    if options.embed_title:
        raise UsageError(
            f"{setting('embed_title')} {options.embed_title:g}: {encoder.identity.model} is hosted, and would need one "
            "more request for each title and heading; leave it out, or use a model on this machine"
        )
