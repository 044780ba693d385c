"""The hosted Jina API when it fails: errors of one document, errors of all, repeats, and the key unseen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from commands import run
from jina_server import DIM, KEY, SMALL, Fault, JinaServer, client_of, encoder_of, expected, serve, story
from logs import warnings_told
from tenacity import RetryCallState

from es_latechunk.errors import DocumentError, ModelError, PreconditionError, UsageError
from es_latechunk.models import load_encoder
from es_latechunk.models.jina_api import (
    JinaApiClient,
    JinaApiEncoder,
)
from es_latechunk.models.jina_api import client as client_module
from es_latechunk.models.jina_api.answers import read_retry_after

COMMAND = (sys.executable, "-m", "es_latechunk")


@pytest.fixture
def server() -> Iterator[JinaServer]:
    with serve(dimensions=DIM, context=SMALL.context) as running:
        yield running


# Errors of one document, and errors of all


def test_one_refused_document_leaves_the_others(server: JinaServer) -> None:
    server.fail(
        Fault(422, {"detail": [{"loc": ["body", "input"], "msg": "no castles"}]}, when="castle", always=True)
    )
    documents = [story(3, name) for name in ("river", "castle", "engine")]
    first, second, third = encoder_of(server).encode_many(documents, "late")
    assert isinstance(second, DocumentError)
    assert str(second) == f"castle: refused by {server.url} (HTTP 422: body.input: no castles)"
    np.testing.assert_allclose(first, expected(documents[0]), atol=1e-5)
    np.testing.assert_allclose(third, expected(documents[2]), atol=1e-5)
    assert server.refused == [422]


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        ("missing", "has 2 entries that do not match 3"),
        ("doubled", "do not match 3"),
        ("nan", "zero or not finite"),
        ("zero", "zero or not finite"),
        ("short", "31 dimensions, not 32"),
        ("ragged", "not lists of numbers"),
        ("words", "not lists of numbers"),
        ("not_json", "not JSON"),
    ],
)
def test_a_wrong_answer_is_the_documents_error(server: JinaServer, spoil: str, cause: str) -> None:
    server.fail(Fault(spoil=spoil))
    with pytest.raises(DocumentError, match=f"^river: .*{cause}"):
        encoder_of(server).encode_chunks(story(3), "late")


def test_an_answer_out_of_order_is_put_in_order(server: JinaServer) -> None:
    server.fail(Fault(spoil="reversed"))
    document = story(3)
    np.testing.assert_allclose(
        encoder_of(server).encode_chunks(document, "late"), expected(document), atol=1e-5
    )


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault(402, {"detail": "Payment required"}), PreconditionError, "no credit left .*top up"),
        (Fault(403, {"code": "AUTHZ_INSUFFICIENT_BALANCE", "detail": "Low"}), PreconditionError, "no credit"),
        (Fault(403, {"message": "Not your plan"}), UsageError, "not accepted .*Not your plan.*JINA_API_KEY"),
        (Fault(400, {"code": "INPUT_MODEL_NOT_FOUND", "detail": "Model 'x'"}), ModelError, "no such model"),
    ],
)
def test_what_concerns_all_documents_ends_the_work(
    server: JinaServer, fault: Fault, kind: type[Exception], words: str
) -> None:
    server.fail(fault)
    with pytest.raises(kind, match=words):
        list(encoder_of(server).encode_many([story(2)], "late"))
    assert server.refused == [fault.status]


# Repeats


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, {"detail": "Slow down"}, {"Retry-After": "0"}),
        Fault(429, {"detail": "Slow down"}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        Fault(429, "not json", {"Retry-After": "soon"}),
        Fault(500, {"detail": "Oops"}),
        Fault(503, {"detail": "Busy"}),
        Fault(spoil="reset"),
        Fault(spoil="truncate"),
    ],
    ids=["429-seconds", "429-date", "429-nonsense", "500", "503", "reset", "truncated"],
)
def test_a_passing_failure_is_tried_again(server: JinaServer, fault: Fault) -> None:
    server.fail(fault, fault)
    document = story(3)
    np.testing.assert_allclose(
        encoder_of(server).encode_chunks(document, "late"), expected(document), atol=1e-5
    )
    assert not server.faults


@pytest.mark.parametrize(
    "fault", [Fault(503, {"detail": "away"}, always=True), Fault(spoil="hold", always=True)]
)
def test_ctrl_c_while_the_service_is_away_ends_the_program(server: JinaServer, fault: Fault) -> None:
    """Neither the next try nor an answer that does not come is waited for, in any of the threads."""
    server.fail(fault)
    rows = "\n".join(json.dumps({"id": f"d{n}", "text": "The river is old."}) for n in range(20))
    process = subprocess.Popen(
        [*COMMAND, "embed", "-", "--format", "jsonl", "--model", "jina-api:jina-embeddings-v3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JINA_API_KEY": KEY, "JINA_API_BASE_URL": server.url},
    )
    assert process.stdin
    process.stdin.write(rows)
    process.stdin.close()
    process.stdin = None
    # An answer of 503 is quick: two of them are seldom under way at once, and count as they come.
    until(lambda: server.most_at_once > 1 or len(server.refused) > 1)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=25)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert err.endswith("interrupted\n")


def test_a_client_that_is_closed_between_two_tries_says_nothing_more(
    server: JinaServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a thread told after that would stand behind the last word of a program that was interrupted."""
    server.fail(Fault(503, {"detail": "away"}, always=True))
    client = client_of(server)

    def closes_after_the_check(event: threading.Event) -> Callable[[RetryCallState], bool]:
        def stop(_: RetryCallState) -> bool:
            closed = event.is_set()
            client.close()
            return closed

        return stop

    monkeypatch.setattr(client_module, "stop_when_event_set", closes_after_the_check)
    with pytest.raises((PreconditionError, RuntimeError)):
        client.embed(["the river"], model=SMALL.name)
    assert server.refused, "it was tried once"
    assert warnings_told(caplog) == []


