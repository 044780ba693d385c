"""What an index of many chunks costs: hours of encoding, memory, disk, shards, nodes, and the time of a search.

    python benchmarks/plan.py                                   # 1 million, 100 million and 10 billion chunks
    python benchmarks/plan.py --chunks 50e6 --dimensions 768 --quantization bbq
    python benchmarks/plan.py --help                            # all inputs, each with its default

Every input is an option. docs/scale-costs.md says where the defaults come from: measured on one small machine, taken
from Elasticsearch's documentation, or assumed. Replace them by your own measurements before you buy anything.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

SCALES = (1e6, 100e6, 10e9)
# Bytes of one vector in memory, by its number of dimensions, and of its place in the graph: Elasticsearch's page "Tune
# approximate kNN search", section "Ensure data nodes have enough memory".
VECTOR_BYTES = {
    "none": lambda dimensions: 4 * dimensions,
    "int8": lambda dimensions: dimensions + 4,
    "int4": lambda dimensions: dimensions / 2 + 4,
    "bbq": lambda dimensions: dimensions / 8 + 14,
}
GRAPH_NEIGHBOURS = 16  # the default of HNSW's m
GB = 1e9


def _input(default: float, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the costs depend on. Rates are those of one core, so that they can be multiplied."""

    dimensions: float = _input(384, "values of a vector; 384 is all-MiniLM-L6-v2")
    pieces_per_chunk: float = _input(0, "further vectors of each chunk, if it is indexed with its pieces")
    tokens_per_chunk: float = _input(91, "tokens of a chunk (measured, chunks of up to 128 tokens)")
    text_bytes: float = _input(420, "bytes of a chunk's text")
    index_bytes_per_text_byte: float = _input(1.6, "bytes on disk for each byte of text, without vectors")
    cpu_tokens_per_second: float = _input(2_726, "encoded by one CPU core (measured, default pooling)")
    cpu_cores: float = _input(16, "cores of an encoder machine without a GPU")
    gpu_teraflops: float = _input(100, "of a GPU in bfloat16, without sparsity (a data sheet's figure)")
    gpu_share: float = _input(0.2, "of that, how much encoding reaches (assumed; measure it)")
    model_parameters: float = _input(10.6e6, "of the model's layers, without its table of tokens")
    passes: float = _input(2, "through the model for each token (1 late or naive, 2 blend)")
    encoders: float = _input(10, "machines or GPUs that encode at the same time")
    written_per_second: float = _input(350, "vectors that one core of a data node indexes (measured)")
    merged_per_second: float = _input(1_000, "vectors that one core puts into a graph (measured)")
    node_cores: float = _input(16, "cores of a data node")
    node_memory_gb: float = _input(64, "memory of a data node")
    node_heap_gb: float = _input(31, "of that, Java's heap; the rest holds vectors")
    node_disk_gb: float = _input(2_000, "disk of a data node")
    disk_share: float = _input(
        0.75,
        "of the disk that may fill: merges need room, and Elasticsearch gives a node no more shards at 85 %%",
    )
    replicas: float = _input(1, "copies of each shard beside the first")
    shard_gb: float = _input(50, "the largest shard")
    shard_chunks: float = _input(200e6, "the most documents in a shard, pieces included")
    search_ms: float = _input(2.0, "a kNN search of one segment in memory takes (measured)")
    measured_vectors: float = _input(
        5_000, "vectors in the index in which writing, merging and searching were measured"
    )
    search_threads_share: float = _input(1.5, "threads of a node that search, for each core")


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of one index. Sizes are in GB (10^9 bytes), for all copies unless they say otherwise."""

    chunks: float
    quantization: str
    tokens: float
    cpu_core_hours: float
    gpu_hours: float
    memory_gb: float
    disk_gb: float
    shards: int
    data_nodes: int
    needed_by: str
    hours_to_build_on_cpus: float
    hours_to_build_on_gpus: float
    merge_hours: float
    search_milliseconds: float
    searches_per_second: float


def costs(chunks: float, quantization: str, inputs: Inputs) -> Costs:
    """Return the costs of an index of that many chunks."""
    vectors = chunks * (1 + inputs.pieces_per_chunk)
    copies = 1 + inputs.replicas
    tokens = chunks * inputs.tokens_per_chunk
    in_memory = VECTOR_BYTES[quantization](inputs.dimensions) + 4 * GRAPH_NEIGHBOURS
    memory = vectors * in_memory / GB * copies
    disk = disk_gb(chunks, quantization, inputs) * copies
    shards = max(1, math.ceil(disk / copies / inputs.shard_gb), math.ceil(vectors / inputs.shard_chunks))
    by = {
        "memory": math.ceil(memory / (inputs.node_memory_gb - inputs.node_heap_gb)),
        "disk": math.ceil(disk / (inputs.node_disk_gb * inputs.disk_share)),
        "copies": int(copies),
    }
    nodes = max(by.values())
    cpu_hours = tokens / inputs.cpu_tokens_per_second / 3600
    gpu_hours = tokens / gpu_tokens_per_second(inputs) / 3600
    # Each copy of a chunk is indexed anew, and so is each piece.
    slower = growth(vectors / shards, inputs.measured_vectors)
    write_hours = vectors * copies * slower / (inputs.written_per_second * inputs.node_cores * nodes) / 3600
    shard_ms = inputs.search_ms * slower
    threads = inputs.node_cores * inputs.search_threads_share
    per_node = math.ceil(shards / nodes)
    return Costs(
        chunks=chunks,
        quantization=quantization,
        tokens=tokens,
        cpu_core_hours=cpu_hours,
        gpu_hours=gpu_hours,
        memory_gb=memory,
        disk_gb=disk,
        shards=shards,
        data_nodes=nodes,
        needed_by=max(by, key=lambda need: by[need]),
        hours_to_build_on_cpus=max(cpu_hours / inputs.cpu_cores / inputs.encoders, write_hours),
        hours_to_build_on_gpus=max(gpu_hours / inputs.encoders, write_hours),
        # One core merges a shard, so a node with fewer shards than cores does not use them all.
        merge_hours=vectors
        / shards
        * math.ceil(per_node * copies / inputs.node_cores)
        * slower
        / inputs.merged_per_second
        / 3600,
        search_milliseconds=shard_ms * math.ceil(per_node / threads),
        searches_per_second=nodes * inputs.node_cores * 1000 / (shards * shard_ms),
    )


def disk_gb(chunks: float, quantization: str, inputs: Inputs) -> float:
    """Return the size of one copy: the text's part, the full vectors, the quantized ones beside them, and the graph."""
    full = VECTOR_BYTES["none"](inputs.dimensions)
    quantized = 0 if quantization == "none" else VECTOR_BYTES[quantization](inputs.dimensions)
    vectors = (1 + inputs.pieces_per_chunk) * (full + quantized + 4 * GRAPH_NEIGHBOURS)
    return chunks * (inputs.text_bytes * inputs.index_bytes_per_text_byte + vectors) / GB


