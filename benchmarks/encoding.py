"""Late chunking's speed next to sentence-transformers', which embeds the same chunks one by one.

    python benchmarks/encoding.py [--model NAME] [--max-tokens 128] [--rounds 5]

The documents are this repository's own pages. In each round the three ways run in another order; a ratio is
taken within its round, so that other work on the machine does not tell. `share` is the share of the machine's
matrix multiplication speed in that precision, measured after each run: 2 x layer parameters x tokens / seconds,
with each document token counted once, so that overlapping windows, padding and special tokens lower it.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from models import matmul_speed, took
from sentence_transformers import SentenceTransformer

from es_latechunk import embed_documents, load_encoder, raise_errors, read_documents
from es_latechunk.models import default_model
from es_latechunk.models.checkpoint.resolve import resolve_model
from es_latechunk.models.local.metadata import quiet

PAGES = Path(__file__).parent.parent / "docs"
LATE, NAIVE, PEER = "late", "naive", "sentence-transformers"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """min / median / max."""
    return " / ".join(
        f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )


def ways(name: str, dtype: Any, max_tokens: int) -> tuple[dict[str, Callable[[], Any]], int, int]:
    """What to run, the documents' tokens, and the parameters of the layers."""
    documents = list(raise_errors(read_documents(sorted(PAGES.glob("*.md")))))
    encoder = load_encoder(name, dtype=dtype)
    tokens = sum(len(encoder.tokenizer.tokenize(document.text)) for document in documents)
    chunks = list(raise_errors(embed_documents(documents, encoder=encoder, max_tokens=max_tokens)))
    texts = [chunk.content for chunk in chunks]
    with quiet():
        peer = SentenceTransformer(str(resolve_model(name).path))
    layers = sum(p.numel() for key, p in peer.named_parameters() if "embeddings" not in key)

    def ours(pooling: Any) -> list[Any]:
        return list(embed_documents(documents, encoder=encoder, max_tokens=max_tokens, pooling=pooling))

    def theirs() -> Any:
        with torch.autocast(peer.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            return peer.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    return {LATE: lambda: ours("late"), NAIVE: lambda: ours("naive"), PEER: theirs}, tokens, layers


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=default_model())
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("min / median / max of", options.rounds, "rounds\n")
    print("| precision | way | tokens/s | times sentence-transformers | share |\n|---|---|---|---|---|")
    for dtype in ("float32", "bfloat16"):
        run, tokens, layers = ways(options.model, dtype, options.max_tokens)
        seconds: dict[str, list[float]] = {name: [] for name in run}
        shares: dict[str, list[float]] = {name: [] for name in run}
        for name in run:
            run[name]()
        for number in range(options.rounds):
            for name in random.Random(number).sample(list(run), len(run)):  # noqa: S311 - an order, no secret
                seconds[name].append(took(run[name]))
                speed = matmul_speed(getattr(torch, dtype))
                shares[name].append(2 * layers * tokens / seconds[name][-1] / speed)
        for name, own in seconds.items():
            ratios = [peer / mine for peer, mine in zip(seconds[PEER], own, strict=True)]
            rates = spread([tokens / second for second in own], 0)
            print(f"| {dtype} | {name} | {rates} | {spread(ratios)} | {spread(shares[name])} |")


if __name__ == "__main__":
    main()
