"""What the figures were measured on, as the results record it; both benchmarks with results begin with it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
from answering import versions

CPU_INFO = Path("/proc/cpuinfo")


def describe_machine() -> dict[str, Any]:
    """The processor and its flags, memory, system, versions, and the load before anything was started."""
    info = CPU_INFO.read_text(encoding="utf-8") if CPU_INFO.exists() else ""
    fields = dict(
        [part.strip() for part in line.partition(":")[::2]] for line in info.splitlines() if ":" in line
    )
    return {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "flags": fields.get("flags") or fields.get("Features", ""),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "commit": _commit(),
        "versions": versions(),
    }


def _commit() -> str:
    """The commit that was measured, or "" outside of a checkout."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]  # S607: whichever git the user has
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    except OSError:
        return ""
    return done.stdout.strip()
