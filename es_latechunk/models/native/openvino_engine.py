"""The encoder on OpenVINO: a compiled model that windows of token ids go through, several at a time."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from es_latechunk.errors import ModelError, setting
from es_latechunk.hidden_imports import hidden_imports
from es_latechunk.models.hardware import Dtype, Hardware
from es_latechunk.models.native.checkpoint import NativeCheckpoint, read_weights
from es_latechunk.models.native.encoder import Encoder
from es_latechunk.types import FloatArray, IntArray

# Short windows of one length go together until a request has so many tokens: fewer leave the processor idle.
REQUEST_TOKENS = 256
# A window this long is computed by all threads together; shorter ones each by a thread of its own.
LONG_WINDOW = 2_048
# The bias of ALiBi and of local attention is a number for each pair of tokens (and each head): up to this length it is
# computed once for all layers, 13 MB with 12 heads, and beyond it for a block of queries at a time.
LONGEST_WHOLE_BIAS = 512
# What was compiled for each length of a window is kept, about a megabyte a length for a small model in bfloat16: so
# many parts of it, where OpenVINO's own limit is 5000 and would let memory grow with the corpus.
KERNELS = "500"
CPU_INFO = Path("/proc/cpuinfo")
NATIVE_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
MOST_STREAMS = 16
BATCH_TOKENS = 4_096  # a stream


class OpenVinoModel:
    """Token ids in, last hidden states out (an `Engine`); the graph is compiled at the first call."""

    name = "openvino"

    def __init__(self, checkpoint: NativeCheckpoint, *, name: str, window: int, dtype: Dtype) -> None:
        self._model = name
        self._window = window
        self._checkpoint = checkpoint
        self._dtype = dtype
        self._one_at_a_time = Lock()  # the queue has one callback; its requests keep all processors busy

    @cached_property
    def hardware(self) -> Hardware:
        """The precision in use: bfloat16 where the processor multiplies it natively."""
        streams, _ = self._plan
        dtype = self._dtype
        if dtype == "auto":
            dtype = "bfloat16" if has_bfloat16(self._core) else "float32"
        return Hardware("cpu", dtype, max(2 * BATCH_TOKENS, BATCH_TOKENS * streams))

    def run(self, batch: Sequence[IntArray]) -> list[FloatArray]:
        """Token ids (T_i,) with their special tokens -> vectors (T_i, hidden) float32; any thread may call."""
        answers: list[FloatArray | None] = [None] * len(batch)

        def keep(request: Any, windows: list[int]) -> None:
            hidden = request.get_output_tensor(0).data
            for row, window in enumerate(windows):
                answers[window] = hidden[row].copy()

        try:
            with self._one_at_a_time:
                queue = self._requests
                queue.set_callback(keep)
                for windows in _requests(batch):
                    queue.start_async({0: np.stack([batch[window] for window in windows])}, windows)
                queue.wait_all()
        except RuntimeError as error:  # OpenVINO's own, also where memory does not suffice
            cause = " ".join(str(error).split())
            raise ModelError(
                f"model {self._model}: OpenVINO cannot run it ({cause}); choose {setting('engine')} torch or a "
                f"shorter {setting('window')}"
            ) from error
        whole = [answer for answer in answers if answer is not None]
        if len(whole) < len(batch) or not all(np.isfinite(answer).all() for answer in whole):
            raise ModelError(
                f"model {self._model}: gives vectors that are not finite in {self.hardware.dtype}; check the "
                f"weights, or try {setting('dtype')} float32"
            )
        return whole

    @cached_property
    def _core(self) -> Any:
        return open_core(self._model)

    @property
    def _plan(self) -> tuple[int, int]:
        """Streams and threads: many streams of one thread, or one stream of all."""
        threads = available_threads()
        return (1 if self._window > LONG_WINDOW else min(threads, MOST_STREAMS)), threads

    @cached_property
    def _requests(self) -> Any:
        import openvino

        streams, threads = self._plan
        compiled = self._core.compile_model(
            self._graph(),
            "CPU",
            {
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": "bf16" if self.hardware.dtype == "bfloat16" else "f32",
                "ENABLE_CPU_PINNING": False,  # others run beside us
                "CPU_RUNTIME_CACHE_CAPACITY": KERNELS,
            },
        )
        return openvino.AsyncInferQueue(compiled, streams)

    def _graph(self) -> Any:
        import openvino
        from openvino import opset13

        from es_latechunk.models.native.openvino_ops import OpenVinoOps

        ops = OpenVinoOps(in_blocks=self._window > LONGEST_WHOLE_BIAS)
        weights = {
            key: ops.constant(array) for key, array in read_weights(self._checkpoint, self._model).items()
        }
        ids = opset13.parameter([-1, -1], np.int32, "input_ids")
        hidden = Encoder(self._checkpoint.shape, weights, ops)(ids)
        return openvino.Model([opset13.result(hidden)], [ids], "encoder")


def open_core(model: str) -> Any:
    """OpenVINO's entrance; `model` is the name in the error if OpenVINO cannot be imported."""
    try:
        # OpenVINO reports each import of itself to its makers, from a process that it starts for that, unless this
        # package is missing: a command that embeds texts on this machine sends nothing anywhere.
        with hidden_imports("openvino", "openvino_telemetry"):
            import openvino
    except ImportError as error:
        raise ModelError(
            f"model {model}: OpenVINO is installed and cannot be imported ({error}); install it "
            f"again, or choose {setting('engine')} torch"
        ) from error
    return openvino.Core()


def computes_bfloat16(core: Any) -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor, natively or not; else it would compute in float32."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_bfloat16(core: Any) -> bool:
    """Whether this processor multiplies bfloat16 natively: OpenVINO says so, and Linux does not say otherwise.

    On processors that have wide vectors alone OpenVINO computes in bfloat16 as well, and is no faster for it.
    """
    if not computes_bfloat16(core):
        return False
    try:
        flags = re.search(r"^(?:flags|Features)\s*:(.*)$", CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return True
    return flags is None or not NATIVE_BFLOAT16.isdisjoint(flags[1].split())


def available_threads() -> int:
    """The processors that this process may use, at most OMP_NUM_THREADS, which torch obeys too and Ray sets."""
    has_affinity = hasattr(os, "sched_getaffinity")
    processors = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(processors, int(limit)) if limit.isdecimal() and int(limit) else processors


def _requests(batch: Sequence[IntArray]) -> Iterator[list[int]]:
    """Yield the indices of windows that make one request: of one length, so that nothing is padded or masked."""
    alike: dict[int, list[int]] = defaultdict(list)
    for index, window in enumerate(batch):
        alike[len(window)].append(index)
    for length in sorted(alike, reverse=True):
        size = max(1, REQUEST_TOKENS // length)
        for first in range(0, len(alike[length]), size):
            yield alike[length][first : first + size]
