"""Late chunking with an encoder whose numbers can be checked by hand."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from fakes import PositionEncoder, WordTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from es_latechunk.embed import embed_documents
from es_latechunk.errors import DocumentError, ModelError, raise_errors
from es_latechunk.late import Windows, embed_chunks, l2_normalise
from es_latechunk.late.pool import ChunkAccumulator, sum_by_chunk
from es_latechunk.types import (
    ChunkedDocument,
    ChunkSpan,
    ChunkVector,
    Document,
    FloatArray,
    IntArray,
    Pooling,
    PoolingOptions,
)


def words(count: int, *, first: int = 0) -> str:
    return " ".join(f"w{number}" for number in range(first, first + count))


def chunked(
    text: str, sizes: list[int], tokenizer: WordTokenizer, name: str = "d", title: str = ""
) -> ChunkedDocument:
    """A document of words, cut into chunks of so many words."""
    tokens = tokenizer.tokenize(text)
    tokenizer.tokenize(title)  # now, as each new word changes the weights of all others
    edges = np.cumsum([0, *sizes])
    assert edges[-1] == len(tokens)
    spans = tuple(
        ChunkSpan(int(tokens.offsets[a, 0]), int(tokens.offsets[b - 1, 1])) for a, b in pairwise(edges)
    )
    return ChunkedDocument(Document(name, text, title), spans, tokens)


def vectors_of(
    documents: list[ChunkedDocument],
    encoder: PositionEncoder,
    pooling: Pooling | PoolingOptions,
    windows: Windows | None = None,
) -> dict[str, FloatArray]:
    rows: dict[str, list[FloatArray]] = {}
    for block in embed_chunks(documents, encoder=encoder, pooling=pooling, windows=windows):
        assert not isinstance(block, DocumentError)
        assert block.first == sum(len(part) for part in rows.get(block.chunked.document.id, []))
        rows.setdefault(block.chunked.document.id, []).append(block.vectors)
        assert block.last == (block.first + len(block.vectors) == len(block.chunked.spans))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def test_late_means_late() -> None:
    """Invariant 3: chunks are pooled from one pass over the whole document."""
    encoder = PositionEncoder()
    document = chunked(words(6), [2, 4], encoder.tokenizer)
    vectors = vectors_of([document], encoder, "late")["d"]
    assert encoder.batches == [[6]]
    assert vectors.tolist() == [[1, 0.5, 0.5, 15], [1, 3.5, 3.5, 15]]


def test_naive_pooling_sees_each_chunk_alone() -> None:
    encoder = PositionEncoder()
    document = chunked(words(6), [2, 4], encoder.tokenizer)
    vectors = vectors_of([document], encoder, "naive")["d"]
    assert vectors.tolist() == [[1, 0.5, 0.5, 1], [1, 3.5, 1.5, 14]]


def test_one_chunk_over_the_whole_text_is_the_ordinary_mean() -> None:
    """Invariant 3."""
    encoder = PositionEncoder()
    document = chunked(words(9), [9], encoder.tokenizer)
    assert vectors_of([document], encoder, "late")["d"].tolist() == [[1, 4, 4, 36]]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=25),
    window=st.integers(2, 40),
    overlap=st.one_of(st.none(), st.integers(0, 20)),
    batch_tokens=st.integers(1, 90),
)
@settings(deadline=None)
def test_windows_pool_exactly_the_kept_tokens(
    sizes: list[int], window: int, overlap: int | None, batch_tokens: int
) -> None:
    """Invariants 2 and 4: a chunk over several windows is the mean of its tokens, each from its own window."""
    encoder = PositionEncoder(window=window, batch_tokens=batch_tokens)
    document = chunked(words(sum(sizes)), sizes, encoder.tokenizer)
    windows = Windows(window, overlap if overlap is None else min(overlap, window // 2))
    edges = np.cumsum([0, *sizes])
    token_vectors = np.zeros((sum(sizes), 4))
    for part in windows.plan(sum(sizes), edges[:-1]):
        ids = document.tokens.ids[part.start : part.end]
        whole = encoder.encode_windows([ids])[0]
        kept = slice(part.keep_start - part.start, part.keep_end - part.start)
        token_vectors[part.keep_start : part.keep_end] = whole[kept]
    expected = [token_vectors[a:b].mean(axis=0) for a, b in pairwise(edges)]
    found = vectors_of([document], encoder, "late", windows)["d"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_overlap_decides_how_much_of_its_surroundings_a_chunk_sees() -> None:
    """Three chunks of six words in windows of twelve: each window keeps whole chunks, with half the overlap around."""
    encoder = PositionEncoder(window=12)
    document = chunked(words(18), [6, 6, 6], encoder.tokenizer)
    seen = {}
    for overlap in (0, 2, 6):
        vectors = vectors_of([document], encoder, "late", Windows(12, overlap))["d"]
        # The last number of a vector is the sum of the ids in its window, and the ids count the words.
        seen[overlap] = vectors[:, 3].tolist()
    assert seen[0] == [sum(range(6)), sum(range(6, 18)), sum(range(6, 18))]
    assert seen[2] == [sum(range(7)), sum(range(5, 13)), sum(range(11, 18))]
    assert seen[6] == [sum(range(9)), sum(range(3, 15)), sum(range(9, 18))]
    found = [
        item.vector.tolist()
        for item in raise_errors(
            embed_documents([document.document], encoder=encoder, max_tokens=6, chunker="tokens", overlap=6)
        )
    ]
    assert [vector[3] for vector in found] == seen[6]


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=12), batch_tokens=st.integers(1, 200))
@settings(deadline=None)
def test_batching_changes_nothing(lengths: list[int], batch_tokens: int) -> None:
    """Invariant 5: a document's vectors are the same alone and in any company, and come in order."""
    encoder = PositionEncoder(batch_tokens=batch_tokens)
    documents = [
        chunked(words(length, first=number), [length], encoder.tokenizer, f"d{number}")
        for number, length in enumerate(lengths)
    ]
    together = vectors_of(documents, encoder, "late")
    assert list(together) == [document.document.id for document in documents]
    for document in documents:
        alone = vectors_of([document], encoder, "late")[document.document.id]
        np.testing.assert_array_equal(together[document.document.id], alone)