def test_a_stream_that_ends_early_asks_no_more(server: JinaServer) -> None:
    server.fail(Fault(503, {"detail": "away"}, when="castle", always=True))
    encoder = JinaApiEncoder(SMALL, client_of(server, retry_for=300.0, backoff=10.0))
    stream = encoder.encode_many([story(1), *(story(1, f"castle {n}") for n in range(20))], "late")
    next(stream)
    until(lambda: len(server.refused) >= 4)  # all four threads wait for another try
    stream.close()
    until(lambda: not any(thread.name.startswith("jina-api") for thread in threading.enumerate()))
    assert len(encoder.encode_queries(["the river"])) == 1, "the encoder is good for another stream"


def until(there: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if there():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen in 20 seconds")


def test_retry_for_counts_for_the_service_too(
    server: JinaServer,
    elasticsearch_url: str,
    index_name: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    monkeypatch.setenv("JINA_API_KEY", KEY)
    monkeypatch.setenv("JINA_API_BASE_URL", server.url)
    (tmp_path / "a.txt").write_text("The river is old.")
    assert run("index", "create", index_name, "--model", "jina-api:jina-embeddings-v3").exit_code == 0
    server.fail(Fault(503, {"detail": "away"}, always=True))
    done = run("ingest", tmp_path / "a.txt", "--index", index_name, "--retry-for", "0.3")
    assert done.exit_code == 2
    assert "no answer within 0.3 s of trying" in done.stderr
    with pytest.raises(PreconditionError, match=r"no answer within 0\.2 s"):
        load_encoder("jina-api:jina-embeddings-v3", retry_for=0.2).encode_queries(["a"])


def test_a_slow_answer_is_asked_for_again(server: JinaServer) -> None:
    server.fail(Fault(spoil="hold"))
    with client_of(server, timeout=0.2) as client:
        assert len(client.embed(["river"], model="m").vectors) == 1


def test_the_repeats_end(server: JinaServer) -> None:
    server.fail(Fault(503, {"detail": "Busy"}, always=True))
    with (
        client_of(server, retry_for=0.2) as client,
        pytest.raises(PreconditionError, match=r"within 0\.2 s .*503: Busy"),
    ):
        client.embed(["river"], model="m")


def test_a_retry_after_beyond_the_limit_is_not_waited_for(server: JinaServer) -> None:
    server.fail(Fault(429, {"detail": "Slow down"}, {"Retry-After": "86400"}))
    with client_of(server) as client, pytest.raises(PreconditionError, match="asks to wait 86400 s"):
        client.embed(["river"], model="m")
    assert server.refused == [429]


def test_a_document_that_the_service_always_stumbles_over_leaves_the_others(server: JinaServer) -> None:
    server.fail(Fault(500, {"detail": "Oops"}, when="castle", always=True))
    encoder = JinaApiEncoder(SMALL, client_of(server, retry_for=0.2))
    first, second = encoder.encode_many([story(2, "castle"), story(2, "river")], "late")
    assert isinstance(first, DocumentError)
    assert isinstance(second, np.ndarray)


def test_no_server_at_all_is_a_precondition() -> None:
    with serve() as gone:
        pass
    with client_of(gone, retry_for=0.1) as client, pytest.raises(PreconditionError, match="ConnectError"):
        client.embed(["river"], model="m")


def test_retry_after_is_read_as_seconds_or_date() -> None:
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    assert read_retry_after(httpx.Headers({"Retry-After": "7"})) == 7
    assert read_retry_after(
        httpx.Headers({"Retry-After": format_datetime(later, usegmt=True)})
    ) == pytest.approx(3600, abs=60)
    assert read_retry_after(httpx.Headers()) is None


# The key


def test_the_key_is_never_shown(server: JinaServer, caplog: pytest.LogCaptureFixture) -> None:
    wrong = "jina_this_is_a_secret"
    caplog.set_level("DEBUG")
    client = client_of(server, wrong)
    server.fail(Fault(503, {"detail": f"{wrong} is busy"}))
    with pytest.raises(UsageError, match=r"not accepted .*JINA_API_KEY") as caught:
        client.embed(["river"], model="m")
    frames = [repr(entry.frame.f_locals) for entry in caught.traceback if "test_jina" not in str(entry.path)]
    assert frames
    assert "503" in caplog.text
    for text in (repr(client), str(client), str(caught.value), repr(caught.value.args), caplog.text, *frames):
        assert wrong not in text


def test_the_key_is_in_no_chained_cause(caplog: pytest.LogCaptureFixture) -> None:
    with serve() as gone:
        pass
    with pytest.raises(PreconditionError) as caught:
        client_of(gone, retry_for=0.1).embed(["river"], model="m")
    assert caught.value.__cause__ is None
    assert KEY not in "".join(traceback.format_exception(caught.value)) + caplog.text


def test_a_failing_constructor_shows_no_key_in_its_frames() -> None:
    with pytest.raises(UsageError) as caught:
        JinaApiClient("jina_" + "secret", base_url="nowhere")
    frames = [repr(entry.frame.f_locals) for entry in caught.traceback]
    assert not any("jina_" + "secret" in frame for frame in frames)


@pytest.mark.parametrize("key", ["", "with space", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_unseen(key: str) -> None:
    with pytest.raises(UsageError, match="JINA_API_KEY") as caught:
        JinaApiClient(key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "api.jina.ai/v1",
        "ftp://user:pass@api.jina.ai",
        "https://user:pass@api.jina.ai/v1",
        "http://host:port/v1",
    ],
)
def test_a_base_url_must_be_plain_http(url: str) -> None:
    with pytest.raises(UsageError, match="base URL") as caught:
        JinaApiClient(KEY, base_url=url)
    assert "pass@" not in str(caught.value)


def test_key_and_address_come_from_the_environment(
    server: JinaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    with pytest.raises(UsageError, match="JINA_API_KEY is not set"):
        JinaApiEncoder.from_environment("jina-api:jina-embeddings-v3")
    monkeypatch.setenv("JINA_API_KEY", KEY + "\n")
    monkeypatch.setenv("JINA_API_BASE_URL", server.url + "/")
    server.dimensions = 1024
    assert JinaApiEncoder.from_environment("jina-api:jina-embeddings-v3").encode_queries(["x"]).shape == (
        1,
        1024,
    )
