"""The readers of a Ray cluster: documents, errors, notes and their order are those of one process, whatever dies."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import faults
import pytest
import ray_encoders
from elasticsearch import Elasticsearch
from faults import SEED, assert_same, make_old, whole_state
from made_files import packed, pdf, write_bad, write_good
from ray_encoders import POISON, loader, ray_of_two_processors

from es_latechunk import Document, DocumentError, IngestReport, RayCluster, connect, ingest, read_documents
from es_latechunk.documents import SourceDocuments
from es_latechunk.scale import readers
from es_latechunk.scale.cluster import count_readers
from es_latechunk.scale.readers import Readers
from es_latechunk.stages import StageClock

Read = Iterator[Document | DocumentError]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with ray_of_two_processors():
        import ray

        yield ray


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "RANGE_BYTES", 2_000)
    monkeypatch.setattr(readers, "TASK_BYTES", 1_000)


def read_by(crew: Readers, documents: SourceDocuments) -> list[Any]:
    try:
        return told(documents.read_by(crew.read_ahead))
    finally:
        crew.end()


def told(documents: Read) -> list[Any]:
    return [item if isinstance(item, Document) else str(item) for item in documents]


def crew_of(ray: Any, count: int = 2) -> Readers:
    return Readers(ray, count, SimpleQueue(), StageClock())


@pytest.mark.usefixtures("small_tasks")
def test_two_readers_read_what_one_process_reads(ray: Any, tmp_path: Path) -> None:
    write_good(tmp_path / "good")
    write_bad(tmp_path / "bad")
    (
        tmp_path / "bad" / "memory.txt"
    ).unlink()  # a link to the process's own memory: another file for each process
    rows = "".join(
        json.dumps({"text": f"Zürich {number}."}, ensure_ascii=False) + "\n\n" for number in range(500)
    )
    (tmp_path / "rows.jsonl").write_text(rows + "bad\n", encoding="utf-8")
    texts = [f"Row {number} {'x' * 50}." for number in range(200)]
    (tmp_path / "rows.parquet").write_bytes(packed({"text": texts}, row_group_size=10, use_dictionary=False))
    (tmp_path / "unknown.bin").write_bytes(b"?")

    def read(crew: Readers | None) -> tuple[list[Any], ...]:
        notes: list[Any] = []
        encodings: list[Any] = []
        counts: list[int] = []
        documents = read_documents(
            [tmp_path, tmp_path / "unknown.bin", tmp_path / "rows.jsonl"],
            on_note=lambda *note: notes.append((note[0], str(note[1]))),
            on_encoding=lambda *found: encodings.append(found),
            on_read=counts.append,
        )
        return read_by(crew, documents) if crew else told(documents), notes, encodings, [sum(counts)]

    alone = read(None)
    assert len(alone[0]) > 1_200
    assert read(crew_of(ray)) == alone
    assert read(crew_of(ray, 1)) == alone


@pytest.mark.usefixtures("small_tasks")
@pytest.mark.parametrize("number", range(3))
def test_a_reader_that_is_killed_at_any_point_changes_nothing(
    ray: Any, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of a file whose first blocks have come."""
    source = random.Random(f"{SEED} readers {number}")  # noqa: S311 - no secret, and it must come again
    monkeypatch.setattr(readers, "RANGE_BYTES", 3_000_000)
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": f"{n} " * 9_000}) + "\n" for n in range(120))
    )
    for name in range(20):
        (tmp_path / f"b{name}.txt").write_text(f"Text {name}.")
    alone = told(read_documents([tmp_path]))
    point = source.randint(1, len(alone) - 30)
    print(f"seed {SEED}, number {number}: after document {point}")
    crew = crew_of(ray)
    killed = False
    try:
        items = []
        for item in read_documents([tmp_path]).read_by(crew.read_ahead):
            items.append(item)
            if len(items) == point:
                for reader in source.sample(crew._readers, source.randint(1, len(crew._readers))):
                    process = ray.get(reader.actor.__ray_call__.remote(lambda _: os.getpid()))
                    os.kill(process, signal.SIGKILL)
                    killed = True
    finally:
        crew.end()
    assert killed
    assert told(iter(items)) == alone


