"""Tokens a second and peak memory of each model family at its real size, with random weights.

    python benchmarks/models.py [NAME...] [--dtype float32 bfloat16] [--repeat 3]

Speed does not depend on what the weights say, so nothing is downloaded. Each row is a process of its own,
so that its peak memory is its own. `share` is the share of this machine's matrix multiplication speed,
measured right after each run, so that it holds on a busy machine too: (2 x layer parameters + 4 x layers x
width x length) x tokens / second, where `length` is the most tokens that a token can attend to. All numbers
are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

SHAPES = {"short": (4, 512), "window": (1, None)}  # sequences x tokens; None: the family's window
JINA = {"type_vocab_size": 2, "vocab_size": 30528, "family": "v1"}
# name -> (window, how the model is made)
MODELS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "all-MiniLM-L6-v2": (
        512,
        "BertConfig",
        {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    ),
    "jina-embeddings-v2-small-en": (
        8192,
        "JinaBert",
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
        "JinaBert",
        {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            **JINA,
        },
    ),
    "modernbert-embed-base": (8192, "ModernBertConfig", {}),
    "nomic-embed-text-v1.5": (2048, "NomicBertConfig", {}),
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
        "XLMRobertaConfig",
        {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1},
    ),
}


def build(kind: str, settings: dict[str, Any]) -> Any:
    """The model with random weights."""
    if kind == "JinaBert":
        from es_latechunk.models.jina_bert.config import JinaBertConfig
        from es_latechunk.models.jina_bert.model import JinaBertModel

        config = JinaBertConfig(**settings)
        return JinaBertModel(config, config.family or "v1").eval()
    import transformers

    return transformers.AutoModel.from_config(getattr(transformers, kind)(**settings)).eval()


def measure(name: str, dtype: str, shape: str, repeat: int) -> dict[str, Any]:
    """One row, of `repeat` runs after a short one."""
    window, kind, settings = MODELS[name]
    count, length = SHAPES[shape]
    length = length or window
    model = build(kind, settings)
    ids = torch.randint(1000, 30000, (count, length))
    mask = torch.ones_like(ids)
    layers = sum(p.numel() for key, p in model.named_parameters() if "embed" not in key)
    work = (2 * layers + 4 * width(model.config) * length) * count * length
    seconds, peaks = [], []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        model(input_ids=ids[:, :64], attention_mask=mask[:, :64])
        for _ in range(repeat):
            seconds.append(took(lambda: model(input_ids=ids, attention_mask=mask)))
            peaks.append(matmul_speed(torch.bfloat16 if dtype == "bfloat16" else torch.float32))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "model": name,
        "dtype": dtype,
        "texts": f"{count} x {length}",
        "tokens_per_second": round(count * length / statistics.median(seconds)),
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
    parser.add_argument(
        "--dtype", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"]
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        name, dtype, shape = options.row
        print(json.dumps(measure(name, dtype, shape, options.repeat)))
        return
    for name in options.names or MODELS:
        for dtype in options.dtype:
            for shape in SHAPES:
                if shape == "short" or MODELS[name][0] != SHAPES["short"][1]:
                    row = ["--row", name, dtype, shape, "--repeat", str(options.repeat)]
                    subprocess.run([sys.executable, __file__, *row], check=True)


if __name__ == "__main__":
    main()
