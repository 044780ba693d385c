"""The bulk writer: actions in, one result each out, whatever happens in between.

The client's own bulk helpers retry single items but let a lost connection escape, with no word of which
actions are still open. Here both are one loop: every attempt sends what is not yet settled, and an
action is settled only by an item of a complete answer that carries its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from elasticsearch import ApiError, Elasticsearch

from es_latechunk.elastic.connection import UNAVAILABLE, cause_text, server_address, server_errors
from es_latechunk.elastic.retry import TRANSIENT_STATUSES, TransientError, defer_interrupt, retry_transient
from es_latechunk.elastic.write.actions import Action
from es_latechunk.errors import IndexRefusedError
from es_latechunk.types import DEFAULT_RETRY_FOR

BATCH_ACTIONS = 500
BATCH_BYTES = 5_000_000
TOO_LARGE = 413
NOT_FOUND = 404
# What an item is refused with when the index as a whole is: no other item would be taken either.
WHOLE_INDEX = (
    "cluster_block_exception",
    "index_closed_exception",
    "index_not_found_exception",
    "routing_missing_exception",
    "security_exception",
)

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What became of an action. An empty cause: the index is as the action wants it; any other is for good.

    A deleted chunk has the status 404 only where it certainly was not there.
    """

    action: Action
    status: int
    cause: str = ""


def write(
    actions: Iterable[Action | T],
    settle: Callable[[ActionResult], R | None],
    *,
    client: Elasticsearch,
    index: str,
    retry_for: float = DEFAULT_RETRY_FOR,
    require_alias: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Iterator[R | T]:
    """Send actions in requests bounded in number and bytes, and give what `settle` makes of the result of each.

    What is no action passes through; None of `settle` is nothing to give. `settle` is called for a whole answer
    before any of it is given, out of the reach of an interrupt, so that what it counts is what was written.

    `retry_for` is how long (seconds) a request may be tried again before a WriteError. With `require_alias`, `index`
    must be an alias, so that no index is ever made by a request. `check` is called before each request, and may
    raise. An index that takes nothing at all ends the writing with an IndexRefusedError. Where a request is
    interrupted, what its answer settled is given first, and then the interrupt is raised.
    """
    sender = _Sender(client, index, retry_for, require_alias, check, settle)
    batch: list[Action] = []
    size = 0
    for action in actions:
        if not isinstance(action, Action):
            yield action
            continue
        if batch and (len(batch) >= BATCH_ACTIONS or size + action.size > BATCH_BYTES):
            yield from sender.settle(batch)
            batch, size = [], 0
        batch.append(action)
        size += action.size
    if batch:
        yield from sender.settle(batch)


@dataclass(slots=True)
class _Sender(Generic[R]):
    """Where requests go, and how."""

    client: Elasticsearch
    index: str
    retry_for: float
    require_alias: bool
    check: Callable[[], None]
    settled: Callable[[ActionResult], R | None]

    def settle(self, batch: list[Action]) -> Iterator[R]:
        """Send until every action of the batch is settled."""
        waiting = batch
        results: list[R] = []
        again = False

        def attempt() -> None:
            nonlocal waiting, again
            repeated, again = again, True
            waiting, cause = defer_interrupt(lambda: self._send(waiting, results, repeated=repeated))
            if waiting:
                raise TransientError(cause)

        what = f"{server_address(self.client)}: did not take a request of {len(batch)} actions"
        too_large = False
        with server_errors(self.client, self.index):
            try:
                retry_transient(attempt, retry_for=self.retry_for, what=what)
            except ApiError as error:
                too_large = error.meta.status == TOO_LARGE
                if not too_large:
                    raise
            finally:
                yield from results
        if too_large:
            yield from self._halve(waiting)

    def _send(self, actions: list[Action], results: list[R], *, repeated: bool) -> tuple[list[Action], str]:
        """Send once. What is not settled comes back, with the cause; an exception means that nothing is."""
        self.check()
        lines = [line for action in actions for line in action.lines]
        answer = self.client.bulk(
            index=self.index,
            operations=lines,  # type: ignore[arg-type]
            require_alias=self.require_alias or None,
        )
        items = answer.body.get("items") if isinstance(answer.body, dict) else None
        if not isinstance(items, list):
            return actions, "an answer without items"
        if len(items) != len(actions):
            return actions, f"an answer for {len(items)} of {len(actions)} actions"
        outcomes = [next(iter(item.values())) for item in items]
        for action, outcome in zip(actions, outcomes, strict=True):
            if outcome["_id"] != action.id:
                return actions, f"an answer for {outcome['_id']} in the place of {action.id}"
        return self._read(actions, outcomes, results, repeated=repeated)

    def _read(
        self,
        actions: list[Action],
        outcomes: list[dict[str, Any]],
        results: list[R],
        *,
        repeated: bool,
    ) -> tuple[list[Action], str]:
        waiting: list[Action] = []
        cause = refusal = ""
        for action, outcome in zip(actions, outcomes, strict=True):
            status = outcome["status"]
            if _refuses_all(outcome):
                refusal = refusal or cause_text(outcome["error"])
            elif status in TRANSIENT_STATUSES:
                waiting.append(action)
                cause = f"{status}: {cause_text(outcome['error'])}"
            elif repeated and action.deletes and status == NOT_FOUND:
                # An earlier attempt, whose answer was lost, has deleted it.
                self._settle_one(ActionResult(action, 200), results)
            else:
                self._settle_one(ActionResult(action, status, _failure(action, outcome)), results)
        if refusal:
            raise IndexRefusedError(
                f"index {self.index}: takes no chunk at all ({refusal}); mend that, and run the same command again"
            )
        return waiting, cause

    def _settle_one(self, result: ActionResult, results: list[R]) -> None:
        made = self.settled(result)
        if made is not None:
            results.append(made)

    def _halve(self, actions: list[Action]) -> Iterator[R]:
        """The server takes no request of this size: settle each half, down to one action."""
        if len(actions) == 1:
            cause = f"the server takes no request of {actions[0].size} bytes (413)"
            results: list[R] = []
            self._settle_one(ActionResult(actions[0], TOO_LARGE, cause), results)
            yield from results
            return
        middle = len(actions) // 2
        yield from self.settle(actions[:middle])
        yield from self.settle(actions[middle:])


def _refuses_all(outcome: dict[str, Any]) -> bool:
    """Whether an item is refused for what concerns the whole index, and will not pass by itself."""
    error = outcome.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return kind in WHOLE_INDEX and outcome["status"] != UNAVAILABLE


def _failure(action: Action, outcome: dict[str, Any]) -> str:
    gone = action.deletes and outcome["status"] == NOT_FOUND
    if outcome["status"] < 300 or gone:
        return ""
    return f"Elasticsearch refuses chunk {action.id} ({cause_text(outcome['error'])})"
