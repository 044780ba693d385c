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
from es_latechunk.elastic.interrupt import finish
from es_latechunk.elastic.retry import DEFAULT_RETRY_FOR, PASSING, PassingError, persist
from es_latechunk.errors import WriteError

BATCH_ACTIONS = 500
BATCH_BYTES = 5_000_000
TOO_LARGE = 413
UNAVAILABLE = 503
NOT_FOUND = 404
# What an item is refused with when the index as a whole is: no other item would be taken either.
WHOLE_INDEX = (
    "cluster_block_exception",
    "index_closed_exception",
    "index_not_found_exception",
    "routing_missing_exception",
    "security_exception",
)

OnResult = Callable[[Action, int, str], None]


class IndexRefusedError(WriteError):
    """The index takes nothing at all: it is blocked, closed, gone, or its mapping asks for what no chunk has."""


class BulkWriter:
    """Collects actions into requests bounded in number and bytes, and tells each action's outcome.

    `on_result(action, status, cause)`: an empty cause says that the index is as the action wants it; any
    other is why it is not, for good. It is called in the thread that sends. A deleted chunk has the status 404
    only where it certainly was not there. `retry_for` is how long (seconds) a request may be tried again before
    a WriteError. With `require_alias`, `index` must be an alias, so that no index is ever made by a request.
    `check` is called before each request, and may raise. An index that takes nothing at all ends the writing
    with an IndexRefusedError.
    """

    def __init__(
        self,
        client: Elasticsearch,
        index: str,
        *,
        on_result: OnResult,
        retry_for: float = DEFAULT_RETRY_FOR,
        require_alias: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._index = index
        self._on_result = on_result
        self._retry_for = retry_for
        self._require_alias = require_alias
        self._check = check
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
        again = False

        def attempt() -> None:
            nonlocal waiting, again
            repeated, again = again, True
            # Until the answer is read and counted, so that the report is true.
            waiting, cause = finish(lambda: self._send(waiting, repeated=repeated))
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

    def _send(self, actions: list[Action], *, repeated: bool) -> tuple[list[Action], str]:
        """Send once. What is not settled comes back, with the cause; an exception means that nothing is."""
        self._check()
        lines = [line for action in actions for line in action.lines]
        answer = self._client.bulk(
            index=self._index,
            operations=lines,  # type: ignore[arg-type]
            require_alias=self._require_alias or None,
        )
        items = answer.body.get("items") if isinstance(answer.body, dict) else None
        if not isinstance(items, list):
            return actions, "an answer without items"
        if len(items) != len(actions):
            return actions, f"an answer for {len(items)} of {len(actions)} actions"
        results = [next(iter(item.values())) for item in items]
        for action, result in zip(actions, results, strict=True):
            if result["_id"] != action.id:
                return actions, f"an answer for {result['_id']} in the place of {action.id}"
        return self._read(actions, results, repeated=repeated)

    def _read(
        self, actions: list[Action], results: list[dict[str, Any]], *, repeated: bool
    ) -> tuple[list[Action], str]:
        waiting: list[Action] = []
        cause = refusal = ""
        for action, result in zip(actions, results, strict=True):
            status = result["status"]
            if _refuses_all(result):
                refusal = refusal or cause_text(result["error"])
            elif status in PASSING:
                waiting.append(action)
                cause = f"{status}: {cause_text(result['error'])}"
            elif repeated and action.deletes and status == NOT_FOUND:
                # An earlier attempt, whose answer was lost, has deleted it.
                self._on_result(action, 200, "")
            else:
                self._on_result(action, status, _failure(action, result))
        if refusal:
            raise IndexRefusedError(
                f"index {self._index}: takes no chunk at all ({refusal}); mend that, and run the same command again"
            )
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


def _refuses_all(result: dict[str, Any]) -> bool:
    """Whether an item is refused for what concerns the whole index, and will not pass by itself."""
    kind = result.get("error", {}).get("type") if isinstance(result.get("error"), dict) else None
    return kind in WHOLE_INDEX and result["status"] != UNAVAILABLE


def _failure(action: Action, result: dict[str, Any]) -> str:
    gone = action.deletes and result["status"] == 404
    if result["status"] < 300 or gone:
        return ""
    return f"Elasticsearch refuses chunk {action.id} ({cause_text(result['error'])})"
