"""The bulk writer: actions in, one result each, whatever happens in between.

The client's own bulk helpers retry single items but let a lost connection escape, with no word of which
actions are still open. Here both are one loop: every attempt sends what is not yet settled, and an
action is settled only by an item of a complete answer that carries its id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from elasticsearch import ApiError, Elasticsearch

from es_latechunk.elastic.actions import Action
from es_latechunk.elastic.connection import cause_text, server_address, server_errors
from es_latechunk.elastic.interrupt import uninterrupted
from es_latechunk.elastic.retry import DEFAULT_RETRY_FOR, PASSING, PassingError, persist

BATCH_ACTIONS = 500
BATCH_BYTES = 5_000_000
TOO_LARGE = 413

OnResult = Callable[[Action, int, str], None]


class BulkWriter:
    """Collects actions into requests bounded in number and bytes, and tells each action's outcome.

    `on_result(action, status, cause)`: an empty cause says that the index is as the action wants it; any
    other is why it is not, for good. `retry_for` is how long (seconds) a request may be tried again before
    a WriteError.
    """

    def __init__(
        self, client: Elasticsearch, index: str, *, on_result: OnResult, retry_for: float = DEFAULT_RETRY_FOR
    ) -> None:
        self._client = client
        self._index = index
        self._on_result = on_result
        self._retry_for = retry_for
        self._batch: list[Action] = []
        self._bytes = 0

    def add(self, action: Action) -> None:
        """Take an action; sends a request when one is full."""
        if self._batch and self._bytes + action.size > BATCH_BYTES:
            self.flush()
        self._batch.append(action)
        self._bytes += action.size
        if len(self._batch) >= BATCH_ACTIONS:
            self.flush()

    def flush(self) -> None:
        """Send what is held, and return when every action of it is settled."""
        batch, self._batch, self._bytes = self._batch, [], 0
        if batch:
            self._settle(batch)

    def _settle(self, batch: list[Action]) -> None:
        waiting = batch

        def attempt() -> None:
            nonlocal waiting
            waiting, cause = self._send(waiting)
            if waiting:
                raise PassingError(cause)

        what = f"{server_address(self._client)}: did not take a request of {len(batch)} actions"
        with server_errors(self._client, self._index):
            try:
                persist(attempt, retry_for=self._retry_for, what=what)
            except ApiError as error:
                if error.meta.status != TOO_LARGE:
                    raise
                self._halve(waiting)

    def _send(self, actions: list[Action]) -> tuple[list[Action], str]:
        """Send once. What is not settled comes back, with the cause; an exception means that nothing is."""
        lines = [line for action in actions for line in action.lines]
        with uninterrupted():  # until the answer is read and counted, so that the report is true
            answer = self._client.bulk(index=self._index, operations=lines)  # type: ignore[arg-type]
            items = answer.body.get("items") if isinstance(answer.body, dict) else None
            if not isinstance(items, list):
                return actions, "an answer without items"
            return self._read(actions, items)

    def _read(self, actions: list[Action], items: list[Any]) -> tuple[list[Action], str]:
        if len(items) != len(actions):
            return actions, f"an answer for {len(items)} of {len(actions)} actions"
        waiting: list[Action] = []
        cause = ""
        for action, item in zip(actions, items, strict=True):
            result = next(iter(item.values()))
            if result["_id"] != action.id:
                return actions, f"an answer for {result['_id']} in the place of {action.id}"
            if result["status"] in PASSING:
                waiting.append(action)
                cause = f"{result['status']}: {cause_text(result['error'])}"
        for action, item in zip(actions, items, strict=True):
            result = next(iter(item.values()))
            if result["status"] not in PASSING:
                self._on_result(action, result["status"], _failure(action, result))
        return waiting, cause

    def _halve(self, actions: list[Action]) -> None:
        """The server takes no request of this size: settle each half, down to one action."""
        if len(actions) == 1:
            cause = f"the server takes no request of {actions[0].size} bytes (413)"
            self._on_result(actions[0], TOO_LARGE, cause)
            return
        middle = len(actions) // 2
        self._settle(actions[:middle])
        self._settle(actions[middle:])


def _failure(action: Action, result: dict[str, Any]) -> str:
    gone = action.deletes and result["status"] == 404
    if result["status"] < 300 or gone:
        return ""
    return f"Elasticsearch refuses chunk {action.id} ({cause_text(result['error'])})"
