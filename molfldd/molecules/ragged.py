"""Rows of different lengths in one flat array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = slice | NDArray[np.int64]
"""Which rows: a range, which copies nothing, or numbers."""

_NEWLINE = ord("\n")


def as_range(rows: NDArray[np.int64]) -> Rows:
    """The same rows as a range if they are consecutive."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return slice(int(rows[0]), int(rows[0]) + len(rows))
    return rows


def ranges(count: int, size: int) -> Iterator[slice]:
    """Consecutive ranges of at most `size` that cover `count` rows."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


@dataclass(frozen=True, eq=False)
class Ragged:
    """N rows one after another: row i is ``values[offsets[i]:offsets[i + 1]]``.

    `values` is flat, of any type; `offsets` (N + 1,) int64 begins with 0.
    """

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    @classmethod
    def of_lengths(cls, values: NDArray[Any], lengths: NDArray[Any]) -> Ragged:
        """Rows of the given lengths (N,)."""
        return cls(values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    @classmethod
    def of_lines(cls, text: NDArray[np.uint8]) -> Ragged:
        """Lines of a text, each with the newline that ends it."""
        return cls(text, np.concatenate([[0], np.flatnonzero(text == _NEWLINE) + 1]))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.offsets) - 1

    def take(self, rows: Rows) -> Ragged:
        """Some of the rows; a range shares the values."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            offsets = self.offsets[start : stop + 1]
            return Ragged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])
        lengths = np.diff(self.offsets)[rows]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        values = self.values[np.repeat(self.offsets[rows], lengths) + within]
        return Ragged.of_lengths(values, lengths)

    def padded(self, rows: NDArray[np.int64], width: int) -> NDArray[Any]:
        """Some of the rows side by side, filled up with 0: (rows, width)."""
        starts = self.offsets[rows, None]
        places = np.arange(width)
        inside = places < self.offsets[rows + 1, None] - starts
        result = np.zeros(inside.shape, self.values.dtype)
        result[inside] = self.values[(starts + places)[inside]]
        return result
