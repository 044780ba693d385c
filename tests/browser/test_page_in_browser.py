"""The page as a browser shows it.

ES_LATECHUNK_SCREENSHOT=docs/serve.png makes the picture of the docs anew; reduce it to 256 colours before it is
committed, which saves two thirds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browsing import Page, chromium
from elasticsearch import Elasticsearch
from indices import WordEncoder, load, make_index
from selenium.webdriver.common.keys import Keys
from serving import served

from es_latechunk import Document, create_index, embed_documents, ingest, load_encoder, search
from es_latechunk.documents import read_documents
from es_latechunk.quickstart import ARTICLES, MAX_TOKENS, sample_queries
from es_latechunk.serve.index import Index
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


def chunks_shown(page: Page, name: str) -> list[str]:
    """The ids of one list's hits."""
    script = "return [...document.querySelectorAll(arguments[0])].map(hit => hit.dataset.chunk)"
    return list(page.run(script, f"#{name} .hit"))


def address(page: Page) -> dict[str, list[str]]:
    """What stands behind the ? of the address."""
    return parse_qs(urlsplit(page.driver.current_url).query)


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


def test_a_query_gives_three_lists_in_the_order_that_python_computes(
    chromium: Page, articles: str, minilm: TokenEncoder, elasticsearch_url: str
) -> None:
    chromium.open(articles, width=1400)
    chromium.search(QUERY.query)
    with Elasticsearch(elasticsearch_url) as client:
        both = search(QUERY.query, client=client, index=INDEX, encoder=minilm)
    assert chunks_shown(chromium, "hybrid") == [hit.id for hit in both]
    assert chromium.one("#hybrid .score").text == f"score {both[0].score:.3f}"
    for name in ("late", "naive"):
        expected = ranked(minilm, naive=name == "naive")
        assert chunks_shown(chromium, name) == [f"{chunk.doc_id}#{chunk.ordinal}" for chunk in expected[:10]]
        contents = [" ".join(text.split()) for text in chromium.texts(f"#{name} .chunk")]
        assert contents == [" ".join(chunk.content.split()) for chunk in expected[:10]]
    places = []
    for name in ("late", "naive", "hybrid"):
        assert chromium.texts(f"#{name} .rank") == [str(rank) for rank in range(1, 11)]
        assert chromium.texts(f"#{name} .place") == chunks_shown(chromium, name)
        places.append(chromium.one(f"#{name}-list").location)
    assert len({place["y"] for place in places}) == 1 < len({place["x"] for place in places}), "side by side"
    assert not chromium.shown("#tabs")
    assert chromium.texts("h2") == ["Late", "Naive", "Hybrid"]
    assert chromium.texts("#late .title")[0] == "Lisbon"
    assert INDEX in chromium.one("#about").text
    assert re.search(r"\b5[0-9] candidates", chromium.one("#naive-told").text)
    assert chromium.console() == []
    assert chromium.hosts_asked() == {articles.removeprefix("http://")}
    if path := os.environ.get("ES_LATECHUNK_SCREENSHOT"):
        # The seconds are those of whatever else this machine did.
        chromium.run(
            "const status = document.querySelector('#status'); status.textContent = status.textContent.split(', in')[0]"
        )
        chromium.driver.save_screenshot(path)


def test_a_list_is_called_and_shaded_by_its_own_pooling(
    chromium: Page, client: Elasticsearch, index_name: str
) -> None:
    encoder = make_index(client, index_name, WordEncoder(), pooling="blend")
    load(client, index_name, [Document("a", "Falcons hunt. They are fast. It rains.")], encoder)
    with served(encoder, index=Index(client, index_name, encoder.identity)) as url:
        chromium.open(url)
        chromium.search("falcons")
        assert chromium.texts("h2") == ["Blend", "Naive", "Hybrid"]
        assert "blend pooling" in chromium.one("#blend-told").text
        script = (
            "return [...document.querySelectorAll(`#${arguments[0]} .sentence`)]"
            ".map(s => [s.textContent, s.dataset.similarity])"
        )
        shades = {
            name: {tuple(row) for row in chromium.run(script, name)} for name in ("blend", "naive", "hybrid")
        }
        assert len(shades["blend"]) == 3
        assert shades["blend"] == shades["hybrid"] != shades["naive"]
        assert {text for text, _ in shades["blend"]} == {text for text, _ in shades["naive"]}


