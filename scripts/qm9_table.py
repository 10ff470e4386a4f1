"""The QM9 table: every embedded model by the whole protocol, beside its controls and the papers.

Measured here: the embedded models (sampled, scored and timed by this command, each in its own
manner), real training molecules, and the reports of other models, as ``molfldd evaluate MODEL --out
REPORT`` wrote them; those of conventional diffusion are in the repository. Published: numbers as
their papers give them; they differ in test set, convention of validity and treatment of
stereochemistry, which is said below the table. ``--picture`` draws the FCD against steps and
against seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import matplotlib
import matplotlib.pyplot as plt
import typer
from fcd_floor import floor
from tables import markdown

from molfldd.cli.diagnose import SUFFIXES
from molfldd.cli.running import run_script
from molfldd.errors import UsageError
from molfldd.model import Manner, Model, load_model, pretrained, pretrained_path
from molfldd.molecules.evaluation import fcd_gdss
from molfldd.molecules.qm9 import load_qm9
from molfldd.molecules.splits import split
from molfldd.storage import check_writable

MODELS = Path(__file__).parents[1] / "docs" / "models"
CONTROLS = {
    f"conventional, {prior} prior:{steps}": path
    for prior in ("uniform", "marginal", "absorbing")
    for steps in (10, 100)
    if (path := MODELS / f"qm9-{prior}-{steps}.json").is_file()
}
"""Reports of conventional diffusion that are there, by name and steps; see docs/models/qm9.md."""

EMBEDDED = "molfldd, embedded models"

SHARES = ("valid", "valid_fragment", "valid_gdss", "connected", "unique", "novel")
DISTANCES = ("fcd", "fcd_gdss")
HEADINGS = {"valid": "valid %", "valid_fragment": "valid fragment %", "valid_gdss": "GDSS-valid %"}

PUBLISHED = (
    ("FLDD, Table 2", "10", "valid_gdss 99.08", "99.95", "0.385"),
    ("FLDD, Table 2", "100", "valid_gdss 99.67", "98.93", "0.328"),
    ("LO-ARM", "one per element", "99.85", "98.85", "0.240"),
    ("DeFoG", "50", "valid_fragment 98.9", "96.2", "0.26"),
    ("DeFoG", "500", "valid_fragment 99.3", "96.3", "0.12"),
    ("MELD", "hundreds", "100", "96.5", "0.09"),
)
"""Name, steps, valid %, unique % and FCD of the literature, in its own protocols."""


@dataclass
class Row:
    """A line of the table: mean and spread of every score, and what it cost.

    Attributes:
        name: What was measured.
        series: The line of the picture that it is a point of; nothing for real molecules.
        steps: How many, as text; nothing for real molecules.
        mean: Of every score.
        spread: Standard deviation over seeds.
        seconds: For 1,000 molecules.
    """

    name: str
    series: str
    steps: str
    mean: Mapping[str, float | None]
    spread: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float | None = None

    def cells(self) -> list[str]:
        """The line as text."""
        seconds = "" if self.seconds is None else f"{self.seconds:.2f}"
        scores = [
            *(self._cell(name, 100.0, 2) for name in SHARES),
            *(self._cell(name, 1.0, 3) for name in DISTANCES),
        ]
        return [self.name, self.steps, *scores, seconds]

    def _cell(self, name: str, factor: float, digits: int) -> str:
        value, spread = self.mean.get(name), self.spread.get(name)
        if value is None:
            return ""
        tail = "" if spread is None else f" ± {factor * spread:.{digits}f}"
        return f"{factor * value:.{digits}f}{tail}"


class Draws:
    """Molecules of several seeds, with a clock and, on the way, the FCD of GDSS' protocol."""

    def __init__(self, model: Model, num: int, seeds: int, reference: list[str]) -> None:
        self.model, self.num, self.seeds, self.reference = model, num, seeds, reference
        self.seconds: list[float] = []
        self.distances: list[float] = []

    def __iter__(self) -> Iterator[list[Any]]:
        for seed in range(self.seeds):
            started = time.perf_counter()
            molecules = self.model.sample(self.num, seed=seed)
            self.seconds.append(time.perf_counter() - started)
            self.distances.append(fcd_gdss(molecules, self.reference))
            yield molecules


def model_row(name: str, steps: int, num: int, seeds: int, reference: list[str]) -> Row:
    """An embedded model or a checkpoint in so many steps, sampled in its own manner and scored."""
    model = load_model(pretrained_path(name)).drawing(Manner(steps=steps))
    draws = Draws(model, num, seeds, reference)
    report = model.domain.evaluate(draws, model.config.data, model.recorded, None)
    mean = {**report.mean, "fcd_gdss": fmean(draws.distances)}
    series = EMBEDDED if name in pretrained() else name
    per_thousand = 1000 * fmean(draws.seconds) / num
    return Row(f"`{name}`, {manner(model)}", series, str(steps), mean, report.spread, per_thousand)


