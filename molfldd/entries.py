"""Text files read entry by entry, whatever an entry is, packed or not."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO, cast

from molfldd.errors import UsageError


def unpacked(path: Path) -> Path:
    """The path without the suffix of a packed file."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def iterate_entries(
    path: Path, readers: Mapping[str, Callable[[TextIO], Iterator[str]]]
) -> Iterator[str]:
    """The entries of a text file, as it is or packed (``.gz``), one after another.

    Args:
        path: The file, in UTF-8.
        readers: How to read one, by suffix.

    Raises:
        UsageError: for a file that does not exist, has another suffix, or cannot be read so.
    """
    suffix = unpacked(path).suffix.lower()
    if suffix not in readers:
        raise UsageError(
            f"cannot read {path}: the suffix {suffix!r} is none of {' '.join(readers)} "
            "(each also with .gz)"
        )
    opened = open if unpacked(path) == path else gzip.open
    try:
        with opened(path, "rt", encoding="utf-8-sig") as file:
            yield from readers[suffix](cast(TextIO, file))
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise UsageError(f"cannot read {path}: {error}; check the path and the format") from error
