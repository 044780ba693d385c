"""How parts are dealt to readers, what becomes of their answers in any order. Without Ray, which transports them."""

from __future__ import annotations

import json
import os
import pickle
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_files import packed

from es_latechunk.documents import blocks, read_documents
from es_latechunk.errors import PreconditionError
from es_latechunk.scale import readers
from es_latechunk.scale.readers import ReadBlock, ReaderProcess, Readers
from es_latechunk.stages import StageClock
from es_latechunk.types import Document

ENCODERS_ANSWER = "of an encoder"


class LostError(Exception):
    """What Ray raises for a process that has ended."""


class TaskError(LostError):
    """What Ray raises for an exception in a process."""


class Actor:
    """A process of its own: what goes in and comes out is copied. It ends if `fails` says so, during a call."""

    def __init__(self, process: Callable[..., Any], sent: bytes, cluster: Cluster) -> None:
        self._process = process(sent)
        self._cluster = cluster
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Any:
            future: Future[Any] = Future()
            given = pickle.dumps(arguments)
            self._cluster.calls.append((self, lambda: self._call(future, name, given)))
            return SimpleNamespace(future=lambda: future)

        return SimpleNamespace(remote=remote)

    def _call(self, future: Future[Any], name: str, given: bytes) -> None:
        self.is_dead = self.is_dead or self._cluster.fails(given)
        if self.is_dead:
            future.set_exception(LostError("The actor died."))
            return
        before = Path.cwd()
        os.chdir(self._cluster.folder)
        try:
            answer = getattr(self._process, name)(*pickle.loads(given))  # noqa: S301 - made above
        finally:
            os.chdir(before)
        future.set_result(pickle.loads(pickle.dumps(answer)))  # noqa: S301


