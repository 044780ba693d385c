"""One load of an index at a time: which run owns an index, and how a new owner takes over from a dead one.

A load writes through an alias of its own, such as `docs-load-1f0c55d2-4711-9a3e07`. That one alias is three things:

- The lock. A run adds its alias and then reads the index's aliases: if it sees no other load's alias, it owns the
  index. Two runs that start at the same moment see each other, and both withdraw and try again after a random wait.
  Elasticsearch applies alias changes one after the other, so two runs cannot both see themselves alone.
- The fence. A new owner removes a dead owner's alias and adds its own in one request. Whatever the old owner still
  sends is refused, because its alias no longer exists.
- The guard against an index that is deleted during the load. Bulk requests carry `require_alias`, and an alias
  disappears with its index, so no request creates the index again with a guessed mapping or writes to a new index of
  the same name.

An entry in the mapping's `_meta` records which process owns the index, since when, and its last sign of life. An owner
renews it every `RENEW_SECONDS`. An owner that has not renewed it for `LEASE_SECONDS`, by the clock of the run that
watches, counts as dead; so does a process of this machine as soon as it has ended.
"""

from __future__ import annotations

import logging
import os
import random
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from elasticsearch import ApiError, Elasticsearch, NotFoundError

from es_latechunk.elastic.connection import reason
from es_latechunk.errors import IndexBusyError, WriteError, setting
from es_latechunk.threads import pause

LOAD_KEY = "es_latechunk_load"
RENEW_SECONDS = 10.0
RENEWAL_TIMEOUT = 5.0
LEASE_SECONDS = 30.0
POLL_SECONDS = 1.0
LONGEST_ALIAS = 255  # bytes, Elasticsearch's limit
OWNER_ALIAS = re.compile(r"-load-(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<run>[0-9a-f]{6})\Z")
log = logging.getLogger(__name__)

T = TypeVar("T")
Step = Callable[[Callable[[], T]], T]

_running: set[str] = set()  # the aliases of this process's own loads


@dataclass(frozen=True, slots=True)
class IndexState:
    """The state of an index at one moment: its uuid, `_meta`, refresh interval, and the aliases of its loads."""

    name: str
    uuid: str
    meta: Mapping[str, Any]
    refresh_interval: str | None
    blocks: tuple[str, ...]
    closed: bool
    owners: frozenset[str]

    @property
    def load_entry(self) -> Mapping[str, Any]:
        """The entry of the load that owns the index, or did not end; empty without one."""
        entry: Mapping[str, Any] = self.meta.get(LOAD_KEY, {})
        return entry


def read_state(client: Elasticsearch, name: str) -> IndexState:
    """Read the state of one index; `name` may be one of its aliases."""
    answer = client.indices.get(index=name, features=["aliases", "mappings", "settings"])
    [(index, state)] = answer.items()
    settings = state["settings"]["index"]
    blocks = settings.get("blocks", {})
    return IndexState(
        name=index,
        uuid=settings["uuid"],
        meta=state["mappings"].get("_meta", {}),
        refresh_interval=settings.get("refresh_interval"),
        blocks=tuple(sorted(key for key, value in blocks.items() if str(value) == "true")),
        closed=str(settings.get("verified_before_close")) == "true",
        owners=frozenset(alias for alias in state["aliases"] if OWNER_ALIAS.search(alias)),
    )


def new_load_alias(index: str) -> str:
    """Return a new alias for a load of this process."""
    suffix = f"-load-{machine()}-{os.getpid()}-{secrets.token_hex(3)}"
    start = index.encode()[: LONGEST_ALIAS - len(suffix)].decode(errors="ignore")
    return start + suffix


@cache
def machine() -> str:
    """Return 8 hexadecimal digits that identify this machine, its boot and the container.

    A process id only identifies a process within these.
    """
    parts = [socket.gethostname()]
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        try:
            parts.append(str(path.readlink()) if path.is_symlink() else path.read_text().strip())
        except OSError:  # not Linux: the host name has to be enough
            continue
    return blake2b("\n".join(parts).encode(), digest_size=4).hexdigest()