def test_memory_is_bounded_by_the_look_ahead() -> None:
    """Documents are taken one by one: after the first vectors, only a look-ahead has been read."""
    encoder = PositionEncoder(window=16, batch_tokens=16)
    taken = 0

    def endless():  # type: ignore[no-untyped-def]
        nonlocal taken
        while True:
            taken += 1
            yield chunked(words(8), [8], encoder.tokenizer, f"d{taken}")

    next(embed_chunks(endless(), encoder=encoder))
    assert taken == 2 + 8  # a first group of one batch of 16 tokens, and a group of 4 batches behind it


class _Gated(PositionEncoder):
    """Holds each call of the model until somebody opens the gate."""

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        self.gate = threading.Event()

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        assert self.gate.wait(30)
        return super().encode_windows(windows)


def test_the_next_documents_are_read_while_the_model_runs() -> None:
    encoder = _Gated(window=16, batch_tokens=16)

    def documents() -> Iterator[ChunkedDocument]:
        for number in range(17):
            if number == 9:
                encoder.gate.set()  # only reached if nobody waits for the model before
            yield chunked(words(8), [8], encoder.tokenizer, f"d{number}")

    blocks = list(embed_chunks(documents(), encoder=encoder))
    assert [block.chunked.document.id for block in blocks] == [f"d{number}" for number in range(17)]


def test_an_error_of_the_model_is_raised_and_an_early_end_stops_it() -> None:
    class Broken(PositionEncoder):
        def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
            raise ModelError("broken")

    encoder = Broken(window=16, batch_tokens=16)
    many = (chunked(words(8), [8], encoder.tokenizer, f"d{number}") for number in range(40))
    with pytest.raises(ModelError, match="broken"):
        list(embed_chunks(many, encoder=encoder))

    gated = _Gated(window=16, batch_tokens=16)
    gated.gate.set()
    threads = threading.active_count()
    blocks = embed_chunks(
        (chunked(words(8), [8], gated.tokenizer, f"d{number}") for number in itertools.count()), encoder=gated
    )
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == threads


def test_chunk_vectors_carry_their_text() -> None:
    encoder = PositionEncoder()
    encoder.tokenizer.tokenize(".")  # the vocabulary must hold the full stop before the chunker asks for it
    text = "One two. Three four."
    found = list(raise_errors(embed_documents([Document("d", text)], encoder=encoder, max_tokens=3)))
    assert [(chunk.ordinal, chunk.content) for chunk in found] == [(0, "One two."), (1, "Three four.")]
    assert [text[chunk.start : chunk.end] for chunk in found] == ["One two.", "Three four."]


