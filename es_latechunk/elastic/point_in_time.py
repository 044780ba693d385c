"""Reads an index page by page as it is at one moment (a point in time), so that memory does not grow with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from elasticsearch import Elasticsearch

from es_latechunk.elastic.connection import server_errors
from es_latechunk.elastic.retry import retry_transient
from es_latechunk.errors import PreconditionError

KEEP_ALIVE = "10m"
log = logging.getLogger(__name__)


class PointInTime:
    """The contents of an index, or of several separated by commas, as they are when this is entered.

    Transient faults are retried for `retry_for` seconds.
    """

    def __init__(self, client: Elasticsearch, index: str, *, retry_for: float) -> None:
        self._client = client
        self._index = index
        self._retry_for = retry_for
        self._id = ""

    def __enter__(self) -> PointInTime:
        def open_it() -> str:
            with server_errors(self._client, self._index):
                return str(self._client.open_point_in_time(index=self._index, keep_alive=KEEP_ALIVE)["id"])

        self._id = retry_transient(open_it, retry_for=self._retry_for)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the point in time; if that fails, only log it.

        It expires by itself, and an error here must not hide the error that ended the reading.
        """
        try:
            with server_errors(self._client):
                self._client.close_point_in_time(id=self._id)
        except PreconditionError as failed:
            log.info("the point in time of the index stays open for %s (%s)", KEEP_ALIVE, failed)

    def search(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer to one search."""

        def ask() -> Any:
            return self._client.search(
                **body, pit={"id": self._id, "keep_alive": KEEP_ALIVE}, allow_partial_search_results=False
            )

        with server_errors(self._client):
            answer = retry_transient(
                ask, retry_for=self._retry_for, what=f"index {self._index}: it could not be read"
            )
        self._id = answer["pit_id"]
        return dict(answer)

    def pages(self, body: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
        """Yield all hits of a search, `body["size"]` of them at a time, in the order of its `sort`."""
        after: list[Any] | None = None
        while True:
            answer = self.search({"track_total_hits": False, **body, "search_after": after})
            rows: list[dict[str, Any]] = answer["hits"]["hits"]
            if not rows:
                return
            yield rows
            after = rows[-1]["sort"]
