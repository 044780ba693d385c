"""The picture of docs/scale.md, made from benchmarks/results/soak.json: `python benchmarks/soak/picture.py`.

It needs matplotlib, which `make bench` installs into .venv-bench.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("svg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "soak.json"
PICTURE = ROOT / "docs" / "soak.svg"
COLOURS = {
    "encoder": "#0b7285",
    "first process": "#e8590c",
    "raylet and object store": "#5f3dc4",
    "Ray's gcs_server": "#c2255c",
    "Elasticsearch": "#2b8a3e",
}
OTHERS = "#adb5bd"
SERVER = "Elasticsearch"


def draw(axis: Any, rows: list[Mapping[str, Any]], results: Mapping[str, Any], title: str) -> None:
    """One line per process, its share of the memory; a dotted line at each kill, and the second half in grey."""
    told: set[str] = set()
    for row in rows:
        label = row["kind"] if row["kind"] in COLOURS else "Ray's other processes"
        shown = label if label not in told else None
        told.add(label)
        minutes = np.array(row["seconds"]) / 60
        axis.plot(minutes, row["share"], color=COLOURS.get(row["kind"], OTHERS), linewidth=1.2, label=shown)
    for kill in results["kills"]:
        axis.axvline(kill["seconds"] / 60, color="#868e96", linewidth=0.7, linestyle=":")
    half = (results["begun"] + results["seconds"]) / 2
    axis.axvspan(half / 60, results["seconds"] / 60, color="#f1f3f5", zorder=0)
    axis.set_title(title, fontsize=10)
    axis.set_ylabel("MB")
    axis.set_ylim(bottom=0)
    axis.set_xlim(0, results["seconds"] / 60)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def main() -> None:
    results = json.loads(RESULTS.read_text("utf-8"))
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "soak", "font.family": "sans-serif"})
    figure, axes = plt.subplots(2, 1, figsize=(10, 6), sharex=True, height_ratios=(3, 2))
    rows = [row for row in results["processes"] if len(row["seconds"]) > 1]
    draw(axes[0], [row for row in rows if row["kind"] != SERVER], results, "the load's processes")
    draw(axes[1], [row for row in rows if row["kind"] == SERVER], results, SERVER)
    axes[1].set_xlabel("minutes; dotted: a process is killed; grey: the second half")
    figure.tight_layout()
    description = f"run of {results['started']}"
    figure.savefig(PICTURE, facecolor="white", metadata={"Date": None, "Description": description})


main()
