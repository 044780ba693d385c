"""docs/scale-costs.md: its tables are those of benchmarks/plan.py, whose arithmetic is checked by hand here, and its
manifest for KubeRay is one that Kubernetes would take."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from commands import run

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "scale-costs.md"
SCRIPT = ROOT / "benchmarks" / "plan.py"
MANIFEST = ROOT / "examples" / "rayjob.yaml"
sys.path.insert(0, str(SCRIPT.parent))

import plan  # noqa: E402 - from a folder of scripts

# Round numbers, so that each result can be seen.
EASY = replace(
    plan.Inputs(),
    dimensions=1_000,
    tokens_per_chunk=100,
    text_bytes=500,
    index_bytes_per_text_byte=2,
    cpu_tokens_per_second=1_000,
    cpu_cores=10,
    gpu_teraflops=100,
    gpu_share=0.4,
    model_parameters=10e6,
    passes=2,
    node_memory_gb=64,
    node_heap_gb=30,
    replicas=1,
)


def test_the_arithmetic_is_that_of_the_page() -> None:
    cost = plan.costs(36e6, "int8", EASY)
    assert cost.tokens == 3.6e9
    assert cost.cpu_core_hours == pytest.approx(3.6e9 / 1_000 / 3600)
    assert plan.gpu_tokens_per_second(EASY) == pytest.approx(1e6)
    assert cost.gpu_hours == pytest.approx(1.0)
    assert cost.memory_gb == pytest.approx(36e6 * (1_000 + 4 + 4 * 16) / 1e9 * 2)
    assert cost.disk_gb == pytest.approx(36e6 * (500 * 2 + 4_000 + 1_004 + 64) / 1e9 * 2)
    assert cost.shards == 5  # 218 GB in shards of 50
    assert (cost.data_nodes, cost.needed_by) == (3, "memory")  # 77 GB, 34 on each


@pytest.mark.parametrize(
    ("quantization", "bytes_of_a_vector"), [("none", 1536), ("int8", 388), ("int4", 196), ("bbq", 62)]
)
def test_the_memory_of_a_vector_is_what_elasticsearch_documents(
    quantization: str, bytes_of_a_vector: float
) -> None:
    one = replace(plan.Inputs(), dimensions=384, replicas=0)
    assert plan.costs(1e9, quantization, one).memory_gb == pytest.approx(bytes_of_a_vector + 64)


def test_pieces_are_further_vectors_and_documents_of_a_shard() -> None:
    without = plan.costs(1e9, "bbq", plan.Inputs())
    pieces = plan.costs(1e9, "bbq", replace(plan.Inputs(), pieces_per_chunk=3))
    assert pieces.memory_gb == pytest.approx(4 * without.memory_gb)
    assert pieces.cpu_core_hours == without.cpu_core_hours
    assert pieces.shards >= 4e9 / 200e6


def test_more_of_what_costs_never_costs_less() -> None:
    for quantization in plan.VECTOR_BYTES:
        found = [plan.costs(chunks, quantization, plan.Inputs()) for chunks in plan.SCALES]
        for name in ("tokens", "cpu_core_hours", "gpu_hours", "memory_gb", "disk_gb", "shards", "data_nodes"):
            values = [getattr(cost, name) for cost in found]
            assert values == sorted(values), name


def printed(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


def test_the_tables_of_the_page_are_what_the_script_prints() -> None:
    text = PAGE.read_text("utf-8")
    tables = printed().strip().split("\n\n")
    assert len(tables) == 2
    assert [table for table in tables if table not in text] == []


def test_each_input_is_an_option() -> None:
    found = json.loads(printed("--chunks", "5e6", "--text-bytes", "1000", "--quantization", "bbq", "--json"))
    assert found["inputs"]["text_bytes"] == 1000
    assert [(cost["chunks"], cost["quantization"]) for cost in found["costs"]] == [(5e6, "bbq")]
    assert "--measured-vectors" in printed("--help")
    with pytest.raises(subprocess.CalledProcessError):
        printed("--replicas", "-1")


@pytest.fixture
def job() -> Any:
    return yaml.safe_load(MANIFEST.read_text("utf-8"))


def pods(spec: Any) -> Iterator[Any]:
    yield spec["headGroupSpec"]["template"]
    for group in spec["workerGroupSpecs"]:
        yield group["template"]


def test_the_pods_of_the_manifest_are_what_kubernetes_takes(job: Any) -> None:
    for template in pods(job["spec"]["rayClusterSpec"]):
        named = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **template}
        kubernetes_validate.validate(named, "1.30", strict=True)


# The fields of KubeRay's API (ray.io/v1) that the manifest uses, with their types.
JOB_FIELDS = {
    "entrypoint": str,
    "entrypointNumCpus": (int, float),
    "backoffLimit": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "rayClusterSpec": dict,
}
CLUSTER_FIELDS = {"rayVersion": str, "headGroupSpec": dict, "workerGroupSpecs": list}
GROUP_FIELDS = {
    "groupName": str,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "rayStartParams": dict,
    "template": dict,
}


def test_the_manifest_has_fields_that_kuberay_knows(job: Any) -> None:
    def check(value: dict[str, Any], known: dict[str, Any]) -> None:
        assert set(value) <= set(known)
        assert all(isinstance(value[name], known[name]) for name in value)

    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    check(job["spec"], JOB_FIELDS)
    cluster = job["spec"]["rayClusterSpec"]
    check(cluster, CLUSTER_FIELDS)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        check(group, GROUP_FIELDS)
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    assert {"groupName", "minReplicas", "maxReplicas"} <= set(cluster["workerGroupSpecs"][0])


def test_the_manifest_runs_a_command_of_ours_and_shows_no_secret(job: Any) -> None:
    program, command, *words = shlex.split(job["spec"]["entrypoint"])
    assert (program, command) == ("es-latechunk", "ingest")
    known = run("ingest", "--help").stdout
    flags = {word for word in words if word.startswith("--")}
    assert "--cluster" in flags
    assert [flag for flag in flags if flag not in known] == []
    for template in pods(job["spec"]["rayClusterSpec"]):
        [container] = template["spec"]["containers"]
        assert all(set(variable) == {"name", "valueFrom"} for variable in container["env"])
