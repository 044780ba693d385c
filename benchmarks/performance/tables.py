"""The tables of docs/performance.md and the README's lines on speed, made from the results of the benchmarks.

    python benchmarks/performance/tables.py

Each page has blocks between two comments, `<!-- begin NAME -->` and `<!-- end NAME -->`; all of them are written anew.
It stands without any library, so that a test can compare the pages with the results.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "docs" / "performance.md", ROOT / "README.md")
PARAMETERS = 10_646_784  # of all-MiniLM-L6-v2's six layers: what each token is multiplied with
BUSY = 0.25  # load per core before the start from which on figures are marked
OWN = "openvino"
PEERS = ("chonkie", "article", "st-float32", "st-bfloat16", "st-openvino")
KINDS = {
    "short": "short documents",
    "mix": "the mix",
    "long": "documents of 10,000 tokens",
    "given": "the documents",
}
VECTORS, INDEX = "vectors_seconds", "ingest_seconds"
Results = Mapping[str, Any]


def spread(values: Iterable[float], form: str = ",.0f") -> str:
    """Median (minimum to maximum)."""
    found = sorted(values)
    return f"{statistics.median(found):{form}} ({found[0]:{form}} to {found[-1]:{form}})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def kinds(results: Results) -> list[str]:
    """The sets of documents that were measured."""
    return list(dict.fromkeys(row["documents"] for row in results["speed"]["rounds"]))


def main_kind(results: Results) -> str:
    """The set that stands for all where there is room for one."""
    return "mix" if "mix" in kinds(results) else kinds(results)[0]


def rows_of(results: Results, contender: str, kind: str) -> list[Mapping[str, Any]]:
    rounds = results["speed"]["rounds"]
    return [row for row in rounds if (row["contender"], row["documents"]) == (contender, kind)]


def speeds(results: Results, contender: str, kind: str, what: str) -> list[float]:
    """Tokens per second of each round; a token of a document counts once, in whatever windows it was."""
    tokens = results["documents"][kind]["tokens"]
    return [tokens / row[what] for row in rows_of(results, contender, kind)]


def ratio(results: Results, peer: str, kind: str, what: str, own: str = OWN) -> float:
    """How many times as fast `own` is: the median of the rounds' ratios."""
    pairs = zip(rows_of(results, own, kind), rows_of(results, peer, kind), strict=True)
    return statistics.median(theirs[what] / mine[what] for mine, theirs in pairs)


def shares(results: Results, contender: str, kind: str, what: str) -> list[float]:
    """The part of the processor's matrix products per second, in the contender's precision, of each round."""
    precision = results["speed"]["contenders"][contender]["precision"]
    peaks = [row[precision] for row in results["speed"]["matmul"] if row["documents"] == kind]
    reached = speeds(results, contender, kind, what)
    return [2 * PARAMETERS * speed / peak for speed, peak in zip(reached, peaks, strict=True)]


def times(factor: float) -> str:
    return f"{factor:.2f} times"


def peers(results: Results) -> list[str]:
    """The other libraries that were measured."""
    return [name for name in PEERS if name in results["speed"]["contenders"]]


def named(results: Results) -> list[tuple[str, str, str]]:
    """Each contender with its label and precision."""
    found = results["speed"]["contenders"]
    return [(name, one["label"], one["precision"]) for name, one in found.items()]


def bfloat16_units(machine: Mapping[str, Any]) -> list[str]:
    """The flags of the processor that say that it multiplies bfloat16 itself; without them it is emulated."""
    return sorted(set(machine["flags"].split()) & {"avx512_bf16", "amx_bf16", "bf16"})


