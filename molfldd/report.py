"""Scores of generated examples over sampling seeds, never without what they depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, ClassVar, Protocol

from rich.table import Table

Scores = Mapping[str, float | None]
"""Scores by name; None where there is nothing to compute one from."""


@dataclass(frozen=True)
class Score:
    """How a score is shown.

    Attributes:
        meaning: What it says, in the words of a table.
        digits: Decimals.
        factor: What it is multiplied by.
        unit: What stands behind it.
    """

    meaning: str
    digits: int = 3
    factor: float = 1.0
    unit: str = ""

    def cell(self, value: float | None) -> str:
        """A value as text."""
        return "-" if value is None else f"{self.factor * value:.{self.digits}f}{self.unit}"


def share(meaning: str) -> Score:
    """A score between 0 and 1, shown as per cent."""
    return Score(meaning, 2, 100.0, " %")


class Conditions(Protocol):
    """What scores depend on; a dataclass of plain values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def lines(self) -> list[str]:
        """The same in words, for below a table."""


@dataclass(frozen=True)
class Report:
    """Scores of the samples of one or several seeds under one protocol.

    Attributes:
        kinds: The scores there are, in the order of tables.
        runs: Their values, one mapping for each seed.
        protocol: What they depend on.
        floor: What as many real examples get, if that was computed.
    """

    kinds: Mapping[str, Score]
    runs: tuple[Scores, ...]
    protocol: Conditions
    floor: Scores | None = None

    @property
    def mean(self) -> dict[str, float | None]:
        """Mean of each score; None if a run does not have it."""
        return {name: fmean(values) if values else None for name, values in self._columns()}

    @property
    def spread(self) -> dict[str, float | None]:
        """Standard deviation over the runs (n - 1 below); None also for a single run."""
        return {
            name: stdev(values) if len(values) > 1 else None for name, values in self._columns()
        }

    def _columns(self) -> Iterator[tuple[str, list[float]]]:
        """The values of each score, none at all if a run does not have it."""
        for name in self.kinds:
            known = [value for run in self.runs if (value := run.get(name)) is not None]
            yield name, known if len(known) == len(self.runs) else []

    def to_json(self) -> dict[str, object]:
        """Nested mapping of numbers, strings and None, for a JSON file."""
        floor = {} if self.floor is None else {"floor": dict(self.floor)}
        content = {"mean": self.mean, "spread": self.spread, "runs": len(self.runs), **floor}
        return {**content, "protocol": asdict(self.protocol)}

    def table(self) -> Table:
        """Scores and what they mean, with the protocol as caption."""
        many = len(self.runs) > 1
        lines = [f"{len(self.runs)} runs: mean and standard deviation"] if many else []
        caption = "\n".join([*lines, *self.protocol.lines()])
        table = Table(caption=caption, caption_justify="left")
        table.add_column("score", no_wrap=True)
        columns = self._shown()
        for heading in columns:
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("of what")
        for name, kind in self.kinds.items():
            cells = [kind.cell(values.get(name)) for values in columns.values()]
            table.add_row(name, *cells, kind.meaning)
        return table

    def _shown(self) -> dict[str, Scores]:
        columns: dict[str, Scores] = {"value": self.mean}
        if len(self.runs) > 1:
            columns = {"mean": self.mean, "spread": self.spread}
        return columns if self.floor is None else {**columns, "real": self.floor}


@dataclass(frozen=True)
class Comparison:
    """Real examples as text to compare with; None where there are none."""

    reference: Sequence[str] | None
    training: Sequence[str] | None