def test_a_naive_index_has_two_lists(chromium: Page, client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name, WordEncoder(), pooling="naive")
    load(client, index_name, [Document("a", "Falcons hunt. They are fast.")], encoder)
    with served(encoder, index=Index(client, index_name, encoder.identity)) as url:
        chromium.open(url)
        chromium.search("falcons")
        assert chromium.texts("h2") == ["Naive", "Hybrid"]
        assert "by kNN: naive pooling" in chromium.one("#naive-told").text


def test_the_answer_is_shaded_most_and_twins_are_linked(chromium: Page, articles: str) -> None:
    chromium.open(articles)
    chromium.search(QUERY.query)
    for lists in ("#late .sentence, #hybrid .sentence", "#naive .sentence"):  # a scale for each pooling
        rows = chromium.run(
            "return [...document.querySelectorAll(arguments[0])].map(s => [s.textContent, s.dataset.similarity, "
            "s.style.getPropertyValue('--share'), getComputedStyle(s).backgroundColor])",
            lists,
        )
        rows.sort(key=lambda row: float(row[2]))
        similarities, shares = ([float(row[column]) for row in rows] for column in (1, 2))
        assert (shares[0], shares[-1]) == (0, 1)
        assert (np.diff(similarities) >= 0).all()
        assert len({row[3] for row in rows}) == len(set(shares)) > 20
        if "late" in lists:
            assert rows[-1][0] == QUERY.answer

    number = "return getComputedStyle(document.querySelector('.sentence'), '::after').content"
    assert chromium.run(number) == "none"
    chromium.one("#numbers").click()
    assert chromium.run(number) != "none"

    chromium.one("#late .hit .move a[href^='#naive']").click()
    target = chromium.one("#naive .hit:target").get_attribute("data-chunk")
    assert target == chunks_shown(chromium, "late")[0]


def test_changes_of_rank_have_no_colour_of_their_own(chromium: Page, articles: str) -> None:
    chromium.open(articles)
    chromium.search(QUERY.query)
    moves = chromium.texts("#late .moves")
    assert any("▲" in text for text in moves)
    assert any("▼" in text for text in moves)
    assert all("BM25" in text for text in chromium.texts("#hybrid .moves"))
    colours = (
        "return [...document.querySelectorAll('.score, .moves *')].map(one => getComputedStyle(one).color)"
    )
    assert len(set(chromium.run(colours))) == 1
    heard = chromium.run(
        "return [...document.querySelectorAll('.moves .unseen')].map(one => one.textContent)"
    )
    assert {"places above it here", "places below it here"} <= {text.lstrip("0123456789 ") for text in heard}


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
    assert chromium.driver.title == "it lies there · Late next to naive · es-latechunk"
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
def test_a_phone_has_the_lists_as_tabs_and_scrolls_down_only(
    chromium: Page, articles: str, scheme: str
) -> None:
    chromium.open(articles, width=360, height=740, scheme=scheme)
    chromium.search(QUERY.query)
    widths = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert chromium.run(widths) == [360, 360]
    page = chromium.one("body").value_of_css_property("background-color")
    assert (int(page.partition("(")[2].partition(",")[0]) < 128) == (scheme == "dark")

    def is_shown(name: str) -> None:
        assert [one.get_attribute("id") for one in chromium.all("section") if one.is_displayed()] == [
            f"{name}-list"
        ]
        assert [one.text for one in chromium.all("[role=tab][aria-selected=true]")] == [name.capitalize()]
        panel = chromium.one("[role=tabpanel]")
        assert panel.accessible_name == name.capitalize()
        assert chromium.run(widths) == [360, 360]

    assert chromium.texts("[role=tab]") == ["Late", "Naive", "Hybrid"]
    is_shown("late")
    chromium.one("#hybrid-tab").click()
    is_shown("hybrid")
    for key, name in (
        (Keys.ARROW_RIGHT, "late"),
        (Keys.ARROW_LEFT, "hybrid"),
        (Keys.HOME, "late"),
        (Keys.ARROW_RIGHT, "naive"),
        (Keys.END, "hybrid"),
    ):
        chromium.driver.switch_to.active_element.send_keys(key)
        is_shown(name)
        assert chromium.run("return document.activeElement.id") == f"{name}-tab"
    chromium.one("#hybrid .move a[href^='#naive']").click()
    is_shown("naive")
    assert chromium.one("#naive .hit:target").is_displayed()
    chromium.search("Vienna")
    is_shown("naive")  # the tab stays for the next query


