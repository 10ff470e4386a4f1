"""Texts to files and from files; the suffix of the path names the format."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from molfldd.entries import iterate_entries
from molfldd.errors import UsageError

SENTENCES = tuple(f"sentence{number}" for number in range(1, 6))
"""Columns of the official ROCStories csv that make up a story."""


def _lines(file: TextIO) -> Iterator[str]:
    for line in file:
        yield line.strip()


def _csv_stories(file: TextIO) -> Iterator[str]:
    rows = csv.DictReader(file)
    missing = [name for name in SENTENCES if name not in (rows.fieldnames or ())]
    if missing:
        raise ValueError(f"it has no column {missing[0]!r}")
    for row in rows:
        yield " ".join((row[name] or "").strip() for name in SENTENCES).strip()


GLANCE, SEVERAL = 20, 3
"""How many texts of a file tell what it is, and how many words one of them has then."""

_READERS: dict[str, Callable[[TextIO], Iterator[str]]] = {".txt": _lines, ".csv": _csv_stories}


def iterate_texts(path: Path) -> Iterator[str]:
    """Texts of a ``.txt`` file (one a line) or of the ROCStories ``.csv``, also with ``.gz``.

    A csv file has the columns sentence1 to sentence5, which are joined by spaces. Space around a
    text is dropped; a text with nothing else is kept, as "".

    Raises:
        UsageError: for a file that does not exist, has another suffix, is no UTF-8, or lacks a
            column.
    """
    return iterate_entries(path, _READERS)


def read_texts(path: Path) -> list[str]:
    """All that ``iterate_texts`` gives; raises what it raises."""
    return list(iterate_texts(path))


def looks_like_texts(path: Path) -> bool:
    """Whether the first of a file can be read as texts, and one of them has several words."""
    try:
        first = list(islice(iterate_texts(path), GLANCE))
    except UsageError:
        return False
    return any(len(text.split()) >= SEVERAL for text in first)


def one_line(text: str) -> str:
    """The text with line breaks as spaces, so that it fits into a line of a file."""
    return text.replace("\r", " ").replace("\n", " ")


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """One text a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{one_line(text)}\n" for text in texts)
