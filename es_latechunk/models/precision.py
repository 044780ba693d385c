"""Device and precision, chosen by what the hardware has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from es_latechunk.errors import UsageError

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = ("auto", "float32", "bfloat16")
CPU_BATCH_TOKENS = 8_192
GPU_BATCH_TOKENS = 65_536


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where and how a model runs; `batch_tokens` is what keeps this device busy without filling its memory."""

    device: str
    dtype: Literal["float32", "bfloat16"]
    batch_tokens: int


def choose_hardware(device: str = "auto", dtype: Dtype = "auto") -> Hardware:
    """Resolve "auto": the GPU if there is one; bfloat16 where the device multiplies it natively."""
    import torch

    if device == "auto":
        device = _best_device()
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UsageError(
            f"--device {device} is not a device of torch; choose auto, cpu, cuda or mps"
        ) from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: torch sees no CUDA device here; choose cpu or auto")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"--device {device}: torch sees no MPS device here; choose cpu or auto")
    resolved: Literal["float32", "bfloat16"] = (
        ("bfloat16" if _has_bfloat16(kind) else "float32") if dtype == "auto" else dtype
    )
    return Hardware(device, resolved, CPU_BATCH_TOKENS if kind == "cpu" else GPU_BATCH_TOKENS)


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


def torch_dtype(name: str) -> torch.dtype:
    """torch's dtype of that name."""
    import torch

    return torch.bfloat16 if name == "bfloat16" else torch.float32
