"""The worst cosine of a chunk to float32, for each engine and precision, over the texts of ../shared/data.

    python benchmarks/accuracy.py [MODEL] [--characters 20000] [--max-tokens 128]

The reference is torch in float32. MODEL is a folder or a hub id; the default is all-MiniLM-L6-v2. With
--characters, only the beginning of each text is compared; 0 means whole texts. One JSON object per row; what an engine
refuses on this processor is a row with the reason.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from es_latechunk import Document, UsageError, embed_documents, load_encoder
from es_latechunk.types import FloatArray

DATA = Path(__file__).parents[2] / "shared" / "data"
COMPARED = (("openvino", "float32"), ("openvino", "bfloat16"), ("torch", "bfloat16"))


def documents(characters: int) -> Iterator[Document]:
    """Every text of the three collections, or its beginning."""
    end = characters or None
    for path in sorted((DATA / "chunking_evaluation" / "corpus").glob("*.txt")):
        yield Document(path.stem, path.read_text(encoding="utf-8")[:end])
    for collection in ("squad_dev", "xquad"):
        with (DATA / collection / "documents.jsonl").open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                yield Document(f"{collection}/{row['id']}", row["text"][:end])


def vectors(model: str | None, engine: Any, dtype: Any, options: argparse.Namespace) -> FloatArray:
    """The vectors of all chunks, in the documents' order."""
    encoder = load_encoder(model, engine=engine, dtype=dtype, device="cpu")
    chunks = embed_documents(documents(options.characters), encoder=encoder, max_tokens=options.max_tokens)
    return np.stack([chunk.vector for chunk in chunks])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", metavar="MODEL")
    parser.add_argument("--characters", type=int, default=20_000)
    parser.add_argument("--max-tokens", type=int, default=128)
    options = parser.parse_args()
    exact = vectors(options.model, "torch", "float32", options)
    for engine, dtype in COMPARED:
        row: dict[str, Any] = {"engine": engine, "dtype": dtype, "chunks": len(exact)}
        try:
            cosines = (vectors(options.model, engine, dtype, options) * exact).sum(axis=1)
        except UsageError as error:
            row["refused"] = str(error)
        else:
            row |= {"worst": float(cosines.min()), "median": float(np.median(cosines))}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
