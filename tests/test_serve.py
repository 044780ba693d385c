"""serve: the protocols, as their own clients speak them, and every refusal."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from commands import error_of, run
from huggingface_hub import InferenceClient
from made_models import add_modules, add_prompts, save_model
from serving import served

from es_latechunk.models import load_encoder
from es_latechunk.serve.limits import Limits
from es_latechunk.types import Encoder, TokenEncoder

TEXTS = ["Berlin is big.", "It lies on the Spree. " * 30, "日本語 and emoji 🎉", "a"]
DOCUMENT = "Berlin is the capital. The city has 3.6 million inhabitants. It lies on the Spree."
LIMITS = Limits(body_bytes=20_000, inputs=60, request_tokens=600)
POSTS = ("/", "/embed", "/v1/embeddings", "/late_chunk", "/compare", "/search")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = add_modules(save_model(tmp_path_factory.mktemp("model") / "tiny"), "Pooling")
    add_prompts(folder, {"query": "query: ", "document": "document: "})
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TokenEncoder:
    loaded: Encoder = load_encoder(str(folder), dtype="float32", device="cpu")
    assert isinstance(loaded, TokenEncoder)
    return loaded


@pytest.fixture(scope="module")
def url(encoder: TokenEncoder) -> Iterator[str]:
    with served(encoder, limits=LIMITS) as url:
        yield url


def post(url: str, body: Any, **options: Any) -> httpx.Response:
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    return httpx.post(url, content=content, timeout=60, **options)


def body_for(path: str, text: str = "Berlin") -> dict[str, Any]:
    if path == "/compare":
        return {"query": "Is it big?", "text": text}
    return {{"/v1/embeddings": "input", "/late_chunk": "text"}.get(path, "inputs"): text}


def message(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    return str(error["message"] if isinstance(error, dict) else error)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_openai_client_gets_the_vectors_of_the_encoder(
    url: str, encoder: TokenEncoder, encoding_format: Any
) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
    answer = client.embeddings.create(
        model=encoder.identity.model, input=TEXTS, encoding_format=encoding_format, dimensions=encoder.dim
    )
    assert [row.index for row in answer.data] == [0, 1, 2, 3]
    vectors = [row.embedding for row in answer.data]
    if encoding_format == "base64":  # asked for by name, it comes as it is
        vectors = [np.frombuffer(base64.b64decode(str(vector)), dtype="<f4").tolist() for vector in vectors]
    np.testing.assert_allclose(vectors, encoder.encode_documents(TEXTS), atol=2e-5)
    assert answer.usage.prompt_tokens == sum(len(encoder.tokenizer.tokenize(text)) for text in TEXTS)
    assert [model.id for model in client.models.list()] == [encoder.identity.model]


def test_openai_client_by_itself_asks_for_base64_and_understands_it(url: str, encoder: TokenEncoder) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
    answer = client.embeddings.create(model=encoder.identity.model, input="Berlin is big.")
    np.testing.assert_allclose(
        [answer.data[0].embedding], encoder.encode_documents(["Berlin is big."]), atol=2e-5
    )


def test_queries_get_the_query_prefix(url: str, encoder: TokenEncoder) -> None:
    expected = encoder.encode_queries(["Berlin"])
    assert not np.allclose(expected, encoder.encode_documents(["Berlin"]), atol=1e-3)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
    by_openai = client.embeddings.create(
        model=encoder.identity.model, input="Berlin", extra_body={"input_type": "query"}
    )
    answers = [
        by_openai.data[0].embedding,
        post(f"{url}/v1/embeddings?input_type=query", {"input": "Berlin"}).json()["data"][0]["embedding"],
        post(f"{url}/embed", {"inputs": "Berlin", "prompt_name": "query"}).json()[0],
        post(f"{url}/?input_type=query", {"inputs": ["Berlin"]}).json()[0],
    ]
    for vector in answers:
        np.testing.assert_allclose([vector], expected, atol=2e-5)


@pytest.mark.parametrize("path", ["/", "/embed"])
def test_hugging_face_client_gets_the_vectors_of_the_encoder(
    url: str, encoder: TokenEncoder, path: str
) -> None:
    client = InferenceClient(f"{url}{path}", token="any")
    vectors = client.feature_extraction(TEXTS[1], truncate=True, normalize=True)  # nothing is ever truncated
    np.testing.assert_allclose(vectors, encoder.encode_documents(TEXTS[1:2]), atol=2e-5)


def test_hugging_face_as_elasticsearch_sends_it(url: str, encoder: TokenEncoder) -> None:
    answer = post(f"{url}/", {"inputs": TEXTS}, headers={"Authorization": "Bearer any"})
    assert answer.headers["content-type"] == "application/json"
    np.testing.assert_allclose(answer.json(), encoder.encode_documents(TEXTS), atol=2e-5)


@pytest.mark.parametrize("pooling", ["late", "naive"])
def test_late_chunk_gives_what_embed_prints(url: str, folder: Path, tmp_path: Path, pooling: str) -> None:
    source = tmp_path / "berlin.txt"
    source.write_text(DOCUMENT * 3, "utf8")
    settings = ("--chunker", "sentences", "--max-tokens", 8, "--pooling", pooling, "--dtype", "float32")
    printed = run("embed", source, "--model", folder, "--device", "cpu", *settings)
    rows = [json.loads(line) for line in printed.stdout.splitlines()]
    answer = post(f"{url}/late_chunk", {"text": DOCUMENT * 3, "max_tokens": 8, "pooling": pooling}).json()
    assert len(rows) > 3
    for chunk, row in zip(answer["chunks"], rows, strict=True):
        np.testing.assert_allclose(chunk.pop("vector"), row.pop("vector"), atol=2e-5)
        assert {**chunk, "doc_id": row["doc_id"]} == row


def test_late_chunk_takes_chunks_that_are_cut_already(url: str) -> None:
    text = "Berlin. It is big."
    answer = post(
        f"{url}/late_chunk", {"id": "b", "title": "B", "text": text, "chunks": [[0, 7], [8, 18]]}
    ).json()
    assert (answer["id"], answer["tokens"] > 5) == ("b", True)
    assert [chunk["content"] for chunk in answer["chunks"]] == ["Berlin.", "It is big."]


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/v1/embeddings", {"input": [1, 2]}, 422, "token ids"),
        ("/v1/embeddings", {"input": [[1, 2], [3]]}, 422, "token ids"),
        ("/v1/embeddings", {"input": []}, 422, "input"),
        ("/v1/embeddings", {"input": ["a", 3]}, 422, "input.1"),
        ("/v1/embeddings", {"input": ["a", " \n"]}, 422, "input 1: its text is empty"),
        ("/v1/embeddings", {"input": "a", "model": "gpt"}, 404, "is served here"),
        ("/v1/embeddings", {"input": "a", "dimensions": 8}, 422, "8 asked, 32 served"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "hex"}, 422, "encoding_format"),
        ("/v1/embeddings?input_type=both", {"input": "a"}, 422, "input_type"),
        ("/v1/embeddings", {"input": ["a"] * 61}, 422, "61 texts or chunks in one request, at most 60"),
        ("/v1/embeddings", {"input": ["a " * 601]}, 422, "601 tokens in one request, at most 600"),
        ("/", {}, 422, "inputs"),
        ("/embed", {"inputs": "a", "normalize": False}, 422, "normalize"),
        ("/embed", b'{"inputs": "\\ud800"}', 422, "Invalid JSON"),
        ("/embed", b'{"inputs": "\xff"}', 422, "Invalid JSON"),
        ("/embed", b"[" * 9000, 422, "Invalid JSON"),
        ("/embed", {"inputs": "a " * 20_000}, 413, "more than 20000 bytes"),
        ("/late_chunk", {"text": ""}, 422, "document: its text is empty"),
        ("/late_chunk", {"text": "a", "maxtokens": 3}, 422, "maxtokens"),
        ("/late_chunk", {"text": "a", "max_tokens": 0}, 422, "max_tokens"),
        ("/late_chunk", {"text": "a", "max_tokens": 10**30}, 422, "max_tokens"),
        ("/late_chunk", {"text": "a b", "chunks": [[0, 1]]}, 422, "are in no chunk"),
        (
            "/late_chunk",
            {"text": "a b", "chunks": [[0, 3]], "max_tokens": 3},
            422,
            "have no effect on given chunks",
        ),
        ("/late_chunk", {"text": "a " * 61, "max_tokens": 1}, 422, "61 texts or chunks"),
        ("/compare", {"query": " \n", "text": "a"}, 422, "query: is empty; write a few words"),
        (
            "/compare",
            {"query": "\u200b", "text": "a"},
            422,
            "query: the tokenizer gives no token for its 1 characters",
        ),
        ("/compare", {"query": "a", "text": ""}, 422, "text: is empty; write a few words"),
        ("/compare", {"query": "a", "text": "b", "k": 0}, 422, "k: "),
        ("/compare", {"query": "a", "text": "b", "neighbors": 2}, 422, "neighbors"),
        ("/compare", {"query": "a " * 601, "text": "b"}, 422, "601 tokens in one request, at most 600"),
        ("/compare", {"query": "a", "text": "b " * 601}, 422, "601 tokens in one request, at most 600"),
        ("/search", {"query": "a"}, 404, "no index is served here; start with: es-latechunk serve --index"),
    ],
)
def test_refusals_name_what_is_wrong(url: str, path: str, body: Any, status: int, told: str) -> None:
    answer = post(f"{url}{path}", body)
    assert answer.status_code == status
    assert told in message(answer)
    assert isinstance(answer.json()["error"], dict) == path.startswith("/v1/")


def test_unknown_paths_and_methods(url: str) -> None:
    assert httpx.get(f"{url}/nowhere").json()["error"] == "Not Found"
    assert httpx.get(f"{url}/v1/embeddings").json()["error"]["message"] == "Method Not Allowed"


def test_with_a_token_only_health_and_the_page_are_open(encoder: TokenEncoder) -> None:
    with served(encoder, token="s3cret") as url:
        assert httpx.get(f"{url}/health").json() == {"status": "ok", "model": encoder.identity.model}
        for given in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": b"Bearer s3cret\xe9"}):
            for path in POSTS:
                refused = post(f"{url}{path}", body_for(path), headers=given)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
                assert "s3cret" not in refused.text
            for path in ("/metrics", "/openapi.json", "/v1/models", "/about"):
                assert httpx.get(f"{url}{path}", headers=given).status_code == 401
            assert httpx.get(url, headers=given).text.startswith("<!doctype html>")
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="s3cret")
        assert client.embeddings.create(model=encoder.identity.model, input="a").data
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()


def test_openapi_describes_each_path(url: str) -> None:
    described = httpx.get(f"{url}/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if method == "post":
                name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition(
                    "/"
                )[2]
                required = described["components"]["schemas"][name]["required"]
                assert required == list(body_for(path))
                assert post(f"{url}{path}", body_for(path)).status_code == 200
            else:
                assert httpx.get(f"{url}{path}").status_code == 200
    identifiers = [
        operation["operationId"] for ops in described["paths"].values() for operation in ops.values()
    ]
    assert len(set(identifiers)) == len(identifiers)


def test_metrics_count_requests_and_tokens(encoder: TokenEncoder) -> None:
    with served(encoder) as url:
        post(f"{url}/embed", {"inputs": "a b c"})
        post(f"{url}/embed", {"inputs": 3})
        httpx.get(f"{url}/wp-login.php")
        lines = httpx.get(f"{url}/metrics").text.splitlines()
    for line in (
        'es_latechunk_requests_total{path="/embed",status="200"} 1.0',
        'es_latechunk_requests_total{path="/embed",status="422"} 1.0',
        'es_latechunk_requests_total{path="other",status="404"} 1.0',
        "es_latechunk_tokens_total 3.0",
        "es_latechunk_waiting_tokens 0.0",
        "es_latechunk_round_requests_count 1.0",
    ):
        assert line in lines


def test_the_documented_examples_work(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "serve.md").read_text("utf8")
    [python] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    [curl] = re.findall(r"curl http://127.0.0.1:8000(\S+) -d '(.*?)'", page)
    minilm = load_encoder(device="cpu")
    assert isinstance(minilm, TokenEncoder)
    with served(minilm) as url:
        exec(python.replace("http://127.0.0.1:8000", url), {})  # noqa: S102
        answer = post(f"{url}{curl[0]}", curl[1])
    assert capsys.readouterr().out == "384\n"
    assert (answer.json()["chunks"][0]["content"], answer.json()["tokens"]) == ("Berlin is big.", 11)


def test_command_refuses_what_cannot_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina_key")
    assert "--token" in error_of(run("serve", "--token", "two words"), 2)
    assert "--token" in error_of(run("serve", "--token", ""), 2)
    hosted = run("serve", "--port", 0, "--model", "jina-api:jina-embeddings-v3")
    assert "is hosted by a service" in error_of(hosted, 2)
