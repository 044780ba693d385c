"""Device and precision, chosen by what the hardware has."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from es_latechunk.errors import ModelError, UsageError, setting

Dtype = Literal["auto", "float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = ("auto", "float32", "bfloat16")
# Of each thread: what passes from layer to layer then stays near the processor. 8,192 tokens for two threads took a
# quarter more time on short texts, and an eighth more on long ones.
CPU_BATCH_TOKENS = 1_024
MOST_CPU_BATCH_TOKENS = 8_192
GPU_BATCH_TOKENS = 65_536
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where and how a model runs; `batch_tokens` is what keeps this device busy without filling its memory."""

    device: str
    dtype: Literal["float32", "bfloat16"]
    batch_tokens: int


def has_torch() -> bool:
    """Return whether torch and transformers are installed (the extra `torch`)."""
    return find_spec("torch") is not None and find_spec("transformers") is not None


def require_torch(reason: str) -> None:
    """Raise a ModelError if torch or transformers is missing; `reason` says what needs them."""
    if not has_torch():
        raise ModelError(
            f"{reason}, and torch and transformers are not installed; install them: pip install 'es-latechunk[torch]'"
        )


def choose_hardware(device: str = "auto", dtype: Dtype = "auto") -> Hardware:
    """Resolve "auto": the GPU if there is one; bfloat16 where the device multiplies it natively.

    Raises UsageError if this machine has no such device.
    """
    require_torch(f"{setting('device')} {device}: torch runs models on other devices than the CPU")
    if device == "auto":
        device = _best_device()
    kind = _kind(device)
    resolved: Literal["float32", "bfloat16"] = (
        ("bfloat16" if _has_bfloat16(kind) else "float32") if dtype == "auto" else dtype
    )
    return Hardware(device, resolved, _cpu_batch_tokens() if kind == "cpu" else GPU_BATCH_TOKENS)


def _cpu_batch_tokens() -> int:
    import torch

    return min(CPU_BATCH_TOKENS * torch.get_num_threads(), MOST_CPU_BATCH_TOKENS)


def runs_on_cpu(device: str) -> bool:
    """Whether `device` means the CPU; torch is imported only if there may be a GPU.

    Raises UsageError if this machine has no such device. Without torch, a GPU that may be here is not used.
    """
    if device == "cpu" or (device == "auto" and sys.platform == "linux" and not _has_gpu_driver()):
        return True
    if device == "auto" and not has_torch():
        log.info("there may be a GPU here; to use it, install torch: pip install 'es-latechunk[torch]'")
        return True
    return choose_hardware(device, "float32").device == "cpu"


def _has_gpu_driver() -> bool:
    """Look for the device files of NVIDIA's and AMD's drivers, and of Windows' driver below a Linux (WSL)."""
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


def _kind(device: str) -> str:
    import torch

    try:
        requested = torch.device(device)
    except RuntimeError as error:
        raise UsageError(
            f"{setting('device')} {device} is no device of torch; choose auto, cpu, cuda or mps"
        ) from error
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (requested.index or 0) >= available.get(requested.type, 0):
        found = ", ".join(f"{count} {kind}" for kind, count in available.items() if count)
        raise UsageError(f"{setting('device')} {device}: torch has here {found}; choose one of them, or auto")
    return requested.type


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _has_bfloat16(kind: str) -> bool:
    import torch

    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
    return False
