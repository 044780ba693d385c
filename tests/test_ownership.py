"""One load of an index at a time, in the index that it began with, and what ends it when that is no longer so."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import faults
import pytest
from elasticsearch import Elasticsearch
from faults import NEW, assert_same, make_new, make_old, whole_state
from indices import LETTERS, WordEncoder, load, make_index, stored_chunks

from es_latechunk import Document, ingest
from es_latechunk.elastic.index import ownership
from es_latechunk.elastic.index.identity import CHUNKING_VERSION, IndexIdentity
from es_latechunk.elastic.index.ownership import LOAD_KEY, new_load_alias
from es_latechunk.elastic.write import session as session_module
from es_latechunk.elastic.write.session import LoadSession, open_session, resolve
from es_latechunk.errors import IndexBusyError, IndexMismatchError, WriteError
from es_latechunk.types import EncoderIdentity, PoolingOptions

BERLIN, LISBON, KOELN = LETTERS


def owners(client: Elasticsearch, name: str) -> list[str]:
    return sorted(client.indices.get_alias(index=name)[name]["aliases"])


def interval(client: Elasticsearch, name: str) -> str | None:
    settings = client.indices.get_settings(index=name)[name]["settings"]["index"]
    value: str | None = settings.get("refresh_interval")
    return value


def many(count: int = 40, word: str = "says") -> list[Document]:
    return [
        Document(f"d{number:02}", f"Number {number} {word} one. It {word} two.") for number in range(count)
    ]


def doing(documents: list[Document], at: int, what: Callable[[], object]) -> Iterator[Document]:
    """The documents; before one of them is read, something happens."""
    for number, document in enumerate(documents):
        if number == at:
            what()
        yield document


def small(monkeypatch: pytest.MonkeyPatch) -> WordEncoder:
    """Small requests and batches: what is read has been written soon after."""
    faults.use_small_requests(monkeypatch.setattr)
    return faults.encoder()


def test_an_alias_that_moves_during_a_load_does_not_move_the_load(
    client: Elasticsearch, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = small(monkeypatch)
    old, new, alias = f"{index_name}-old", f"{index_name}-new", f"{index_name}-alias"
    make_index(client, old, encoder)
    make_index(client, new, WordEncoder(weights="sha256:other"))
    client.indices.put_alias(index=old, name=alias)

    def swap() -> None:
        actions = [{"remove": {"index": old, "alias": alias}}, {"add": {"index": new, "alias": alias}}]
        client.indices.update_aliases(actions=actions)

    with pytest.raises(WriteError, match=f"{alias}: stood for {old} .* stands for {new} now"):
        load(client, alias, doing(many(), 20, swap), encoder)  # type: ignore[arg-type]
    assert stored_chunks(client, new) == {}
    assert {row["doc_id"] for row in stored_chunks(client, old).values()} == {d.id for d in many()}
    assert (owners(client, old), interval(client, old)) == ([], None)
    with pytest.raises(IndexMismatchError, match="sha256:other"):
        load(client, alias, many(), encoder)


IDENTITY = IndexIdentity(EncoderIdentity("a/b", "sha256:w", 16, 64), "sentences", 128)


@pytest.mark.parametrize(
    "other",
    [
        IndexIdentity(EncoderIdentity("a/b", "sha256:x", 16, 64), "sentences", 128),
        IndexIdentity(EncoderIdentity("a/b", "sha256:w", 16, 32), "sentences", 128),
        IndexIdentity(EncoderIdentity("a/b", "sha256:w", 8, 64), "sentences", 128),
        IndexIdentity(EncoderIdentity("a/b", "sha256:w", 16, 64, document_prefix="p"), "sentences", 128),
        IndexIdentity(EncoderIdentity("a/b", "sha256:w", 16, 64, document_task="t"), "sentences", 128),
        IndexIdentity(EncoderIdentity("a/b", "sha256:w", 16, 64), "paragraphs", 128),
        IndexIdentity(EncoderIdentity("a/b", "sha256:w", 16, 64), "sentences", 64),
        IndexIdentity(EncoderIdentity("a/b", "sha256:w", 16, 64), "sentences", 128, PoolingOptions("naive")),
        replace(IDENTITY, pooling=PoolingOptions("blend")),
        replace(IDENTITY, pooling=PoolingOptions(token_weights="sif")),
        replace(IDENTITY, pooling=PoolingOptions(neighbour_share=0.3)),
        replace(IDENTITY, pooling=PoolingOptions(late_window=32)),
        IndexIdentity(EncoderIdentity("a/b", "sha256:w", 16, 64), "sentences", 128, overlap=16),
        IndexIdentity(EncoderIdentity("a/b", "sha256:w", 16, 64), "sentences", 128, overlap=0),
    ],
)
def test_what_makes_a_vector_is_in_the_hash(other: IndexIdentity) -> None:
    assert other.digest() != IDENTITY.digest()


def test_an_index_without_a_recorded_overlap_keeps_its_hashes() -> None:
    """As they were before overlaps were recorded: nothing may be added here, or every document is written again."""
    assert "overlap" not in IDENTITY.digest()
    assert "overlap" not in IDENTITY.to_meta()


def test_an_index_with_late_or_naive_pooling_alone_records_what_it_always_did() -> None:
    """The settings of the pooling came later: the entry and the hashes of an older index stay as they are."""
    for pooling in ("late", "naive"):
        identity = replace(IDENTITY, pooling=PoolingOptions(pooling))  # type: ignore[arg-type]
        recorded = {name: identity.to_meta()[name] for name in ("chunker", "max_tokens", "pooling")}
        assert recorded == {"chunker": "sentences", "max_tokens": 128, "pooling": pooling}
        assert identity.digest() == (
            '{"assumed_matryoshka": false, "assumed_mean_pooling": false, "chunker": "sentences", "chunking": '
            f'{CHUNKING_VERSION}, "dimensions": 16, "document_prefix": "", "document_task": "", "max_tokens": 128, '
            f'"pooling": "{pooling}", "query_prefix": "", "query_task": "", "weights": "sha256:w", "window": 64}}'
        )


def test_where_the_weights_came_from_is_not() -> None:
    elsewhere = EncoderIdentity("c/d", "sha256:w", 16, 64, revision="r", folder="f")
    assert IndexIdentity(elsewhere, "sentences", 128).digest() == IDENTITY.digest()
    hosted = [IndexIdentity(EncoderIdentity(name, None, 16, 64), "sentences", 128) for name in ("a", "b")]
    assert hosted[0].digest() != hosted[1].digest()


def test_chunks_that_another_model_wrote_into_the_index_are_written_anew(
    client: Elasticsearch, index_name: str
) -> None:
    """What a run of an earlier release may have left behind an alias that moved."""
    other = f"{index_name}-other"
    encoder = make_index(client, index_name)
    make_index(client, other, WordEncoder(weights="sha256:other"))
    load(client, other, LETTERS, WordEncoder(weights="sha256:other"))
    for key, row in stored_chunks(client, other).items():
        client.index(index=index_name, id=key, document=row, refresh=True)
    report, _ = load(client, index_name, LETTERS, encoder)
    assert (report.indexed, report.unchanged) == (8, 0)


@pytest.mark.parametrize("again", [False, True])
def test_an_index_that_is_deleted_during_a_load_is_not_made_again(
    client: Elasticsearch, index_name: str, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    encoder = small(monkeypatch)
    make_index(client, index_name, encoder)

    def delete() -> None:
        client.indices.delete(index=index_name)
        if again:
            make_index(client, index_name, encoder)

    cause = (
        "was deleted and created again while it was loaded" if again else "was deleted while it was loaded"
    )
    with pytest.raises(WriteError, match=f"index {index_name}: {cause}"):
        load(client, index_name, doing(many(), 25, delete), encoder)  # type: ignore[arg-type]
    assert bool(client.indices.exists(index=index_name)) == again
    if again:
        assert stored_chunks(client, index_name) == {}
        assert (owners(client, index_name), interval(client, index_name)) == ([], None)


def test_without_an_alias_the_index_is_looked_at_before_each_request(
    client: Elasticsearch, index_name: str
) -> None:
    """For users who may not manage the index."""
    make_index(client, index_name)
    load = LoadSession(client, resolve(client, index_name))
    load.check()
    client.indices.delete(index=index_name)
    with pytest.raises(WriteError, match="was deleted while it was loaded"):
        load.check()
    make_index(client, index_name)
    with pytest.raises(WriteError, match="was deleted and created again"):
        load.check()


def test_a_second_load_is_refused_and_names_the_first(client: Elasticsearch, index_name: str) -> None:
    encoder = make_index(client, index_name)
    refused: list[str] = []

    def second() -> None:
        with pytest.raises(IndexBusyError) as busy:
            load(client, index_name, [BERLIN], encoder)
        refused.append(str(busy.value))

    monkey = pytest.MonkeyPatch()
    monkey.setattr(ownership, "RENEW_SECONDS", 0.1)
    monkey.setattr(ownership, "POLL_SECONDS", 0.1)
    try:
        report, errors = load(client, index_name, doing(LETTERS, 1, second), encoder)  # type: ignore[arg-type]
    finally:
        monkey.undo()
    assert (report.documents, errors) == (3, [])
    [message] = refused
    assert re.match(
        rf"index {index_name}: is being loaded by process {os.getpid()} on \S+ since 20\S+; wait for its end with",
        message,
    )
    assert (owners(client, index_name), interval(client, index_name)) == ([], None)
    assert LOAD_KEY not in client.indices.get_mapping(index=index_name)[index_name]["mappings"]["_meta"]


def test_a_second_load_waits_for_the_end_of_the_first(
    client: Elasticsearch, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(ownership, "POLL_SECONDS", 0.1)
    encoder = make_index(client, index_name)
    ended: list[str] = []

    def wait_and_load() -> None:
        load(client, index_name, many(word="adds"), WordEncoder(), wait=True)
        ended.append("second")

    second = threading.Thread(target=wait_and_load)
    load(client, index_name, doing(many(), 5, second.start), encoder)  # type: ignore[arg-type]
    ended.append("first")
    second.join()
    assert ended == ["first", "second"]
    assert all("adds" in row["content"] for row in stored_chunks(client, index_name).values())


def test_loads_at_the_same_moment_come_one_after_the_other(
    client: Elasticsearch, elasticsearch_url: str, index_name: str
) -> None:
    """Processes that start together: the end is that of a clean run, and nothing of a load stays."""
    clean = f"{index_name}-clean"
    make_new(client, clean)
    make_old(client, index_name)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import faults\n"
        "from es_latechunk import connect\n"
        "from es_latechunk.elastic.index import ownership\n"
        "ownership.RENEW_SECONDS, ownership.POLL_SECONDS = .2, .2\n"
        "faults.use_small_requests(setattr)\n"
        "with connect(url=sys.argv[2]) as client:\n"
        "    print(faults.load_new(client, sys.argv[3], wait=True).failed)\n"
    )
    command = [
        sys.executable,
        "-c",
        program,
        str(Path(faults.__file__).parent),
        elasticsearch_url,
        index_name,
    ]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in running:
        stdout, stderr = process.communicate(timeout=240)
        assert (process.returncode, stdout) == (0, "0\n"), stderr
    assert_same(whole_state(client, index_name), whole_state(client, clean))
    assert owners(client, index_name) == []


def foreign_owner(client: Elasticsearch, name: str) -> str:
    """A load of another machine that owns the index, with its refreshes off and a note of what was there."""
    alias = f"{name}-load-00000000-1-abcdef"
    note = {
        "refresh_interval": "7s",
        "alias": alias,
        "host": "elsewhere",
        "pid": 1,
        "since": "then",
        "renewed": "x",
    }
    meta = client.indices.get_mapping(index=name)[name]["mappings"]["_meta"]
    client.indices.put_alias(index=name, name=alias)
    client.indices.put_mapping(index=name, meta={**meta, LOAD_KEY: note})
    client.indices.put_settings(index=name, settings={"index": {"refresh_interval": "-1"}})
    return alias


def test_a_load_of_another_machine_without_a_sign_of_life_is_taken_over(
    client: Elasticsearch, index_name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ownership, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(ownership, "POLL_SECONDS", 0.1)
    encoder = make_index(client, index_name)
    foreign_owner(client, index_name)
    report, errors = load(client, index_name, LETTERS, encoder)
    assert (report.documents, errors) == (3, [])
    assert "shows no sign of life; taking over" in caplog.text
    assert (owners(client, index_name), interval(client, index_name)) == ([], "7s")


def test_a_load_that_is_taken_over_writes_nothing_more(
    client: Elasticsearch, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop that slept: its alias is gone, so the server refuses what it still sends."""
    encoder = small(monkeypatch)
    make_index(client, index_name, encoder)

    def take_over() -> None:
        [alias] = owners(client, index_name)
        client.indices.delete_alias(index=index_name, name=alias)
        foreign_owner(client, index_name)

    with pytest.raises(WriteError, match=r"was taken over by another load \(process 1 on elsewhere"):
        load(client, index_name, doing(many(), 25, take_over), encoder)  # type: ignore[arg-type]
    assert interval(client, index_name) == "-1", "the new owner's settings stay"
    assert len(stored_chunks(client, index_name)) < 2 * len(many())


