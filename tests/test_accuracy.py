"""Each engine, in each precision, gives the vectors of float32, whatever is embedded beside a document.

The texts are a sample of ../shared; benchmarks/accuracy.py compares them all. MiniLM has its real weights, the other
families random ones at half its width, with the spread that keeps each layer's numbers about as large as its input.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_models import (
    BFLOAT16_ENGINES,
    FAST,
    add_modules,
    make_config,
    make_tensors,
    mini_lm_folder,
    save_checkpoint,
    save_model,
    save_tokenizer,
)

from es_latechunk import Document, embed_documents, load_encoder
from es_latechunk.types import FloatArray

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared")

SIZES = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6, "intermediate_size": 768}
FAMILIES = ("bert", "roberta", "xlm-roberta", "nomic_bert", "modernbert", "v1", "code", "es")
WORST_COSINE = 0.9995
CHARACTERS = 800


def sample() -> list[Document]:
    """The beginnings of nine texts: speech, finance, medicine, Wikipedia, in four scripts."""
    documents = [
        Document(path.stem, path.read_text(encoding="utf-8")[:CHARACTERS])
        for path in sorted((DATA / "chunking_evaluation" / "corpus").glob("*.txt"))
    ]
    for collection, every in (("squad_dev", 30), ("xquad", 49)):
        with (DATA / collection / "documents.jsonl").open(encoding="utf-8") as lines:
            for row in islice(map(json.loads, lines), 0, None, every):
                documents.append(Document(f"{collection}/{row['id']}", row["text"][:CHARACTERS]))
    return documents


def vectors(
    folder: Path, engine: Any, dtype: Any, texts: list[Document]
) -> dict[tuple[str, int], FloatArray]:
    """By document and chunk; 64-token chunks in windows of the model's own length, 512 at most."""
    encoder = load_encoder(str(folder), engine=engine, dtype=dtype, device="cpu", assume_mean_pooling=True)
    assert encoder.engine == engine  # type: ignore[attr-defined]
    chunks = embed_documents(texts, encoder=encoder, max_tokens=64)
    return {(chunk.doc_id, chunk.ordinal): chunk.vector for chunk in chunks}


def assert_near(
    found: dict[tuple[str, int], FloatArray], exact: dict[tuple[str, int], FloatArray], cosine: float
) -> None:
    assert found.keys() == exact.keys()
    cosines = {key: float(found[key] @ exact[key]) for key in exact}
    worst = min(cosines, key=cosines.__getitem__)
    assert cosines[worst] >= cosine, worst


@pytest.fixture(scope="module", params=["MiniLM", *FAMILIES])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family: str = request.param
    if family == "MiniLM":
        return mini_lm_folder()
    path = tmp_path_factory.mktemp(family) / "m"
    if family in ("v1", "code", "es"):
        config = make_config(family, heads=6, hidden=192, layers=4, vocab_size=len(FAST["word_piece"]))
        tensors = make_tensors(family, config)
        # made_models spreads a layer's weights 1.5 times as wide, which amplifies every rounding from layer to layer.
        layers = {
            name: tensor / 1.5 if tensor.ndim == 2 and "embeddings" not in name else tensor
            for name, tensor in tensors.items()
        }
        save_checkpoint(path, config, layers)
        save_tokenizer(path, FAST["word_piece"])
        return path
    positions = {
        "max_position_embeddings": 514,
        **({"local_attention": 128} if family == "modernbert" else {}),
    }
    return add_modules(save_model(path, family, **SIZES, **positions), "Pooling")


@needs_data
def test_the_worst_chunk_is_near_float32(folder: Path) -> None:
    texts = sample() if folder == mini_lm_folder() else sample()[::3]
    exact = vectors(folder, "torch", "float32", texts)
    assert len(exact) > 5
    assert_near(vectors(folder, "openvino", "float32", texts), exact, 0.99999)
    for engine in BFLOAT16_ENGINES:
        assert_near(vectors(folder, engine, "bfloat16", texts), exact, WORST_COSINE)


@needs_data
@pytest.mark.parametrize(
    ("engine", "dtype"),
    [("openvino", "float32"), ("torch", "float32"), *((engine, "bfloat16") for engine in BFLOAT16_ENGINES)],
)
def test_what_is_embedded_beside_a_document_changes_nothing(engine: str, dtype: str) -> None:
    texts = sample()[::2]
    together = vectors(mini_lm_folder(), engine, dtype, texts)
    backwards = vectors(mini_lm_folder(), engine, dtype, texts[::-1])
    alone = vectors(mini_lm_folder(), engine, dtype, texts[:1])
    beside = {key: vector for key, vector in together.items() if key[0] == texts[0].id}
    if dtype == "float32":
        for key in together:
            np.testing.assert_allclose(backwards[key], together[key], atol=1e-6)
        for key in alone:
            np.testing.assert_allclose(beside[key], alone[key], atol=1e-6)
    assert_near(backwards, together, 0.9999)
    assert_near(beside, alone, 0.9999)
