"""A new index for an alias: it is filled beside the one that is searched, and swapped in when it is whole.

Until the swap it is called staged. The entry ALIAS_KEY of its mapping's `_meta` says for which alias.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from elasticsearch import Elasticsearch

from es_latechunk.elastic.connection import connect, server_errors
from es_latechunk.elastic.index.contents import count
from es_latechunk.elastic.index.template import CHUNKS
from es_latechunk.elastic.write.session import LoadSession, open_session, resolve
from es_latechunk.errors import IndexMismatchError, PreconditionError, setting

ALIAS_KEY = "es_latechunk_alias"


@dataclass(frozen=True, slots=True)
class Promotion:
    """The result of `promote`: the index that the alias points to now, and the indices that it pointed to before."""

    alias: str
    index: str
    chunks: int
    before: tuple[str, ...]


def current_indices(client: Elasticsearch, alias: str) -> list[str]:
    """Return the indices behind the alias, none if there is no such alias; refuse an index of that name."""
    with server_errors(client):
        if client.indices.exists_alias(name=alias):
            return sorted(client.indices.get_alias(name=alias))
        if client.indices.exists(index=alias):
            raise IndexMismatchError(
                f"{alias} is an index, not an alias; choose another alias, or ingest with {setting('index')} {alias}"
            )
    return []


def staged_index(client: Elasticsearch, alias: str) -> str | None:
    """Return the index that is filled for the alias and not promoted yet; there is at most one.

    Its number is higher than that of the index that the alias points to: indices with lower numbers were promoted
    earlier, and stay until somebody deletes them.
    """
    newest = max((_number(alias, name) for name in current_indices(client, alias)), default=0)
    made = [name for name, meta in _staging_entries(client, alias).items() if meta]
    found = [name for name in made if _number(alias, name) > newest]
    if len(found) > 1:
        raise IndexMismatchError(
            f"alias {alias}: {len(found)} indices are staged for it ({', '.join(sorted(found))}); delete all but one"
        )
    return found[0] if found else None


def open_staged_index(client: Elasticsearch, alias: str, create: Callable[[str], object]) -> str:
    """Return the staged index, or a new one: ALIAS-000001, ALIAS-000002, ... made by `create(name)`."""
    staged = staged_index(client, alias)
    if staged is not None:
        create(staged)  # does nothing if the settings are the same, and refuses others
        return staged
    name = _next_name(client, alias)
    create(name)
    record_staging(client, alias, name, chunks=None, failed=0)
    return name


def _next_name(client: Elasticsearch, alias: str) -> str:
    """Return the name after the highest number.

    An empty index without an entry in its `_meta` was left by a run that was killed just after creating it, so its
    number is used again.
    """
    made = _staging_entries(client, alias)
    last = max(made, key=lambda name: _number(alias, name), default=alias)
    number = _number(alias, last)
    if number and not made[last] and last not in current_indices(client, alias):
        with server_errors(client, last):
            is_empty = count(client, last, {"match_all": {}}) == 0
        if is_empty:
            number -= 1
    return f"{alias}-{number + 1:06d}"


def _number(alias: str, name: str) -> int:
    """Return the number of an index named ALIAS-NUMBER, 0 for any other name."""
    number = name.removeprefix(f"{alias}-")
    return int(number) if re.fullmatch(r"\d{6,}", number, re.ASCII) else 0


def record_staging(client: Elasticsearch, alias: str, index: str, *, chunks: int | None, failed: int) -> None:
    """Record in an index's `_meta` its alias, and the chunks and failures that its last complete ingest counted."""
    with server_errors(client, index):
        meta = client.indices.get_mapping(index=index)[index]["mappings"].get("_meta", {})
        client.indices.put_mapping(index=index, meta={**meta, **_staging_entry(alias, chunks, failed)})


def record_fill(session: LoadSession, alias: str, *, chunks: int | None, failed: int) -> None:
    """Do what `record_staging` does, during a load: the load's own entry in `_meta` is kept."""
    if session.ownership is None:
        raise PreconditionError(
            f"alias {alias}: filling an index for it needs the right to manage {session.index.name} and its aliases"
        )
    with server_errors(session.client, session.index.name):
        session.ownership.update_meta(**_staging_entry(alias, chunks, failed))


def _staging_entry(alias: str, chunks: int | None, failed: int) -> dict[str, Any]:
    return {ALIAS_KEY: {"alias": alias, "chunks": chunks, "failed": failed}}


def promote(alias: str, *, client: Elasticsearch | None = None, allow_failed: bool = False) -> Promotion:
    """Swap an alias, in one step, to the index that `ingest(..., alias=...)` has filled.

    The indices before it stay until they are deleted, so that you can compare them, and go back. Without a `client`,
    the cluster is that of ELASTICSEARCH_URL, or the local node.

    Raises PreconditionError if no index is staged, its ingest has not ended, documents failed (unless
    `allow_failed`), or the index does not hold as many chunks as the ingest counted.
    """
    client = client or connect()
    name = staged_index(client, alias)
    if name is None:
        raise PreconditionError(
            f"alias {alias}: no index is staged for it; fill one with: es-latechunk ingest --alias"
        )
    # The session owns the index, so that nobody writes to it between the check and the swap.
    with open_session(client, resolve(client, name)) as session:
        chunks = _check_whole(client, alias, session, allow_failed)
        before = current_indices(client, alias)
        actions: list[dict[str, Any]] = [{"remove": {"index": old, "alias": alias}} for old in before]
        actions.append({"add": {"index": name, "alias": alias, "is_write_index": True}})
        with server_errors(client, name):
            client.indices.update_aliases(actions=actions)
    return Promotion(alias, name, chunks, tuple(before))


def _check_whole(client: Elasticsearch, alias: str, session: LoadSession, allow_failed: bool) -> int:
    name = session.index.name
    entry = _staging_entries(client, alias)[name]
    counted, failed = entry["chunks"], entry["failed"]
    if counted is None:
        raise PreconditionError(f"index {name}: its ingest has not ended; run it again before it is promoted")
    if failed and not allow_failed:
        raise PreconditionError(
            f"index {name}: {failed} documents failed in its ingest; repair them and run it again, "
            f"or promote it with {setting('allow_failed')}"
        )
    with server_errors(client, name):
        client.indices.refresh(index=session.target)
        chunks = count(client, session.target, CHUNKS)
    if chunks != counted:
        raise PreconditionError(
            f"index {name}: holds {chunks} chunks, its ingest counted {counted}; run the ingest of the whole "
            "source again"
        )
    return chunks


def _staging_entries(client: Elasticsearch, alias: str) -> dict[str, dict[str, Any]]:
    """Return the indices named ALIAS-... with their entry; it is {} for an index that was not made for this alias."""
    with server_errors(client):
        answer = client.indices.get_mapping(index=f"{alias}-*", allow_no_indices=True)
    entries = {name: row["mappings"].get("_meta", {}).get(ALIAS_KEY, {}) for name, row in answer.items()}
    return {name: entry if entry.get("alias") == alias else {} for name, entry in entries.items()}