def test_a_process_that_has_ended_is_dead_at_once_and_another_machine_s_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    alias = new_load_alias("docs")
    assert ownership.is_dead(alias), "a load of this process that no longer runs"
    monkeypatch.setattr(ownership, "_running", {alias})
    assert not ownership.is_dead(alias)
    assert ownership.is_dead(alias.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    assert not ownership.is_dead(alias.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
    assert not ownership.is_dead("docs-load-00000000-1-abcdef")


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 30
    alias = new_load_alias("docs").replace(f"-{os.getpid()}-", f"-{process.pid}-")
    while not ownership.is_dead(alias) and time.monotonic() < deadline:
        time.sleep(0.05)  # it has ended, and nobody has asked for its exit code
    assert ownership.is_dead(alias)
    process.wait()


def test_the_alias_of_a_very_long_name_is_short_enough() -> None:
    alias = new_load_alias("ä" * 127)
    assert len(alias.encode()) <= 255
    assert ownership.OWNER_ALIAS.search(alias)


def test_promote_waits_for_no_load_and_is_refused(
    client: Elasticsearch, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from es_latechunk.elastic.write.alias import promote, record_staging

    monkeypatch.setattr(ownership, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(ownership, "POLL_SECONDS", 0.1)
    name = f"{index_name}-000001"
    encoder = make_index(client, name)
    load(client, name, [BERLIN], encoder)
    record_staging(client, index_name, name, chunks=3, failed=0)
    refused: list[str] = []

    def too_early() -> None:
        with pytest.raises(IndexBusyError) as busy:
            promote(index_name, client=client)
        refused.append(str(busy.value))

    load(client, name, doing([BERLIN], 0, too_early), encoder)  # type: ignore[arg-type]
    assert "is being loaded by process" in refused[0]
    assert promote(index_name, client=client).index == name


def test_a_load_without_the_right_to_own_the_index_finds_at_the_end_what_another_one_wrote(
    client: Elasticsearch, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right is taken away by a stand-in: what needs a secure node is in test_secure.py."""
    from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
    from elasticsearch import AuthorizationException

    encoder = small(monkeypatch)
    make_index(client, index_name, encoder)

    def no_right(*_: Any, **__: Any) -> None:
        meta = ApiResponseMeta(403, "1.1", HttpHeaders(), 0.0, NodeConfig("http", "localhost", 9200))
        raise AuthorizationException("no", meta, {})

    def interfere() -> None:
        client.indices.refresh(index=index_name)
        row = client.get(index=index_name, id="d00#0", source_includes="*")["_source"]
        vector = stored_chunks(client, index_name)["d00#0"]["content_embedding"]
        document = {**row, "content_embedding": vector, "doc_hash": "another"}
        client.index(index=index_name, id="d00#0", document=document)

    monkeypatch.setattr(session_module, "acquire", no_right)
    report, errors = load(client, index_name, doing(many(), 35, interfere), encoder)  # type: ignore[arg-type]
    assert errors == ["d00: was changed by another load while this one ran; run the same command again"]
    assert (report.documents, report.failed) == (len(many()) - 1, 1)
    monkeypatch.undo()
    report, errors = load(client, index_name, many(), encoder)
    assert (report.indexed, errors) == (2, [])


def test_a_kill_while_the_index_is_being_owned_leaves_it_free(client: Elasticsearch, index_name: str) -> None:
    """Between the alias and the note there is nothing to set back."""
    encoder = make_index(client, index_name)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    alias = new_load_alias(index_name).replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    client.indices.put_alias(index=index_name, name=alias)
    report, _ = load(client, index_name, LETTERS, encoder)
    assert report.documents == 3
    assert owners(client, index_name) == []


def test_an_interrupt_while_another_load_is_watched_leaves_no_alias(
    client: Elasticsearch, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_index(client, index_name)
    alias = foreign_owner(client, index_name)
    state = resolve(client, index_name)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ownership.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt), open_session(client, state):
        pass
    assert owners(client, index_name) == [alias]


EVENTS = ["second", "delete", "promote"] * 2


@pytest.mark.parametrize("turn", range(len(EVENTS)))
def test_a_second_loader_a_deletion_or_a_promotion_at_any_point(
    client: Elasticsearch, elasticsearch_url: str, index_name: str, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """At points drawn from a seed: the run ends as a clean one, or says that it could not."""
    faults.use_small_requests(monkeypatch.setattr)
    monkeypatch.setattr(ownership, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(ownership, "POLL_SECONDS", 0.1)
    event, clean, alias = EVENTS[turn], f"{index_name}-clean", f"{index_name}-alias"
    make_new(client, clean)
    wanted = whole_state(client, clean)
    make_old(client, index_name)
    client.indices.put_alias(index=index_name, name=alias)
    point = random.Random(f"{faults.SEED} {turn}").randrange(len(NEW))  # noqa: S311 - it must come again
    print(f"seed {faults.SEED}, {event} before document {point}")

    def happen() -> None:
        if event == "delete":
            client.indices.delete(index=index_name)
        elif event == "promote":
            swap = [
                {"remove": {"index": index_name, "alias": alias}},
                {"add": {"index": clean, "alias": alias}},
            ]
            client.indices.update_aliases(actions=swap)
        else:
            with pytest.raises(IndexBusyError):
                load(client, index_name, many(), faults.encoder())

    def run() -> None:
        source = doing(NEW, point, happen)
        ingest(source, index=alias, client=client, encoder=faults.encoder(), prune=True)

    if event == "second":
        run()
        assert_same(whole_state(client, index_name), wanted)
        return
    with pytest.raises(WriteError, match=index_name):
        run()
    assert client.indices.exists(index=index_name) == (event == "promote")
    assert_same(whole_state(client, clean), wanted)
