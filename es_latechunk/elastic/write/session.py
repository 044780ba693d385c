"""A load of one index (`ingest` or `promote`): it owns the index, changes settings meanwhile, and restores them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from elasticsearch import AuthorizationException, Elasticsearch

from es_latechunk.elastic.connection import closed_index, is_blocked, server_errors
from es_latechunk.elastic.index.admin import single_index
from es_latechunk.elastic.index.ownership import (
    LOAD_KEY,
    IndexState,
    Ownership,
    acquire,
    lost_cause,
    read_state,
    release,
)
from es_latechunk.elastic.retry import PATIENCE, defer_interrupt, retry_transient
from es_latechunk.errors import IndexMismatchError, IndexNotFoundError, PreconditionError, WriteError
from es_latechunk.types import DEFAULT_RETRY_FOR

DISK_IS_FULL = "index.blocks.read_only_allow_delete"
CLEAN_UP_SECONDS = 5.0  # short, as a user waits for a failed or interrupted load to end
log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoadSession:
    """An index that is being loaded: every request of the load goes to `target`.

    `target` is the load's own alias, which disappears with the index or the ownership. A user who may not manage the
    index has no such alias, and writes under the index's name.
    """

    client: Elasticsearch
    index: IndexState
    ownership: Ownership | None = None

    @property
    def target(self) -> str:
        return self.ownership.alias if self.ownership else self.index.name

    @property
    def require_alias(self) -> bool:
        return self.ownership is not None

    def check(self) -> None:
        """Raise WriteError if the index is no longer the one that the load began with.

        Only needed if no alias guards the load: with one, the server refuses the write itself.
        """
        if self.ownership is None and (cause := self.lost()):
            raise WriteError(f"index {self.index.name}: {cause}; nothing more is written to it")

    def lost(self) -> str:
        """Return why the index no longer belongs to this load, "" if it still does."""
        if self.ownership is not None and self.client.indices.exists_alias(name=self.ownership.alias):
            return ""
        settings = self.client.indices.get_settings(index=self.index.name, ignore_unavailable=True)
        found = settings.get(self.index.name, {}).get("settings", {}).get("index", {})
        if self.ownership is None and found.get("uuid") == self.index.uuid:
            return ""
        return lost_cause(self.client, self.index)


def join_session(client: Elasticsearch, index: IndexState, alias: str | None) -> LoadSession:
    """Return the session of a load that another process has opened, renews and ends; `alias` is that of its ownership.

    It can only be written through.
    """
    return LoadSession(client, index, Ownership(client, alias, {}, None) if alias else None)


def resolve(client: Elasticsearch, name: str) -> IndexState:
    """Return the one index that `name` (an index or an alias) names now; refuse one that cannot be written."""
    concrete = single_index(client, name)
    with server_errors(client, name):
        state = read_state(client, concrete)
    if state.closed:
        raise closed_index(concrete)
    if state.blocks:
        block = f"index.blocks.{state.blocks[0]}"
        # Elasticsearch sets this block itself when a disk is nearly full, and removes it when there is space again.
        instead = (
            "free disk space, after which Elasticsearch removes the block, or "
            if block == DISK_IS_FULL
            else ""
        )
        raise PreconditionError(
            f"index {concrete}: is blocked for writing ({block}); {instead}remove the block with: "
            f'PUT {concrete}/_settings {{"{block}": null}}'
        )
    return state


@contextmanager
def open_session(
    client: Elasticsearch, index: IndexState, *, retry_for: float = DEFAULT_RETRY_FOR, wait: bool = False
) -> Iterator[LoadSession]:
    """Own the index and switch off its periodic refreshes; at the end refresh once and restore everything.

    The refresh interval from before is kept in the mapping's `_meta` while it is changed, so that after a kill or the
    loss of the server the next run finds it and restores it. A user who may not manage the index loads with refreshes
    and without ownership; a warning says so. Transient faults are retried for `retry_for` seconds.

    Raises IndexBusyError if another load owns the index (with `wait`, waits for its end instead), and WriteError if
    the index is deleted or taken over during the load.
    """
    step = partial(_retry_step, index.name, retry_for)
    with server_errors(client, index.name):
        session = _begin(client, index, step, wait=wait)
    try:
        with server_errors(client, index.name):
            if session.ownership:
                step(session.ownership.begin)
                threading.Thread(target=session.ownership.renew, daemon=True).start()
                step(lambda: _set_refresh(client, session.target, "-1"))
            step(lambda: client.indices.refresh(index=session.target))
        yield session
        with server_errors(client, index.name):
            _end(session, client, step)
    except BaseException as error:
        final_error = _end_badly(session, error)
        if final_error is error:
            raise
        raise final_error from error
    finally:
        if session.ownership:
            session.ownership.end()


def _begin(
    client: Elasticsearch, index: IndexState, step: Callable[[Callable[[], Any]], Any], *, wait: bool
) -> LoadSession:
    try:
        return LoadSession(client, index, acquire(client, index, wait=wait, step=step))
    except AuthorizationException as error:
        if is_blocked(error):
            raise
        log.warning(
            "index %s: no right to change its settings (manage), so it is loaded with refreshes, and another "
            "load at the same time is found only at the end",
            index.name,
        )
        return LoadSession(client, index)


def _end(session: LoadSession, client: Elasticsearch, step: Callable[[Callable[[], Any]], Any]) -> None:
    """Restore the settings, refresh, and release the index.

    The order matters: if a kill comes after the settings are restored and before the `_meta` entry is removed, the
    next run only restores them once more. The alias is removed last, as it is the lock.
    """
    ownership = session.ownership
    if ownership:
        step(lambda: _set_refresh(client, session.target, ownership.refresh_interval))
        step(lambda: ownership.update_meta(**{LOAD_KEY: None}))
    step(lambda: client.indices.refresh(index=session.target))
    if ownership:
        step(lambda: release(ownership, session.index.name))


def _end_badly(session: LoadSession, error: BaseException) -> BaseException:
    """Restore what can be restored quickly, and return the error to raise.

    If the load failed because the index was deleted or taken over, that is the error; otherwise it is `error` itself.
    """
    quick = session.client.options(request_timeout=CLEAN_UP_SECONDS)
    if session.ownership:
        session.ownership.client = quick
    try:
        if isinstance(error, (IndexNotFoundError, IndexMismatchError, WriteError)) and (
            cause := defer_interrupt(
                lambda: LoadSession(quick, session.index, session.ownership).lost(), patience=0
            )
        ):
            return WriteError(f"index {session.index.name}: {cause}; nothing more is written to it")
        with server_errors(quick, session.index.name):
            _end(session, quick, partial(_retry_step, session.index.name, CLEAN_UP_SECONDS, patience=0))
    except KeyboardInterrupt as interrupt:
        log.warning("index %s: its settings are not restored; the next ingest does it", session.index.name)
        return interrupt
    except Exception as failed:  # noqa: BLE001 - the error that ended the load matters more
        log.warning(
            "index %s: its settings are not restored (%s); the next ingest does it",
            session.index.name,
            failed,
        )
    return error


def _retry_step(name: str, seconds: float, step: Callable[[], T], *, patience: float = PATIENCE) -> T:
    return retry_transient(
        lambda: defer_interrupt(step, patience=patience),
        retry_for=seconds,
        what=f"index {name}: its settings could not be read or changed",
    )


def _set_refresh(client: Elasticsearch, name: str, interval: str | None) -> None:
    client.indices.put_settings(index=name, settings={"index": {"refresh_interval": interval}})
