"""s3:// as a source, from a server of that protocol on this machine, with faults in between."""

from __future__ import annotations

import json
import logging
import random
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from faults import CutAnswer, FaultProxy, Status
from indices import WordEncoder, load, make_index, stored_chunks
from made_files import packed, read
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from es_latechunk.documents import ahead, read_documents
from es_latechunk.documents.read import MOST_UNREACHABLE
from es_latechunk.documents.remote import stores, stream
from es_latechunk.documents.remote.address import ObjectError
from es_latechunk.documents.remote.objects import RemoteFile
from es_latechunk.errors import PreconditionError, UsageError
from es_latechunk.types import Document

AGAIN = "run the same command again"
GONE = f"is gone since it was listed; {AGAIN}"
CHANGED = f"changed while it was read, so its text is not complete; {AGAIN}"
SECRET = "5ecret/of+the=user"
ALWAYS = 1_000_000


@dataclass
class Bucket:
    """A bucket of its own for each test, behind a proxy with faults."""

    name: str
    client: Any
    proxy: FaultProxy

    def put(self, **objects: str | bytes) -> None:
        self.put_all(objects)

    def put_all(self, objects: dict[str, Any]) -> None:
        for key, content in objects.items():
            body = content if isinstance(content, bytes) else content.encode()
            self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def url(self, key: str = "") -> str:
        return f"s3://{self.name}/{key}".rstrip("/") if not key else f"s3://{self.name}/{key}"


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    logger = logging.getLogger("werkzeug")  # which would write each request on stderr
    level = logger.level
    logger.setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()  # returns when it answers
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    logger.setLevel(level)


