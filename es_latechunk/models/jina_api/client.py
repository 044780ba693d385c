"""A client for Jina's `POST /v1/embeddings` and `POST /v1/rerank` (https://api.jina.ai)."""

from __future__ import annotations

import copy
import logging
import os
import random
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_before_delay,
    stop_when_event_set,
    wait_random_exponential,
)

from es_latechunk.errors import JinaApiError, LateChunkError, ModelError, PreconditionError, UsageError
from es_latechunk.models.jina_api.answers import (
    Refusal,
    read_json,
    read_refusal,
    read_retry_after,
    read_scores,
    read_tokens,
    read_vectors,
)
from es_latechunk.types import FloatArray

BASE_URL = "https://api.jina.ai/v1"
KEY_VARIABLE = "JINA_API_KEY"
URL_VARIABLE = "JINA_API_BASE_URL"
LONGEST_BACKOFF = 30.0

_PASSING = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Unit vectors (N, dim) float32 of one request, and the tokens that the server counted in it."""

    vectors: FloatArray
    tokens: int | None


class JinaApiClient:
    """Sends requests, at most `concurrency` at once from any number of threads, and tries again.

    `timeout` is seconds for one answer, `retry_for` seconds for a request with all its repeats; `backoff`
    seconds is the first pause's upper end, doubled from pause to pause. 429, 5xx and broken connections
    are tried again, after the server's Retry-After if it gives one; all else is an error at once:
    UsageError for the key, PreconditionError for the account's credit and for a service that stays away,
    ModelError for an unknown model, JinaApiError for one request that the service refuses or botches.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str = BASE_URL,
        concurrency: int = 4,
        timeout: float = 120.0,
        retry_for: float = 300.0,
        backoff: float = 1.0,
    ) -> None:
        api_key = _Secret(api_key)
        self.base_url = base_url.rstrip("/")
        self.concurrency = concurrency
        _check_key(api_key)
        _check_url(base_url)
        if concurrency < 1:
            raise UsageError(f"concurrency: {concurrency} requests at once are too few; use 1 or more")
        self._key = api_key
        self._retry_for = retry_for
        self._backoff = wait_random_exponential(multiplier=backoff, max=LONGEST_BACKOFF)
        self._closed = threading.Event()
        self._telling = threading.Lock()
        self._streams: set[threading.Event] = set()
        # At the end of the program too: a thread that nobody waits for any more should not go on asking.
        weakref.finalize(self, _set_all, self._closed, self._streams)
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}", "Accept": "application/json"},
            timeout=httpx.Timeout(timeout, pool=None),  # a thread may wait for its turn as long as it takes
            limits=httpx.Limits(max_connections=concurrency),
        )

    @classmethod
    def from_environment(cls, **connection: Any) -> JinaApiClient:
        """With JINA_API_KEY and JINA_API_BASE_URL; `connection` is what else the client takes."""
        url = os.environ.get(URL_VARIABLE) or BASE_URL
        return cls(os.environ.get(KEY_VARIABLE, "").strip(), base_url=url, **connection)

    def __repr__(self) -> str:
        return f"JinaApiClient(api_key='***', base_url={self.base_url!r}, concurrency={self.concurrency})"

    def __enter__(self) -> JinaApiClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back; requests that wait for another try give up."""
        with self._telling:
            _set_all(self._closed, self._streams)
        self._http.close()

    @contextmanager
    def one_stream(self) -> Iterator[JinaApiClient]:
        """This client for the requests of one stream: at the block's end, those that wait for another try give up."""
        client = copy.copy(self)
        client._closed = threading.Event()
        self._streams.add(client._closed)
        try:
            yield client
        finally:
            with self._telling:  # what a thread tells now would follow the program's last word
                client._closed.set()
            self._streams.discard(client._closed)

    def embed(
        self,
        texts: Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        task: str = "",
        late_chunking: bool = False,
    ) -> Embeddings:
        """One vector per text, in order. With `late_chunking` the texts are the chunks of one document.

        `dimensions` asks a Matryoshka model for shorter vectors; None leaves it at the model's own size.
        """
        request: dict[str, Any] = {
            "model": model,
            "input": [_sendable(text) for text in texts],
            "embedding_type": "float",
        }
        if task:
            request["task"] = task
        if dimensions is not None:
            request["dimensions"] = dimensions
        if late_chunking:
            request["late_chunking"] = True
        body = self._post("embeddings", request)
        return Embeddings(read_vectors(body, len(texts)), read_tokens(body))

    def rerank(self, query: str, texts: Sequence[str], *, model: str) -> list[tuple[int, float]]:
        """(index into `texts`, relevance score) of all texts, best first."""
        if not texts:
            return []
        request: dict[str, Any] = {
            "model": model,
            "query": _sendable(query),
            "documents": [_sendable(text) for text in texts],
            "top_n": len(texts),
            "return_documents": False,
        }
        return read_scores(self._post("rerank", request), len(texts))

    def _post(self, path: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        retrying = Retrying(
            retry=retry_if_exception_type(_TransientError),
            wait=self._pause,
            stop=stop_before_delay(self._retry_for) | stop_when_event_set(self._closed),
            sleep=sleep_using_event(self._closed),
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return retrying(self._attempt, path, request)
        except _TransientError as error:
            raise self._gave_up(error) from None

    def _attempt(self, path: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        # The causes are in the messages, not chained: their frames hold the headers, and so the key.
        try:
            response = self._http.post(f"{self.base_url}/{path}", json=request)
        except _PASSING as error:
            raise _TransientError(f"{type(error).__name__}: {error}") from None
        except httpx.HTTPError as error:
            raise PreconditionError(
                f"{self.base_url}: cannot be asked ({type(error).__name__}: {error}); check the address"
            ) from None
        if response.status_code == 200:
            return read_json(response)
        refusal = read_refusal(response, self._key)
        if refusal.status in (408, 429) or refusal.status >= 500:
            raise _TransientError(str(refusal), refusal.status, read_retry_after(response.headers))
        raise self._refused(refusal)

    def _refused(self, refusal: Refusal) -> LateChunkError:
        if refusal.about_credit:
            return PreconditionError(f"{self.base_url}: no credit left ({refusal}); top up the account")
        if refusal.status in (401, 403):
            return UsageError(f"{self.base_url}: the key is not accepted ({refusal}); set {KEY_VARIABLE}")
        if refusal.status == 404 or refusal.code == "INPUT_MODEL_NOT_FOUND":
            return ModelError(f"{self.base_url}: no such model or address ({refusal}); check both")
        return JinaApiError(f"refused by {self.base_url} ({refusal})", too_long=refusal.about_length)

    def _gave_up(self, error: _TransientError) -> LateChunkError:
        tried = f"no answer within {self._retry_for:g} s of trying ({error})"
        if error.retry_after is not None:
            tried += f", and it asks to wait {error.retry_after:.0f} s more"
        if error.status == 500:  # the service stumbles over this very request; others may pass
            return JinaApiError(f"{self.base_url}: {tried}")
        return PreconditionError(f"{self.base_url}: {tried}; try later, or raise retry_for")

    def _pause(self, state: RetryCallState) -> float:
        backoff = self._backoff(state)
        wanted = _transient_error(state).retry_after
        if wanted is None:
            return backoff
        return wanted + random.uniform(0, min(1.0, backoff))  # noqa: S311 - spreads threads, keeps no secret

    def _tell(self, state: RetryCallState) -> None:
        with self._telling:
            if not self._closed.is_set():
                cause, pause = _transient_error(state), state.upcoming_sleep
                _log.warning("%s: %s; next try in %.1f s", self.base_url, cause, pause)


def _set_all(closed: threading.Event, streams: set[threading.Event]) -> None:
    for event in (closed, *streams):
        event.set()


class _Secret(str):
    """A string that a traceback with local variables does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class _TransientError(Exception):
    """A failure that may pass: worth another try."""

    def __init__(self, cause: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(cause)
        self.status = status
        self.retry_after = retry_after


def _transient_error(state: RetryCallState) -> _TransientError:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, _TransientError):
        raise TypeError(f"a retry without a passing error: {error!r}")
    return error


def _check_key(api_key: str) -> None:
    if not api_key:
        raise UsageError(f"{KEY_VARIABLE} is not set; a hosted Jina model needs an API key")
    if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise UsageError(f"{KEY_VARIABLE} holds a space or a character that no key has; set it again")


def _check_url(base_url: str) -> None:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise UsageError(f"base URL: {error}; give one like {BASE_URL}") from error
    if url.userinfo:
        raise UsageError(
            f"base URL of {url.host}: carries a user or password; give the key in {KEY_VARIABLE}"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(f"base URL {base_url!r}: needs http:// or https:// and a host, as in {BASE_URL}")


def _sendable(text: str) -> str:
    """`text` with U+FFFD for lone surrogates, which JSON in UTF-8 cannot carry."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