def machine_block(results: Results) -> str:
    machine, speed = results["machine"], results["speed"]
    bfloat16 = bfloat16_units(machine)
    units = f"bfloat16 units: {', '.join(bfloat16)}" if bfloat16 else "no bfloat16 units"
    precisions = [kind for kind in ("float32", "bfloat16") if kind in speed["matmul"][0]]
    peaks = [f"{spread(row[kind] / 1e9 for row in speed['matmul'])} in {kind}" for kind in precisions]
    sets = "; ".join(
        f"{kind}: {count['documents']:,} documents, {count['tokens']:,} tokens, {count['chunks']:,} chunks"
        for kind, count in results["documents"].items()
        if kind != "warm-up"
    )
    took = datetime.fromisoformat(results["ended"]) - datetime.fromisoformat(results["started"])
    said = (
        f"Measured on {results['started'][:10]} in {took.total_seconds() / 60:.0f} minutes, commit "
        f"{machine['commit']}: {machine['cores']} processors ({machine['processor']}, {units}), "
        f"{machine['memory_gb']:.0f} GB, {machine['system']}; Elasticsearch {results['elasticsearch']}; "
        f"{results['settings']['rounds']} rounds. Matrix products of 2048 x 2048 ran at {' and '.join(peaks)} "
        f"GFLOP/s. Documents: {sets}."
    )
    return "\n".join([said, *busy_lines(results)])


def versions_block(results: Results) -> str:
    """The libraries of each environment, with the contenders that run in it."""
    together: dict[str, list[str]] = {}
    for one in results["speed"]["contenders"].values():
        listed = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        labels = together.setdefault(listed, [])
        if one["label"] not in labels:
            labels.append(one["label"])
    return table(["ways", "versions"], (["; ".join(labels), listed] for listed, labels in together.items()))


def summary_block(results: Results) -> str:
    kind = main_kind(results)
    lines = []
    for what, way in ((VECTORS, "From text to chunk vectors"), (INDEX, "From text to searchable chunks")):
        factors = [
            f"{times(ratio(results, peer, kind, what))} as fast as {_label(results, peer)}"
            for peer in peers(results)
        ]
        lines.append(f"- {way}, on {KINDS[kind]}, es-latechunk with OpenVINO is {'; '.join(factors)}.")
    float32 = times(ratio(results, "chonkie", kind, VECTORS, "openvino-float32"))
    lines.append(f"- In float32 alone, from text to chunk vectors, it is {float32} as fast as chonkie.")
    return "\n".join(lines)


def _label(results: Results, name: str) -> str:
    one = results["speed"]["contenders"][name]
    return f"{one['label']} ({one['precision']})"


def speed_block(results: Results, what: str) -> str:
    """Tokens per second by contender and set, and the share of the processor's matrix products."""
    kind, found = main_kind(results), kinds(results)
    head = [
        "way",
        "precision",
        *(f"{KINDS[each]}, tokens/s" for each in found),
        f"share of the peak, {KINDS[kind]}",
    ]
    rows = [
        [
            label,
            precision,
            *(spread(speeds(results, name, each, what)) for each in found),
            f"{statistics.median(shares(results, name, kind, what)):.2f}",
        ]
        for name, label, precision in named(results)
    ]
    return table(head, rows)


def ratio_block(results: Results, what: str) -> str:
    """How many times as fast as each peer, by set: median (minimum to maximum) of the rounds' ratios."""
    found = kinds(results)
    rows = []
    for name, label, precision in named(results):
        if name in peers(results):
            cells = [times(ratio(results, name, kind, what)).removesuffix(" times") for kind in found]
            rows.append([label, precision, *cells])
    return table(
        ["es-latechunk on OpenVINO, times as fast as", "precision", *(KINDS[kind] for kind in found)], rows
    )


