"""The bulk writer: it takes actions and gives one result for each, whatever happens in between.

The client's own bulk helpers retry single items, but raise when a connection is lost, without saying which actions are
still open. Here one loop handles both: every attempt sends the actions that are not settled yet, and an action is
settled only by an item of a complete answer that carries its id.
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
from es_latechunk.stages import StageClock
from es_latechunk.types import DEFAULT_RETRY_FOR

BATCH_ACTIONS = 500
BATCH_BYTES = 5_000_000
TOO_LARGE = 413
NOT_FOUND = 404
# Item errors that concern the whole index: no other item would be accepted either.
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
    """The result of an action. With an empty cause it succeeded; any other cause is final.

    A deletion has the status 404 only if the chunk certainly did not exist.
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
    clock: StageClock | None = None,
    repeated: bool = False,
) -> Iterator[R | T]:
    """Send actions in requests of bounded length and size, and yield `settle(result)` for each result, unless None.

    Items that are not actions pass through. `settle` is called for all items of an answer before any of its values is
    yielded, and an interrupt cannot come in between: what it counts is exactly what was written.

    `retry_for` is the time (seconds) for which a request is retried before a WriteError. With `require_alias`, `index`
    must be an alias, so that no request can create an index. `check` is called before each request, and may raise. An
    index that accepts nothing at all ends the writing with an IndexRefusedError. If a request is interrupted, the
    values of its answer are yielded first, and then the interrupt is raised. `clock` measures the requests. `repeated`
    says that the actions may have been sent before, by a process whose answers were lost.
    """
    sender = _Sender(
        client, index, retry_for, require_alias, check, settle, clock or StageClock(), repeated=repeated
    )
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
    """Sends batches of actions to one index, with one set of options."""

    client: Elasticsearch
    index: str
    retry_for: float
    require_alias: bool
    check: Callable[[], None]
    on_result: Callable[[ActionResult], R | None]
    clock: StageClock
    repeated: bool

    def settle(self, batch: list[Action]) -> Iterator[R]:
        """Send the batch, as often as needed, until every action of it is settled."""
        waiting = batch
        results: list[R] = []
        again = self.repeated

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
        """Send once, and return the actions that are not settled, with the cause; an exception means that none is."""
        with self.clock.measure("write"):
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
                return actions, f"an answer for {outcome['_id']} instead of {action.id}"
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
                f"index {self.index}: accepts no chunk at all ({refusal}); repair that, and run the same command again"
            )
        return waiting, cause

    def _settle_one(self, result: ActionResult, results: list[R]) -> None:
        value = self.on_result(result)
        if value is not None:
            results.append(value)

    def _halve(self, actions: list[Action]) -> Iterator[R]:
        """Settle each half of a batch that is too large for the server, down to one action."""
        if len(actions) == 1:
            cause = f"the server accepts no request of {actions[0].size} bytes (413)"
            results: list[R] = []
            self._settle_one(ActionResult(actions[0], TOO_LARGE, cause), results)
            yield from results
            return
        middle = len(actions) // 2
        yield from self.settle(actions[:middle])
        yield from self.settle(actions[middle:])


def _refuses_all(outcome: dict[str, Any]) -> bool:
    """Return whether an item was refused for a reason that concerns the whole index and does not pass by itself."""
    error = outcome.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return kind in WHOLE_INDEX and outcome["status"] != UNAVAILABLE


def _failure(action: Action, outcome: dict[str, Any]) -> str:
    gone = action.deletes and outcome["status"] == NOT_FOUND
    if outcome["status"] < 300 or gone:
        return ""
    return f"Elasticsearch refuses chunk {action.id} ({cause_text(outcome['error'])})"
