"""What the API answers, read strictly: vectors and scores by index, and refusals as one line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import numpy as np

from es_latechunk.errors import JinaApiError
from es_latechunk.types import FloatArray

_LENGTH = re.compile(r"exceed|too (long|large|many)|maximum|context length|truncat", re.IGNORECASE)
_DETAIL_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer other than 200: its status, and the server's own code and words where it gives them."""

    status: int
    code: str
    detail: str

    @property
    def about_credit(self) -> bool:
        return self.status == 402 or (
            self.status == 403 and "BALANCE" in f"{self.code} {self.detail}".upper()
        )

    @property
    def about_length(self) -> bool:
        return self.status == 413 or (self.status in (400, 422) and bool(_LENGTH.search(self.detail)))

    def __str__(self) -> str:
        return f"HTTP {self.status}" + (f": {self.detail}" if self.detail else "")


def read_refusal(response: httpx.Response, secret: str) -> Refusal:
    """The refusal in `response`, on one line, without `secret` should the server have repeated it."""
    try:
        body = response.json()
    except ValueError:
        body = response.text
    detail = " ".join(_words(body).replace(secret, "***").split())
    code = body.get("code") if isinstance(body, Mapping) else None
    return Refusal(response.status_code, str(code or ""), detail[:_DETAIL_CHARACTERS])


def read_retry_after(headers: httpx.Headers) -> float | None:
    """Seconds to wait by the Retry-After header, given there as seconds or as an HTTP date."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())


def read_json(response: httpx.Response) -> Mapping[str, Any]:
    """The JSON object of a 200 answer."""
    try:
        body = response.json()
    except ValueError as error:
        raise JinaApiError(f"the answer is not JSON ({error}); is the address Jina's API?") from error
    if not isinstance(body, Mapping):
        raise JinaApiError("the answer is not a JSON object; is the address Jina's API?")
    return body


def read_vectors(body: Mapping[str, Any], count: int) -> FloatArray:
    """The answer's vectors (count, dim) float32 in the order of `index`, L2-normalised."""
    rows = _by_index(body, "data", count)
    try:
        vectors: FloatArray = np.asarray([row["embedding"] for row in rows], dtype=np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise JinaApiError("the answer has vectors that are not lists of numbers of one length") from error
    if vectors.ndim != 2:
        raise JinaApiError("the answer has vectors that are not lists of numbers")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise JinaApiError("the answer has a vector that is zero or not finite")
    vectors /= norms
    return vectors


def read_tokens(body: Mapping[str, Any]) -> int | None:
    """The tokens that the server counted, if it says."""
    usage = body.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, Mapping) else None
    return tokens if isinstance(tokens, int) else None


def read_scores(body: Mapping[str, Any], count: int) -> list[tuple[int, float]]:
    """(index, relevance score) of `count` documents, best first."""
    rows = _by_index(body, "results", count)
    try:
        scores = [(int(row["index"]), float(row["relevance_score"])) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise JinaApiError("the answer has a result without a relevance_score") from error
    if not all(math.isfinite(score) for _, score in scores):
        raise JinaApiError("the answer has a relevance_score that is not finite")
    return sorted(scores, key=lambda pair: -pair[1])


def _by_index(body: Mapping[str, Any], name: str, count: int) -> Sequence[Mapping[str, Any]]:
    """The entries of `body[name]`, in the order of the `count` texts that were sent."""
    rows = body.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise JinaApiError(f"the answer has no list {name!r}")
    indices = [row.get("index") for row in rows]
    known = all(type(index) is int and 0 <= index < count for index in indices)
    if not known or len(set(indices)) != len(rows) or len(rows) != count:
        raise JinaApiError(f"the answer's {name!r} has {len(rows)} entries that do not match {count} texts")
    return sorted(rows, key=lambda row: int(row["index"]))


def _words(body: object) -> str:
    """The human part of an error body: `detail`, `message` or `error`, FastAPI's list of them included."""
    if isinstance(body, Mapping):
        if "msg" in body:
            location = ".".join(str(part) for part in body.get("loc", ()))
            return f"{location}: {body['msg']}" if location else str(body["msg"])
        for key in ("detail", "message", "error"):
            if body.get(key):
                return _words(body[key])
        return ""
    if isinstance(body, list):
        return "; ".join(map(_words, body))
    return str(body)
