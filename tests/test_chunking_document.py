"""A document with its chunks: cut here, or brought along and checked."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from made_models import TOKENIZERS, mini_lm_folder
from sentences import marked_sentences

from es_latechunk.chunking import CHUNKERS, chunk_document, make_chunker, token_owner
from es_latechunk.documents.ids import document_hash
from es_latechunk.elastic.index import identity
from es_latechunk.elastic.index.identity import IndexIdentity
from es_latechunk.errors import DocumentError
from es_latechunk.types import ChunkedDocument, ChunkSpan, Document, EncoderIdentity

PAGE = Path(__file__).parents[1] / "docs" / "chunking.md"
MINI_LM = TOKENIZERS["mini_lm"]


def chunk(text: str, *spans: tuple[int, int], family: str = "mini_lm") -> ChunkedDocument:
    own = tuple(ChunkSpan(start, end) for start, end in spans) or None
    tokenizer = TOKENIZERS[family]
    return chunk_document(
        Document("doc", text, spans=own),
        chunker=make_chunker("sentences", tokenizer=tokenizer, max_tokens=4),
        tokenizer=tokenizer,
    )


def test_a_document_is_cut_and_keeps_its_tokens() -> None:
    chunked = chunk("One fox runs. Two")
    assert chunked.spans == (ChunkSpan(0, 13), ChunkSpan(14, 17))
    assert chunked.tokens.ids.tolist() == MINI_LM.tokenize("One fox runs. Two").ids.tolist()


def test_a_comment_in_a_plain_text_is_no_heading_and_the_chunks_stay() -> None:
    text = "# retry twice\n\nOne fox runs. Two dogs run."
    chunker = make_chunker("sentences", tokenizer=MINI_LM, max_tokens=8)
    markdown, plain = (
        chunk_document(Document("doc", text, plain_text=plain), chunker=chunker, tokenizer=MINI_LM)
        for plain in (False, True)
    )
    assert set(markdown.headings) == {("retry twice",)}
    assert plain.headings == ((),) * len(plain.spans)
    assert plain.spans == markdown.spans, "so that the vectors of existing indices stay"


def test_spans_of_the_caller_are_used_as_they_are() -> None:
    assert chunk("One fox runs. Two", (0, 4), (4, 17)).spans == (ChunkSpan(0, 4), ChunkSpan(4, 17))


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 3), (3, 30)], r"doc: chunk 1 \[3, 30\) is empty or not inside the text of 7 characters"),
        ([(-1, 7)], r"doc: chunk 0 \[-1, 7\)"),
        ([(0, 0), (0, 7)], r"doc: chunk 0 \[0, 0\) is empty"),
        ([(5, 2)], r"doc: chunk 0 \[5, 2\) is empty"),
        ([(0, 4), (3, 7)], r"doc: chunk 1 \[3, 7\) begins before the end of the chunk before it \(4\)"),
        ([(4, 7), (0, 3)], r"doc: characters \[0, 3\) are in no chunk"),
        ([(0, 3)], r"doc: characters \[4, 7\) are in no chunk"),
        ([(0, 2), (4, 7)], r"doc: characters \[2, 3\) are in no chunk"),
    ],
)
def test_wrong_spans_are_named(spans: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        chunk("one two", *spans)


def test_no_spans_for_a_text_are_wrong_spans() -> None:
    document = Document("doc", "one", spans=())
    with pytest.raises(DocumentError, match=r"characters \[0, 3\) are in no chunk"):
        chunk_document(document, chunker=make_chunker(tokenizer=MINI_LM), tokenizer=MINI_LM)


@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000"])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="doc: its text is empty"):
        chunk(text)


def test_a_text_without_a_token_is_refused() -> None:
    with pytest.raises(DocumentError, match="doc: the tokenizer gives no token for its 2 characters"):
        chunk("\u200b\ufeff")


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"doc: character 1 is U\+D800"):
        chunk("a\ud800")


@pytest.mark.parametrize(
    ("text", "spans", "merged"),
    [
        ("one \u200b two", [(0, 3), (4, 5), (6, 9)], [(0, 5), (6, 9)]),
        ("\u200b one two", [(0, 1), (2, 5), (6, 9)], [(0, 5), (6, 9)]),
        ("one two \u200b", [(0, 3), (4, 7), (8, 9)], [(0, 3), (4, 9)]),
        ("one  two", [(0, 3), (3, 4), (5, 8)], [(0, 4), (5, 8)]),
        ("one", [(0, 1), (1, 3)], [(0, 3)]),
    ],
)
def test_a_chunk_with_no_token_is_merged(
    text: str, spans: list[tuple[int, int]], merged: list[tuple[int, int]]
) -> None:
    assert [(span.start, span.end) for span in chunk(text, *spans).spans] == merged


def test_every_chunk_owns_a_token() -> None:
    chunked = chunk("One. 👩‍👩‍👧 Two\n\n\n\nthree 。 four", family="byte_level")
    owner = token_owner(chunked.spans, chunked.document.text, chunked.tokens)
    assert owner.dtype == np.int32
    assert set(owner.tolist()) == set(range(len(chunked.spans)))


def test_whitespace_tokens_belong_to_the_chunk_before_them() -> None:
    text = "\n\nfox\n\n\ndog"
    tokens = TOKENIZERS["byte_level"].tokenize(text)
    starts = tokens.offsets[:, 0]
    owner = token_owner([ChunkSpan(2, 5), ChunkSpan(8, 11)], text, tokens)
    assert owner.tolist() == (starts >= 8).astype(int).tolist()
    assert (starts < 2).any()
    assert ((starts >= 5) & (starts < 8)).any()


def test_the_example_in_the_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    example = example.replace('"path/or/id/of/a/model"', repr(str(mini_lm_folder())))
    exec(example, {"text": "Berlin is large. It grows."})  # noqa: S102
    assert capsys.readouterr().out == "0 26 Berlin is large. It grows.\n"


def test_other_cuts_have_another_version_which_makes_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first assertion fails: raise CHUNKING_VERSION, and write the cuts' new digest next to it here."""
    texts = [text for halves in marked_sentences().values() for _, text in halves]
    texts.append("# Prices\n\n| no. | price |\n| --- | --- |\n" + "| No. 5 | It is 5. Cheap |\n" * 30)
    spans = [
        make_chunker(name, tokenizer=MINI_LM, max_tokens=32).split(text, MINI_LM.tokenize(text))
        for name in CHUNKERS
        for text in texts
    ]
    assert (identity.CHUNKING_VERSION, hashlib.sha256(repr(spans).encode()).hexdigest()[:12]) == (
        3,
        "3c8c1dc9607b",
    )
    recorded = IndexIdentity(EncoderIdentity("model", "sha256:1", 3, 256), "sentences", 32)
    before = document_hash(Document("doc", "One."), vectors=recorded.digest())
    monkeypatch.setattr(identity, "CHUNKING_VERSION", identity.CHUNKING_VERSION + 1)
    assert document_hash(Document("doc", "One."), vectors=recorded.digest()) != before
