"""The public names: complete, typed with public types, and refusing a wrong value with the right ones."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from fakes import PositionEncoder

import es_latechunk
from es_latechunk import (
    AsyncIndex,
    AsyncIngestRun,
    Document,
    DocumentError,
    DryRun,
    Encoder,
    EncoderIdentity,
    EncoderLoader,
    Index,
    IngestKeywords,
    IngestRun,
    LateChunkError,
    SearchKeywords,
    UsageError,
    create_index,
    embed_documents,
    errors,
    ingest,
    load_encoder,
    search,
    search_many,
)
from es_latechunk.errors import Message, setting
from es_latechunk.models import LoadKeywords, choose_encoder

# From the standard library, numpy and Elasticsearch's client.
KNOWN = {
    "Any", "AsyncIterable", "AsyncIterator", "Callable", "Elasticsearch", "ForwardRef", "Iterable",
    "Iterator", "Literal", "Mapping", "NDArray", "None", "Path", "Sequence", "T", "TypeVar", "Unpack",
}  # fmt: skip
# What an Index fills in for each of its methods.
OBJECTS = {"index", "alias", "client", "encoder"}
# Nobody listens here: what is refused is refused before anything is asked.
NOWHERE = Elasticsearch("http://127.0.0.1:9")


def annotations() -> Iterator[tuple[str, str]]:
    """Each annotation of a public function, method or field."""
    for name in es_latechunk.__all__:
        value = getattr(es_latechunk, name)
        if inspect.isfunction(value):
            yield from ((name, str(text)) for text in value.__annotations__.values())
        if not inspect.isclass(value) or issubclass(value, Exception):
            continue
        yield from ((name, str(text)) for text in vars(value).get("__annotations__", {}).values())
        for method_name, method in vars(value).items():
            function = method.fget if isinstance(method, property) else method
            if inspect.isfunction(function) and (method_name == "__init__" or method_name[0] != "_"):
                yield from (
                    (f"{name}.{method_name}", str(text)) for text in function.__annotations__.values()
                )


def test_every_type_in_a_public_signature_is_public() -> None:
    found = [
        (where, text, set(re.findall(r"\b[A-Z]\w*", re.sub(r'"[^"]*"', "", text))))
        for where, text in annotations()
    ]
    assert len(found) > 200
    strange = {(where, name) for where, _, names in found for name in names - {*es_latechunk.__all__, *KNOWN}}
    assert strange == set()


def test_everything_public_says_what_it_is() -> None:
    for name in es_latechunk.__all__:
        value = getattr(es_latechunk, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__doc__, name


def keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    shown = inspect.signature(function).parameters
    return {name: part for name, part in shown.items() if part.kind != part.POSITIONAL_OR_KEYWORD}


PUBLIC_CALLABLES = [
    getattr(es_latechunk, name)
    for name in es_latechunk.__all__
    if inspect.isfunction(getattr(es_latechunk, name))
] + [
    IngestRun,
    DryRun,
    Index,
    AsyncIndex,
    *(
        method
        for one in (Index, AsyncIndex)
        for name, method in vars(one).items()
        if name[0] != "_" and callable(method)
    ),
]


@pytest.mark.parametrize("function", PUBLIC_CALLABLES, ids=lambda function: function.__qualname__)
def test_help_shows_each_keyword_and_explains_it(function: Callable[..., Any]) -> None:
    explanation = inspect.getdoc(function) or ""
    assert {part.kind for part in keywords(function).values()} <= {inspect.Parameter.KEYWORD_ONLY}
    assert [name for name in keywords(function) if f"`{name}`" not in explanation] == []


@pytest.mark.parametrize(
    ("typed", "functions"),
    [
        (
            SearchKeywords,
            (search_many, search, Index.search, Index.search_many, AsyncIndex.search, AsyncIndex.search_many),
        ),
        (
            IngestKeywords,
            (
                IngestRun,
                ingest,
                Index.ingest,
                Index.start_ingest,
                AsyncIndex.ingest,
                AsyncIndex.start_ingest,
            ),
        ),
        (LoadKeywords, (load_encoder,)),
    ],
)
def test_type_checkers_see_the_keywords_that_help_shows(
    typed: type, functions: tuple[Callable[..., Any], ...]
) -> None:
    expected = {name: annotation.__forward_arg__ for name, annotation in typed.__annotations__.items()}
    shown = [
        {name: part for name, part in keywords(function).items() if name not in OBJECTS}
        for function in functions
    ]
    assert all({name: part.annotation for name, part in one.items()} == expected for one in shown)
    assert all(one == shown[0] for one in shown)  # the defaults, too


def names_of(one: type) -> set[str]:
    return {name for name in vars(one) if name[0] != "_"}


def test_an_index_for_asyncio_has_the_same_methods_with_the_same_keywords() -> None:
    assert names_of(AsyncIndex) == names_of(Index) | {"close"}
    assert keywords(AsyncIndex) == keywords(Index)
    assert keywords(AsyncIndex.dry_run) == keywords(Index.dry_run)
    assert names_of(AsyncIngestRun) == names_of(IngestRun)


def test_a_function_stays_one_when_the_module_of_its_name_is_imported() -> None:
    for name in ("ingest", "search"):
        module = importlib.import_module(f"es_latechunk.{name}")
        assert sys.modules[f"es_latechunk.{name}"] is module
        assert getattr(es_latechunk, name) is vars(module)[name]
        assert inspect.isfunction(getattr(es_latechunk, name))


def subclasses(error: type[Exception]) -> Iterator[type[Exception]]:
    for one in error.__subclasses__():
        yield one
        yield from subclasses(one)


def test_the_tree_of_errors_is_complete() -> None:
    for module in pkgutil.walk_packages(es_latechunk.__path__, "es_latechunk."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = {LateChunkError, *subclasses(LateChunkError)}
    ours = {error for error in found if error.__module__.startswith("es_latechunk")}
    assert {error.__module__ for error in ours} == {"es_latechunk.errors"}
    told = set(re.findall(r"\w+Error\b", errors.__doc__ or ""))
    assert {error.__name__ for error in ours} == told
    assert told <= set(es_latechunk.__all__)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: es_latechunk.search("a", index="i", client=NOWHERE, mode="vector"), "mode: 'vector' .* knn, bm25"),  # type: ignore[arg-type]
        (lambda: es_latechunk.search("a", index="i", client=NOWHERE, fusion="foo"), "fusion: 'foo' .* convex, rrf"),  # type: ignore[arg-type]
        (lambda: embed_documents([], encoder=PositionEncoder(), pooling="cls"), "pooling: 'cls' .* late, naive"),  # type: ignore[arg-type]
        (lambda: embed_documents([], encoder=PositionEncoder(), chunker="words"), "chunker: 'words' .* sentences, par"),
        (lambda: create_index("i", encoder=PositionEncoder(), client=NOWHERE, pooling="cls"), "pooling: 'cls'"),  # type: ignore[arg-type]
        (lambda: create_index("i", encoder=PositionEncoder(), client=NOWHERE, chunker="words"), "chunker: 'words'"),
        (
            lambda: create_index("i", encoder=PositionEncoder(), client=NOWHERE, quantization="int2"),
            "quantization int2 .* int8, int4, bbq",
        ),
        (lambda: load_encoder("any/model", dtype="float16"), "dtype: 'float16' .* auto, float32, bfloat16"),  # type: ignore[arg-type]
        (lambda: es_latechunk.search("a", index="i", client=NOWHERE, filters=[7]), "filters 7 is neither"),  # type: ignore[list-item]
        (lambda: es_latechunk.search("a", index="i", client=NOWHERE, filters=7), "filters 7 is neither"),  # type: ignore[arg-type]
        (lambda: es_latechunk.search("a", index="i", client=NOWHERE, filters="lang"), "filters 'lang' has no field"),
        (lambda: es_latechunk.search("a", index="i", client=NOWHERE, neighbours=-1), "neighbours -1 is not between"),
        (lambda: es_latechunk.ingest([], index="i", client=NOWHERE, max_prune=30), "max_prune 30 is not a share"),
        (lambda: es_latechunk.ingest([], client=NOWHERE), "either index or alias"),
        (lambda: es_latechunk.ingest([], index="i", alias="a", client=NOWHERE), "either index or alias"),
        (lambda: choose_encoder("all-MiniLM-L6-v2", None), "encoder: str is neither an Encoder nor a function"),  # type: ignore[arg-type]
        (lambda: next(es_latechunk.read_documents(["."], format="xls")), "format xls .* auto, text"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_exist_is_refused_with_those_that_do(
    call: Callable[[], Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_an_encoder_may_be_a_function_of_what_the_index_records() -> None:
    encoder = PositionEncoder()
    asked = []

    def load(recorded: EncoderIdentity | None) -> Encoder:
        asked.append(recorded)
        return encoder

    loader: EncoderLoader = load
    assert choose_encoder(loader, encoder.identity) is encoder
    assert choose_encoder(loader, None) is encoder
    assert asked == [encoder.identity, None]


def test_an_error_names_a_setting_as_python_and_as_the_command_line_do() -> None:
    error = UsageError(f"{setting('num_candidates')} is below {setting('k')}, not num_candidates='k'")
    assert str(error) == "num_candidates is below k, not num_candidates='k'"
    assert (
        error.message.render(lambda name: f"<{name}>")
        == "<num_candidates> is below <k>, not num_candidates='k'"
    )
    asked = ("search", "a", "--index", "i", "--url", "http://127.0.0.1:9")
    told = error_of(run(*asked, "--mode", "bm25", "--filter", "filters", "-k", "3"), 2)
    assert told.startswith("--filter 'filters' has no field")


def test_the_cause_of_a_document_s_error_is_text() -> None:
    error = DocumentError("a", f"is too large; raise {setting('max_document_bytes')}")
    assert error.cause == "is too large; raise max_document_bytes"
    assert isinstance(error.cause, Message)


def test_an_error_is_a_value_that_goes_to_other_processes() -> None:
    source = Document("a", "text")
    error = pickle.loads(pickle.dumps(DocumentError("a", f"raise {setting('k')}", source=source)))  # noqa: S301
    assert (error.document, error.cause, error.source) == ("a", "raise k", source)
    assert error.message.render(str.upper) == "a: raise K"


def test_vectors_and_hits_have_the_same_names() -> None:
    [chunk] = embed_documents([Document("d", "one two")], encoder=PositionEncoder())
    assert isinstance(chunk, es_latechunk.ChunkVector)
    assert (chunk.doc_id, chunk.ordinal, chunk.start, chunk.end, chunk.content) == ("d", 0, 0, 7, "one two")
    assert chunk.vector.dtype == np.float32
    assert {"doc_id", "ordinal", "start", "end", "content"} <= set(es_latechunk.Hit.__dataclass_fields__)