def gpu_tokens_per_second(inputs: Inputs) -> float:
    """Return a GPU's speed: a token takes two operations for each parameter and pass; attention is left out."""
    return inputs.gpu_teraflops * 1e12 * inputs.gpu_share / (2 * inputs.model_parameters * inputs.passes)


def growth(vectors: float, measured: float) -> float:
    """Return how many times longer a search of a larger graph takes: as the logarithm, as HNSW's authors say."""
    return max(1.0, math.log(max(vectors, 2)) / math.log(measured))


def table(found: Sequence[Costs], inputs: Inputs) -> str:
    """Return the costs as a Markdown table, one column for each scale."""
    by = f"{inputs.encoders:g}"
    rows = [
        ("chunks", lambda cost: _rounded(cost.chunks)),
        ("`--quantization`", lambda cost: cost.quantization),
        ("tokens", lambda cost: _rounded(cost.tokens)),
        ("CPU core hours of encoding", lambda cost: _rounded(cost.cpu_core_hours)),
        ("GPU hours of encoding (assumed speed)", lambda cost: _rounded(cost.gpu_hours)),
        ("memory for vectors, GB", lambda cost: _rounded(cost.memory_gb)),
        ("disk, GB", lambda cost: _rounded(cost.disk_gb)),
        ("primary shards", lambda cost: _rounded(cost.shards)),
        ("data nodes", lambda cost: f"{_rounded(cost.data_nodes)} (for {cost.needed_by})"),
        (
            f"hours to build, {by} machines of {inputs.cpu_cores:g} cores",
            lambda cost: _rounded(cost.hours_to_build_on_cpus),
        ),
        (f"hours to build, {by} GPUs (assumed speed)", lambda cost: _rounded(cost.hours_to_build_on_gpus)),
        ("hours to force-merge", lambda cost: _rounded(cost.merge_hours)),
        ("ms per kNN search, all in memory", lambda cost: _rounded(cost.search_milliseconds)),
        ("kNN searches per second, at most", lambda cost: _rounded(cost.searches_per_second)),
    ]
    lines = [f"| {name} | {' | '.join(show(cost) for cost in found)} |" for name, show in rows]
    return "\n".join([lines[0], "|---" * (len(found) + 1) + "|", *lines[1:]])


