"""Rows of the user's files: JSON lines, CSV and Parquet, plain or gzipped, and data sets of the hub."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfstudy.core.errors import DataError

EMPTY, UNPARSABLE = "empty", "unparsable"
LARGEST_CELL = 2**31 - 1  # characters in a cell of a CSV file


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source: its values by column, or the reason why there are none."""

    line: int
    """Number of the line it starts at, or of the row where the source has no lines, from 1."""
    values: dict[str, Any] | None
    fault: str = ""


def read_rows(path: Path, kind: str) -> list[Row]:
    """Return all rows of a file; rows that cannot be read are returned with their fault.

    Args:
        path: the file; `.gz` files are unpacked.
        kind: "jsonl", "csv" (with a header) or "parquet".

    Raises:
        DataError: the file is missing, a folder, empty, not UTF-8 text, or not of its kind.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a {kind} file.")
    if not path.exists():
        raise DataError(
            f"There is no file {path}. Give the path of a {kind} file, from {Path.cwd()} or absolute."
        )
    try:
        rows = list(_parquet(path) if kind == "parquet" else _TEXT[kind](_text(path)))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not rows:
        raise DataError(f"{path} holds no rows. Give a {kind} file with one problem a row.")
    return rows


def read_hub(name: str, config: str | None, split: str) -> list[Row]:
    """Return the rows of one split of a data set: a hub id or a local folder in the hub's layout.

    Raises:
        DataError: there is no such data set, configuration or split, or it cannot be reached.
    """
    import datasets

    try:
        table = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # the library raises many kinds: connection, missing, wrong split, bad files
        raise DataError(
            f"The data set {name!r} (configuration {config or 'default'}, split {split}) cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    return [Row(index + 1, dict(values)) for index, values in enumerate(table)]


def hub_splits(name: str, config: str | None) -> list[str]:
    """Return the names of a data set's splits; see `read_hub`."""
    import datasets

    try:
        return [str(split) for split in datasets.get_dataset_split_names(name, config)]
    except Exception as error:
        raise DataError(
            f"The data set {name!r} (configuration {config or 'default'}) cannot be found: "
            f"{type(error).__name__}: {error}. Give owner/name of the hub or a folder in its layout; "
            "without a network, download it first."
        ) from error


def plain_text(value: Any) -> str:
    """Return a cell as text; missing values are empty, and whole floats are written as integers.

    >>> [plain_text(value) for value in (None, 43.0, 7, " a ", float("nan"))]
    ['', '43', '7', 'a', '']

    Raises:
        TypeError: for lists and other things that are not one text or number.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, bool | int):
        return str(value)
    raise TypeError(f"{type(value).__name__} is neither a text nor a number")


def _text(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise DataError(f"{path} is not a whole gzip file. Copy it again.") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not UTF-8 text: byte {data[error.start]:#04x} in line {line}. "
            "Convert it, for instance with: iconv -f latin1 -t utf-8."
        ) from None


def _json_lines(text: str) -> Iterator[Row]:
    for line, content in enumerate(text.rstrip().split("\n"), 1):
        if not content.strip():
            if text.strip():
                yield Row(line, None, EMPTY)
            continue
        try:
            values = json.loads(content)
        except (json.JSONDecodeError, RecursionError):
            values = None
        if isinstance(values, dict):
            yield Row(line, values) if values else Row(line, None, EMPTY)
        else:
            yield Row(line, None, UNPARSABLE)


def _csv(text: str) -> Iterator[Row]:
    # Python refuses cells of more than 128 KiB. It has one limit for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CELL))
    reader = csv.reader(io.StringIO(text.rstrip(), newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield Row(line, None, UNPARSABLE)
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
        elif not any(cell.strip() for cell in cells):
            yield Row(line, None, EMPTY)
        elif len(cells) != len(header):
            yield Row(line, None, UNPARSABLE)
        else:
            yield Row(line, dict(zip(header, cells, strict=True)))


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from None
    for index, values in enumerate(table.to_pylist()):
        yield Row(index + 1, values)


_TEXT = {"jsonl": _json_lines, "csv": _csv}