def test_a_window_that_grows_shows_all_lists(chromium: Page, articles: str) -> None:
    chromium.open(articles, width=900)
    chromium.search(QUERY.query)
    assert [one.is_displayed() for one in chromium.all("section")] == [True, False, False]
    chromium.resize(width=1000)
    chromium.wait("document.querySelector('#tabs').hidden")
    assert [one.is_displayed() for one in chromium.all("section")] == [True, True, True]
    assert chromium.all("[role=tabpanel]") == []


def test_every_field_has_a_name_for_screen_readers(chromium: Page, plain: str) -> None:
    chromium.open(plain)
    chromium.search("umbrellas")
    fields = [field for field in chromium.all("input, textarea, button") if field.is_displayed()]
    assert len(fields) >= 7
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
    assert sorted(chromium.texts("#late .place")) == ["text#0", "text#1", "text#2"]
    assert chromium.texts("h2") == ["Late", "Naive"]
    assert "no hybrid list" in chromium.one("#missing").text
    assert not chromium.shown("#source, #examples, #hint"), "the examples are for the text that stood there"
    assert chromium.console() == []


def test_the_example_text_shows_the_difference(chromium: Page, minilm: TokenEncoder) -> None:
    answers = {
        "How many people live in Bergen?": "The town has about 290,000 inhabitants.",
        "How often does it rain in Bergen?": "Rain falls on more than 230 days",
        "How hot does it get in Seville?": "On forty days a year the temperature rises",
    }
    with served(minilm) as url:
        chromium.open(url)
        assert chromium.one("#query").get_attribute("value") in answers
        assert chromium.one("#hint").is_displayed()
        assert chromium.texts("#examples button") == list(answers)
        for number, (query, answer) in enumerate(answers.items()):
            chromium.all("#examples button")[number].click()
            chromium.answered(query)
            assert chromium.one("#query").get_attribute("value") == query
            assert chromium.texts("#late .chunk")[0].startswith(answer)
            assert not chromium.texts("#naive .chunk")[0].startswith(answer)
            assert address(chromium) == {"q": [query]}


def test_a_text_of_one_s_own_beside_an_index(chromium: Page, articles: str) -> None:
    chromium.open(articles)
    chromium.search("Danube")
    assert not chromium.shown("#text")
    assert chromium.texts("#source label") == [f"the index {INDEX}", "a text of your own"]
    chromium.one("[name=source][value=text]").click()
    assert not chromium.shown("#results"), "they are of the other source"
    chromium.type("#text", "The Danube is long. A bridge crosses it.")
    chromium.search("Danube")
    assert set(chunks_shown(chromium, "late")) == {"text#0"}
    assert address(chromium) == {"q": ["Danube"], "in": ["text"]}
    chromium.driver.back()
    chromium.wait("document.querySelectorAll('#hybrid .hit').length === 10")
    assert not chromium.shown("#text")
    assert address(chromium) == {"q": ["Danube"]}
    chromium.driver.forward()
    chromium.wait("document.querySelector('.hit')?.dataset.chunk === 'text#0'")
    assert chromium.one("#text").get_attribute("value") == "The Danube is long. A bridge crosses it."