class Cluster:
    """Stands for Ray, and for the queue of answers: waiting for one lets some process answer, whichever."""

    def __init__(self, source: random.Random, fails: Callable[[bytes], bool] = lambda _: False) -> None:
        self.calls: list[tuple[Actor, Callable[[], None]]] = []
        self.started: list[dict[str, Any]] = []
        self.fails = fails
        self.folder = Path("/")  # which its processes are in
        self._source = source
        self.answers: deque[Any] = deque()
        self.exceptions = SimpleNamespace(RayError=LostError, RayTaskError=TaskError)
        strategy = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: (node, soft))
        self.util = SimpleNamespace(scheduling_strategies=strategy)

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "here")

    def remote(self, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        def actors(process: Callable[..., Any]) -> Any:
            def start(sent: bytes) -> Actor:
                self.started.append(options)
                return Actor(process, sent, self)

            return SimpleNamespace(remote=start)

        return actors

    def kill(self, actor: Actor) -> None:
        actor.is_dead = True

    def put(self, answer: Any) -> None:
        self.answers.append(answer)

    def get(self, *, timeout: float) -> Any:
        if not self.answers:
            assert self.calls, "it waits, and nobody is asked"
            _, call = self.calls.pop(self._source.randrange(len(self.calls)))
            call()
        if self._source.random() < 0.1:
            return ENCODERS_ANSWER
        return self.answers.popleft()


def crew_of(cluster: Any, count: int = 2) -> Readers:
    return Readers(cluster, count, cluster, StageClock())


def write_source(folder: Path, source: random.Random) -> None:
    for number in range(source.randint(0, 12)):
        (folder / f"a{number}.txt").write_text(source.choice(["A text.", "", "x" * 300]))
    for name in ("b", "c"):
        rows = [
            source.choice(['{"text": "One."}', '{"id": "x", "text": "Two."}', "", "bad"]) for _ in range(60)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    texts = [source.choice(["Row.", "", "y" * 200]) for _ in range(40)]
    (folder / "d.parquet").write_bytes(packed({"text": texts}, row_group_size=7, use_dictionary=False))
    (folder / "e.bin").write_bytes(b"?")
    (folder / "cut.parquet").write_bytes(packed({"text": texts})[:-9])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "RANGE_BYTES", 100)
    monkeypatch.setattr(readers, "TASK_BYTES", 40)
    monkeypatch.setattr(readers, "TASK_FILES", 3)
    monkeypatch.setattr(readers, "WAITING_PER_READER", 60)
    monkeypatch.setattr(blocks, "BLOCK_CHARACTERS", 30)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("number", range(12))
def test_in_any_order_of_answers_and_deaths_it_is_what_one_process_reads(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = random.Random(number)  # noqa: S311 - no secret, and it must come again
    monkeypatch.setattr(readers, "MOST_DEATHS", 1_000)
    monkeypatch.setattr(readers, "MOST_LOSSES_IN_A_ROW", 1_000)
    write_source(tmp_path, source)
    deaths = source.choice([0, 0, 0.1, 0.4])

    def read(crew: Readers | None) -> tuple[list[Any], list[Any]]:
        notes: list[Any] = []
        documents = read_documents(
            [tmp_path, tmp_path / "e.bin", tmp_path],
            on_note=lambda *note: notes.append((note[0], str(note[1]))),
        )
        items = documents.read_by(crew.read_ahead) if crew else documents
        return [item if isinstance(item, Document) else str(item) for item in items], notes

    crew = crew_of(Cluster(source, lambda _: source.random() < deaths), source.randint(1, 3))
    assert read(crew) == read(None), f"number {number}"
    assert set(crew.deferred) <= {ENCODERS_ANSWER}
    assert crew._waiting == 0


@pytest.mark.usefixtures("small")
def test_only_so_much_is_read_ahead(tmp_path: Path) -> None:
    """However long the source is, and however slowly it is taken."""
    lines = "".join(json.dumps({"text": "x" * 50}) + "\n" for _ in range(500))
    (tmp_path / "a.jsonl").write_text(lines)
    source = random.Random(1)  # noqa: S311
    cluster = Cluster(source)
    crew, most, count = crew_of(cluster), 0, 0
    for _ in read_documents([tmp_path]).read_by(crew.read_ahead):
        count += 1
        while not crew.ready:
            crew._wait()
        for _ in range(20):  # the readers have all the time that they need
            crew._read_on()
            if cluster.calls or cluster.answers:
                crew._wait()
        most = max(most, crew._waiting)
    assert count == 500
    assert 0 < most <= 2 * 60 + 3 * 60
    assert crew.ready


@pytest.mark.usefixtures("small")
def test_a_part_that_ends_its_readers_is_named_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "TASK_FILES", 1)
    for name in "abcdefgh":
        (tmp_path / f"{name}.txt").write_text(f"Text {name}.")
    source = random.Random(1)  # noqa: S311

    def fails(given: bytes) -> bool:
        arguments = pickle.loads(given)  # noqa: S301
        return bool(arguments) and arguments[0][0].file.id == "c.txt"

    crew = crew_of(Cluster(source, fails))
    items = [str(getattr(item, "id", item)) for item in read_documents([tmp_path]).read_by(crew.read_ahead)]
    assert items[2] == (
        "c.txt: the readers of the cluster that had it ended, 3 in a row (The actor died.); give them more memory, or "
        "leave it out"
    )
    assert [*items[:2], *items[3:]] == [f"{name}.txt" for name in "abdefgh"]


def test_readers_that_never_read_anything_end_the_load(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.txt").write_text("Text.")
    crew = crew_of(Cluster(random.Random(1), lambda _: True))  # noqa: S311
    with pytest.raises(PreconditionError, match="end before they have read anything, 30 in a row"):
        list(read_documents([tmp_path]).read_by(crew.read_ahead))


def test_files_of_this_machine_are_read_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the path is relative to the folder of the process that was started."""
    (tmp_path / "a.txt").write_text("Text.")
    monkeypatch.chdir(tmp_path)
    cluster = Cluster(random.Random(1))  # noqa: S311
    documents = read_documents(["."]).read_by(crew_of(cluster).read_ahead)
    assert [getattr(item, "id", item) for item in documents] == ["a.txt"]
    assert cluster.started == [{"num_cpus": 0, "max_restarts": 0, "scheduling_strategy": ("here", False)}]


def test_a_reader_of_another_version_or_without_a_library_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("Text.")

    def other(self: ReaderProcess) -> ReadBlock:
        return ReadBlock([], 0.0, "machine7", "0.0.9")

    def lacking(*_: Any) -> Iterator[Any]:
        raise ModuleNotFoundError("No module named 'pyarrow'")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(ReaderProcess, "read_on", other)
        with pytest.raises(
            PreconditionError, match=r"^a reader of the cluster on machine7 has es-latechunk 0\.0\.9"
        ):
            list(read_documents([tmp_path]).read_by(crew_of(Cluster(random.Random(1))).read_ahead))  # noqa: S311
    monkeypatch.setattr(readers, "read_blocks", lacking)
    with pytest.raises(
        PreconditionError, match=r"lacks a library \(No module named 'pyarrow'\); install the same"
    ):
        list(read_documents([tmp_path]).read_by(crew_of(Cluster(random.Random(1))).read_ahead))  # noqa: S311
