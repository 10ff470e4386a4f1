"""Scores over sampling seeds: mean, spread, what is missing, and their table."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass

import pytest
from rich.console import Console

from molfldd.report import Report, Score, Scores, share

KINDS = {"good": share("of all"), "far": Score("to the others", 1)}


@dataclass(frozen=True)
class Conditions:
    samples: int = 8

    def lines(self) -> list[str]:
        return [f"{self.samples} samples"]


def report(*runs: Scores, floor: Scores | None = None) -> Report:
    return Report(KINDS, runs, Conditions(), floor)


def shown(found: Report) -> str:
    written = io.StringIO()
    Console(width=160, file=written).print(found.table())
    return written.getvalue()


def test_mean_and_standard_deviation() -> None:
    found = report({"good": 0.8, "far": 1.0}, {"good": 0.9, "far": 2.0})
    assert found.mean == {"good": pytest.approx(0.85), "far": 1.5}
    assert found.spread["good"] == pytest.approx(0.05 * math.sqrt(2))
    assert "85.00 %" in shown(found)
    assert "2 runs: mean and standard deviation" in shown(found)


def test_a_score_missing_in_one_run_is_missing_in_the_mean() -> None:
    found = report({"good": 0.8, "far": 1.0}, {"good": 0.9, "far": None})
    assert (found.mean["far"], found.spread["far"]) == (None, None)
    assert found.mean["good"] == pytest.approx(0.85)


def test_one_run_has_no_spread_and_says_what_it_depends_on() -> None:
    found = report({"good": 0.5, "far": 0.25})
    assert found.mean == {"good": 0.5, "far": 0.25}
    assert set(found.spread.values()) == {None}
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["protocol"] == {"samples": 8}
    assert (content["runs"], "floor" in content) == (1, False)
    assert "8 samples" in shown(found)
    assert "runs" not in shown(found)


def test_real_examples_stand_beside() -> None:
    found = report({"good": 0.5, "far": 9.0}, floor={"good": 1.0})
    assert found.to_json()["floor"] == {"good": 1.0}
    (line,) = [line for line in shown(found).splitlines() if "good" in line]
    assert "50.00 %" in line
    assert "100.00 %" in line
