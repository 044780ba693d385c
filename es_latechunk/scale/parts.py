"""The documents of a load, dealt in parts: how large a part is, and what becomes of one whose encoder is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from es_latechunk.ingest_stages import HashedDocument

LARGEST_PART = 131_072  # characters, unless an encoder reads more text at once
SMALLEST_PART = 16_384
# An encoder has one part while the next one waits with it, so that it need not wait for this process.
PARTS_PER_ENCODER = 2
MOST_DEATHS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Documents that one encoder loads together.

    `deaths` counts the encoders that ended with it. If it is `repeated`, one of them may have written some of it.
    """

    documents: Sequence[HashedDocument]
    deaths: int = 0
    repeated: bool = False

    @property
    def characters(self) -> int:
        return sum(map(_characters, self.documents))

    def after_death(self) -> list[Part]:
        """Return what to deal again after one more death: the part, its halves, or nothing.

        Nothing is left of a single document that an encoder has died of MOST_DEATHS times. Any other part of so many
        deaths is halved, and its halves are halved at their next death, until a document stands alone; it begins at 0,
        because the deaths may have been its neighbours'.
        """
        deaths = self.deaths + 1
        if deaths < MOST_DEATHS:
            return [Part(self.documents, deaths, repeated=True)]
        if len(self.documents) == 1:
            return []
        middle = len(self.documents) // 2
        halves = (self.documents[:middle], self.documents[middle:])
        return [Part(half, 0 if len(half) == 1 else MOST_DEATHS - 1, repeated=True) for half in halves]


class WaitingParts:
    """The documents that were read and no encoder has yet. They are few, whatever the length of the source."""

    def __init__(self, encoders: int) -> None:
        self._shares = encoders * PARTS_PER_ENCODER
        self._documents: deque[HashedDocument] = deque()
        self._characters = 0
        self._again: deque[Part] = deque()
        self.largest = LARGEST_PART
        self.ended = False  # nothing more will be added

    def add(self, document: HashedDocument) -> None:
        """Add a document of the source."""
        self._documents.append(document)
        self._characters += _characters(document)

    def put_back(self, parts: Sequence[Part]) -> None:
        """Add parts that were dealt before; they come first, so that there are never many of them."""
        self._again.extend(parts)

    @property
    def full(self) -> bool:
        """True if the source need not be read on now."""
        return self._characters >= self._shares * self.largest

    @property
    def empty(self) -> bool:
        """True if nothing waits."""
        return not self._documents and not self._again

    @property
    def ready(self) -> bool:
        """True if there is enough for a part."""
        return (
            bool(self._again) or self._characters >= SMALLEST_PART or (self.ended and bool(self._documents))
        )

    def next_part(self) -> Part:
        """Return the next part; call it if `ready`.

        It is a share of all that waits: large in the middle of a long source, and smaller and smaller towards its end,
        so that the encoders end at about the same time. A very long document is a part of its own: none waits for it.
        """
        if self._again:
            return self._again.popleft()
        size = max(SMALLEST_PART, min(self.largest, self._characters // self._shares))
        documents: list[HashedDocument] = []
        taken = 0
        while self._documents and (not documents or taken < size):
            if documents and _characters(self._documents[0]) > self.largest:
                break
            documents.append(self._documents.popleft())
            taken += _characters(documents[-1])
        self._characters -= taken
        return Part(documents)


def _characters(hashed: HashedDocument) -> int:
    document, _ = hashed
    return len(document.text) + 1  # an empty one counts too, so that a part of empty documents ends