def test_a_file_that_kills_its_readers_is_named_and_the_others_are_read(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "ReaderProcess", ray_encoders.TestReader)
    monkeypatch.setattr(readers, "MOST_DEATHS", 2)
    monkeypatch.setattr(readers, "TASK_FILES", 2)
    for name in ("a", POISON, "b", "z"):
        (tmp_path / f"{name}.txt").write_text(f"The text of {name}.")
    items = read_by(crew_of(ray), read_documents([tmp_path]))
    assert [getattr(item, "id", item) for item in items[:2]] == ["a.txt", "b.txt"]
    assert items[2].startswith(
        f"{POISON}.txt: the readers of the cluster that had it ended, 2 in a row (The actor died"
    )
    assert items[2].endswith("); give them more memory, or leave it out")
    assert [item.id for item in items[3:]] == ["z.txt"]


@pytest.mark.usefixtures("small_tasks")
def test_a_file_that_changes_after_it_was_listed_is_a_failure(ray: Any, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": f"Line {number}."}) + "\n" for number in range(1_000))
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(lines)
    crew = crew_of(ray)
    items: list[Any] = []
    try:
        for item in read_documents([tmp_path]).read_by(crew.read_ahead):
            items.append(item)
            if len(items) == 1:
                (tmp_path / "a.jsonl").write_text(lines + "\n")
    finally:
        crew.end()
    names = [str(getattr(item, "id", item)) for item in items]
    failure = names.index("a.jsonl: changed since it was listed; run the same command again")
    assert 1 <= failure < 1_000
    assert names[:failure] == [f"a.jsonl:{number}" for number in range(1, failure + 1)]
    assert names[failure + 1 :] == [f"b.jsonl:{number}" for number in range(1, 1_001)]


@pytest.mark.usefixtures("small_tasks")
def test_an_ingest_with_readers_leaves_and_reports_what_one_process_does(
    ray: Any,
    client: Elasticsearch,
    elasticsearch_url: str,
    index_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ids that are used twice, in other ranges and in other files, a bad line and a bad file."""
    source = tmp_path / "source"
    source.mkdir()
    rows = [
        {"id": document.id, "text": document.text, "title": document.title, **document.metadata}
        for document in faults.NEW
    ]
    twice = [{**row, "text": f"Another text. {row['text']}"} for row in rows[:3]]
    lines = [json.dumps(row) for row in [*rows, *twice]] + ["bad"]
    (source / "new.jsonl").write_text("\n".join(lines))
    (source / "old.jsonl").write_text(json.dumps(twice[1]) + "\n")
    (source / "page.pdf").write_bytes(pdf(["A page about a harbour."]))
    (source / "cut.pdf").write_bytes(pdf(["A page."])[:-9])

    def counted(report: IngestReport) -> dict[str, Any]:
        failures = sorted(map(str, report.failures))
        found = {name: value for name, value in asdict(report).items() if name not in ("seconds", "stages")}
        return {**found, "failures": failures}

    def load(**cluster: Any) -> IngestReport:
        make_old(client, index_name)
        with connect(url=elasticsearch_url) as ours:
            return ingest(
                read_documents([source]),
                index=index_name,
                client=ours,
                encoder=loader(tmp_path),
                **cluster,
            )

    alone = counted(load())
    state = whole_state(client, index_name)
    client.indices.delete(index=index_name)
    assert counted(load(cluster=RayCluster(encoders=2, readers=2))) == alone
    assert_same(whole_state(client, index_name), state)
    assert len(alone["failures"]) == 6


def test_there_are_no_more_readers_than_encoders_or_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert [count_readers(RayCluster(), encoders) for encoders in (1, 4, 9)] == [1, 4, 4]
    assert count_readers(RayCluster(readers=0), 9) == 0
    assert count_readers(RayCluster(readers=7), 1) == 7
