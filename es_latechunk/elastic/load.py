"""Settings that change while an index is loaded, and how they come back, also after a crash."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from elasticsearch import AuthorizationException, Elasticsearch

from es_latechunk.elastic.connection import server_errors
from es_latechunk.elastic.mapping import single_index
from es_latechunk.errors import PreconditionError

LOAD_KEY = "es_latechunk_load"
log = logging.getLogger(__name__)


@contextmanager
def without_refresh(client: Elasticsearch, index: str) -> Iterator[None]:
    """Switch off periodic refreshes; afterwards refresh once and set back what was there before.

    What was there is kept in the mapping's `_meta` for as long as it is changed, so that the next run after
    a kill, or after the server was lost, finds it and sets it back. A user who may not change settings loads
    with refreshes, and is told.
    """
    with server_errors(client, index):
        name = single_index(client, index)
        client.indices.refresh(index=name)
        changed = _switch_off(client, name)
    try:
        yield
    except BaseException:
        try:
            _end(client, name, changed=changed)
        except PreconditionError as error:  # what broke the load off is what matters
            log.warning("index %s: its settings are not set back (%s); the next ingest does it", name, error)
        raise
    _end(client, name, changed=changed)


def _end(client: Elasticsearch, name: str, *, changed: bool) -> None:
    with server_errors(client, name):
        if changed:
            _set_back(client, name)
        client.indices.refresh(index=name)


def _switch_off(client: Elasticsearch, name: str) -> bool:
    meta = _read_meta(client, name)
    if LOAD_KEY in meta:
        log.warning("index %s: an earlier load did not end; its settings are set back after this one", name)
        before = meta[LOAD_KEY]["refresh_interval"]
    else:
        before = _refresh_interval(client, name)
    try:
        client.indices.put_mapping(index=name, meta={**meta, LOAD_KEY: {"refresh_interval": before}})
        client.indices.put_settings(index=name, settings={"index": {"refresh_interval": "-1"}})
    except AuthorizationException:
        log.warning(
            "index %s: no right to change its settings (manage), so it is loaded with refreshes", name
        )
        return False
    return True


def _set_back(client: Elasticsearch, name: str) -> None:
    meta = _read_meta(client, name)
    if LOAD_KEY not in meta:  # another load of the same index has ended and set it back
        return
    before = meta.pop(LOAD_KEY)["refresh_interval"]
    client.indices.put_settings(index=name, settings={"index": {"refresh_interval": before}})
    client.indices.put_mapping(index=name, meta=meta)


def _read_meta(client: Elasticsearch, name: str) -> dict[str, Any]:
    meta: dict[str, Any] = client.indices.get_mapping(index=name)[name]["mappings"].get("_meta", {})
    return meta


def _refresh_interval(client: Elasticsearch, name: str) -> str | None:
    """The index's own setting; None where it has none and follows the default."""
    settings = client.indices.get_settings(index=name)[name]["settings"]["index"]
    value: str | None = settings.get("refresh_interval")
    return value
