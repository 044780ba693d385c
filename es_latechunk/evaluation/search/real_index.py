"""The same questions asked of a real index, through the search that users have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from es_latechunk.elastic.index.identity import IndexIdentity
from es_latechunk.elastic.search.query import Mode
from es_latechunk.errors import PreconditionError, UsageError, setting
from es_latechunk.evaluation.questions.read import Question
from es_latechunk.evaluation.questions.relevance import Relevance
from es_latechunk.evaluation.search.ranking import Found
from es_latechunk.evaluation.vectors.chunkings import Chunking, OnProgress, cut_documents
from es_latechunk.models import EncoderLoader, choose_encoder
from es_latechunk.search import search_many
from es_latechunk.types import Document, Encoder, Hit

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


@dataclass(frozen=True, slots=True)
class RealIndex:
    """An index, and the encoder of its queries. It has to hold the documents that are evaluated, and no others."""

    client: Elasticsearch
    name: str
    identity: IndexIdentity
    encoder: Encoder

    @classmethod
    def open(
        cls, client: Elasticsearch, name: str, encoder: Encoder | EncoderLoader | None = None
    ) -> RealIndex:
        """Read what the index records, and load its model unless an encoder is given."""
        from es_latechunk.elastic.index.admin import read_identity

        identity = read_identity(client, name)
        return cls(client, name, identity, choose_encoder(encoder, identity.encoder))

    def cut(self, documents: Sequence[Document], on_progress: OnProgress) -> Chunking:
        """Cut the documents as the index has them."""
        [chunking], errors = cut_documents(
            documents,
            encoders=[self.encoder],
            chunkers=[self.identity.chunker],
            max_tokens=[self.identity.max_tokens],
            on_progress=on_progress,
        )
        if errors:
            raise errors[0]
        return chunking

    def search(
        self,
        chunking: Chunking,
        questions: Sequence[Question],
        mode: Mode,
        *,
        k: int,
        bm25_weight: float,
        scope: str,
    ) -> Found:
        """Return what a search finds, by the numbers of chunks, or of documents if the scope is "documents".

        The scope "own document" searches for each question in its own document alone. Raises PreconditionError if the
        index has other chunks than the documents give.
        """
        starts = chunking.starts()
        numbers = {chunked.document.id: number for number, chunked in enumerate(chunking.documents)}
        found = Found.empty(len(questions), k)
        groups: dict[str, list[int]] = {}
        for row, question in enumerate(questions):
            groups.setdefault(question.doc_id if scope == "own document" else "", []).append(row)
        for doc_id, rows in groups.items():
            results = search_many(
                [questions[row].text for row in rows],
                index=self.name,
                client=self.client,
                encoder=self.encoder,
                k=k,
                mode=mode,
                bm25_weight=bm25_weight,
                collapse=scope == "documents",
                filters=[{"term": {"doc_id": doc_id}}] if doc_id else (),
            )
            for row, result in zip(rows, results, strict=True):
                for place, hit in enumerate(result.hits):
                    number = self._number(hit, chunking, numbers)
                    whole = scope == "documents"
                    found.items[row, place] = number if whole else starts[number] + hit.ordinal
                    found.scores[row, place] = hit.score
        return found

    def _number(self, hit: Hit, chunking: Chunking, numbers: Mapping[str, int]) -> int:
        number = numbers.get(hit.doc_id)
        spans = () if number is None else chunking.documents[number].spans
        if number is None or hit.ordinal >= len(spans):
            known = False
        else:
            known = (spans[hit.ordinal].start, spans[hit.ordinal].end) == (hit.start, hit.end)
        if not known or number is None:
            raise PreconditionError(
                f"index {self.name}: its chunk {hit.id} is not one of the {len(numbers)} documents as they are now, so "
                f"the two cannot be compared; ingest the same documents with {setting('prune')}, or give those that "
                "the index has"
            )
        return number

    def bytes(self) -> int:
        """Return the size of the index on disk, without replicas."""
        stats = self.client.indices.stats(index=self.name, metric="store")
        return int(stats["_all"]["primaries"]["store"]["size_in_bytes"])


def scopes_of(relevance: Relevance) -> tuple[str, ...]:
    """Return the scopes that are measured: all chunks and those of the own document, or all documents."""
    return ("chunks", "own document") if relevance == "span" else ("documents",)


def check_no_pseudo_queries(index: RealIndex | None, questions: Sequence[Question]) -> None:
    """Raise UsageError for pseudo-queries: the index has the texts from which they were taken, with their words."""
    if index is not None and any(question.pseudo for question in questions):
        raise UsageError(
            f"{setting('index')} {index.name}: has the sentences that {setting('make_questions')} takes out of the "
            "documents; choose one of the two"
        )
