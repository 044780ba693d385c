"""The bulk writer and the ingest between a client and a real server that fail on command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from faults import CutAnswer, Delay, Fault, FaultProxy, LostAnswer, Reset, Rewrite, Status
from indices import LETTERS, WordEncoder, load, make_index, stored_chunks

from es_latechunk import Document, IngestRun, connect, embed_documents
from es_latechunk.elastic import retry
from es_latechunk.elastic.write import bulk
from es_latechunk.elastic.write.actions import Action, delete_actions
from es_latechunk.elastic.write.bulk import ActionResult, write
from es_latechunk.errors import ServerError, WriteError

pytestmark = pytest.mark.every_version

EXPECTED = {
    f"{chunk.doc_id}#{chunk.ordinal}": (chunk.content, chunk.vector.tolist())
    for chunk in embed_documents(LETTERS, encoder=WordEncoder(), max_tokens=7)
}


@pytest.fixture
def proxy(elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(retry, "LONGEST_WAIT", 0.05)
    with FaultProxy(elasticsearch_url) as proxy:
        yield proxy


@pytest.fixture
def proxied(proxy: FaultProxy) -> Iterator[Elasticsearch]:
    with connect(url=proxy.url) as client:
        yield client


def contents(client: Elasticsearch, name: str) -> dict[str, tuple[str, list[float]]]:
    vectors = stored_chunks(client, name)
    return {key: (row["content"], pytest.approx(row["content_embedding"])) for key, row in vectors.items()}


def item_fails(status: int, at: int) -> Rewrite:
    """The item at `at` of a bulk answer as Elasticsearch refuses it when a queue is full."""

    def change(answer: Any) -> None:
        cause = {"type": "es_rejected_execution_exception", "reason": "queue is full"}
        result = answer["items"][at]["index"]
        result.pop("result", None)
        result.update(status=status, error=cause)
        answer["errors"] = True

    return Rewrite(change)


def misnamed(answer: Any) -> None:
    answer["items"][0]["index"]["_id"] = "other#0"


def items_missing(answer: Any) -> None:
    del answer["items"][1:]


def items_gone(answer: Any) -> None:
    del answer["items"]


@pytest.mark.parametrize(
    "fault",
    [
        Status(429),
        Status(502),
        Status(503, "cluster_block_exception", "no master"),
        Status(504),
        Reset(),
        LostAnswer(),
        CutAnswer(),
        CutAnswer(announced=False),
        CutAnswer(share=0.0, announced=False),
        item_fails(429, 0),
        item_fails(503, 3),
        Rewrite(misnamed),
        Rewrite(items_missing),
        Rewrite(items_gone),
    ],
    ids=str,
)
def test_what_passes_is_ridden_out(
    client: Elasticsearch, proxied: Elasticsearch, proxy: FaultProxy, index_name: str, fault: Fault
) -> None:
    encoder = make_index(client, index_name)
    proxy.fail(fault, times=2, path="/_bulk")
    report, errors = load(proxied, index_name, LETTERS, encoder)
    assert len(proxy.seen("/_bulk")) == 3
    assert (report.documents, report.indexed, report.chunks, report.failed, errors) == (3, 8, 8, 0, [])
    assert contents(client, index_name) == EXPECTED


def test_only_what_is_not_settled_is_sent_again(
    client: Elasticsearch, proxied: Elasticsearch, proxy: FaultProxy, index_name: str
) -> None:
    encoder = make_index(client, index_name)
    proxy.fail(item_fails(429, 2), path="/_bulk")
    load(proxied, index_name, LETTERS, encoder)
    first, second = (request.body.decode().splitlines() for request in proxy.seen("/_bulk"))
    assert len(first) == 16
    assert second == first[4:6]


def test_an_answer_that_takes_too_long_is_asked_for_again(
    client: Elasticsearch, proxied: Elasticsearch, proxy: FaultProxy, index_name: str
) -> None:
    encoder = make_index(client, index_name)
    proxy.fail(Delay(3), path="/_bulk")
    report, _ = load(proxied.options(request_timeout=1), index_name, LETTERS, encoder)
    assert (report.indexed, report.failed) == (8, 0)
    assert contents(client, index_name) == EXPECTED


def test_looking_up_what_is_stored_rides_out_faults_too(
    client: Elasticsearch, proxied: Elasticsearch, proxy: FaultProxy, index_name: str
) -> None:
    encoder = make_index(client, index_name)
    for fault in (Status(429), Reset(), CutAnswer(announced=False)):
        proxy.fail(fault, path="/_search")
    report, errors = load(proxied, index_name, LETTERS, encoder)
    assert (report.indexed, errors) == (8, [])


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Status(429, reason="queue is full"), "429: queue is full"),
        (Reset(), "no connection: "),
        (CutAnswer(announced=False), "an answer that is cut off or not JSON"),
        (item_fails(429, 0), "429: queue is full"),
    ],
    ids=str,
)
def test_giving_up_says_what_was_tried_and_counts_the_truth(
    client: Elasticsearch, proxied: Elasticsearch, proxy: FaultProxy, index_name: str, fault: Fault, cause: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(bulk, "BATCH_ACTIONS", 3)
    encoder = make_index(client, index_name)
    proxy.fail(Delay(0), times=1, path="/_bulk")  # berlin's three chunks go through
    proxy.fail(fault, times=99, path="/_bulk")
    run = IngestRun(LETTERS, index=index_name, client=proxied, encoder=encoder, retry_for=0.2)
    with pytest.raises(WriteError) as given_up:
        list(run)
    message = str(given_up.value)
    assert message.startswith(f"{proxy.url}: did not take a request of 3 actions within 0.2 s ({cause}")
    assert "run the same command again" in message
    report = run.report
    assert (report.documents, report.indexed) == (1, 3)

    proxy.heal()
    report, _ = load(client, index_name, LETTERS, encoder)
    assert report.documents == 3
    assert contents(client, index_name) == EXPECTED


def test_an_interrupt_between_the_results_of_a_request_counts_all_of_them(
    client: Elasticsearch, index_name: str
) -> None:
    """What was written stays written, so the report says so; and what a load changes is set back."""
    encoder = make_index(client, index_name)
    before = client.indices.get(index=index_name).body
    run = IngestRun(LETTERS, index=index_name, client=client, encoder=encoder)

    def interrupted() -> None:
        for _ in run:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(client, index_name) == EXPECTED
    assert (run.report.documents, run.report.indexed) == (3, len(EXPECTED))
    assert client.indices.get(index=index_name).body == before


def test_a_server_that_is_lost_does_not_hide_what_was_lost_with_it(
    client: Elasticsearch, proxied: Elasticsearch, proxy: FaultProxy, index_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The settings cannot be put back either then: a warning, and the next run does it."""
    encoder = make_index(client, index_name)

    def source() -> Iterator[Document]:
        proxy.fail(Reset(), times=999)
        yield from LETTERS

    with pytest.raises(WriteError):
        load(proxied, index_name, source(), encoder, retry_for=0.2)
    assert "its settings are not restored" in caplog.text
    settings = client.indices.get_settings(index=index_name)[index_name]["settings"]["index"]
    assert settings["refresh_interval"] == "-1"

    load(client, index_name, LETTERS, encoder)
    settings = client.indices.get_settings(index=index_name)[index_name]["settings"]["index"]
    assert "refresh_interval" not in settings
    assert contents(client, index_name) == EXPECTED


