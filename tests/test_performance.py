"""The figures of docs/performance.md and of the README are those of the benchmarks' results; none is typed by hand."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS / "performance"))

import single  # noqa: E402 - from a folder of scripts
import tables  # noqa: E402

BEGIN = re.compile(r"<!-- begin ([\w-]+) -->")


@pytest.fixture
def results() -> tuple[Any, Any, Any]:
    return tables.read_results()


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_results(page: Path, results: tuple[Any, Any, Any]) -> None:
    text = page.read_text("utf-8")
    assert text == tables.filled(text, tables.blocks(*results))


def test_each_block_stands_on_one_page(results: tuple[Any, Any, Any]) -> None:
    found = [name for page in tables.PAGES for name in BEGIN.findall(page.read_text("utf-8"))]
    assert sorted(found) == sorted(tables.blocks(*results))


def test_the_ratios_that_prose_names_are_in_the_results(results: tuple[Any, Any, Any]) -> None:
    known = {
        tables.times(tables.ratio(speed, peer, kind, what, own))
        for speed in results[:2]
        for peer in speed["speed"]["contenders"]
        for own in speed["speed"]["contenders"]
        for kind in tables.kinds(speed)
        for what in (tables.VECTORS, tables.INDEX)
    }
    text = "".join(page.read_text("utf-8") for page in tables.PAGES)
    named = re.findall(r"\d[\d.]* times\b", text)
    assert named
    assert set(named) <= known


def test_the_picture_is_of_the_results(results: tuple[Any, Any, Any]) -> None:
    started = results[0]["started"]
    assert f"run of {started}" in (ROOT / "docs" / "performance.svg").read_text("utf-8")


def test_each_benchmark_has_a_line() -> None:
    page = (ROOT / "docs" / "performance.md").read_text("utf-8").partition("## The other benchmarks")[2]
    scripts = {path.name for path in BENCHMARKS.glob("*.py")}
    assert scripts <= set(re.findall(r"^\| `(\w+\.py)`", page, re.MULTILINE))


def test_a_ratio_is_taken_within_its_round() -> None:
    """The second round is four times as slow for both, as on a machine that others use."""
    rounds = [
        {"contender": name, "documents": "mix", "vectors_seconds": seconds}
        for name, times in (("openvino", (1.0, 4.0)), ("chonkie", (5.0, 20.0)))
        for seconds in times
    ]
    made = {"speed": {"rounds": rounds}, "documents": {"mix": {"tokens": 1000}}}
    assert tables.ratio(made, "chonkie", "mix", "vectors_seconds") == 5
    assert tables.speeds(made, "chonkie", "mix", "vectors_seconds") == [200, 50]
    assert tables.spread(tables.speeds(made, "openvino", "mix", "vectors_seconds")) == "625 (250 to 1,000)"


def test_the_share_counts_the_products_of_the_layers() -> None:
    made = {
        "speed": {
            "rounds": [{"contender": "openvino", "documents": "mix", "vectors_seconds": 1.0}],
            "contenders": {"openvino": {"precision": "bfloat16"}},
            "matmul": [{"documents": "mix", "float32": 1.0, "bfloat16": 4000 * tables.PARAMETERS}],
        },
        "documents": {"mix": {"tokens": 1000}},
    }
    assert tables.shares(made, "openvino", "mix", "vectors_seconds") == [0.5]


def test_each_kind_of_processor_has_results_of_its_own(results: tuple[Any, Any, Any]) -> None:
    assert [bool(tables.bfloat16_units(one["machine"])) for one in results[:2]] == [True, False]


def test_figures_of_a_busy_machine_are_marked(results: tuple[Any, Any, Any]) -> None:
    made = json.loads(json.dumps(results[0]))
    for load, marked in ((0.05, False), (9.5, True)):
        made["machine"]["load"] = [load, load, load]
        assert ("The machine was not idle" in tables.machine_block(made)) is marked


def test_growth_is_told_from_step_to_step() -> None:
    class Memory:
        def peak(self, until: float) -> float:
            return 100 + until

    marks = [(0, 10.0), (900, 11.0), (1100, 12.1), (5200, 20.3), (5900, 21.0)]
    rows = single.grown(marks, Memory())
    assert [row["chunks"] for row in rows] == [1100, 5200]  # 2,000 and 5,000 were passed by the same request
    assert [round(row["seconds_per_1000"], 6) for row in rows] == [1.909091, 2.0]
    assert [row["memory_mb"] for row in rows] == [112.1, 120.3]
