"""http://, https:// and hf:// as sources: whole texts or named failures, whatever the server and the network do."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import error_of, run, run_process
from hub_server import HubServer
from made_files import packed, read
from web_server import WebFile, WebServer

from es_latechunk.documents import count_bytes, read_documents
from es_latechunk.documents.remote import stream, web
from es_latechunk.documents.remote.address import parse_address, redacted
from es_latechunk.errors import PreconditionError, UsageError
from es_latechunk.threads import Interrupt, Interrupted
from es_latechunk.types import Document

TEXT = "".join(f"Line {number} of a long text, with Zürich in it.\n" for number in range(60))
LINES = "".join(
    json.dumps({"id": f"d{number}", "text": f"Text {number}."}) + "\n" for number in range(40_000)
)
SECRET = "X-Amz-Signature=5ecret"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setattr(stream, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(web, "BLOCK", 1024)
    with WebServer() as running:
        yield running


def test_an_object_is_read_as_the_file_would_be(server: WebServer) -> None:
    server.files = {
        "/docs/a%20b.md": WebFile(b"# Berlin\n\nThe city."),
        "/docs/rows.jsonl.gz": WebFile(gzip.compress(b'{"text": "One."}\n{"text": "Two."}\n')),
        "/docs/page": WebFile(b"<h1>Spree</h1>"),
        "/docs/rows.parquet": WebFile(packed({"text": ["One.", "Two."]}, row_group_size=1)),
    }
    assert read(f"{server.url}/docs/a%20b.md", f"{server.url}/docs/rows.jsonl.gz") == (
        [
            Document("a b.md", "# Berlin\n\nThe city.", "Berlin"),
            Document("rows.jsonl.gz:1", "One."),
            Document("rows.jsonl.gz:2", "Two."),
        ],
        [],
    )
    rows, errors = read(f"{server.url}/docs/rows.parquet")
    assert ([row.text for row in rows], errors) == (["One.", "Two."], [])
    assert read(f"{server.url}/docs/page", format="html")[0] == [Document("page", "# Spree", "Spree")]
    [error] = read(f"{server.url}/docs/page")[1]
    assert error.startswith("page: is of an unknown format")
    assert count_bytes([f"{server.url}/docs/page"]) is None


@pytest.mark.parametrize("end", ["length", "chunked"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_lost_connection_goes_on_where_it_broke_off(server: WebServer, end: str, ranges: bool) -> None:
    content = TEXT.encode()
    server.files["/a.txt"] = WebFile(content, ranges=ranges, end=end, cuts=[len(content), 2500, 100])
    documents, errors = read(f"{server.url}/a.txt")
    assert ([document.text for document in documents], errors) == ([TEXT], [])
    blocks = [asked for _, asked in server.requests if asked]
    assert blocks, "it began anew instead"
    assert blocks[0] == f"bytes={2500 // web.BLOCK * web.BLOCK}-"


@pytest.mark.parametrize("end", ["length", "chunked"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_connection_that_is_lost_each_time_is_a_failure_and_no_shorter_text(
    server: WebServer, end: str, name: str
) -> None:
    content = (LINES if name == "a.jsonl" else TEXT).encode()
    server.files[f"/{name}"] = WebFile(content, end=end, cuts=[len(content), 1200, *[50] * 20])
    documents, errors = read(f"{server.url}/{name}")
    [error] = errors
    assert error.startswith(f"{name}: cannot be read in 5 attempts (")
    assert error.endswith("; run the same command again")
    if name == "a.txt":
        assert documents == []
    else:  # the documents before the break, and none of them cut
        whole = [json.loads(line) for line in LINES.splitlines()]
        assert 0 < len(documents) < len(whole)
        assert [{"id": d.id, "text": d.text} for d in documents] == whole[: len(documents)]


@pytest.mark.parametrize("change", [WebFile(TEXT.upper().encode(), tag='"2"'), None])
def test_an_object_that_changes_while_it_is_read_is_a_failure(
    server: WebServer, change: WebFile | None
) -> None:
    content = LINES.encode()
    server.files["/a.jsonl"] = WebFile(content, cuts=[len(content), web.BLOCK + 100])
    errors = []
    for count, item in enumerate(read_documents([f"{server.url}/a.jsonl"])):
        if not count:
            server.files = {"/a.jsonl": change} if change else {}
        if not isinstance(item, Document):
            errors.append(str(item))
    if change:
        assert errors == [
            "a.jsonl: changed while it was read, so its text is not complete; run the same command again"
        ]
    else:
        assert errors == ["a.jsonl: is gone since it was listed; run the same command again"]


def test_without_a_version_a_lost_connection_cannot_go_on(server: WebServer) -> None:
    content = TEXT.encode()
    server.files["/a.txt"] = WebFile(content, tag="", cuts=[len(content), 2500])
    [error] = read(f"{server.url}/a.txt")[1]
    assert error.startswith("a.txt: lost its connection after 2,048 bytes, and its server does not say which")
    # Before the first block nothing was made of it yet.
    server.files["/a.txt"] = WebFile(content, tag="", cuts=[len(content), 100])
    assert [document.text for document in read(f"{server.url}/a.txt")[0]] == [TEXT]


def test_an_answer_of_which_nothing_says_where_it_ends_is_refused(server: WebServer) -> None:
    server.files["/a.txt"] = WebFile(b"Half a te", end="close")
    [error] = read(f"{server.url}/a.txt")[1]
    assert error.startswith("a.txt: cannot be read, as its server does not say where it ends")
    server.files["/a.txt"] = WebFile(gzip.compress(b"Text."), headers={"Content-Encoding": "gzip"})
    [error] = read(f"{server.url}/a.txt")[1]
    assert error.startswith("a.txt: cannot be read, as its server packs it though asked not to")


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server: WebServer) -> None:
    server.files["/a.txt"] = WebFile(b"Text.", statuses=[200, 503, 429])
    assert read(f"{server.url}/a.txt") == ([Document("a.txt", "Text.", plain_text=True)], [])
    server.files["/a.txt"] = WebFile(b"Text.", statuses=[200, 403])
    server.requests.clear()
    [error] = read(f"{server.url}/a.txt")[1]
    assert error.startswith("a.txt: cannot be read (HTTP 403: access is refused)")
    assert len(server.requests) == 2


def test_what_is_not_there_ends_the_run_before_anything_is_read(server: WebServer) -> None:
    server.files["/a.txt"] = WebFile(b"Text.")
    with pytest.raises(UsageError, match=r"/b\.txt cannot be found; check the address$"):
        next(read_documents([f"{server.url}/a.txt", f"{server.url}/b.txt"]))
    server.files["/a.txt"].statuses = [401]
    with pytest.raises(PreconditionError, match=r"cannot be read \(HTTP 401"):
        next(read_documents([f"{server.url}/a.txt"]))
    with pytest.raises(PreconditionError, match=r"^http://127\.0\.0\.1:1/a\.txt cannot be reached \(Connect"):
        next(read_documents(["http://127.0.0.1:1/a.txt"]))


def test_a_signature_is_sent_and_shown_nowhere(server: WebServer) -> None:
    signed = f"{server.url}/a.jsonl?{SECRET}"
    server.files["/a.jsonl"] = WebFile(b'{"text": "Berlin lies on the Spree."}\n{"text": ""}\n')
    result = run("chunk", signed)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["doc_id"] == "a.jsonl:1"
    assert SECRET not in result.output
    assert all(target.endswith(SECRET) for target, _ in server.requests)
    server.files["/a.jsonl"].statuses = [404]
    assert error_of(run("chunk", signed), 2) == f"{server.url}/a.jsonl cannot be found; check the address"
    assert SECRET not in error_of(run("chunk", f"http://127.0.0.1:1/a.jsonl?{SECRET}"), 2)
    assert SECRET not in repr(parse_address(signed))
    assert (
        redacted(f"url='{signed}' at https://me:pw@host/x") == f"url='{server.url}/a.jsonl' at https://host/x"
    )


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("https://me:5ecret@host/a.txt", "holds a user name or a password"),
        ("https://5ecret@host/a.txt", "holds a user name or a password"),
        ("s3://key:5ecret@bucket/a.txt", "holds a user name or a password"),
        ("s3://bucket/a.txt?X-Amz-Signature=5ecret", r"holds a query \(\?\)"),
        (
            "ftp://me:5ecret@host/a.txt",
            "ftp:// cannot be read; give a path, or an address that begins with s3://",
        ),
        ("https://host/folder/?5ecret", "https://host/folder/ names no file"),
        ("s3://", "s3:// names nothing"),
    ],
)
def test_an_address_with_what_may_be_secret_is_refused_without_showing_it(address: str, cause: str) -> None:
    with pytest.raises(UsageError, match=cause) as refused:
        next(read_documents([address]))
    assert "5ecret" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(UsageError, match=r"^gs://bucket/a: .*run pip install 'es-latechunk\[gcs\]'$"):
        next(read_documents(["gs://bucket/a"]))


def test_a_folder_of_the_hub_is_read_at_its_commit(tmp_path: Path) -> None:
    """In a process of its own, as the hub's client reads its settings at import."""
    texts = {"docs/a.txt": "Berlin.", "docs/deep/b.md": "# Spree", "docs/drafts/c.txt": "No.", "d.txt": "No."}
    for name, text in texts.items():
        (tmp_path / "repository" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repository" / name).write_text(text)
    hub = HubServer()
    hub.repositories["owner/texts"] = tmp_path / "repository"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env = {
        **kept,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "NO_PROXY": "*",
        "HF_TOKEN": SECRET,
    }

    def chunk(*words: str) -> subprocess.CompletedProcess[str]:
        return run_process("chunk", *words, env=env, timeout=120)

    try:
        done = chunk("hf://owner/texts/docs", "--exclude", "drafts/")
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert {row["doc_id"]: row["content"] for row in rows} == {"a.txt": "Berlin.", "deep/b.md": "# Spree"}
        assert hub.downloads == ["docs/a.txt", "docs/deep/b.md"]
        assert error_of(chunk("hf://owner/texts/none"), 2).endswith(
            "/none cannot be found; check the address"
        )
        hub.gated.add("owner/texts")
        refused = chunk("hf://owner/texts/docs/a.txt")
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: a.txt: cannot be read (access is refused: ")
        assert SECRET not in refused.stderr
    finally:
        hub.close()


def test_a_wait_between_two_attempts_ends_when_its_thread_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "FIRST_WAIT", 3600.0)
    monkeypatch.setattr(stream, "LONGEST_WAIT", 3600.0)
    interrupt, attempted, ended = Interrupt(), threading.Event(), threading.Event()

    def attempt() -> None:
        attempted.set()
        raise stream.LostError("cut")

    def work() -> None:
        with pytest.raises(Interrupted):
            interrupt.run(lambda: stream.retried(attempt))
        ended.set()

    threading.Thread(target=work, daemon=True).start()
    assert attempted.wait(60)
    interrupt.ask()
    assert ended.wait(60)