@pytest.fixture
def bucket(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FaultProxy(s3_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr(S3FileSystem, "retries", 1)  # the attempts here are ours
        monkeypatch.setattr(stream, "FIRST_WAIT", 0.001)
        S3FileSystem.clear_instance_cache()  # they know the settings of the test before
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        client = boto3.client("s3", endpoint_url=s3_url)
        client.create_bucket(Bucket=name)
        yield Bucket(name, client, proxy)
        S3FileSystem.clear_instance_cache()


@pytest.fixture
def in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no object count as small, so that each is read when its turn has come."""
    monkeypatch.setattr(ahead, "SMALL_BYTES", 0)


def test_what_is_below_an_address_is_read_as_the_same_folder_would_be(bucket: Bucket, tmp_path: Path) -> None:
    files = {
        "b.txt": "Berlin.",
        "a.md": "# Spree\n\nA river.",
        "rows.jsonl": '{"id": "one", "text": "One."}\n{"text": "Two."}\nno JSON\n',
        "drafts/c.txt": "Not yet.",
        "deep/er/d.html": "<title>D</title><p>Deep.",
        "deep-er/e.txt": "Beside it.",
        ".hidden/f.txt": "Hidden.",
        ".g.txt": "Hidden.",
        "h.bin": "Nothing known.",
        "Zürich #1?.txt": "Odd name.",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    bucket.put_all({f"docs/{name}": text for name, text in files.items()})
    bucket.put_all({"docs/": "", "docs/deep/": "", "docs2/x.txt": "Another folder."})
    notes: tuple[list[str], list[str]] = ([], [])
    options = {"exclude": ["drafts/"]}
    local = read(tmp_path, on_note=lambda *note: notes[0].append(str(note)), **options)
    remote = read(bucket.url("docs"), on_note=lambda *note: notes[1].append(str(note)), **options)
    assert remote == local
    assert notes[0] == notes[1] != []
    assert read(bucket.url("docs/"), **options) == local
    # The same objects keep their ids at whichever address the folder lies.
    assert [d.id for d in read(bucket.url(), include=["docs/deep/"])[0]] == ["docs/deep/er/d.html"]
    assert [d.id for d in read(bucket.url("docs/deep/er/d.html"))[0]] == ["d.html"]


def test_names_that_only_stores_have(bucket: Bucket) -> None:
    bucket.put_all(
        {
            "a//b.txt": "Empty part.",
            "a/b.txt": "One.",
            "a/tab\there.txt": "Two.",
            "folder/": "Text.",
            "a": "File.",
        }
    )
    documents, errors = read(bucket.url())
    assert {d.id: d.text for d in documents} == {"a//b.txt": "Empty part.", "a/b.txt": "One."}
    assert sorted(errors) == [
        "a/tab\\there.txt: its name holds a control character, so it gives no readable id; rename the file",
        "folder/: its name ends in a slash; rename the object",
    ]
    assert [d.id for d in read(bucket.url("a/"), include=["b.txt"])[0]] == ["b.txt", "/b.txt"]
    assert [d.text for d in read(bucket.url("a"), format="text")[0]] == ["File."]
    with pytest.raises(UsageError, match=r"folder/x/ cannot be found"):
        read(bucket.url("folder/x/"))


def test_pages_of_a_listing_are_read_one_after_the_other(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PAGE", 3)
    names = [f"n{number:02d}.txt" for number in range(10)]
    bucket.put_all({f"many/{name}": f"Text {name}." for name in names})
    assert [d.id for d in read(bucket.url("many"))[0]] == names


def test_small_objects_are_fetched_together_and_come_in_order(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first bytes are kept back until all threads of the pool have asked for theirs, large objects excepted.

    They share one client: each of its own would cost as much as many objects.
    """
    monkeypatch.setattr(ahead, "SMALL_BYTES", 100)
    names = [f"n{number:02d}.txt" for number in range(5 * ahead.FETCHERS + 1)]
    bucket.put_all({name: f"Text {name}." for name in names} | {"n05.txt": "Large. " * 20, "n06.bin": "?"})
    together = threading.Barrier(ahead.FETCHERS)
    asked: list[str] = []
    clients: set[int] = set()
    fetch = stores.Store._range

    def fetch_together(store: stores.Store, path: str, begin: int, end: int) -> bytes:
        asked.append(path.rpartition("/")[2])
        clients.add(id(store._files))
        if not path.endswith("n05.txt"):
            together.wait(timeout=10)
        return fetch(store, path, begin, end)

    monkeypatch.setattr(stores.Store, "_range", fetch_together)
    reading = read_documents([bucket.url()])
    first = next(reading)
    assert "n05.txt" not in asked
    assert len(asked) <= ahead.MOST_IN_LINE
    documents = [first, *reading]
    assert [document.id for document in documents if isinstance(document, Document)] == names
    assert sorted(asked) == names
    assert len(clients) == 1


def test_a_store_that_refuses_one_small_object_at_once_is_a_failure_of_that_one(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening it fails before its turn; that is told when its turn has come."""
    bucket.put_all({"a.txt": "Before.", "b.txt": "Refused.", "c.txt": "After."})
    open_file = RemoteFile.open

    def refused(file: RemoteFile, *where: Any) -> Any:
        if file.name == "b.txt":
            raise ObjectError("cannot be read (access is refused)")
        return open_file(file, *where)

    monkeypatch.setattr(RemoteFile, "open", refused)
    documents, errors = read(bucket.url())
    assert [document.id for document in documents] == ["a.txt", "c.txt"]
    assert errors == ["b.txt: cannot be read (access is refused)"]


def test_what_is_fetched_ahead_is_given_up_with_the_reading(bucket: Bucket) -> None:
    """The threads end after what they do now."""
    bucket.put_all({f"n{number:03d}.txt": "Text." for number in range(200)})
    before = set(threading.enumerate())
    reading = read_documents([bucket.url()])
    next(reading)
    fetchers = {one for one in threading.enumerate() if "(_run)" in one.name} - before
    assert len(fetchers) == ahead.FETCHERS
    del reading
    for thread in fetchers:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in fetchers)
    assert not bucket.proxy.seen("n199.txt")


def test_large_objects_are_read_in_blocks(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "BLOCK", 1000)
    rows = [{"id": f"d{number}", "text": f"Zürich {number}."} for number in range(200)]
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    bucket.put_all({"rows.jsonl": content, "whole.txt": content})
    documents, errors = read(bucket.url("rows.jsonl"))
    assert ([{"id": d.id, "text": d.text} for d in documents], errors) == (rows, [])
    assert [d.text for d in read(bucket.url("whole.txt"))[0]] == [content]
    parts = [request for request in bucket.proxy.seen("rows.jsonl") if request.method == "GET"]
    assert len(parts) == -(-len(content.encode()) // 1000)


def test_of_parquet_only_what_is_needed_is_fetched(
    bucket: Bucket, in_turn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end, which says where everything is, and the columns that are used; a lost connection is repeated."""
    monkeypatch.setattr(stores, "BLOCK", 10_000)
    texts = [f"Zürich {number}." for number in range(300)]
    raw = [random.Random(number).randbytes(1000) for number in range(300)]  # noqa: S311 - no secret
    content = packed({"text": texts, "raw": raw}, row_group_size=100)
    bucket.put_all({"rows.parquet": content})
    bucket.proxy.fail(CutAnswer(), times=3, path="rows.parquet", method="GET")
    documents, errors = read(bucket.url("rows.parquet"))
    assert ([document.text for document in documents], errors) == (texts, [])
    assert documents[-1].id == "rows.parquet:300"
    answers = [request for request in bucket.proxy.seen("rows.parquet") if request.method == "GET"]
    assert 10_000 * len(answers) < len(content) / 2

    reading = read_documents([bucket.url("rows.parquet")])
    items = [next(reading)]
    bucket.put_all({"rows.parquet": content + b"x"})
    items += reading
    assert [item.text for item in items if isinstance(item, Document)] == texts[: len(items) - 1]
    assert str(items[-1]) == f"rows.parquet: {CHANGED}"


@pytest.mark.parametrize("fault", [CutAnswer(), CutAnswer(announced=False), Status(503, "SlowDown")])
def test_a_connection_that_is_lost_in_the_middle_is_repeated(bucket: Bucket, fault: Any) -> None:
    text = "Berlin lies on the Spree. " * 200
    bucket.put_all({"a.txt": text})
    bucket.proxy.fail(fault, times=3, path="a.txt", method="GET")
    assert read(bucket.url("a.txt")) == ([Document("a.txt", text, plain_text=True)], [])
    assert len([r for r in bucket.proxy.seen("a.txt") if r.method == "GET"]) >= 4


@pytest.mark.parametrize("fault", [CutAnswer(), CutAnswer(announced=False)])
def test_one_that_is_lost_each_time_is_a_failure_and_the_others_go_on(bucket: Bucket, fault: Any) -> None:
    bucket.put_all({"a.txt": "Before.", "b.txt": "Berlin lies on the Spree. " * 200, "c.txt": "After."})
    bucket.proxy.fail(fault, times=ALWAYS, path="b.txt", method="GET")
    documents, [error] = read(bucket.url())
    assert [d.id for d in documents] == ["a.txt", "c.txt"]
    assert error.startswith("b.txt: cannot be read in 5 attempts (")
    assert error.endswith(f"); {AGAIN}")


def test_a_store_that_is_gone_for_good_ends_the_reading(bucket: Bucket) -> None:
    names = [f"n{number:02d}.txt" for number in range(MOST_UNREACHABLE + ahead.MOST_IN_LINE + 1)]
    bucket.put_all({"docs/a.txt": "Before.", **{f"docs/{name}": "Not reached." for name in names}})
    bucket.proxy.fail(CutAnswer(), times=ALWAYS, path="docs/n", method="GET")
    documents, errors = read(bucket.url("docs"))
    assert [d.id for d in documents] == ["a.txt"]
    assert [error.partition(":")[0] for error in errors[:-1]] == names[:MOST_UNREACHABLE]
    assert errors[-1] == (
        f"{bucket.url('docs')}: {MOST_UNREACHABLE} objects in a row cannot be read; the rest is left out; {AGAIN}"
    )
    assert not bucket.proxy.seen(names[-1])


@pytest.mark.parametrize(
    ("change", "cause"), [("Another.", CHANGED), ("Longer text.", CHANGED), (None, GONE)]
)
# Either way it is fetched when its turn has come: by the reader, or by a thread.
@pytest.mark.parametrize("limit", ["SMALL_BYTES", "MOST_IN_LINE"])
def test_an_object_that_changes_after_it_was_listed_is_a_failure(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, limit: str, change: str | None, cause: str
) -> None:
    monkeypatch.setattr(ahead, limit, 1)
    bucket.put_all({"a.txt": "Before.", "b.txt": "The old.", "c.txt": "After."})
    reading = read_documents([bucket.url()])
    assert isinstance(next(reading), Document)  # the listing is there now
    bucket.put_all({"b.txt": change}) if change else bucket.delete("b.txt")
    assert [str(getattr(item, "id", item)) for item in reading] == [f"b.txt: {cause}", "c.txt"]


def test_an_object_that_changes_in_the_middle_gives_no_mixed_document(
    bucket: Bucket, in_turn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "BLOCK", 1000)
    old = "".join(json.dumps({"text": f"Old number {number:03d}."}) + "\n" for number in range(100))
    bucket.put_all({"rows.jsonl": old})
    reading = read_documents([bucket.url("rows.jsonl")])
    items = [next(reading)]
    bucket.put_all({"rows.jsonl": old.replace("Old", "New")})
    items += reading
    assert all(item.text.startswith("Old") for item in items if isinstance(item, Document))
    assert str(items[-1]) == f"rows.jsonl: {CHANGED}"


def test_a_folder_that_cannot_be_listed_is_a_failure(bucket: Bucket) -> None:
    bucket.put_all({"docs/a.txt": "A.", "docs/in/b.txt": "B."})
    bucket.proxy.fail(Status(403, "AccessDenied"), times=ALWAYS, path="prefix=docs%2Fin")
    documents, [error] = read(bucket.url("docs"))
    assert [d.id for d in documents] == ["a.txt"]
    assert error.startswith("in/: cannot be listed (")


def test_what_is_not_there_ends_the_run_before_anything_is_read(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(a="A.")
    with pytest.raises(UsageError, match=rf"^{bucket.url('none')} cannot be found; check the address$"):
        read(bucket.url("none"))
    assert "cannot be found" in error_of(run("chunk", "s3://no-such-bucket-here/a.txt"), 2)
    bucket.proxy.fail(Status(403, "AccessDenied"), times=ALWAYS)
    with pytest.raises(PreconditionError, match=r"access is refused.*; sign in as the store's own tools do"):
        read(bucket.url("a"))
    bucket.proxy.heal()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(PreconditionError, match=r"cannot be reached \(") as refused:
        read(bucket.url("a"))
    assert SECRET not in str(refused.value)


def test_a_failure_of_one_object_keeps_the_index_from_being_pruned(
    bucket: Bucket, client: Elasticsearch, index_name: str
) -> None:
    encoder = WordEncoder(query_prefix="")
    make_index(client, index_name, encoder, max_tokens=12)
    bucket.put_all({f"{name}.txt": f"The text of {name}." for name in "abcd"})
    report, errors = load(client, index_name, read_documents([bucket.url()]), encoder)
    assert (report.indexed, errors) == (4, [])
    again, errors = load(client, index_name, read_documents([bucket.url()]), encoder)
    assert (again.indexed, again.unchanged, errors) == (0, 4, [])

    bucket.delete("a.txt")
    bucket.proxy.fail(CutAnswer(), times=ALWAYS, path="b.txt", method="GET")
    report, [error] = load(client, index_name, read_documents([bucket.url()]), encoder, prune=True)
    assert error.startswith("b.txt: cannot be read in 5 attempts (")
    assert report.failed == 1
    assert {chunk["doc_id"] for chunk in stored_chunks(client, index_name).values()} == {
        f"{n}.txt" for n in "abcd"
    }

    bucket.proxy.heal()
    load(client, index_name, read_documents([bucket.url()]), encoder, prune=True)
    assert {chunk["doc_id"] for chunk in stored_chunks(client, index_name).values()} == {
        f"{n}.txt" for n in "bcd"
    }
