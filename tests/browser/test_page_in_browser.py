"""The page as a browser shows it.

ES_LATECHUNK_SCREENSHOT=docs/serve.png makes the picture of the docs anew; reduce it to 256 colours before it is
committed, which saves two thirds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import numpy as np
import pytest
from browsing import Page, chromium
from elasticsearch import Elasticsearch
from indices import WordEncoder, load, make_index
from serving import served

from es_latechunk import Document, create_index, embed_documents, ingest, load_encoder
from es_latechunk.documents import read_documents
from es_latechunk.quickstart import ARTICLES, MAX_TOKENS, sample_queries
from es_latechunk.serve.comparison import Index
from es_latechunk.types import ChunkVector, TokenEncoder

__all__ = ["chromium"]

INDEX = "articles"
QUERY = sample_queries()[0]
EVIL = [
    Document(
        "<i>evil</i>#1",
        "It lies <script>document.title = 'owned'</script> there. <img src=x onerror=\"document.title='owned'\">"
        "</li></ol> &lt;b&gt; is an entity. \u202eBackwards.",
        "<svg onload=\"document.title='owned'\">",
    ),
    Document("long", f"{'Unbroken' * 60} lies there. {'Before it nothing happens at all. ' * 40}", "Long"),
]


@pytest.fixture(scope="module")
def minilm() -> TokenEncoder:
    encoder = load_encoder(dtype="float32", device="cpu")
    assert isinstance(encoder, TokenEncoder)
    return encoder


@pytest.fixture(scope="module")
def articles(elasticsearch_url: str, minilm: TokenEncoder) -> Iterator[str]:
    with Elasticsearch(elasticsearch_url) as client:
        create_index(
            INDEX, encoder=minilm, client=client, max_tokens=MAX_TOKENS, quantization="none", pooling="late"
        )
        ingest(read_documents([ARTICLES]), client=client, index=INDEX, encoder=minilm)
        with served(minilm, index=Index(client, INDEX, minilm.identity)) as url:
            yield url
        client.indices.delete(index=INDEX)


@pytest.fixture
def evil(client: Elasticsearch, index_name: str) -> Iterator[str]:
    encoder = make_index(client, index_name, WordEncoder(), max_tokens=100)
    load(client, index_name, EVIL, encoder)
    with served(encoder, index=Index(client, index_name, encoder.identity)) as url:
        yield url


@pytest.fixture(scope="module")
def plain() -> Iterator[str]:
    with served(WordEncoder()) as url:
        yield url


def ranked(minilm: TokenEncoder, *, naive: bool) -> list[ChunkVector]:
    """The articles' chunks, nearest to the query first, as Python computes it."""
    [question] = minilm.encode_queries([QUERY.query])
    chunks = embed_documents(
        read_documents([ARTICLES]),
        encoder=minilm,
        max_tokens=MAX_TOKENS,
        pooling="naive" if naive else "late",
    )
    return sorted(chunks, key=lambda chunk: -float(chunk.vector @ question))


def test_a_query_gives_both_lists_in_the_order_that_python_computes(
    chromium: Page, articles: str, minilm: TokenEncoder
) -> None:
    chromium.open(articles)
    chromium.search(QUERY.query)
    for name in ("late", "naive"):
        expected = ranked(minilm, naive=name == "naive")
        shown = chromium.run(
            f"return [...document.querySelectorAll('#{name} .hit')].map(hit => hit.dataset.chunk)"
        )
        assert shown == [f"{chunk.doc_id}#{chunk.ordinal}" for chunk in expected[:10]]
        assert chromium.texts(f"#{name} .rank") == [str(rank) for rank in range(1, 11)]
        contents = [" ".join(text.split()) for text in chromium.texts(f"#{name} .chunk")]
        assert contents == [" ".join(chunk.content.split()) for chunk in expected[:10]]
    assert chromium.texts("#late .title")[0] == "Lisbon"
    assert chromium.one("#late-title").text == "Late"
    assert INDEX in chromium.one("#about").text
    assert re.search(r"\b5[0-4] candidates", chromium.one("#naive-told").text)
    assert chromium.console() == []
    assert chromium.hosts_asked() == {articles.removeprefix("http://")}
    if path := os.environ.get("ES_LATECHUNK_SCREENSHOT"):
        chromium.driver.save_screenshot(path)


def test_vectors_that_are_not_plain_late_ones_are_not_called_so(
    chromium: Page, client: Elasticsearch, index_name: str
) -> None:
    encoder = make_index(client, index_name, WordEncoder(), pooling="blend")
    load(client, index_name, [Document("a", "Falcons hunt. They are fast.")], encoder)
    with served(encoder, index=Index(client, index_name, encoder.identity)) as url:
        chromium.open(url)
        chromium.search("falcons")
        assert chromium.one("#late-title").text == "The index’s own"
        assert "blend pooling" in chromium.one("#late-told").text


