"""The processor's speed at plain matrix products, in a process of its own, so that no contender has torch for it.

Its arguments are the precisions: emulated bfloat16 would take minutes for a figure that nothing is compared with.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from answering import answer_requests

SIZE, TIMES = 2048, 12


def measure() -> dict[str, Any]:
    """Floating point operations per second of the fastest product, in each precision."""
    return {name: speed(getattr(torch, name)) for name in sys.argv[1:]}


def speed(dtype: torch.dtype) -> float:
    a, b = torch.randn(SIZE, SIZE).to(dtype), torch.randn(SIZE, SIZE).to(dtype)
    seconds = []
    for _ in range(TIMES):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * SIZE**3 / min(seconds)


answer_requests({"measure": measure}, precision="both")
