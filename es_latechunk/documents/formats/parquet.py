"""Read Parquet: one document per row, row group by row group; a bad row does not affect the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from gzip import GzipFile
from io import SEEK_END
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO

from es_latechunk.documents.formats.csv import check_columns
from es_latechunk.documents.formats.jsonl import parse_document
from es_latechunk.documents.options import Reading
from es_latechunk.documents.remote.address import ObjectError
from es_latechunk.documents.sources import printable
from es_latechunk.documents.streams import too_large
from es_latechunk.errors import DocumentError, setting
from es_latechunk.types import Document

if TYPE_CHECKING:
    import pyarrow

READ_BYTES = 1024 * 1024  # of a column at once, whatever the size of its row group
MOST_ROWS, ROWS_BYTES = 128, 4 * 1024 * 1024  # that are decoded at once

Convert = Callable[[Any], Any]


def read_parquet(
    stream: BinaryIO, file_id: str, reading: Reading, start: int = 0, end: int | None = None
) -> Iterator[Document | DocumentError]:
    """Yield one document for each row; columns are what keys are in JSON Lines (see `read_jsonl`).

    Nulls are left out. Dates and times become ISO 8601, in UTC if they have a time zone, and decimals text with all
    their digits. Columns of types that JSON has no word for are left out with a note: binary ones, unless they hold the
    text, the title or the id, which are UTF-8 then.

    `stream` can be positioned. Of the row groups, only those are read that begin in the bytes from `start` to `end`. A
    row group that is damaged becomes a DocumentError, and the next one is read.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    if isinstance(stream, GzipFile):
        raise ValueError("is packed, and Parquet is read from its end; unpack it")
    if not stream.seekable():
        raise ValueError("cannot be read from a pipe, as Parquet is read from its end; give the file")
    try:
        file = ParquetFile(stream, pre_buffer=False, buffer_size=READ_BYTES, coerce_int96_timestamp_unit="us")
        rows = _Rows(file, file_id, reading)
    except ObjectError:
        raise
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"is not Parquet ({_cause(error)}); get the whole file") from error
    if not start:
        rows.note_left_out()
    end = stream.seek(0, SEEK_END) if end is None else end
    metadata = file.metadata
    groups = [
        group for group in range(metadata.num_row_groups) if start <= _begin(metadata.row_group(group)) < end
    ]
    total = sum(metadata.row_group(group).num_rows for group in groups)
    documents = (document for group in groups for document in rows.of_group(group))
    for done, document in enumerate(documents, 1):
        # The position means nothing to the library, and tells our caller how much of the file is read.
        stream.seek(start + (end - start) * done // total)
        yield document
    stream.seek(end)


def _begin(group: pyarrow.RowGroupMetaData) -> int:
    """Return the position in the file where a row group begins."""
    column = group.column(0)
    begins = (column.dictionary_page_offset, column.data_page_offset)
    return int(min(begin for begin in begins if begin is not None))


def _cause(error: Exception) -> str:
    return printable(" ".join(str(error).split()).rstrip("."))


class _Rows:
    """The rows of a file as objects of JSON. Raises ValueError for columns that cannot be used."""

    def __init__(self, file: Any, file_id: str, reading: Reading) -> None:
        self._file = file
        self._file_id = file_id
        self._reading = reading
        groups = (file.metadata.row_group(group) for group in range(file.metadata.num_row_groups))
        self._before = [0, *accumulate(group.num_rows for group in groups)]  # rows before each group, and all
        self._types = dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))
        check_columns(file.schema_arrow.names, reading)
        text = self._types[reading.text_field]
        if not _is_text(_readable(text)):
            raise ValueError(
                f'has a column "{printable(reading.text_field)}" of {text}, which is not text; name the column that '
                f"contains the text with {setting('text_field')}"
            )
        texts = (reading.text_field, reading.id_field, "title")
        self._binary_texts = [
            name for name in texts if name in self._types and _is_binary(_readable(self._types[name]))
        ]
        self._converters = {
            name: _text if name in self._binary_texts else _converter(_readable(kind))
            for name, kind in self._types.items()
            if name
        }

    def note_left_out(self) -> None:
        """Tell which columns, or fields of their structs, are left out."""
        for name in self._converters:
            if name not in self._binary_texts:
                for path, kind in _without_word(name, _readable(self._types[name])):
                    note = f'its column "{printable(path)}" is left out, as JSON has no word for {kind}'
                    self._reading.on_note(printable(self._file_id), note)

    def of_group(self, group: int) -> Iterator[Document | DocumentError]:
        """Yield the document of each row of a row group; rows are numbered within the file, from 1."""
        import pyarrow

        number, last = self._before[group : group + 2]
        try:
            for row in self._objects(group):
                number += 1
                yield self._document(row, f"{self._file_id}:{number}")
        except ObjectError:
            raise
        except (pyarrow.ArrowException, OSError) as error:
            cause = f"rows {number + 1} to {last} cannot be read ({_cause(error)}); write the file anew"
            yield DocumentError(printable(f"{self._file_id}:{number + 1}"), cause)

    def _objects(self, group: int) -> Iterator[dict[str, Any] | ValueError]:
        metadata = self._file.metadata.row_group(group)
        per_row = metadata.total_byte_size // max(metadata.num_rows, 1) + 1
        converted = {name: convert for name, convert in self._converters.items() if convert}
        batches = self._file.iter_batches(
            batch_size=max(1, min(MOST_ROWS, ROWS_BYTES // per_row)),
            row_groups=[group],
            columns=None if len(converted) == len(self._types) else list(converted),
            use_threads=False,
        )
        for batch in batches:
            columns = [
                (name, batch.column(name).cast(_readable(self._types[name]), safe=False), convert)
                for name, convert in converted.items()
            ]
            for row in range(batch.num_rows):
                try:
                    yield _object(columns, row)
                except ValueError as error:
                    yield error

    def _document(self, row: dict[str, Any] | ValueError, location: str) -> Document | DocumentError:
        try:
            if isinstance(row, ValueError):
                raise row
            text = row.get(self._reading.text_field, "")
            limit = self._reading.max_document_bytes
            if 4 * len(text) > limit and len(text.encode()) > limit:
                raise ValueError(too_large(limit))
            return parse_document(row, location, self._reading)
        except ValueError as error:
            return DocumentError(printable(location), str(error))


def _object(columns: list[tuple[str, pyarrow.Array, Convert]], row: int) -> dict[str, Any]:
    fields = {}
    for name, column, convert in columns:
        try:
            value = _or_none(convert, column[row].as_py())
        except (ValueError, OverflowError) as error:
            cause = f'has a value in its column "{printable(name)}" that cannot be read ({_cause(error)}); repair it'
            raise ValueError(cause) from error
        if value is not None:
            fields[name] = value
    return fields


def _is_nan(value: object) -> bool:
    """Return whether a value is what some programs write in the place of null."""
    return isinstance(value, float) and math.isnan(value)


def _is_binary(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _is_text(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    strings = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(strings or _is_binary(kind) or types.is_null(kind))


def _text(value: bytes) -> str:
    """Return the text of a column that its writer did not mark as text."""
    return value.decode()


def _readable(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Return the type that Python can read in the place of another: microseconds, UTC, and no dictionaries."""
    import pyarrow
    from pyarrow import types

    if isinstance(kind, pyarrow.BaseExtensionType):
        return kind if kind.extension_name == "arrow.uuid" else _readable(kind.storage_type)
    if types.is_dictionary(kind):
        return _readable(kind.value_type)
    if types.is_timestamp(kind):
        return pyarrow.timestamp("us", tz="UTC" if kind.tz else None)
    if types.is_time64(kind):
        return pyarrow.time64("us")
    if types.is_duration(kind):
        return pyarrow.duration("us")
    if types.is_map(kind):
        return pyarrow.map_(_readable(kind.key_type), _readable(kind.item_type))
    if types.is_struct(kind):
        return pyarrow.struct([field.with_type(_readable(field.type)) for field in kind])
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_field.with_type(_readable(kind.value_type))
        return pyarrow.large_list(inner) if types.is_large_list(kind) else pyarrow.list_(inner)
    return kind


def _converter(kind: pyarrow.DataType) -> Convert | None:
    """Return the function that makes JSON of a value of Python; None for a type that JSON has no word for."""
    from pyarrow import types

    if types.is_floating(kind):
        return _finite
    if types.is_null(kind) or types.is_boolean(kind) or types.is_integer(kind):
        return _unchanged
    if _is_text(kind) and not _is_binary(kind):
        return _unchanged
    if types.is_decimal(kind):
        return lambda value: format(value, "f")
    if types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind):
        return lambda value: str(value.isoformat())
    if types.is_duration(kind):
        return lambda value: value.total_seconds()
    if getattr(kind, "extension_name", "") == "arrow.uuid":
        return str
    return _nested(kind)


def _nested(kind: pyarrow.DataType) -> Convert | None:
    from pyarrow import types

    if types.is_map(kind) and (item := _converter(kind.item_type)):
        return lambda pairs: {str(key): _or_none(item, value) for key, value in pairs}
    if types.is_struct(kind):
        fields = {field.name: convert for field in kind if (convert := _converter(field.type))}
        if not fields:
            return None
        return lambda value: {
            name: converted
            for name, convert in fields.items()
            if (converted := _or_none(convert, value[name])) is not None
        }
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = _converter(kind.value_type)
        return inner and (lambda values: [_or_none(inner, value) for value in values])
    return None


def _or_none(convert: Convert, value: Any) -> Any:
    return None if value is None or _is_nan(value) else convert(value)


def _unchanged(value: Any) -> Any:
    return value


def _finite(value: float) -> float:
    if math.isinf(value):
        raise ValueError("JSON has no infinite numbers")
    return value


def _without_word(path: str, kind: pyarrow.DataType) -> Iterator[tuple[str, pyarrow.DataType]]:
    """Yield the parts of a type that JSON has no word for, each with its path."""
    from pyarrow import types

    if types.is_struct(kind):
        for field in kind:
            yield from _without_word(f"{path}.{field.name}", field.type)
    elif types.is_map(kind):
        yield from _without_word(path, kind.item_type)
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        yield from _without_word(path, kind.value_type)
    elif _converter(kind) is None:
        yield path, kind
