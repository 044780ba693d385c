"""Tests that run in an event loop: conditions to wait for, and an encoder that can be held back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest
from elasticsearch import Elasticsearch
from indices import WordEncoder

from es_latechunk.elastic.index import ownership
from es_latechunk.elastic.index.ownership import read_state
from es_latechunk.elastic.write import session
from es_latechunk.types import FloatArray, IntArray

PATIENCE = 120  # seconds, for what takes milliseconds on a machine that has nothing else to do

T = TypeVar("T")


def be_patient(patch: pytest.MonkeyPatch) -> None:
    """Give a load that ends early time to restore the settings, and let no request depend on how long it takes."""
    patch.setattr(session, "CLEAN_UP_SECONDS", PATIENCE)
    patch.setattr(ownership, "RENEW_SECONDS", 10 * PATIENCE)


def run(main: Coroutine[Any, Any, T]) -> T:
    async def in_time() -> T:
        return await asyncio.wait_for(main, PATIENCE)

    return asyncio.run(in_time())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that other threads bring about; the event loop has to be free for it."""
    while not condition():
        await asyncio.sleep(0.001)


async def is_cancelled(task: Awaitable[Any]) -> bool:
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


class HeldEncoder(WordEncoder):
    """Waits before each batch until it is let go, and counts the batches that wait and those that are done."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.begun = self.done = 0
        self._lock = threading.Lock()

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        with self._lock:
            self.begun += 1
        assert self.let_go.wait(PATIENCE)
        vectors = super().encode_windows(windows)
        with self._lock:
            self.done += 1
        return vectors


def assert_released(client: Elasticsearch, name: str) -> None:
    """No load owns the index any more, and what a load changes is restored."""
    state = read_state(client, name)
    assert (state.owners, state.load_entry, state.refresh_interval) == (frozenset(), {}, None)
