"""Engines: token ids of windows in, token vectors out. OpenVINO on a CPU, torch for all else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Literal, Protocol

from es_latechunk.errors import UsageError, setting
from es_latechunk.models.hardware import Dtype, Hardware, has_torch, require_torch, runs_on_cpu
from es_latechunk.models.local.forward import TokenModel
from es_latechunk.models.local.spec import ModelSpec
from es_latechunk.models.native.checkpoint import NativeCheckpoint, open_native
from es_latechunk.models.native.openvino_engine import OpenVinoModel, computes_bfloat16, open_core
from es_latechunk.types import FloatArray, IntArray

EngineName = Literal["auto", "openvino", "torch"]
ENGINES: tuple[EngineName, ...] = ("auto", "openvino", "torch")


class Engine(Protocol):
    """A model's forward pass; its weights are loaded at the first call."""

    @property
    def name(self) -> str: ...

    @property
    def hardware(self) -> Hardware:
        """The device, the precision, and how many tokens one call should hold."""

    def run(self, batch: Sequence[IntArray]) -> list[FloatArray]:
        """Token ids (T_i,) with their special tokens -> vectors (T_i, hidden) float32."""


class ChosenEngine:
    """The engine that a user asks for, or the fastest that can run the model; chosen at the first look."""

    def __init__(
        self,
        spec: ModelSpec,
        *,
        engine: EngineName,
        device: str,
        dtype: Dtype,
        pad_id: int,
        task: str = "",
    ) -> None:
        if engine == "openvino" and find_spec("openvino") is None:
            raise UsageError(
                f"{setting('engine')} openvino: it is not installed; install it: "
                "pip install 'es-latechunk[openvino]'"
            )
        if find_spec("openvino") is None and not has_torch():
            raise UsageError(
                "no engine is installed that could run a model; install one: pip install 'es-latechunk[openvino]' (on "
                "a CPU) or 'es-latechunk[torch]' (on any device)"
            )
        self._spec = spec
        self._requested = engine
        self._device = device
        self._dtype = dtype
        self._pad_id = pad_id
        self._task = task

    def for_task(self, task: str) -> ChosenEngine:
        """The same model with another task's adapters; its weights are loaded once more."""
        if task == self._task:
            return self
        return ChosenEngine(
            self._spec,
            engine=self._requested,
            device=self._device,
            dtype=self._dtype,
            pad_id=self._pad_id,
            task=task,
        )

    @property
    def name(self) -> str:
        """ "openvino" or "torch"."""
        return self._engine.name

    @property
    def hardware(self) -> Hardware:
        """The hardware of the chosen engine."""
        return self._engine.hardware

    def run(self, batch: Sequence[IntArray]) -> list[FloatArray]:
        """See `Engine`."""
        return self._engine.run(batch)

    @cached_property
    def _engine(self) -> Engine:
        torch = TokenModel(
            self._spec, device=self._device, dtype=self._dtype, pad_id=self._pad_id, task=self._task
        )
        if self._requested == "torch" or (self._requested == "auto" and find_spec("openvino") is None):
            require_torch(f"{setting('engine')} torch: model {self._spec.name}: runs on torch")
            return torch
        found = self._for_openvino()
        if isinstance(found, NativeCheckpoint):
            return OpenVinoModel(found, name=self._spec.name, window=self._spec.window, dtype=self._dtype)
        if self._requested == "openvino":
            raise UsageError(f"{setting('engine')} openvino: model {self._spec.name}: {found}")
        require_torch(f"model {self._spec.name}: {found}")
        return torch

    def _for_openvino(self) -> NativeCheckpoint | str:
        """The checkpoint as OpenVINO runs it, or why it does not."""
        if not runs_on_cpu(self._device):
            return (
                f"OpenVINO runs on the CPU here; choose {setting('device')} cpu, or {setting('engine')} torch"
            )
        if self._dtype == "bfloat16" and not computes_bfloat16(open_core(self._spec.name)):
            return (
                f"OpenVINO has no bfloat16 on this processor; choose {setting('dtype')} auto, or "
                f"{setting('engine')} torch, which emulates it and is slow"
            )
        found = open_native(self._spec.checkpoint, self._task)
        if found is None:
            return f"its architecture or an option of it runs in transformers only; choose {setting('engine')} torch"
        return found
