"""Tokens a second and peak memory of each model family at its real size, with random weights.

    python benchmarks/models.py [NAME...] [--engine openvino torch] [--dtype float32 bfloat16] [--repeat 3]

Speed does not depend on what the weights say, so nothing is downloaded. Each row is a process of its own,
so that its peak memory is its own. `share` is the share of this machine's matrix multiplication speed,
measured right after each run, so that it holds on a busy machine too: (2 x layer parameters + 4 x layers x
width x length) x tokens / second, where `length` is the most tokens that a token can attend to. Seconds are
those of the clock, `cpu_tokens_per_second` counts processor-seconds. All numbers are medians.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from es_latechunk.models.checkpoint.weights import StoredTensor
from es_latechunk.models.native.checkpoint import NativeCheckpoint
from es_latechunk.models.native.families import FAMILIES
from es_latechunk.models.native.openvino_engine import OpenVinoModel
from es_latechunk.models.native.torch_engine import NativeTorchModel
from es_latechunk.types import FloatArray, IntArray

# Sequences x tokens; None: the family's window.
SHAPES: dict[str, tuple[int, int | None]] = {"short": (4, 512), "passages": (32, 128), "window": (1, None)}
JINA = {"vocab_size": 30528, "position_embedding_type": "alibi"}
# name -> (window, family of the encoder here, or class of transformers; settings)
MODELS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "all-MiniLM-L6-v2": (
        512,
        "bert",
        {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    ),
    "jina-embeddings-v2-small-en": (
        8192,
        "jina_bert",
        {
            "hidden_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "intermediate_size": 2048,
            **JINA,
        },
    ),
    "jina-embeddings-v2-base-en": (
        8192,
        "jina_bert",
        {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            **JINA,
        },
    ),
    "modernbert-embed-base": (8192, "modernbert", {}),
    "nomic-embed-text-v1.5": (2048, "nomic_bert", {}),
    "embeddinggemma-300m": (
        2048,
        "Gemma3TextConfig",
        {
            "vocab_size": 262144,
            "hidden_size": 768,
            "num_hidden_layers": 24,
            "intermediate_size": 1152,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "sliding_window": 512,
            "use_bidirectional_attention": True,
            "use_cache": False,
        },
    ),
    "multilingual-e5-base": (
        512,
        "xlm-roberta",
        {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1},
    ),
}


def native_checkpoint(kind: str, settings: dict[str, Any], folder: Path) -> NativeCheckpoint:
    """The encoder of a family with random weights: each tensor is the beginning of one file."""
    import transformers

    config = settings
    if not kind.startswith("jina"):
        config = transformers.AutoConfig.for_model(kind, **settings).to_diff_dict()
        config = {**transformers.AutoConfig.for_model(kind).to_dict(), **config}
    shape = FAMILIES[kind].read(config)
    file = folder / "weights"
    sizes = {name: math.prod(size) for name, size in shape.weights()}
    np.random.default_rng(0).normal(0, 0.02, max(sizes.values())).astype(np.float32).tofile(file)
    weights = {
        name: (StoredTensor(file, name, size, "F32", 0, 4 * sizes[name]),) for name, size in shape.weights()
    }
    return NativeCheckpoint(shape, weights)


Run = Callable[[list[IntArray]], list[FloatArray]]


def build(name: str, engine: str, dtype: Any, folder: Path) -> tuple[Run, int, int]:
    """What runs windows, the parameters of its layers, and layers x width of all heads."""
    window, kind, settings = MODELS[name]
    if kind in FAMILIES:
        checkpoint = native_checkpoint(kind, settings, folder)
        shape = checkpoint.shape
        layers = sum(math.prod(size) for key, size in shape.weights() if key[0].isdigit())
        work = shape.layers * shape.hidden
        if engine == "openvino":
            model = OpenVinoModel(checkpoint, name=name, window=window, dtype=dtype)
            return model.run, layers, work
        module: Any = NativeTorchModel(checkpoint, name, device="cpu", dtype=getattr(torch, dtype))
    else:
        import transformers

        module = transformers.AutoModel.from_config(getattr(transformers, kind)(**settings)).eval()
        layers = sum(p.numel() for key, p in module.named_parameters() if "embed" not in key)
        work = width(module.config)
    mixed = dtype == "bfloat16" and kind not in FAMILIES

    def run(windows: list[IntArray]) -> list[FloatArray]:
        ids = torch.from_numpy(np.stack(windows)).long()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            answer = module(input_ids=ids, attention_mask=torch.ones_like(ids))
        return list(getattr(answer, "last_hidden_state", answer).float().numpy())

    return run, layers, work


def measure(name: str, engine: str, dtype: str, shape: str, repeat: int) -> dict[str, Any]:
    """One row, of `repeat` runs after a short one."""
    count, length = SHAPES[shape]
    length = length or MODELS[name][0]
    random = np.random.default_rng(0)
    windows = [random.integers(1000, 30000, length).astype(np.int32) for _ in range(count)]
    seconds, processor, peaks = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        run, layers, layers_width = build(name, engine, dtype, Path(folder))
        run([window[:64] for window in windows])
        for _ in range(repeat):
            before = time.process_time()
            seconds.append(took(lambda: run(windows)))
            processor.append(time.process_time() - before)
            peaks.append(matmul_speed(torch.bfloat16 if dtype == "bfloat16" else torch.float32))
    tokens = count * length
    work = (2 * layers + 4 * layers_width * length) * tokens
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "model": name,
        "engine": engine,
        "dtype": dtype,
        "texts": f"{count} x {length}",
        "tokens_per_second": round(tokens / statistics.median(seconds)),
        "cpu_tokens_per_second": round(tokens / statistics.median(processor)),
        "share": round(statistics.median(work / s / p for s, p in zip(seconds, peaks, strict=True)), 2),
        "peak_memory_gib": round(memory / 2**30, 2),
        "matmul_gflops": round(statistics.median(peaks) / 1e9),
        "load": round(os.getloadavg()[0], 1),
    }


def width(config: Any) -> int:
    """Layers x the width of all heads together."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(config.num_hidden_layers * config.num_attention_heads * head)


def took(run: Callable[[], Any]) -> float:
    """Seconds."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def matmul_speed(dtype: torch.dtype, size: int = 2048) -> float:
    """Floating point operations a second of one large matrix product."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return 2 * size**3 / statistics.median(took(lambda: torch.mm(a, b)) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--engine", nargs="+", choices=("openvino", "torch"), default=["openvino", "torch"])
    parser.add_argument("--shape", nargs="+", choices=tuple(SHAPES), default=["short", "window"])
    parser.add_argument(
        "--dtype", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"]
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        name, engine, dtype, shape = options.row
        print(json.dumps(measure(name, engine, dtype, shape, options.repeat)))
        return
    for name in options.names or MODELS:
        window, kind, _ = MODELS[name]
        for dtype in options.dtype:
            for shape in options.shape:
                for engine in options.engine if kind in FAMILIES else ["torch"]:
                    if shape != "window" or window != SHAPES["short"][1]:
                        row = ["--row", name, engine, dtype, shape, "--repeat", str(options.repeat)]
                        subprocess.run([sys.executable, __file__, *row], check=True)


if __name__ == "__main__":
    main()
