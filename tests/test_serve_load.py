"""serve under load: batches across requests, limits, clients that leave, failures, and the end."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from commands import error_of, run
from fakes import PositionEncoder
from made_models import add_modules, save_model
from serving import SECRET, FailingEncoder, HeldEncoder, served

from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.embed import embed_documents
from es_latechunk.models import load_encoder
from es_latechunk.serve.batcher import LATE, NAIVE, Batcher, Job, Kind, embed_jobs
from es_latechunk.serve.limits import Limits, RequestError
from es_latechunk.types import Document, FloatArray, PoolingOptions, TokenEncoder

WORDS = ("berlin", "is", "a", "city", "and", "it", "lies", "on", "the", "spree", "she", "saw", "bridge")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_modules(save_model(tmp_path_factory.mktemp("model") / "tiny"), "Pooling")


def text_of(words: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words)) + "."  # noqa: S311


def job_of(encoder: TokenEncoder, *texts: str, kind: Kind = LATE, max_tokens: int = 5) -> Job:
    chunker = make_chunker("tokens", tokenizer=encoder.tokenizer, max_tokens=max_tokens)
    documents = [Document(id="d", text=text) for text in texts]
    return Job([chunk_document(d, chunker=chunker, tokenizer=encoder.tokenizer) for d in documents], kind)


def test_two_hundred_requests_at_once_get_right_answers_or_right_errors(folder: Path) -> None:
    encoder = load_encoder(str(folder), dtype="float32", device="cpu")
    assert isinstance(encoder, TokenEncoder)
    pairs = [
        (text_of(1 + (number * 37) % 60, seed=number), text_of(3, seed=-number)) for number in range(200)
    ]
    vectors = encoder.encode_documents([text for pair in pairs for text in pair])
    cases = [
        _case(number, texts, vectors[2 * number : 2 * number + 2], encoder)
        for number, texts in enumerate(pairs)
    ]

    async def ask_all(url: str) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as client:
            return await asyncio.gather(*(client.post(path, content=body) for path, body, _ in cases))

    with served(encoder, limits=Limits(body_bytes=50_000, inputs=99, request_tokens=3000)) as url:
        answers = asyncio.run(ask_all(url))
        assert httpx.get(f"{url}/health").status_code == 200
        assert "es_latechunk_waiting_tokens 0.0" in httpx.get(f"{url}/metrics").text
    for answer, (_, _, check) in zip(answers, cases, strict=True):
        check(answer)


def _case(
    number: int, texts: Sequence[str], vectors: FloatArray, encoder: TokenEncoder
) -> tuple[str, bytes, Callable[[httpx.Response], None]]:
    """A request and what its answer has to be."""
    path, body = "/v1/embeddings", json.dumps({"input": texts}).encode()
    refused = {
        1: (json.dumps({"input": ["a"] * 100}), 422),
        3: (json.dumps({"input": text_of(3001)}), 422),
        5: (json.dumps({"input": text_of(20_000)}), 413),
        7: ('{"input": "cut off', 422),
        9: (json.dumps({"input": ["a", ""]}), 422),
    }
    if number % 10 in refused:
        content, status = refused[number % 10]
        return path, content.encode(), lambda answer: _check_status(answer, status)
    if number % 10 == 2:
        return (
            "/",
            json.dumps({"inputs": texts}).encode(),
            _vectors(vectors, lambda a: a),
        )
    if number % 10 == 4:
        chunks = embed_documents([Document(id="d", text=texts[0])], encoder=encoder, max_tokens=8)
        asked = json.dumps({"text": texts[0], "max_tokens": 8}).encode()
        expected = np.stack([chunk.vector for chunk in chunks])
        return "/late_chunk", asked, _vectors(expected, lambda a: [chunk["vector"] for chunk in a["chunks"]])
    return path, body, _vectors(vectors, lambda a: [row["embedding"] for row in a["data"]])


def _check_status(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status


def _vectors(expected: Any, read: Callable[[Any], Any]) -> Callable[[httpx.Response], None]:
    def check(answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(read(answer.json()), expected, atol=2e-5)

    return check


def test_a_job_gets_the_vectors_that_it_gets_alone() -> None:
    encoder = PositionEncoder()
    kinds: list[Kind] = [LATE, "query", NAIVE, LATE, PoolingOptions("blend"), NAIVE]
    jobs = [
        job_of(encoder, *(text_of(1 + 9 * i, seed=i * n) for n in range(1, 4)), kind=kind,
               max_tokens=10**6 if kind == "query" else 5)
        for i, kind in enumerate(kinds)
    ]  # fmt: skip
    for job, vectors in zip(jobs, embed_jobs(encoder, jobs), strict=True):
        np.testing.assert_array_equal(vectors, embed_jobs(encoder, [job])[0])
        assert len(vectors) == job.chunks


def test_what_comes_together_is_encoded_together() -> None:
    encoder, rounds = PositionEncoder(batch_tokens=64), list[int]()
    jobs = [job_of(encoder, text_of(15, seed=seed)) for seed in range(40)]

    async def ask() -> list[Any]:
        batcher = Batcher(encoder, queue_tokens=10**6, on_round=rounds.append)
        async with batcher.running():
            return await asyncio.gather(*map(batcher.embed, jobs))

    for job, vectors in zip(jobs, asyncio.run(ask()), strict=True):
        np.testing.assert_array_equal(vectors, embed_jobs(encoder, [job])[0])
    assert rounds == [16, 16, 8]  # 4 batches of 64 tokens, at 16 tokens a job


def test_a_job_that_the_model_fails_on_fails_alone_and_its_text_stays_private(
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoder = FailingEncoder()
    jobs = [job_of(encoder, text_of(words, seed=words)) for words in (5, 12, 6)]  # and its full stop: 13

    async def ask() -> list[Any]:
        batcher = Batcher(encoder, queue_tokens=10**6)
        async with batcher.running():
            answers = await asyncio.gather(*map(batcher.embed, jobs), return_exceptions=True)
            return [*answers, await batcher.embed(jobs[0])]

    first, failed, third, later = asyncio.run(ask())
    assert isinstance(failed, RequestError)
    assert (failed.status, "RuntimeError" in failed.message) == (500, True)
    assert len(first) == len(later)
    assert len(third)
    assert "encode_windows" in caplog.text
    assert SECRET not in caplog.text + failed.message


def test_a_full_queue_answers_503_and_goes_on_afterwards() -> None:
    encoder = HeldEncoder()
    body = {"inputs": text_of(30)}
    with ThreadPoolExecutor() as threads, served(encoder, limits=Limits(queue_tokens=50)) as url:
        first = threads.submit(httpx.post, f"{url}/embed", json=body, timeout=60)
        assert encoder.begun.wait(60)
        refused = httpx.post(f"{url}/embed", json=body)
        assert httpx.get(f"{url}/health").status_code == 200
        encoder.let_go.set()
        assert first.result().status_code == 200
        assert httpx.post(f"{url}/embed", json=body).status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "31 tokens wait already and at most 50 may" in refused.json()["error"]


def test_too_many_requests_at_once_answer_503() -> None:
    encoder = HeldEncoder()
    with ThreadPoolExecutor() as threads, served(encoder, limits=Limits(requests=1)) as url:
        first = threads.submit(httpx.post, f"{url}/embed", json={"inputs": "a"}, timeout=60)
        assert encoder.begun.wait(60)
        assert httpx.post(f"{url}/embed", json={"inputs": "b"}).status_code == 503
        encoder.let_go.set()
        assert first.result().status_code == 200


def test_what_nobody_waits_for_any_longer_is_not_encoded() -> None:
    encoder = HeldEncoder()
    with ThreadPoolExecutor() as threads, served(encoder) as url:
        first = threads.submit(httpx.post, f"{url}/embed", json={"inputs": "one two"}, timeout=60)
        assert encoder.begun.wait(60)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/embed", json={"inputs": "one two three"}, timeout=0.5)
        _until(lambda: "es_latechunk_waiting_tokens 2.0" in httpx.get(f"{url}/metrics").text)
        encoder.let_go.set()
        assert first.result().status_code == 200
        assert httpx.post(f"{url}/embed", json={"inputs": "one"}).status_code == 200
    assert encoder.batches == [[2], [1]]


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that within a minute")


@contextmanager
def serving_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command in a process of its own, and the line in which it says that it is ready."""
    limits = ("--max-request-tokens", "1000000")
    command = [
        sys.executable,
        "-m",
        "es_latechunk",
        "serve",
        "--port",
        "0",
        "--json",
        "--model",
        str(folder),
        *limits,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_last_answer(folder: Path, number: signal.Signals) -> None:
    body = {"inputs": [text_of(1000, seed=seed) for seed in range(30)]}
    with serving_process(folder) as (process, ready), ThreadPoolExecutor() as threads:
        url = ready["url"]
        asked = threads.submit(httpx.post, f"{url}/embed", json=body, timeout=120)
        _until(lambda: asked.done() or "waiting_tokens 0.0" not in httpx.get(f"{url}/metrics").text)
        process.send_signal(number)
        answer = asked.result()
        printed, logged = process.communicate(timeout=60)
    assert (answer.status_code, len(answer.json())) == (200, 30)
    assert (process.returncode, printed) == (0, "")
    assert ready == {"url": url, "model": "tiny", "dimensions": 32}
    assert logged.splitlines() == [f"tiny, 32 dimensions, on {url}; stop it with Ctrl-C", "stopped"]


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}" in error_of(run("serve", "--port", port), 2)
