"""A secure node: who gets in, what each role of docs/security.md may do, and that no secret is ever told."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from click.testing import Result
from commands import error_of, run
from elasticsearch import AuthorizationException, Elasticsearch
from indices import LETTERS, WordEncoder, load, make_index, stored_chunks
from servers import HEAP, free_port, java_for, versions_here

from es_latechunk import connect, search
from es_latechunk.elastic.connection import Connection
from es_latechunk.errors import LateChunkError, NodeError, ServerError, UsageError
from es_latechunk.node import Node, node_status, start_node, stop_node
from es_latechunk.node.account import server_account
from es_latechunk.node.layout import HOME_VARIABLE, make_folder, write_atomically

DOCS = Path(__file__).parents[1] / "docs" / "security.md"
NAME = "default"  # beside the session's node, this is the one that is used when none is named
PASSWORD = "correct horse battery"
HASH = "$2a$04$abcdefghijklmnopqrstuuqREtd3VJD2QVZbuFskFSLk6eRIrQoOS"  # of that password, by bcrypt
SECRET = "s3cret/with@marks"


def roles() -> dict[str, Any]:
    """The roles that the documentation gives as a file."""
    [block] = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(block)
    return found


@pytest.fixture(scope="module")
def secure_home(node_home: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(node_home))
        yield node_home
        stop_node(NAME)


@pytest.fixture(scope="module")
def started(secure_home: Path) -> Result:
    """What the command said that started a secure node of the newest release, with a user for each role."""
    account, version = server_account(), versions_here()[-1]
    config = secure_home / "nodes" / NAME / "config"
    make_folder(config.parent)
    config.mkdir(mode=0o700)
    account.own(config)
    write_atomically(config / "roles.yml", yaml.safe_dump(roles()), owner=account.uid)
    write_atomically(config / "users", "".join(f"{role}:{HASH}\n" for role in roles()), owner=account.uid)
    of_users = "".join(f"{role}:{role}\n" for role in roles())
    write_atomically(config / "users_roles", of_users, owner=account.uid)
    java = java_for(version)
    options = ["--elasticsearch-version", version, "--heap", HEAP, *(["--java-home", java] if java else [])]
    return run("node", "start", "--name", NAME, "--port", str(free_port()), "--secure", "--json", *options)


@pytest.fixture(scope="module")
def secure_node(started: Result) -> Node:
    assert started.exit_code == 0, started.stderr
    node = node_status(NAME)
    assert node is not None
    return node


@pytest.fixture
def asked(secure_node: Node, monkeypatch: pytest.MonkeyPatch) -> Node:
    """The secure node, and no ELASTICSEARCH_* variable of the machine that runs the tests."""
    for name in [name for name in os.environ if name.startswith("ELASTICSEARCH_")]:
        monkeypatch.delenv(name)
    return secure_node


@pytest.fixture
def root(asked: Node) -> Iterator[Elasticsearch]:
    """The node's own user, who may do everything."""
    with connect() as client:
        yield client
        for name in client.indices.get(index="articles*,other*", expand_wildcards="all"):
            client.indices.delete(index=name)


def user(node: Node, role: str) -> Elasticsearch:
    return connect(url=node.url, username=role, password=PASSWORD, ca_certs=str(node.ca_certs))


@pytest.fixture
def filled(root: Elasticsearch) -> Iterator[WordEncoder]:
    encoder = make_index(root, "articles")
    make_index(root, "other", encoder)
    load(root, "articles", LETTERS, encoder)
    load(root, "other", LETTERS, encoder)
    return encoder


def fingerprint(node: Node) -> str:
    pem = (node.home / "config" / "server.crt").read_text()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END") + 26])).hexdigest()


def show(*options: str | Path) -> Any:
    return run("index", "show", "articles", "--json", *options)


def test_the_local_secure_node_is_used_without_a_word(filled: WordEncoder) -> None:
    done = show()
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout)["chunks"] == 8


def test_a_certificate_that_is_known_or_pinned_gets_in(asked: Node, filled: WordEncoder) -> None:
    who = ("--url", asked.url, "--username", "latechunk", "--password", asked.password() or "")
    pinned = fingerprint(asked)
    colons = ":".join(re.findall("..", pinned.upper()))
    for trust in (["--ca-certs", asked.ca_certs], ["--fingerprint", pinned], ["--fingerprint", colons]):
        done = show(*who, *trust)
        assert (done.exit_code, done.stderr) == (0, ""), trust