def test_examples_of_an_index_are_searched_by_a_click(chromium: Page, articles: str) -> None:
    chromium.open(articles)
    chromium.one("#examples button")
    examples = chromium.texts("#examples button")
    assert len(examples) == 3
    chromium.all("#examples button")[1].click()
    chromium.answered(examples[1])
    assert len(chunks_shown(chromium, "hybrid")) == 10
    assert address(chromium) == {"q": [examples[1]]}


def test_the_address_has_the_query(chromium: Page, articles: str) -> None:
    strange = '50% of <b>Vienna</b> & #1 + "Köln"'
    chromium.open(f"{articles}/?q=Which+sea%3F")
    chromium.answered("Which sea?")
    assert chromium.one("#query").get_attribute("value") == "Which sea?"
    of_sea = chunks_shown(chromium, "hybrid")
    chromium.search(strange)
    assert address(chromium) == {"q": [strange]}
    strangely = chunks_shown(chromium, "hybrid")
    assert strangely != of_sea
    length = chromium.run("return history.length")
    chromium.search(strange)
    assert chromium.run("return history.length") == length, "the same query is no new page"

    chromium.driver.back()
    chromium.answered("Which sea?")
    assert chunks_shown(chromium, "hybrid") == of_sea
    chromium.driver.forward()
    chromium.answered(strange)
    assert chunks_shown(chromium, "hybrid") == strangely
    chromium.driver.refresh()
    chromium.answered(strange)
    assert chromium.one("#query").get_attribute("value") == strange
    assert chunks_shown(chromium, "hybrid") == strangely
    assert chromium.all("main b") == []
    assert chromium.console() == []


def test_back_before_the_first_query_is_the_empty_page(chromium: Page, articles: str) -> None:
    chromium.open(articles)
    chromium.search("Danube")
    chromium.one("#late .move a").click()
    chromium.driver.back()  # from the other list's hit
    assert chromium.shown("#results")
    chromium.driver.back()
    chromium.wait("document.querySelector('#results').hidden")
    assert (chromium.one("#query").get_attribute("value"), address(chromium)) == ("", {})
    chromium.driver.forward()
    chromium.answered("Danube")
    assert chromium.shown("#results")


def test_a_query_too_long_for_an_address_is_answered(chromium: Page, plain: str) -> None:
    chromium.open(f"{plain}/?q=Spree")
    chromium.answered("Spree")
    long = "umbrellas and ships " * 150
    chromium.run("document.querySelector('#query').value = arguments[0]", long)
    chromium.one("#search-form .line button").click()
    chromium.wait("document.title.startsWith('umbrellas and ships')")
    chromium.wait("document.querySelector('main').ariaBusy === 'false'")
    assert address(chromium) == {}
    chromium.one("#late .move a").click()
    assert chromium.shown("#results")
    assert chromium.one("#query").get_attribute("value") == long
    chromium.driver.back()
    chromium.driver.back()
    chromium.answered("Spree")


def test_markup_in_the_address_is_text(chromium: Page, plain: str) -> None:
    chromium.open(f"{plain}/?q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%22%27&in=%3Cb%3E#%E0%A4%A")
    query = "<img src=x onerror=alert(1)>\"'"
    chromium.answered(query)
    assert chromium.one("#query").get_attribute("value") == query
    assert chromium.shown("#results")
    assert chromium.all("main img") == []
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
        assert not chromium.shown("#examples")
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
        assert chromium.run(kept) == [0, 0, "", f"{url}/?q=umbrellas"]
        chromium.open(f"{url}/?q=umbrellas")
        assert chromium.one("#token").get_attribute("value") == ""
        chromium.enter("#token", "s3cret")
        assert chromium.one("#late .hit").is_displayed()
        assert not chromium.shown("#token-form, #error")