def test_a_refusal_that_will_not_pass_is_not_repeated(
    client: Elasticsearch, proxied: Elasticsearch, proxy: FaultProxy, index_name: str
) -> None:
    encoder = make_index(client, index_name)
    proxy.fail(Status(403, "security_exception", "not allowed"), times=9, path="/_bulk")
    with pytest.raises(ServerError, match=r"may not do this \(403: not allowed\)"):
        load(proxied, index_name, LETTERS, encoder)
    assert len(proxy.seen("/_bulk")) == 1


def test_a_mapping_that_refuses_a_chunk_is_named_and_the_others_are_written(
    client: Elasticsearch, index_name: str
) -> None:
    encoder = make_index(client, index_name)
    refused = Document("bad", "One here. Two here now. Three here.", metadata={"a\x00b": "x"})
    report, [error] = load(client, index_name, [LETTERS[0], refused, *LETTERS[1:]], encoder)
    assert error.startswith("bad: Elasticsearch refuses chunk bad#")
    assert (report.documents, report.indexed, report.failed) == (3, 8, 1)
    assert contents(client, index_name) == EXPECTED


def test_a_request_too_large_is_sent_in_halves(
    client: Elasticsearch, proxied: Elasticsearch, proxy: FaultProxy, index_name: str
) -> None:
    encoder = make_index(client, index_name)
    proxy.fail(Status(413), times=2, path="/_bulk")  # all eight, then the first four
    report, errors = load(proxied, index_name, LETTERS, encoder)
    assert [request.body.count(b"\n") // 2 for request in proxy.seen("/_bulk")] == [8, 4, 2, 2, 4]
    assert (report.indexed, errors) == (8, [])
    assert contents(client, index_name) == EXPECTED


def test_one_chunk_too_large_fails_alone(
    client: Elasticsearch, proxied: Elasticsearch, proxy: FaultProxy, index_name: str
) -> None:
    encoder = make_index(client, index_name)
    proxy.fail(Status(413), times=99, path="/_bulk")
    report, errors = load(proxied, index_name, LETTERS[:1], encoder)
    assert (report.documents, report.indexed, report.failed) == (0, 0, 1)
    assert len(errors) == 1
    assert errors[0].startswith("berlin: the server accepts no request of ")


def as_it_is(result: ActionResult) -> ActionResult:
    return result


def sent_batches(
    actions: list[Action], monkeypatch: pytest.MonkeyPatch, *, count: int, size: int
) -> list[int]:
    """The sizes of the requests, from a server that takes everything: here the client is the real edge."""
    monkeypatch.setattr(bulk, "BATCH_ACTIONS", count)
    monkeypatch.setattr(bulk, "BATCH_BYTES", size)
    sent: list[int] = []

    def settle(self: Any, batch: list[Action]) -> Iterator[ActionResult]:
        sent.append(len(batch))
        yield from (ActionResult(action, 200) for action in batch)

    monkeypatch.setattr(bulk._Sender, "settle", settle)
    results = write(actions, as_it_is, client=Elasticsearch("http://127.0.0.1:1"), index="x")
    assert [result.action for result in results] == actions
    return sent


def test_what_is_no_action_passes_through_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH_ACTIONS", 2)
    monkeypatch.setattr(
        bulk._Sender, "settle", lambda self, batch: (ActionResult(action, 200) for action in batch)
    )
    actions = list(delete_actions("d", 0, 4))
    mixed = [actions[0], "one", actions[1], actions[2], "two", *actions[3:], "three"]
    passed = list(write(mixed, as_it_is, client=Elasticsearch("http://127.0.0.1:1"), index="x"))
    assert [item for item in passed if isinstance(item, str)] == ["one", "two", "three"]
    assert [item.action for item in passed if isinstance(item, ActionResult)] == actions


def test_requests_are_bounded_in_number_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    small = list(delete_actions("d", 0, 9))
    large = Action("l", "l", (b"x" * 500,))
    assert sent_batches(small, monkeypatch, count=4, size=10_000) == [4, 4, 2]
    assert sent_batches(small, monkeypatch, count=99, size=3 * small[0].size) == [3, 3, 3, 1]
    assert sent_batches([small[0], large, small[1]], monkeypatch, count=99, size=100) == [1, 1, 1]
    assert sent_batches([], monkeypatch, count=4, size=100) == []


def test_the_size_of_an_action_is_its_bytes_on_the_wire() -> None:
    [action] = delete_actions("ü", 3, 3)
    assert (
        action.size
        == len(json.dumps({"delete": {"_id": "ü#3"}}, ensure_ascii=False, separators=(",", ":")).encode()) + 1
    )
