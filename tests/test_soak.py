"""How the soak judges memory, and that its picture is of the results that are kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks" / "soak"))

import process_memory  # noqa: E402 - from a folder of scripts
import short_texts  # noqa: E402


def row(kind: str, megabytes: Callable[[float], float], *, first: int = 0, last: int = 100) -> dict[str, Any]:
    seconds = [float(second) for second in range(first, last + 1)]
    sizes = [megabytes(second) for second in seconds]
    return {"kind": kind, "pid": 1, "seconds": seconds, "share": sizes, "own": sizes, "resident": sizes}


def test_growth_is_that_of_the_second_half_and_of_those_that_lived_through_it() -> None:
    rows = [
        row("even", lambda second: min(second, 50.0) * 100),
        row("grows", lambda second: 10 + second / 10),
        row("replaced", lambda second: second, last=80),
    ]
    grows, even = process_memory.growth(rows, 50, 100)
    assert (grows.kind, grows.at_half, grows.grown, grows.own_grown) == ("grows", 15.0, 5.0, 5.0)
    assert (even.kind, even.grown, even.in_quarters) == ("even", 0.0, (5000.0, 5000.0))


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("ray::RayEncoder.load", "encoder"),
        ("ray::IDLE", process_memory.WORKER),
        ("ray::DashboardAgent", "Ray's agents"),
        ("python -m es_latechunk ingest documents.jsonl", "first process"),
        (
            "/site-packages/ray/core/src/ray/raylet/raylet --python_worker_command=default_worker.py",
            "raylet and object store",
        ),
    ],
)
def test_each_process_has_its_name(command: str, kind: str) -> None:
    assert process_memory.kind_of(command) == kind


@pytest.mark.skipif(not short_texts.DATA.is_dir(), reason="needs ../shared")
def test_the_documents_come_again_and_none_comes_twice() -> None:
    rows = list(short_texts.made(500, 1))
    assert rows == list(short_texts.made(500, 1))
    assert len({one["text"] for one in rows}) == len({one["id"] for one in rows}) == 500


def test_the_picture_is_of_the_results() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "soak.json").read_text("utf-8"))
    assert f"run of {results['started']}" in (ROOT / "docs" / "soak.svg").read_text("utf-8")