def is_dead(alias: str) -> bool:
    """Return True if the alias's load has certainly ended: it was a process of this machine that no longer runs."""
    found = OWNER_ALIAS.search(alias)
    if found is None or found["machine"] != machine():
        return False
    pid = int(found["pid"])
    if pid == os.getpid():
        return alias not in _running
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


@dataclass(slots=True)
class Ownership:
    """A load's alias and its entry in the mapping's `_meta`, which it renews while it owns the index.

    `refresh_interval` is that of the index before the load, None if it had no setting of its own.
    """

    client: Elasticsearch
    alias: str
    meta: dict[str, Any]
    refresh_interval: str | None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def update_meta(self, **entries: Any) -> None:
        """Change entries of the mapping's `_meta`; None removes one.

        During a load, `_meta` must be written by this method alone: a request replaces all of it.
        """
        with self._lock:
            meta = {**self.meta, **entries}
            self.meta = {key: value for key, value in meta.items() if value is not None}
            self._put(self.client)

    def begin(self) -> None:
        """Record which process loads since when, and the refresh interval from before."""
        self.update_meta(
            **{
                LOAD_KEY: {
                    "refresh_interval": self.refresh_interval,
                    "alias": self.alias,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "since": _now(),
                }
            }
        )

    def _put(self, client: Elasticsearch) -> None:
        if LOAD_KEY in self.meta:
            self.meta[LOAD_KEY] = {**self.meta[LOAD_KEY], "renewed": _now()}
        client.indices.put_mapping(index=self.alias, meta=self.meta)

    def renew(self) -> None:
        """Renew the entry regularly until the load ends; runs in a thread of its own.

        A renewal that fails is not repeated at once: the load's own requests report what is wrong. Its timeout is
        short, because the end of the load waits for a renewal in progress.
        """
        client = self.client.options(request_timeout=RENEWAL_TIMEOUT)
        while not self._ended.wait(RENEW_SECONDS):
            with self._lock:
                if not self._ended.is_set() and LOAD_KEY in self.meta:
                    try:
                        self._put(client)
                    except Exception as error:  # noqa: BLE001 - the next one may work, or bulk says why not
                        log.debug("alias %s: not renewed (%s)", self.alias, error)

    def end(self) -> None:
        """Stop renewing."""
        self._ended.set()
        _running.discard(self.alias)


