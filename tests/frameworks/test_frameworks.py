"""docs/frameworks.md, run as it stands, with the frameworks that bring elasticsearch 8 and a server of version 9.

They have an environment of their own: `make test-frameworks`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import elasticsearch
import haystack
import pytest
from elasticsearch import Elasticsearch
from faults import Answer, FaultProxy, Request
from haystack.document_stores.errors import DocumentStoreError
from haystack_integrations.components.retrievers.elasticsearch import ElasticsearchEmbeddingRetriever
from llama_index.core.vector_stores import ExactMatchFilter, MetadataFilters

from es_latechunk import Hit, ingest, search

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
LOCALHOST = "http://localhost:9200"
SEASIDE = {"term": {"metadata.by": "sea"}}


class FullServer(FaultProxy):
    """The node is Elastic's small build, which has no `GET /`; a full one answers it with its name."""

    def _pass_on(self, request: Request, headers: dict[str, str]) -> Answer:
        answer = super()._pass_on(request, headers)
        if (request.method, request.path) == ("GET", "/"):
            return replace(answer, status=200, body=b'{"version": {"number": "9"}}')
        return answer


def examples() -> dict[str, list[str]]:
    """The code of each section of the page."""
    sections = re.split(r"^## (.+)\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {
        title: re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for title, text in zip(sections[::2], sections[1::2], strict=True)
    }


CODE = examples()


@pytest.fixture(scope="module")
def shared(elasticsearch_url: str) -> Iterator[dict[str, Any]]:
    """The names that the page's first section defines; the index is there."""
    names: dict[str, Any] = {}
    [code] = CODE["What the examples share"]
    with Elasticsearch(elasticsearch_url) as cleaner:
        try:
            run(code, elasticsearch_url, names)
            yield names
            names["client"].close()
        finally:
            cleaner.indices.delete(index="cities", ignore_unavailable=True)


def run(code: str, url: str, names: dict[str, Any]) -> None:
    """As a reader would: this file's `from __future__` is not the page's."""
    exec(compile(code.replace(LOCALHOST, url), PAGE.name, "exec", dont_inherit=True), names)  # noqa: S102


def nearest(shared: Mapping[str, Any]) -> list[Hit]:
    """Our own kNN search for the page's question."""
    place = {"client": shared["client"], "index": "cities", "encoder": shared["encoder"]}
    hits = search(shared["question"], mode="knn", k=3, **place)
    assert hits
    return hits


def rows(printed: str) -> list[tuple[float, str]]:
    """Of each line the score, and the rest."""
    lines = [line.partition(" ") for line in printed.splitlines()]
    return [(float(score), rest) for score, _, rest in lines]


def expected(hits: list[Hit], form: str) -> list[tuple[Any, str]]:
    fields = [{name: getattr(hit, name) for name in hit.__slots__} for hit in hits]
    return [(pytest.approx(hit.score), form.format(**row)) for hit, row in zip(hits, fields, strict=True)]


def test_the_frameworks_bring_another_client() -> None:
    assert elasticsearch.__version__ < (9,)


def test_the_example_s_search_is_hybrid_and_differs_from_knn(shared: dict[str, Any]) -> None:
    """So that no example can pass with the hits of another."""
    hybrid = shared["find"](shared["question"])
    assert [hit.id for hit in nearest(shared)] == ["berlin#1", "berlin#0", "oslo#0"]
    assert [hit.id for hit in hybrid] != [hit.id for hit in nearest(shared)]


def test_langchain(
    shared: dict[str, Any], elasticsearch_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names, printed = dict(shared), []
    for code in CODE["LangChain"]:
        run(code, elasticsearch_url, names)
        printed.append(rows(capsys.readouterr().out))
    knn, hybrid = nearest(shared), shared["find"](shared["question"])
    assert printed == [
        expected(knn, "{id} {start} {content}"),
        expected(knn, "{content}"),
        expected(hybrid, "{id} {start} {content}"),
    ]

    store = names["store"]
    [found, _] = store.similarity_search("a city", k=3, filter=[SEASIDE])
    assert (found.metadata, found.page_content[:4]) in [({"by": "sea"}, "Oslo"), ({"by": "sea"}, "The ")]
    with pytest.raises(NotImplementedError, match="ingest writes"):
        store.add_texts(["Bergen is rainy."])
    body = names["nearest"]("a city")
    body["knn"]["filter"] = SEASIDE
    answer = shared["client"].search(index="cities", **body)
    assert {row["_source"]["doc_id"] for row in answer["hits"]["hits"]} == {"oslo"}


def test_llama_index(
    shared: dict[str, Any],
    elasticsearch_url: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    names, printed = dict(shared), []
    for code in CODE["LlamaIndex"]:
        run(code, elasticsearch_url, names)
        printed.append(rows(capsys.readouterr().out))
    knn, hybrid = nearest(shared), shared["find"](shared["question"])
    low, high = knn[-1].score, knn[0].score
    stretched = [replace(hit, score=(hit.score - low) / (high - low)) for hit in knn]
    assert printed == [expected(stretched, "{id} {content}"), expected(hybrid, "{id} {start} {content}")]
    assert "Could not parse metadata" in caplog.text

    own = MetadataFilters(filters=[ExactMatchFilter(key="by", value="sea")])
    assert names["index"].as_retriever(filters=own).retrieve("a city") == []
    filtered = names["index"].as_retriever(vector_store_kwargs={"es_filter": [SEASIDE]})
    found = filtered.retrieve("a city")
    assert {row.node.node_id for row in found} == {"oslo#0", "oslo#1"}
    assert found[0].node.metadata == {"by": "sea"}
    names["store"].close()


def test_haystack(shared: dict[str, Any], elasticsearch_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    names, printed = dict(shared), []
    with FullServer(elasticsearch_url) as server:
        for code in CODE["Haystack"]:
            run(code, server.url, names)
            printed.append(rows(capsys.readouterr().out))
        seaside = {"field": "metadata.by", "operator": "==", "value": "sea"}
        retriever = ElasticsearchEmbeddingRetriever(document_store=names["document_store"], filters=seaside)
        found = retriever.run(query_embedding=names["embed"]("a city"))["documents"]
        with pytest.raises(DocumentStoreError, match="strict"):
            names["document_store"].write_documents([haystack.Document(content="Bergen is rainy.")])
        names["document_store"].close()
    knn, hybrid = nearest(shared), shared["find"](shared["question"])
    assert printed == [
        expected(knn, "{doc_id} {ordinal} {start} {content}"),
        expected(hybrid, "{id} {start} {content}"),
    ]
    assert {row.meta["doc_id"] for row in found} == {"oslo"}
    assert found[0].meta["metadata"] == {"by": "sea"}


def test_the_alias_for_haystack_leaves_the_index_ours(shared: dict[str, Any]) -> None:
    before = nearest(shared)
    alias = {"embedding": {"type": "alias", "path": "content_embedding"}}
    shared["client"].indices.put_mapping(index="cities", properties=alias)
    report = ingest(shared["documents"], client=shared["client"], index="cities", encoder=shared["encoder"])
    assert (report.unchanged, report.indexed, report.failed) == (4, 0, 0)
    assert nearest(shared) == before
