"""Settings that change while an index is loaded, and how they come back, also after a crash."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from elasticsearch import AuthorizationException, Elasticsearch

from es_latechunk.elastic.connection import server_errors
from es_latechunk.elastic.interrupt import uninterrupted
from es_latechunk.elastic.mapping import single_index
from es_latechunk.elastic.retry import DEFAULT_RETRY_FOR, persist
from es_latechunk.errors import PreconditionError, WriteError

LOAD_KEY = "es_latechunk_load"
RETRY_AFTER_FAILURE = 5.0  # seconds: whoever waits for a failed or interrupted load wants it to end
log = logging.getLogger(__name__)

T = TypeVar("T")


@contextmanager
def without_refresh(
    client: Elasticsearch, index: str, *, retry_for: float = DEFAULT_RETRY_FOR
) -> Iterator[None]:
    """Switch off periodic refreshes; afterwards refresh once and set back what was there before.

    What was there is kept in the mapping's `_meta` for as long as it is changed, so that the next run after
    a kill, or after the server was lost, finds it and sets it back. A user who may not change settings loads
    with refreshes, and is told. Faults that pass are ridden out for `retry_for` seconds.
    """
    name = single_index(client, index)

    def persistently(step: Callable[[], T], seconds: float) -> T:
        def once() -> T:
            with uninterrupted():
                return step()

        with server_errors(client, name):
            return persist(
                once, retry_for=seconds, what=f"index {name}: its settings could not be read or changed"
            )

    try:
        meta, before = persistently(lambda: _look(client, name), retry_for)
        changed = persistently(lambda: _switch_off(client, name, meta, before), retry_for)
        yield
    except BaseException:
        try:
            persistently(lambda: _set_back(client, name), min(retry_for, RETRY_AFTER_FAILURE))
        except (PreconditionError, WriteError) as error:  # what broke the load off is what matters
            log.warning("index %s: its settings are not set back (%s); the next ingest does it", name, error)
        raise
    end = _set_back if changed else _refresh
    persistently(lambda: end(client, name), retry_for)


def _refresh(client: Elasticsearch, name: str) -> None:
    client.indices.refresh(index=name)


def _look(client: Elasticsearch, name: str) -> tuple[dict[str, Any], str | None]:
    """The mapping's `_meta`, and the refresh interval that the index had before any load."""
    _refresh(client, name)
    meta = _read_meta(client, name)
    if LOAD_KEY not in meta:
        return meta, _refresh_interval(client, name)
    log.warning("index %s: an earlier load did not end; its settings are set back after this one", name)
    return meta, meta[LOAD_KEY]["refresh_interval"]


def _switch_off(client: Elasticsearch, name: str, meta: dict[str, Any], before: str | None) -> bool:
    """Whether the index is without refreshes now; what it had is noted first."""
    try:
        # The right is tried with the value that is there, so that nothing is noted where nothing can change.
        client.indices.put_settings(index=name, settings={"index": {"refresh_interval": before}})
        client.indices.put_mapping(index=name, meta={**meta, LOAD_KEY: {"refresh_interval": before}})
        client.indices.put_settings(index=name, settings={"index": {"refresh_interval": "-1"}})
    except AuthorizationException:
        log.warning(
            "index %s: no right to change its settings (manage), so it is loaded with refreshes", name
        )
        return False
    return True


def _set_back(client: Elasticsearch, name: str) -> None:
    """Settings first: a kill before the note is gone only repeats this."""
    meta = _read_meta(client, name)
    if LOAD_KEY in meta:  # else nothing was changed, or another load of the index has set it back
        before = meta.pop(LOAD_KEY)["refresh_interval"]
        client.indices.put_settings(index=name, settings={"index": {"refresh_interval": before}})
        client.indices.put_mapping(index=name, meta=meta)
    _refresh(client, name)


def _read_meta(client: Elasticsearch, name: str) -> dict[str, Any]:
    meta: dict[str, Any] = client.indices.get_mapping(index=name)[name]["mappings"].get("_meta", {})
    return meta


def _refresh_interval(client: Elasticsearch, name: str) -> str | None:
    """The index's own setting; None where it has none and follows the default."""
    settings = client.indices.get_settings(index=name)[name]["settings"]["index"]
    value: str | None = settings.get("refresh_interval")
    return value
