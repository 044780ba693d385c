"""inference put, show and delete: the requests, a server that speaks the API, and one that lacks it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from commands import error_of, run
from fakes import PositionEncoder
from inference_server import InferenceServer, inference_server
from serving import served

from es_latechunk.elastic.inference import (
    Endpoint,
    endpoint_body,
    semantic_query,
    semantic_text_mapping,
    words_to_vector_query,
)
from es_latechunk.errors import UsageError

SCHEMA = Path(__file__).parents[2] / "shared/data/elasticsearch_api/request-bodies.strict.schema.json"
SERVE = "http://serve:8000"
KEY = "a-very-s3cret-key"
MODEL = PositionEncoder.identity.model
ENDPOINTS = {
    "hugging-face": Endpoint("hugging_face", url=f"{SERVE}/", queries=True),
    "openai": Endpoint("openai", url=SERVE, model_id=MODEL, key=KEY),
    "jinaai": Endpoint("jinaai", key=KEY),
    "elasticsearch": Endpoint("elasticsearch"),
}


@pytest.fixture
def server() -> Iterator[InferenceServer]:
    with inference_server() as server:
        yield server


@pytest.mark.skipif(not SCHEMA.exists(), reason="needs ../shared")
def test_requests_fit_the_strict_description() -> None:
    schema = json.loads(SCHEMA.read_text("utf8"))

    def check(operation: str, body: Any) -> None:
        jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/request.{operation}"}).validate(body)

    for operation, endpoint in ENDPOINTS.items():
        check(f"inference-put-{operation}", endpoint_body(endpoint))
    check("indices-create", semantic_text_mapping("a"))
    check("search", semantic_query("Berlin"))
    check("search", words_to_vector_query("a", "Berlin"))
    with pytest.raises(jsonschema.ValidationError):
        check("inference-put-openai", {**endpoint_body(ENDPOINTS["openai"]), "key": 1})


def test_requests_say_where_and_what() -> None:
    settings = {name: endpoint_body(endpoint)["service_settings"] for name, endpoint in ENDPOINTS.items()}
    assert settings["hugging-face"] == {"url": f"{SERVE}/?input_type=query", "api_key": "none"}
    assert settings["openai"]["url"] == f"{SERVE}/v1/embeddings"
    assert endpoint_body(ENDPOINTS["jinaai"])["task_settings"] == {"late_chunking": True}


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        (Endpoint("hugging_face"), "serve_url"),
        (Endpoint("hugging_face", url="serve:8000"), "serve_url"),
        (Endpoint("hugging_face", url=f"{SERVE}/v1"), "serve_url"),
        (Endpoint("hugging_face", url="http://user:word@serve"), "serve_url"),
        (Endpoint("hugging_face", url=SERVE, model_id="m"), "model_id m"),
        (Endpoint("openai", url=SERVE), "model_id"),
        (Endpoint("jinaai"), "JINA_API_KEY"),
        (Endpoint("jinaai", key=KEY, url=SERVE), "serve_url"),
        (Endpoint("elasticsearch", queries=True), "queries"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(endpoint: Endpoint, told: str) -> None:
    with pytest.raises(UsageError, match=told) as error:
        endpoint_body(endpoint)
    assert KEY not in f"{error.value}{endpoint!r}"


@pytest.mark.parametrize("service", ["hugging_face", "openai"])
def test_put_show_and_delete_with_serve_behind_it(server: InferenceServer, service: str) -> None:
    model = ["--model-id", MODEL] if service == "openai" else []
    with served(PositionEncoder(), token=KEY) as url:
        made = run(
            "inference", "put", "notes", "--service", service, "--serve-url", url, *model, "--url", server.url,
            env={"ES_LATECHUNK_TOKEN": KEY},
        )  # fmt: skip
    assert (made.exit_code, made.stderr) == (0, f"inference endpoint notes: {service}, 4 dimensions\n")
    for part in ("PUT /semantic-notes", '"inference_id": "notes"', '"semantic": {', '"model_id": "notes"'):
        assert part in made.stdout
    assert server.endpoints["notes"]["service_settings"]["api_key"] == KEY
    shown = run("inference", "show", "notes", "--url", server.url, "--json")
    assert json.loads(shown.stdout)["service"] == service
    assert run("inference", "delete", "notes", "--url", server.url, "--yes").stdout == ""
    assert server.endpoints == {}
    assert KEY not in made.output + shown.output
    assert "not found" in error_of(run("inference", "show", "notes", "--url", server.url), 2)


def test_a_wrong_key_is_refused_and_not_shown(server: InferenceServer) -> None:
    with served(PositionEncoder(), token="another") as url:
        refused = run(
            "inference", "put", "notes", "--serve-url", url, "--service-key", KEY, "--url", server.url
        )
    message = error_of(refused, 2)
    assert "401" in message
    assert "***" in message
    assert KEY not in message


def test_it_waits_for_a_model_that_is_being_deployed(server: InferenceServer) -> None:
    server.deploying = 2
    arguments = ("--service", "elasticsearch", "--url", server.url, "--json")
    made = run("inference", "put", "notes", *arguments)
    assert json.loads(made.stdout) == {"inference_id": "notes", "service": "elasticsearch", "dimensions": 384}
    server.deploying = 10**6
    late = error_of(run("inference", "put", "notes", *arguments, "--wait", 0), 1)
    assert "deployment" in late


def test_a_licence_without_inference_is_named(server: InferenceServer) -> None:
    server.licensed = False
    refused = run("inference", "put", "notes", "--service", "elasticsearch", "--url", server.url)
    assert "its licence does not cover inference" in error_of(refused, 2)


@pytest.mark.parametrize(
    "command", [("put", "notes", "--serve-url", SERVE), ("show", "notes"), ("delete", "notes", "--yes")]
)
def test_a_server_without_inference_is_named(elasticsearch_url: str, command: tuple[str, ...]) -> None:
    refused = run("inference", *command, "--url", elasticsearch_url)
    assert "has no inference API" in error_of(refused, 2)
