"""The README's picture of speed, made from benchmarks/results/performance.json: `python picture.py`.

Its description names the moment of the run, so that a test can tell whether the picture is of the committed results.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib as mpl
from tables import INDEX, KINDS, VECTORS, main_kind, named, read_results, speeds

mpl.use("svg")
from matplotlib import pyplot as plt

PICTURE = Path(__file__).parents[2] / "docs" / "performance.svg"
OURS, THEIRS = "#0b7285", "#adb5bd"


def main() -> None:
    results, _, _ = read_results()
    kind = main_kind(results)
    contenders = named(results)[::-1]
    labels = [f"{label} ({precision})" for _, label, precision in contenders]
    colours = [OURS if label.startswith("es-latechunk") else THEIRS for label in labels]
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "performance", "font.family": "sans-serif"})
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
    for axis, what, title in zip(axes, (VECTORS, INDEX), ("text to vectors", "text to index"), strict=True):
        medians = [statistics.median(speeds(results, name, kind, what)) for name, _, _ in contenders]
        bars = axis.barh(labels, medians, color=colours)
        axis.bar_label(bars, [f"{speed:,.0f}" for speed in medians], padding=3, fontsize=9)
        axis.set_title(f"{title}, tokens per second", fontsize=10)
        axis.set_xlim(0, 1.18 * max(medians))
        axis.xaxis.set_visible(False)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    machine = results["machine"]
    figure.text(
        0.99, 0.01,
        f"all-MiniLM-L6-v2, {KINDS[kind]}, {machine['cores']} processors ({machine['processor']}), medians of "
        f"{results['settings']['rounds']} rounds",
        ha="right", fontsize=8, color="#495057",
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(
        PICTURE, facecolor="white", metadata={"Date": None, "Description": f"run of {results['started']}"}
    )


main()