def test_insecure_says_so_each_time(asked: Node, filled: WordEncoder) -> None:
    who = ("--url", asked.url, "--username", "latechunk", "--password", asked.password() or "", "--insecure")
    for _ in range(2):
        done = show(*who)
        assert done.exit_code == 0
        assert (
            done.stderr
            == "warning: --insecure: the server's certificate is not verified, so it may be an impostor\n"
        )


def test_the_environment_can_hold_all_of_it(
    asked: Node, filled: WordEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", asked.url)
    monkeypatch.setenv("ELASTICSEARCH_USERNAME", "latechunk")
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", asked.password() or "")
    monkeypatch.setenv("ELASTICSEARCH_FINGERPRINT", fingerprint(asked))
    assert show().exit_code == 0
    monkeypatch.setenv("ELASTICSEARCH_FINGERPRINT", "0" * 64)
    assert "no trusted TLS connection" in error_of(show(), 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--username", "latechunk", "--password", SECRET], "refuses the credentials (401)"),
        (["--username", "nobody", "--password", SECRET], "refuses the credentials (401)"),
        (["--api-key", "c2VjcmV0OnMzY3JldA=="], "refuses the credentials (401)"),
        ([], "refuses the credentials (401)"),
    ],
)
def test_who_is_not_known_is_refused(asked: Node, options: list[str], said: str) -> None:
    told = error_of(show("--url", asked.url, "--ca-certs", str(asked.ca_certs), *options), 2)
    assert told.startswith(f"{asked.url}: {said}")
    assert SECRET not in told
    assert "c2VjcmV0" not in told


def test_a_wrong_password_for_the_local_node_is_not_mended_in_silence(asked: Node) -> None:
    assert "refuses the credentials (401)" in error_of(show("--username", "me", "--password", SECRET), 2)


@pytest.mark.parametrize("trust", [[], ["--fingerprint", "ab" * 32]], ids=["unknown", "pinned to another"])
def test_a_certificate_that_is_not_the_right_one_is_refused(asked: Node, trust: list[str]) -> None:
    told = error_of(show("--url", asked.url, *trust, "--username", "me", "--password", SECRET), 2)
    assert told.startswith(f"{asked.url}: no trusted TLS connection (")
    assert "--ca-certs or --fingerprint" in told
    assert SECRET not in told


def test_a_certificate_of_another_authority_is_refused(asked: Node, tmp_path: Path) -> None:
    import trustme

    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    told = error_of(show("--url", asked.url, "--ca-certs", tmp_path / "other.pem"), 2)
    assert told.startswith(f"{asked.url}: no trusted TLS connection (")