def goals_block(results: Results) -> str:
    """What this project set itself, and what was measured of it on the set that stands for all."""
    kind = main_kind(results)
    own, chonkie = (statistics.median(speeds(results, name, kind, VECTORS)) for name in (OWN, "chonkie"))
    peak = own / statistics.median(shares(results, OWN, kind, VECTORS))
    forward = [row for row in results["speed"]["forward"] if row["contender"] == OWN]
    precision = results["speed"]["contenders"][OWN]["precision"]
    in_forward = statistics.median(
        2 * PARAMETERS * row["tokens"] / row["seconds"] / row["matmul"][precision] for row in forward
    )
    hybrid = [row for row in results["cold_search"] if row["mode"] == "hybrid"]
    memory, others = (
        max(row["memory_mb"] for row in rows_of(results, name, kind)) for name in (OWN, "chonkie")
    )
    openvino = "sentence-transformers on OpenVINO"
    at_least = [
        ("text to chunk vectors, times as fast as chonkie", 5, ratio(results, "chonkie", kind, VECTORS)),
        (f"the same, times as fast as {openvino}", 1.2, ratio(results, "st-openvino", kind, VECTORS)),
        (
            "the same in float32 alone, times as fast as chonkie",
            1.3,
            ratio(results, "chonkie", kind, VECTORS, "openvino-float32"),
        ),
        ("text to searchable chunks, times as fast as chonkie", 4, ratio(results, "chonkie", kind, INDEX)),
        ("share of the peak, forward pass", 0.6, in_forward),
        (
            "share of the peak, text to searchable chunks",
            0.45,
            statistics.median(shares(results, OWN, kind, INDEX)),
        ),
    ]
    at_most = [
        ("cold hybrid search, seconds", 1.5, statistics.median(row["seconds"] for row in hybrid)),
        ("cold hybrid search, MB", 400, max(row["memory_mb"] for row in hybrid)),
        ("peak memory of an ingest, MB (chonkie's)", others, memory),
    ]
    rows = [
        *(
            [what, f"at least {goal:g}", f"{found:.2f}", _verdict(found / goal)]
            for what, goal, found in at_least
        ),
        *(
            [what, f"at most {goal:,.4g}", f"{found:.4g}", _verdict(goal / found)]
            for what, goal, found in at_most
        ),
    ]
    ceiling = (
        "If the processor spent all of its time on products of matrices at its peak, and nothing else were to do, text "
        f"to chunk vectors would be faster than chonkie by a factor of {peak / chonkie:.1f} here."
    )
    return f"{table(['what', 'goal', 'measured', 'result'], rows)}\n\n{ceiling}"


def _verdict(share: float) -> str:
    return "reached" if share >= 1 else f"missed, at {100 * share:.0f} % of it"


def memory_block(results: Results) -> str:
    """Peak memory of an ingest, by contender and set."""
    found = kinds(results)
    rows = [
        [
            label,
            precision,
            *(f"{max(row['memory_mb'] for row in rows_of(results, name, kind)):,.0f}" for kind in found),
        ]
        for name, label, precision in named(results)
    ]
    return table(["way", "precision", *(f"{KINDS[kind]}, MB" for kind in found)], rows)


def stages_block(results: Results) -> str:
    """Seconds by stage, the medians of the rounds."""
    kind = main_kind(results)
    rows = []
    for name, label, precision in named(results):
        measured = rows_of(results, name, kind)
        stages = {
            stage: statistics.median(row["stages"][stage] for row in measured)
            for stage in measured[0]["stages"]
        }
        listed = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items())
        whole = spread((row[INDEX] for row in measured), ".2f")
        rows.append([label, precision, whole, listed or "not named"])
    return table(["way", "precision", f"seconds in all, {KINDS[kind]}", "seconds by stage"], rows)


def forward_block(results: Results) -> str:
    """The model's forward pass alone, over whole windows."""
    rows = []
    for name, label, precision in named(results):
        measured = [row for row in results["speed"]["forward"] if row["contender"] == name]
        if measured:
            reached = [row["tokens"] / row["seconds"] for row in measured]
            parts = [
                2 * PARAMETERS * speed / row["matmul"][precision]
                for speed, row in zip(reached, measured, strict=True)
            ]
            rows.append([label, precision, spread(reached), spread(parts, ".2f")])
    return table(["engine", "precision", "tokens/s", "share of the peak"], rows)


def search_block(results: Results) -> str:
    rows = []
    for mode in dict.fromkeys(row["mode"] for row in results["cold_search"]):
        measured = [row for row in results["cold_search"] if row["mode"] == mode]
        memory = max(row["memory_mb"] for row in measured)
        figures = [
            spread((row[name] for row in measured), ".2f")
            for name in ("seconds", "cpu_seconds")
            if name in measured[0]  # earlier results have no processor time
        ]
        rows.append([f"`--mode {mode}`", *figures, f"{memory:.0f}"])
    timed = ["seconds to the first hit", "processor seconds in all"][: len(rows[0]) - 2]
    return table(["search", *timed, "peak memory, MB"], rows)


def growth_block(results: Results) -> str:
    rows = [
        [f"{row['chunks']:,}", f"{row['seconds_per_1000']:.2f}", f"{row['memory_mb']:.0f}"]
        for row in results["growth"]
    ]
    head = ["chunks in the index", "seconds per 1,000 chunks, since the row above", "peak memory so far, MB"]
    return table(head, rows)