def test_a_bad_document_is_an_error_in_its_place_and_the_others_go_on() -> None:
    encoder = PositionEncoder()
    unread = DocumentError("unread", "cannot be read")
    documents = [Document("empty", "  "), unread, Document("good", "a word")]
    empty, same, good = embed_documents(documents, encoder=encoder)
    assert isinstance(empty, DocumentError)
    assert (empty.document, empty.source) == ("empty", documents[0])
    assert same is unread
    assert isinstance(good, ChunkVector)
    assert good.doc_id == "good"
    with pytest.raises(DocumentError, match="empty: "):
        list(raise_errors(embed_documents(documents, encoder=encoder)))


def test_sums_stay_exact_over_long_chunks() -> None:
    """A hundred thousand float32 values of 0.1: float32 sums would be off in the fourth digit."""
    vectors = np.full((100_000, 1), 0.1, dtype=np.float32)
    part = sum_by_chunk(vectors, np.zeros(100_000, dtype=np.int32))
    _, means = ChunkAccumulator().add(part, last=True)
    assert abs(float(means.vectors[0, 0]) - 0.1) < 1e-8


def test_normalising_keeps_zero_vectors_zero() -> None:
    vectors = l2_normalise(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 0]], rtol=1e-6)


class _Recording(PositionEncoder):
    """Keeps the ids of every window that the model reads."""

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        self.read: list[list[int]] = []

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        self.read += [window.tolist() for window in windows]
        return super().encode_windows(windows)


def windows_read(encoder: _Recording, document: ChunkedDocument) -> list[list[int]]:
    list(embed_chunks([document], encoder=encoder))
    return list(encoder.read)


TABLE = "before\n\n|h|i|\n|-|-|\n" + "".join(f"|a{row}|b{row}|\n" for row in range(12)) + "\nafter it\n"


def cut_table(tokenizer: WordTokenizer) -> tuple[ChunkedDocument, list[int]]:
    """The table's document, a chunk for every two rows, and the ids of its header with the separator."""
    tokens = tokenizer.tokenize(TABLE)
    edges = [0, 16, *range(26, 72, 10), len(tokens)]
    spans = tuple(
        ChunkSpan(int(tokens.offsets[a, 0]), int(tokens.offsets[b - 1, 1])) for a, b in pairwise(edges)
    )
    return ChunkedDocument(Document("d", TABLE), spans, tokens), tokens.ids[1:11].tolist()


def test_a_window_that_begins_inside_a_table_is_read_with_the_header_before_it() -> None:
    """The header gives context and is pooled into no later chunk."""
    encoder = _Recording(window=40)
    document, header = cut_table(encoder.tokenizer)
    windows = windows_read(encoder, document)
    assert len(windows) > 2
    others = [window for window in windows if window[: len(header)] != header]
    assert others == [document.tokens.ids[: len(others[0])].tolist()], "the window that begins the document"
    assert max(map(len, encoder.read)) <= encoder.window_tokens
    vectors = vectors_of([document], encoder, "late")["d"]
    for span, vector in zip(document.spans, vectors, strict=True):
        inside = (document.tokens.offsets[:, 0] >= span.start) & (document.tokens.offsets[:, 0] < span.end)
        assert vector[1] == pytest.approx(document.tokens.ids[inside].mean())


def test_a_table_that_fits_one_window_is_read_as_it_is() -> None:
    encoder = _Recording(window=100)
    document, _ = cut_table(encoder.tokenizer)
    assert windows_read(encoder, document) == [document.tokens.ids.tolist()]


def test_a_header_that_leaves_no_room_for_rows_is_not_repeated() -> None:
    encoder = _Recording(window=20)
    document, header = cut_table(encoder.tokenizer)
    assert len(header) > 20 // 4
    assert not any(window[: len(header)] == header for window in windows_read(encoder, document))


def test_naive_chunks_of_a_table_begin_with_its_header() -> None:
    encoder = _Recording(window=100)
    document, header = cut_table(encoder.tokenizer)
    list(embed_chunks([document], encoder=encoder, pooling="naive"))
    read = {tuple(window) for window in encoder.read}
    texts = [document.document.text[span.start : span.end] for span in document.spans]
    alone = [encoder.tokenizer.tokenize(text).ids.tolist() for text in texts]
    assert tuple(alone[0]) in read, "the chunk that has the header itself"
    assert all((*header, *ids) in read for ids in alone[1:])
