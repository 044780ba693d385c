"""Text that a model cannot read: counted, told on stderr, written all the same; and no chunk of it is endless."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import run
from elasticsearch import Elasticsearch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_models import FAST, TOKENIZERS

from es_latechunk import Document, OnTokens, embed_documents, load_encoder
from es_latechunk.chunking import CHUNKERS, chunk_document, make_chunker, token_owner
from es_latechunk.chunking.token_positions import CHARACTERS_PER_TOKEN
from es_latechunk.models.local.tokenizer import HuggingFaceTokenizer, PrefixedTokenizer
from es_latechunk.report import MAX_NAMED, UnreadableText
from es_latechunk.types import Tokens

CHINESE = "伯林是德国的首都，位于施普雷河畔。城市有很多公园和湖泊。"
ENGLISH = "Berlin is the capital of Germany. Its hills are green."


def dna(seed: int, length: int) -> str:
    return "".join(random.Random(seed).choice("ACGT") for _ in range(length))  # noqa: S311


def tokenizer(family: str) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(FAST[family])


@pytest.mark.parametrize(
    ("family", "text", "unknown"),
    [
        ("word_piece", "the fox 漢字 \U0001f9ec", 3),
        ("unigram", "the fox 漢 字", 2),
        ("unigram", "the fox", 0),
        ("byte_level", "the fox 漢字", 0),
        ("byte_fallback", "the fox 漢字", 0),
        ("mini_lm", ENGLISH, 0),
        ("mini_lm", dna(0, 160), 1),
    ],
)
def test_unknown_tokens_are_counted(family: str, text: str, unknown: int) -> None:
    assert tokenizer(family).tokenize(text).unknown == unknown
    behind = PrefixedTokenizer(tokenizer(family), "漢 the: ").tokenize(text)
    assert behind.unknown == unknown, "those of a prefix are not the text's"


def test_the_share_is_that_of_tokens_or_of_characters() -> None:
    def share(*tokens: tuple[int, int]) -> float:
        offsets = np.array([(0, width) for _, width in tokens], dtype=np.int32)
        return Tokens(
            np.array([id_ for id_, _ in tokens], dtype=np.int32), offsets, unknown_id=9
        ).unknown_share

    assert share((9, 1), (9, 1), (1, 8)) == pytest.approx(2 / 3)
    assert share((9, 90), (1, 5), (1, 5)) == pytest.approx(0.9)
    assert share((1, 5)) == 0
    assert share((9, 5)) == 1


def test_a_run_names_the_worst_and_sums_up() -> None:
    counted = UnreadableText()
    assert counted.add("fine", tokens=100, unknown=9, share=0.09) is None
    assert counted.summary() is None
    assert counted.add("partly", tokens=100, unknown=50, share=0.5) is None
    named = [counted.add(f"d{n}", tokens=100, unknown=90, share=0.9) for n in range(MAX_NAMED + 2)]
    assert named[0] == (
        "d0: 90% of its text is unknown to the model; full-text search finds it, its vectors say little"
    )
    assert [line is None for line in named] == [False] * MAX_NAMED + [True] * 2
    summary = str(counted.summary())
    assert summary.startswith(
        f"87% of the tokens of {MAX_NAMED + 3} documents are unknown to this model (2 more of them mostly); choose"
    )


words = st.sampled_from(
    ["the fox", "A" * 130, "ACGT" * 60, "ไทย" * 40, "漢字", ". ", " ", "\n\n", "- ", "# "]
)


@pytest.mark.parametrize("chunker", list(CHUNKERS))
@pytest.mark.parametrize("family", ["word_piece", "unigram"])
@settings(max_examples=40, deadline=None)
@given(text=st.lists(words, max_size=20).map(" ".join), size=st.integers(1, 20))
def test_a_chunk_has_a_limit_in_characters(family: str, chunker: str, text: str, size: int) -> None:
    """Only a single word that is one token is longer: its vector cannot be parted, so it is a chunk of its own."""
    tokens = TOKENIZERS[family].tokenize(text)
    spans = make_chunker(chunker, tokenizer=TOKENIZERS[family], max_tokens=size).split(text, tokens)
    contents = ["".join(text[span.start : span.end].split()) for span in spans]
    assert "".join(contents) == "".join(text.split())
    if not spans:
        return
    starts: list[set[int]] = [set() for _ in spans]
    for owner, (start, end) in zip(token_owner(spans, text, tokens), tokens.offsets.tolist(), strict=True):
        if text[start:end].strip():
            starts[owner].add(start)
    for content, own in zip(contents, starts, strict=True):
        assert own
        assert len(content) <= CHARACTERS_PER_TOKEN * size or len(own) == 1


def test_long_words_do_not_make_a_chunk_endless() -> None:
    text = " ".join(dna(seed, 160) for seed in range(300))
    own = tokenizer("mini_lm")
    chunked = chunk_document(Document("dna", text), chunker=make_chunker(tokenizer=own), tokenizer=own)
    assert len(chunked.tokens) == 300
    lengths = [span.end - span.start for span in chunked.spans]
    assert max(lengths) <= 128 * CHARACTERS_PER_TOKEN + 300
    assert min(lengths) > 1_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = {"zh": CHINESE * 10, "dna": dna(1, 5_000), "mixed": f"{ENGLISH} " * 2 + CHINESE, "en": ENGLISH * 3}
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": id_, "text": text}) + "\n" for id_, text in rows.items()))
    return path


@pytest.fixture
def client(elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Elasticsearch]:
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    with Elasticsearch(elasticsearch_url) as client:
        yield client


SUMMARY = "of the tokens of 3 documents are unknown to this model; choose one that knows their language"


@pytest.mark.parametrize("command", [["chunk"], ["embed"], ["compare", "--query", "green hills"]])
def test_the_commands_without_a_server_say_it(source: Path, command: list[str]) -> None:
    done = run(command[0], source, *command[1:], "--json")
    assert done.exit_code == 0
    lines = done.stderr.splitlines()
    assert [line.split(":")[1].strip() for line in lines[:-1]] == ["zh", "dna"]
    assert lines[-1].startswith("warning: ")
    assert SUMMARY in lines[-1]
    assert all(json.loads(line) for line in done.stdout.splitlines())


def test_an_ingest_says_it_counts_it_and_writes_the_text(
    client: Elasticsearch, index_name: str, source: Path
) -> None:
    assert run("index", "create", index_name).exit_code == 0
    plan = run("ingest", source, "--index", index_name, "--dry-run", "--json")
    done = run("ingest", source, "--index", index_name, "--json")
    again = run("ingest", source, "--index", index_name, "--json")
    assert (plan.exit_code, done.exit_code, again.exit_code) == (0, 0, 0)
    report, planned = json.loads(done.stdout), json.loads(plan.stdout)
    assert 100 < report["unknown_tokens"] == planned["unknown_tokens"] < report["tokens"]
    for told in (plan, done):
        assert "warning: dna: 100% of its text is unknown to the model" in told.stderr
        assert SUMMARY in told.stderr
    assert client.count(index=index_name, query={"term": {"doc_id": "dna"}})["count"] == 1
    assert json.loads(again.stdout)["unknown_tokens"] == 0, "nothing was encoded"
    assert "unknown" not in again.stderr


def test_a_python_user_gets_the_tokens() -> None:
    seen: dict[str, Tokens] = {}
    encoder = load_encoder(dtype="float32")
    documents = [Document("zh", CHINESE), Document("en", ENGLISH)]
    on_tokens: OnTokens = seen.__setitem__
    assert list(embed_documents(documents, encoder=encoder, on_tokens=on_tokens))
    assert seen["zh"].unknown > 0
    assert seen["en"].unknown == 0