def picture_block(results: Results) -> str:
    kind = main_kind(results)
    lowest, highest = (
        pick(ratio(results, peer, kind, INDEX) for peer in peers(results)) for pick in (min, max)
    )
    said = (
        f"From text to searchable chunks it is {times(lowest)} to {times(highest)} as fast as the peers in the picture "
        "([docs/performance.md](docs/performance.md)):"
    )
    picture = (
        "![Tokens per second from text to vectors and from text to index, by library](docs/performance.svg)"
    )
    return "\n".join([said, "", picture, *busy_lines(results)])


def knn_block(knn: Results) -> str:
    settings = knn["settings"]
    said = (
        f"{settings['chunks']:,} chunks, {settings['queries']} queries, {settings['rounds']} rounds, Elasticsearch "
        f"{knn['elasticsearch']}, {knn['started'][:10]}:"
    )
    head = ["`--quantization`", "index on disk, MB", "of it vectors, MB"]
    for candidates in settings["num_candidates"]:
        head += [f"recall@10, {candidates} candidates", f"ms per query, {candidates} candidates"]
    rows = []
    for one in knn["quantizations"]:
        cells = [f"`{one['quantization']}`", f"{one['bytes'] / 1e6:.1f}", f"{one['vector_bytes'] / 1e6:.1f}"]
        for candidates in settings["num_candidates"]:
            way = (one["quantization"], candidates)
            rounds = [row for row in knn["rounds"] if (row["quantization"], row["num_candidates"]) == way]
            cells.append(f"{statistics.median(row['recall'] for row in rounds):.3f}")
            cells.append(spread((row["milliseconds"] for row in rounds), ".1f"))
        rows.append(cells)
    return "\n".join([said, "", table(head, rows), *busy_lines(knn)])


def busy_lines(results: Results) -> list[str]:
    """What to say of figures from a machine that others used."""
    load, cores = results["machine"]["load"][0], results["machine"]["cores"]
    if load <= BUSY * cores:
        return []
    return [
        "",
        f"**The machine was not idle before the start (load average {load:.1f}). If other programs went on, it was "
        "slower than an idle one, and the times spread wider: then only their ratios say something, roughly.**",
    ]


BLOCKS: Mapping[str, Callable[[Results], str]] = {
    "machine": machine_block,
    "versions": versions_block,
    "summary": summary_block,
    "goals": goals_block,
    "vectors": lambda results: speed_block(results, VECTORS),
    "vectors-ratios": lambda results: ratio_block(results, VECTORS),
    "index": lambda results: speed_block(results, INDEX),
    "index-ratios": lambda results: ratio_block(results, INDEX),
    "memory": memory_block,
    "stages": stages_block,
    "forward": forward_block,
    "search": search_block,
    "growth": growth_block,
    "picture": picture_block,
}


FLOAT32_BLOCKS = (
    "machine",
    "vectors",
    "vectors-ratios",
    "index",
    "index-ratios",
    "memory",
    "growth",
    "search",
)


def blocks(results: Results, float32: Results, knn: Results) -> dict[str, str]:
    """The text of every block, by its name; `float32` is of a processor without bfloat16 units."""
    found = {name: block(results) for name, block in BLOCKS.items()}
    found |= {f"float32-{name}": BLOCKS[name](float32) for name in FLOAT32_BLOCKS}
    return {**found, "knn": knn_block(knn)}


def filled(page: str, found: Mapping[str, str]) -> str:
    """The page with its blocks written anew; a block that is not known is a KeyError."""

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}\n{found[match[2]]}\n{match[3]}"

    return re.sub(r"(<!-- begin ([\w-]+) -->)\n.*?(<!-- end \2 -->)", block, page, flags=re.DOTALL)


def read_results() -> tuple[Results, Results, Results]:
    """The results of `run.py` on both kinds of processors, and of `knn.py`, as they were written last."""
    names = ("performance.json", "performance-float32.json", "knn.json")
    first, second, third = (json.loads((RESULTS / name).read_text("utf-8")) for name in names)
    return first, second, third


def main() -> None:
    found = blocks(*read_results())
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    main()