def test_quickstart_beside_a_secure_node_is_its_user(
    asked: Node, root: Elasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the node's own certificate and password, whatever the variables say of another cluster."""
    monkeypatch.setenv("ELASTICSEARCH_URL", "https://elsewhere:9200")
    monkeypatch.setenv("ELASTICSEARCH_API_KEY", "of-another-cluster")
    result = run("quickstart")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"answers at {asked.url}" in result.stdout
    assert "10 documents" in result.stdout
    root.indices.delete(index="quickstart")


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        (Connection(url="http://h:1", fingerprint="ab" * 32), "does not use TLS"),
        (Connection(url="http://h:1", ca_certs=__file__), "does not use TLS"),
        (Connection(url="https://h:1", fingerprint="abc"), "fingerprint abc is not a SHA-256 fingerprint"),
        (
            Connection(url="https://h:1", api_key=f"{SECRET}\n"),
            r"api_key \(ELASTICSEARCH_API_KEY\) holds a space",
        ),
        (Connection(url="https://h:1", api_key=f"{SECRET}é"), "another character that no key has"),
        (Connection(url=f"https://me:{SECRET}@h:port"), r"url https://\*\*\*@h:port does not work"),
        (Connection(url=f"me:{SECRET}@h:1"), "is not a URL"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_without_its_secrets(connection: Connection, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        connect(**asdict(connection))
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert SECRET not in repr(connection)


def test_secrets_are_in_no_log_error_or_index(
    asked: Node, root: Elasticsearch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    password = asked.password() or ""
    url = asked.url.replace("//", f"//latechunk:{password}@")
    with connect(url=url, ca_certs=str(asked.ca_certs)) as client:
        encoder = make_index(client, "articles")
        load(client, "articles", LETTERS, encoder)
        with pytest.raises(LateChunkError) as missing:
            load(client, "articles-none", LETTERS, encoder)
    told = str(missing.value) + repr(missing.value) + caplog.text
    told += json.dumps(root.indices.get(index="articles").body) + repr(stored_chunks(root, "articles"))
    assert "articles" in caplog.text
    assert password not in told


def test_it_asks_for_its_password_over_tls(asked: Node, started: Result) -> None:
    password = asked.password() or ""
    assert len(password) >= 24
    assert json.loads(started.stdout)["password_file"] == str(asked.password_file)
    assert password not in started.output + run("node", "status", "--name", NAME).output
    trusted = ssl.create_default_context(cafile=str(asked.ca_certs))

    def status(**options: Any) -> int:
        return httpx.get(f"{asked.url}/_cluster/health", verify=trusted, **options).status_code

    assert status() == 401
    assert status(auth=(asked.username, "wrong")) == 401
    assert status(auth=(asked.username, password)) == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(asked.url)
    with pytest.raises(NodeError, match="secure; stop it first"):
        start_node(NAME, secure=False)


def test_no_process_of_ours_carries_the_password(asked: Node) -> None:
    server = psutil.Process(asked.pid)
    family = [server, *server.children(recursive=True)]
    told = repr([(one.cmdline(), one.environ()) for one in family])
    assert str(asked.home) in told
    assert (asked.password() or "") not in told
    commands = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]
    assert not any((asked.password() or "") in part for command in commands for part in command)


def test_its_secrets_are_readable_by_their_owner_alone(asked: Node) -> None:
    assert asked.ca_certs is not None
    closed = {path for path in asked.home.iterdir() if path.is_file()} - {asked.ca_certs}
    opened = {path.name for path in closed if path.stat().st_mode & 0o077}
    assert opened == set()
    folders = ("config", "data", "logs", "tmp")
    assert [asked.home.joinpath(name).stat().st_mode & 0o777 for name in folders] == [0o700] * 4
    assert (asked.home / "config" / "server.key").stat().st_mode & 0o777 == 0o600


def test_the_role_for_searching_searches_and_nothing_else(asked: Node, filled: WordEncoder) -> None:
    with user(asked, "latechunk_search") as client:
        hits = search("The Spree.", index="articles", client=client, encoder=filled)
        assert hits[0].doc_id == "berlin"
        with pytest.raises(ServerError, match="may not do this"):
            search("The Spree.", index="other", client=client, encoder=filled)
        with pytest.raises(ServerError, match="may not do this"):
            load(client, "articles", LETTERS[:1], filled)
        for forbidden in (
            lambda: client.index(index="articles", document={"content": "x"}),
            lambda: client.delete(index="articles", id="berlin#0"),
            lambda: client.indices.delete(index="articles"),
        ):
            with pytest.raises(AuthorizationException):
                forbidden()


@pytest.mark.parametrize("role", ["latechunk_ingest", "latechunk_load"])
def test_the_roles_for_loading_load_and_nothing_else(
    asked: Node, root: Elasticsearch, filled: WordEncoder, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    clean, before = stored_chunks(root, "articles"), root.indices.get(index="articles").body
    root.delete(index="articles", id="berlin#1")
    with user(asked, role) as client:
        report, errors = load(client, "articles", LETTERS[:2], filled, prune=True)
        assert (report.indexed, report.unchanged, report.deleted, errors) == (3, 3, 2, [])
        report, errors = load(client, "articles", LETTERS, filled)
        assert (report.indexed, report.unchanged, errors) == (2, 6, [])
        for forbidden in (
            lambda: client.indices.delete(index="articles"),
            lambda: client.indices.create(index="articles-more"),
            lambda: client.indices.close(index="articles"),
            lambda: client.indices.put_alias(index="articles", name="other-alias"),
            lambda: client.search(index="other"),
            lambda: client.index(index="other", document={"content": "x"}),
            lambda: client.cluster.put_settings(persistent={"action.auto_create_index": "false"}),
        ):
            with pytest.raises(AuthorizationException):
                forbidden()
    assert ("so it is loaded with refreshes" in caplog.text) == (role == "latechunk_ingest")
    assert stored_chunks(root, "articles") == clean
    assert root.indices.get(index="articles").body == before


def test_the_role_for_administration_makes_and_promotes(asked: Node, root: Elasticsearch) -> None:
    with user(asked, "latechunk_admin") as client:
        encoder = make_index(client, "articles-000001")
        load(client, "articles-000001", LETTERS, encoder)
        client.indices.put_alias(index="articles-000001", name="articles")
        with pytest.raises(AuthorizationException):
            client.indices.create(index="other-thing")