def sizes(chunks: Sequence[float], inputs: Inputs) -> str:
    """Return memory, disk and nodes by quantization as a Markdown table, for each scale one after the other."""
    scales = " / ".join(_rounded(one) for one in chunks)
    head = (
        f"| `--quantization` | bytes of a vector in memory | memory, GB, for {scales} | disk, GB | data nodes |\n"
        "|---|---|---|---|---|"
    )
    lines = [head]
    for kind, size in VECTOR_BYTES.items():
        found = [costs(one, kind, inputs) for one in chunks]
        cells = [
            f"`{kind}`",
            f"{size(inputs.dimensions) + 4 * GRAPH_NEIGHBOURS:,.0f}",
            " / ".join(_rounded(cost.memory_gb) for cost in found),
            " / ".join(_rounded(cost.disk_gb) for cost in found),
            " / ".join(_rounded(cost.data_nodes) for cost in found),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rounded(value: float) -> str:
    """Return a number with two significant digits, as no input is known better."""
    if not value or (isinstance(value, int) and value < 100):
        return str(value)
    digits = 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    for size, name in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if rounded >= size:
            return f"{rounded / size:,.{max(0, digits + round(math.log10(size)))}f}{name}"
    return f"{rounded:,.{max(0, digits)}f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--chunks", type=float, nargs="+", default=SCALES, help="how many chunks")
    parser.add_argument("--quantization", choices=VECTOR_BYTES, default="int8", help="of the index")
    parser.add_argument("--json", action="store_true", help="print the costs and inputs as JSON")
    for one in fields(Inputs):
        flag = f"--{one.name.replace('_', '-')}"
        parser.add_argument(flag, type=float, default=one.default, help=one.metadata["help"])
    given = vars(parser.parse_args(arguments))
    inputs = Inputs(**{one.name: given[one.name] for one in fields(Inputs)})
    if any(value < 0 for value in asdict(inputs).values()) or min(given["chunks"]) < 1:
        parser.error("no input may be negative, and there must be a chunk")
    found = [costs(chunks, given["quantization"], inputs) for chunks in given["chunks"]]
    if given["json"]:
        print(json.dumps({"inputs": asdict(inputs), "costs": [asdict(cost) for cost in found]}, indent=1))
    else:
        print(f"{table(found, inputs)}\n\n{sizes(given['chunks'], inputs)}")


if __name__ == "__main__":
    main()