def manner(model: Model) -> str:
    """How a model draws, in words."""
    sharpness = model.sampler.sharpness
    chosen = {"min-p": sharpness.min_p, "min-reveal": sharpness.min_reveal}
    words = [f"{name} {value:g}" for name, value in chosen.items() if value]
    return ", ".join([f"{model.joint} draws", *words])


def model_rows(name: str, num: int, seeds: int, reference: list[str]) -> list[Row]:
    """A model in every number of steps that it knows."""
    walks = load_model(pretrained_path(name)).sampler.reverse.clock.walks
    return [model_row(name, steps, num, seeds, reference) for steps in walks]


def real_row(train: list[str], test: list[str], num: int, seeds: int) -> Row:
    """Real training molecules: the least FCD to be expected."""
    distances = list(floor(train, test, num, seeds))
    spread: dict[str, float | None] = {"fcd": stdev(distances)} if seeds > 1 else {}
    return Row("real training molecules", "", "", {"fcd": fmean(distances)}, spread)


def report_of(argument: str) -> tuple[str, Path]:
    """Label and file of NAME:STEPS=FILE."""
    label, equals, path = argument.partition("=")
    if not (equals and label.rpartition(":")[2].isdigit()):
        raise UsageError(f"cannot read '{argument}'; write it as NAME:STEPS=FILE.json")
    return label, Path(path)


def report_row(label: str, path: Path) -> Row:
    """A report of ``molfldd evaluate``, with the label NAME:STEPS."""
    name, _, steps = label.rpartition(":")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        mean, spread, seconds = report["mean"], report["spread"], report.get("seconds")
        per_thousand = 1000 * fmean(seconds) / report["protocol"]["samples"] if seconds else None
        return Row(name, name, steps, mean, spread, per_thousand)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"cannot read the report {path}: {error!r}") from error


def points(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows that have an FCD by series, with few steps first."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: int(row.steps or 0)):
        if row.mean.get("fcd") is not None:
            found.setdefault(row.series, []).append(row)
    return found


def picture(rows: list[Row], path: Path) -> None:
    """FCD against steps, with the papers' numbers, and against seconds, measured here."""
    matplotlib.use("Agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for series, mine in points(rows).items():
        distances = [row.mean["fcd"] for row in mine]
        if not series:
            left.axhline(distances[0], color="gray", linestyle=":", label=mine[0].name)
            right.axhline(distances[0], color="gray", linestyle=":")
            continue
        left.plot([int(row.steps) for row in mine], distances, "o-", label=series)
        timed = [row for row in mine if row.seconds is not None]
        right.plot([row.seconds for row in timed], [row.mean["fcd"] for row in timed], "o-")
    for name, steps, _, _, distance in PUBLISHED:
        if steps.isdigit():
            left.plot(int(steps), float(distance), "x", color="gray")
            left.annotate(f" {name}", (int(steps), float(distance)), color="gray", fontsize=8)
    left.set(xlabel="steps = network evaluations", ylabel="FCD", xscale="log", yscale="log")
    right.set(xlabel="seconds per 1,000 molecules", xscale="log")
    left.set_title("gray: published, other protocols", fontsize="small")
    right.set_title("each on the machine that it was scored on", fontsize="small")
    figure.legend(loc="outside right center", fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(
    num: Annotated[int, typer.Option(min=2, help="Molecules per seed.")] = 10_000,
    seeds: Annotated[int, typer.Option(min=1, help="Sampling seeds 0, 1, ...")] = 3,
    report: Annotated[
        list[str] | None,
        typer.Option(
            help="A line NAME:STEPS=FILE, of molfldd evaluate --out FILE; several make several.",
            show_default="those of conventional diffusion in docs/models",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this model, embedded or a checkpoint.",
            show_default="all embedded ones of QM9",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--picture", help="Also draw it, a .png, .svg or .pdf file.")
    ] = None,
) -> None:
    """Print the QM9 table as Markdown."""
    if out is not None:
        check_writable(out, SUFFIXES)
    others = dict(map(report_of, report)) if report else CONTROLS
    reports = [report_row(label, path) for label, path in others.items()]
    train, test = (list(part.smiles) for part in split(load_qm9()))
    names = model or [name for name in pretrained() if name.startswith("qm9")]
    rows = [row for name in names for row in model_rows(name, num, seeds, test)]
    rows += [*reports, real_row(train, test, num, seeds)]
    scores = [HEADINGS.get(name, f"{name} %") for name in SHARES] + ["FCD", "FCD (GDSS)"]
    headings = ["model", "steps = network evaluations", *scores, "s per 1,000"]
    print(markdown(headings, [row.cells() for row in rows]))
    print(f"\n{num:,} molecules per seed, {seeds} sampling seeds; nothing filtered or corrected.\n")
    print(markdown(["published", "steps", "valid %", "unique %", "FCD"], PUBLISHED))
    print("\nPublished numbers are of other test sets and conventions; see datasets/qm9.md.")
    if out is not None:
        picture(rows, out)


if __name__ == "__main__":
    run_script(main)
