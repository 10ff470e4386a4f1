"""What became of the molecules of a source: read, kept, and skipped for which reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

EXAMPLES = 3
"""Skipped molecules shown for each reason."""

_EXAMPLE_LENGTH = 30

Example = tuple[int, str]
"""Number of a line, row or record, from 1, and what stands there."""


def shortened(text: str) -> str:
    """The text, cut where it is too long for an example."""
    return text if len(text) <= _EXAMPLE_LENGTH else f"{text[: _EXAMPLE_LENGTH - 3]}..."


@dataclass(frozen=True)
class ParseReport:
    """What became of the lines or records of a source.

    Attributes:
        read: How many there were.
        kept: How many of them can be used.
        skipped: How many were left out, by reason.
        examples: The first of them, at most `EXAMPLES` for each reason.
    """

    read: int
    kept: int
    skipped: Mapping[str, int]
    examples: Mapping[str, Sequence[Example]] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line: ``100 read, 97 kept, 3 skipped (2 not a SMILES, 1 empty)``."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self._by_count())
        return self._counts() + (f" ({reasons})" if reasons else "")

    def in_words(self) -> str:
        """The line, and the first that was skipped."""
        found = [text for examples in self.examples.values() for _, text in examples if text]
        return f"{self}, such as {found[0]!r}" if found else str(self)

    def _by_count(self) -> list[tuple[str, int]]:
        return sorted(self.skipped.items(), key=lambda item: (-item[1], item[0]))

    def _counts(self) -> str:
        skipped = sum(self.skipped.values())
        return f"{self.read:,} read, {self.kept:,} kept, {skipped:,} skipped"

    def __add__(self, other: ParseReport) -> ParseReport:
        """Report of this source followed by another."""
        reasons = {**self.skipped, **other.skipped}
        examples = {
            reason: [*self.examples.get(reason, ()), *other.examples.get(reason, ())][:EXAMPLES]
            for reason in reasons
        }
        skipped = Counter(self.skipped) + Counter(other.skipped)
        return ParseReport(self.read + other.read, self.kept + other.kept, dict(skipped), examples)

    def without(self, reason: str, count: int, examples: Sequence[Example]) -> ParseReport:
        """The report after `count` of the kept ones were left out for one more reason."""
        return self + ParseReport(0, -count, {reason: count}, {reason: examples})

    def table(self, title: str, unit: str) -> Table:
        """A row per reason with the first lines skipped, which are called by `unit`."""
        heading = f"{title}: {self._counts()}"
        table = Table(
            title=Text(heading),
            title_justify="left",
            box=None,
            min_width=len(heading),
            pad_edge=False,
            show_header=bool(self.skipped),
        )
        table.add_column("skipped", justify="right")
        table.add_column("because")
        table.add_column("first")
        for reason, count in self._by_count():
            first = ", ".join(f"{unit} {n} {text}" for n, text in self.examples.get(reason, ()))
            table.add_row(f"{count:,}", Text(reason), Text(first))
        return table

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON data."""
        return {
            "read": self.read,
            "kept": self.kept,
            "skipped": dict(self.skipped),
            "examples": {reason: list(found) for reason, found in self.examples.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ParseReport:
        """The report that `to_json` gave."""
        examples = {
            reason: [(int(number), text) for number, text in found]
            for reason, found in content["examples"].items()
        }
        return cls(content["read"], content["kept"], content["skipped"], examples)
