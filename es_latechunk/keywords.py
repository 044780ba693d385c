"""Shows the keywords that a function passes on: in its signature and docstring, as if they stood there.

This file stands alone because the ingest, the search and the index use it, and it uses none of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def keywords_of(source: Callable[..., Any], *, given: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Decorate a function that passes `**keywords` on to `source`, so that help() shows them with their defaults.

    The signature gets the keywords of `source`, except those that the function has itself or fills in (`given`). The
    docstring gets what that of `source` says after its first paragraph. A TypedDict tells type checkers the same.
    """

    def decorate(function: F) -> F:
        shown = inspect.signature(function)
        own = [part for part in shown.parameters.values() if part.kind is not part.VAR_KEYWORD]
        passed_on = [
            part
            for name, part in inspect.signature(source).parameters.items()
            if part.kind is part.KEYWORD_ONLY and name not in shown.parameters and name not in given
        ]
        _, _, explanation = inspect.cleandoc(source.__doc__ or "").partition("\n\n")
        function.__signature__ = shown.replace(parameters=[*own, *passed_on])  # type: ignore[attr-defined]
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{explanation}"
        return function

    return decorate