def test_the_answer_is_shaded_most_and_twins_are_linked(chromium: Page, articles: str) -> None:
    chromium.open(articles)
    chromium.search(QUERY.query)
    rows = chromium.run(
        "return [...document.querySelectorAll('.sentence')].map(s => [s.textContent, s.dataset.similarity, "
        "s.style.getPropertyValue('--share'), getComputedStyle(s).backgroundColor])"
    )
    rows.sort(key=lambda row: float(row[2]))
    similarities, shares = ([float(row[column]) for row in rows] for column in (1, 2))
    assert (shares[0], shares[-1], rows[-1][0]) == (0, 1, QUERY.answer)
    assert (np.diff(similarities) >= 0).all()
    assert len({row[3] for row in rows}) == len(set(shares)) > 20

    number = "return getComputedStyle(document.querySelector('.sentence'), '::after').content"
    assert chromium.run(number) == "none"
    chromium.one("#numbers").click()
    assert chromium.run(number) != "none"

    chromium.one("#late .hit a").click()
    target = chromium.one("#naive .hit:target").get_attribute("data-chunk")
    assert target == chromium.one("#late .hit").get_attribute("data-chunk")


def test_markup_in_a_document_is_text(chromium: Page, evil: str) -> None:
    chromium.open(evil)
    chromium.search("it lies there")
    hits = {hit.get_attribute("data-chunk"): hit.text for hit in chromium.all("#late .hit")}
    [shown] = [text for name, text in hits.items() if name and name.startswith("<i>evil</i>")]
    for written in (
        "<script>document.title = 'owned'</script>",
        "<img src=x onerror=",
        "</li></ol> &lt;b&gt;",
        EVIL[0].title,
    ):
        assert written in shown
    assert chromium.all("#results script, #results img, #results svg, #results i, #results b") == []
    assert chromium.driver.title == "Late next to naive · es-latechunk"
    assert chromium.console() == []


def test_long_neighbours_fold_and_unfold(chromium: Page, evil: str) -> None:
    chromium.open(evil)
    chromium.search("before it nothing happens")
    folded = len(chromium.all(".folded"))
    assert folded == len(chromium.all(".unfold")) > 0
    part = chromium.one(".folded")
    height = part.size["height"]
    chromium.one(".unfold").click()
    assert part.size["height"] > height
    assert len(chromium.all(".folded")) == folded - 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_down_only(chromium: Page, evil: str, scheme: str) -> None:
    chromium.open(evil, width=360, height=740, scheme=scheme)
    chromium.search("it lies there")
    widths = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert chromium.run(widths) == [360, 360]
    late, naive = chromium.one("#late"), chromium.one("#naive")
    assert late.location["y"] + late.size["height"] <= naive.location["y"]
    page = chromium.one("body").value_of_css_property("background-color")
    assert (int(page.partition("(")[2].partition(",")[0]) < 128) == (scheme == "dark")


def test_every_field_has_a_name_for_screen_readers(chromium: Page, plain: str) -> None:
    chromium.open(plain)
    chromium.search("umbrellas")
    fields = [field for field in chromium.all("input, textarea, button") if field.is_displayed()]
    assert len(fields) >= 5
    assert all(field.accessible_name for field in fields)
    assert chromium.run("return document.activeElement.id") == "query"


def test_without_an_index_a_text_is_compared(chromium: Page, plain: str) -> None:
    chromium.open(plain)
    chromium.type("#text", "Berlin is big. It lies on the Spree. Trams cross it.")
    chromium.type("#max-tokens", "6")
    chromium.search("Spree")
    assert sorted(chromium.texts("#late .chunk")) == [
        "Berlin is big.",
        "It lies on the Spree.",
        "Trams cross it.",
    ]
    assert chromium.console() == []


def test_errors_are_told_in_words_and_a_better_query_helps(chromium: Page, plain: str) -> None:
    chromium.open(plain)
    chromium.search(" ")
    assert chromium.one("#error").text == "query: is empty; write a few words"
    assert not chromium.shown("#results")
    chromium.search("umbrellas")
    assert chromium.shown("#results")
    assert not chromium.shown("#error")


def test_a_lost_elasticsearch_is_told(chromium: Page) -> None:
    encoder = WordEncoder()
    with (
        Elasticsearch("http://127.0.0.1:9", request_timeout=5, max_retries=0) as client,
        served(encoder, index=Index(client, "any", encoder.identity)) as url,
    ):
        chromium.open(url)
        chromium.search("old")
        assert "127.0.0.1:9: cannot be reached" in chromium.one("#error").text
    chromium.search("old")
    assert chromium.one("#error").text == "The server does not answer. Does it still run?"


def test_a_token_is_asked_for_and_kept_in_memory_only(chromium: Page) -> None:
    with served(WordEncoder(), token="s3cret") as url:
        chromium.open(url)
        chromium.enter("#token", "wrong")
        assert chromium.one("#error").text == "The server refuses this token."
        assert not chromium.shown("#search-form")
        chromium.enter("#token", "s3cret")
        chromium.search("umbrellas")
        assert chromium.shown("#results")
        assert not chromium.shown("#token-form, #error")
        kept = "return [localStorage.length, sessionStorage.length, document.cookie, location.href]"
        assert chromium.run(kept) == [0, 0, "", f"{url}/"]
        chromium.open(url)
        assert chromium.one("#token").get_attribute("value") == ""
