"""How a score moves with training time: a power law fitted to reports, and what it would take.

The distance to the floor, which a perfect generator would reach, is fitted as ``a hours^-b`` by
least squares of the logarithms. An extrapolation of a few points of one training: it says what
order of magnitude of compute a goal is away, no more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from tables import markdown

from molfldd.cli.running import run_script
from molfldd.errors import UsageError


def point(argument: str, score: str) -> tuple[float, float]:
    """Hours and score of HOURS=REPORT.json.

    Raises:
        UsageError: if it is not of that form, or the report cannot be read or lacks the score.
    """
    hours, _, path = argument.partition("=")
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        return float(hours), float(report["mean"][score])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"cannot read '{argument}' ({error!r}); write HOURS=FILE, a report of molfldd evaluate"
        ) from error


def power_law(hours: np.ndarray, distances: np.ndarray) -> tuple[float, float]:
    """a and b of distances = a hours^-b, by least squares of the logarithms."""
    slope, intercept = np.polyfit(np.log(hours), np.log(distances), 1)
    return float(np.exp(intercept)), float(-slope)


def main(
    points: Annotated[list[str], typer.Argument(help="HOURS=REPORT.json, two or more.")],
    score: Annotated[str, typer.Option(help="Which score; a smaller one is better.")] = "fcd",
    floor: Annotated[float, typer.Option(help="What a perfect generator reaches.")] = 0.066,
    goal: Annotated[list[float] | None, typer.Option(help="A score to extrapolate to.")] = None,
) -> None:
    """Print the points, the fit and the hours to each goal as Markdown."""
    hours, scores = map(np.array, zip(*sorted(point(p, score) for p in points), strict=True))
    goals = goal or []
    if len(set(hours)) < 2 or min([*hours, *(scores - floor), *(g - floor for g in goals)]) <= 0:
        raise UsageError(
            "give two points or more at positive hours, scores and goals above the floor"
        )
    a, b = power_law(hours, scores - floor)
    fitted = floor + a * hours**-b
    rows = [
        [f"{h:.2f}", f"{s:.3f}", f"{f:.3f}"] for h, s, f in zip(hours, scores, fitted, strict=True)
    ]
    rows += [[f"{(a / (g - floor)) ** (1 / b):.3g}", "", f"{g:.3f}"] for g in goals]
    print(markdown(["hours", score, f"{floor} + {a:.3f} hours^-{b:.2f}"], rows))


if __name__ == "__main__":
    run_script(main)