def acquire(client: Elasticsearch, index: IndexState, *, wait: bool, step: Step[Any]) -> Ownership:
    """Own the index, or raise IndexBusyError, which names the process that loads it and since when.

    `wait` waits for the end of that load instead. `step` runs each request. Raises AuthorizationException if the user
    may not manage the index's aliases, and WriteError if the index is deleted or created again meanwhile.
    """
    alias = new_load_alias(index.name)
    watch = _LivenessWatch(index.name)
    dead: frozenset[str] = frozenset()
    _running.add(alias)
    try:
        while True:
            _add_alias(client, index.name, alias, dead, step)
            state = step(lambda: read_state(client, index.name))
            others = state.owners - {alias}
            if not others and alias in state.owners and state.uuid == index.uuid:
                return _owned(client, alias, state)
            step(lambda: _remove_alias(client, index.name, alias))
            if state.uuid != index.uuid:
                raise WriteError(
                    f"index {index.name}: was deleted and created again just now; run the command again"
                )
            dead = watch.dead_among(others, state.load_entry, wait=wait)
            if others and not dead:
                pause(POLL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - random, so that two runs do not stay in step
    except BaseException:
        _running.discard(alias)
        with suppress(Exception):  # the first error matters more, and an alias that stays does no harm
            _remove_alias(client.options(request_timeout=RENEWAL_TIMEOUT), index.name, alias)
        raise


def _add_alias(client: Elasticsearch, index: str, alias: str, dead: frozenset[str], step: Step[Any]) -> None:
    """Add the run's alias, and remove those of dead owners in the same request.

    The request fails if another run has removed one of them already.
    """
    try:
        step(lambda: _change_aliases(client, index, add=alias, remove=sorted(dead)))
    except NotFoundError as error:
        if not dead or "index_not_found" in str(error.body):
            raise
        step(lambda: _change_aliases(client, index, add=alias))


def _remove_alias(client: Elasticsearch, index: str, alias: str) -> None:
    with suppress(NotFoundError):  # an earlier attempt, whose answer was lost, has removed it
        _change_aliases(client, index, remove=[alias])


def _change_aliases(client: Elasticsearch, index: str, *, add: str = "", remove: Sequence[str] = ()) -> None:
    actions: list[dict[str, Any]] = [
        {"remove": {"index": index, "alias": alias, "must_exist": True}} for alias in remove
    ]
    if add:
        actions.append({"add": {"index": index, "alias": add, "is_hidden": True}})
    client.indices.update_aliases(actions=actions)


def _owned(client: Elasticsearch, alias: str, state: IndexState) -> Ownership:
    """Return the ownership; if an earlier load did not end, the refresh interval comes from its entry."""
    if state.load_entry:
        log.warning(
            "index %s: an earlier load did not end; its settings are restored after this one", state.name
        )
    interval = state.load_entry["refresh_interval"] if state.load_entry else state.refresh_interval
    return Ownership(client, alias, dict(state.meta), interval)


def release(ownership: Ownership, index: str) -> None:
    """Remove the run's alias; the settings in its entry must have been restored before."""
    ownership.end()
    _remove_alias(ownership.client, index, ownership.alias)


class _LivenessWatch:
    """Decides which owners of an index are dead: ended on this machine, or without a sign of life for too long."""

    def __init__(self, index: str) -> None:
        self._index = index
        self._seen: tuple[frozenset[str], Any] | None = None
        self._since = 0.0
        self._logged = False

    def dead_among(self, owners: frozenset[str], entry: Mapping[str, Any], *, wait: bool) -> frozenset[str]:
        """Return all of the owners if they are dead, else none; raise IndexBusyError for a live one unless `wait`."""
        if all(is_dead(alias) for alias in owners):
            return owners
        seen = owners, entry.get("renewed")
        before, self._seen = self._seen, seen
        if before is None or seen != before:
            self._since = time.monotonic()
        alive = before is not None and before[0] & owners and seen[1] not in (None, before[1])
        if alive and not wait:
            raise IndexBusyError(
                f"index {self._index}: is being loaded by process {entry.get('pid')} on {entry.get('host')} since "
                f"{entry.get('since')}; wait for its end with {setting('wait')}, or try again later"
            )
        if not self._logged:
            self._logged = True
            log.info(
                "index %s: its mapping records another load (process %s on %s, since %s); looking for a sign of life",
                self._index, entry.get("pid"), entry.get("host"), entry.get("since"),
            )  # fmt: skip
        if time.monotonic() - self._since < LEASE_SECONDS:
            return frozenset()
        log.warning("index %s: the load before this one shows no sign of life; taking over", self._index)
        return owners


def lost_cause(client: Elasticsearch, index: IndexState) -> str:
    """Return the reason why a load's alias no longer exists."""
    try:
        state = read_state(client, index.name)
    except NotFoundError:
        return "was deleted while it was loaded"
    except ApiError as error:
        return f"can no longer be read ({reason(error)})"
    if state.uuid != index.uuid:
        return "was deleted and created again while it was loaded"
    host, pid = state.load_entry.get("host"), state.load_entry.get("pid")
    return (
        f"was taken over by another load (process {pid} on {host})"
        if state.load_entry
        else "lost this load's alias"
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
