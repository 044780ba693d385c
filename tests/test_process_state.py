"""What a library call leaves behind in the process that called it: nothing."""

from __future__ import annotations

import csv
import logging
import signal
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import transformers.utils.logging as transformers_logging
from commands import run
from made_files import docx, pdf, read

from es_latechunk.errors import NodeError
from es_latechunk.models.local.metadata import quiet
from es_latechunk.node import install as distribution

READERS = 8


def state() -> dict[str, Any]:
    return {
        "csv": csv.field_size_limit(),
        "levels": [logging.getLogger(name).level for name in ("", "pdfminer", "bs4", "jgo", "es_latechunk")],
        "transformers": transformers_logging.get_verbosity(),
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }


def test_reading_files_in_many_threads_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(["A page."]))
    (tmp_path / "a.docx").write_bytes(docx("Words."))
    (tmp_path / "a.html").write_text('<?xml version="1.0"?><html xmlns="x"><body>Words.</body></html>')
    (tmp_path / "a.csv").write_text(f"text\n{'x' * 200_000}\n")
    before = state()
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(read, [tmp_path] * READERS))
    assert [len(documents) for documents, _ in found] == [4] * READERS
    assert state() == before


def overlapping(first_is_in: Callable[[], Any]) -> None:
    """`quiet` in two threads: the one that began first ends first, if the other can begin beside it at all."""
    second_is_in, first_is_out = threading.Event(), threading.Event()

    def second() -> None:
        with quiet():
            second_is_in.set()
            first_is_out.wait()

    thread = threading.Thread(target=second)
    with quiet():
        first_is_in()
        thread.start()
        second_is_in.wait(0.3)
    first_is_out.set()
    thread.join()


def test_two_models_that_load_at_once_leave_the_log_as_it_was() -> None:
    before, inside = state(), []
    overlapping(lambda: inside.append(transformers_logging.get_verbosity()))
    assert inside == [logging.CRITICAL]
    assert state() == before


def test_a_download_leaves_the_log_of_its_library_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any, **__: Any) -> Any:
        assert logging.getLogger("jgo").level == logging.ERROR
        raise OSError("no network")

    monkeypatch.setattr("jgo.maven._core.Artifact.resolve", no_network)
    before = state()
    with pytest.raises(NodeError, match=r"could not be fetched \(no network\)"):
        distribution._resolve("9.2.4", lambda _: None)
    assert state() == before


def test_a_command_leaves_the_handlers_of_signals_as_they_were() -> None:
    before = state()
    assert run("models", "--help").exit_code == 0
    assert state() == before
