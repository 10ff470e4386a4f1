"""``molfldd calibrate``: the statistics of a trained model brought to those of its data."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molfldd.cli.generation import (
    Device,
    JointOption,
    MinPOption,
    MinRevealOption,
    StepsOption,
    TemperatureOption,
    resolve_device,
)

if TYPE_CHECKING:
    from torch import Tensor

    from molfldd.calibration import Batches, Calibration


SHOWN = 20
"""Statistics that are printed."""


def calibrate(
    checkpoint: Annotated[
        str, typer.Argument(help="Name of an embedded model, or path of a checkpoint.")
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    rounds: Annotated[
        int, typer.Option(min=1, help="Changes of the model, each after new samples.")
    ] = 1,
    num: Annotated[int, typer.Option(min=2, help="Examples to sample for each.")] = 30_000,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first samples; the next ones go on from there.")
    ] = 1_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples computed at once.")] = 500,
    steps: StepsOption = None,
    joint: JointOption = None,
    temperature: TemperatureOption = None,
    min_p: MinPOption = None,
    min_reveal: MinRevealOption = None,
    device: Annotated[Device, typer.Option(help="Where to sample.")] = Device.auto,
) -> None:
    """Make a trained model's examples have the statistics of its training data.

    For molecules: how many are valid, how many atoms, bonds and rings of each kind they have, and
    which of these go together.
    The last layers of the network are changed, as little as it takes. Takes a few times as long as
    sampling so many examples. The model draws in the same manner later, unless told otherwise;
    draw with the same steps. Prints the means before and after.
    """
    _check_output(out)
    from molfldd.calibration import COUNTED, Budget, Calibration
    from molfldd.model import Manner, pretrained_path, variant

    path = pretrained_path(variant(checkpoint, steps))
    manner = Manner(joint, temperature, steps, min_p, min_reveal)
    typer.echo(f"counting in up to {COUNTED:,} training examples", err=True)
    budget = Budget(rounds, num, seed, batch_size)
    calibration = Calibration(path, manner, budget, resolve_device(device))
    columns = []
    for number in range(rounds):
        title = f"round {number + 1} of {rounds}"
        columns.append(calibration.round(number, _bar(title)))
        typer.echo(f"{title}: {float(columns[-1][0]):.2%} {calibration.judgement} before", err=True)
    means, quality = calibration.measure(_bar("measuring"))
    calibration.write(out, quality)
    _print(calibration, [*columns, means])
    typer.echo(f"written to {out}", err=True)


def _check_output(out: Path) -> None:
    from molfldd.storage import check_writable

    check_writable(out, [".safetensors"])


def _bar(title: str) -> Batches:
    """Hands batches on and shows them as a progress bar."""
    from molfldd.progress import shown

    return partial(shown, title=title)


def _print(calibration: Calibration, columns: list[Tensor]) -> None:
    """The means, those first that were furthest away relative to their size; products are many."""
    from rich.console import Console
    from rich.table import Table

    changes = [f"after {i}" for i in range(1, len(columns))]
    table = Table("mean of", "training", "before", *changes, box=None)
    names = calibration.comparison.names
    wanted, *columns = (x[: len(names)].double() for x in (calibration.wanted, *columns))
    away = (columns[0] - wanted).abs() / wanted.abs().sqrt().clamp(min=1e-3)
    for i in away.argsort(descending=True)[:SHOWN].tolist():
        values = [wanted[i], *(column[i] for column in columns)]
        table.add_row(names[i], *(f"{float(value):.4f}" for value in values))
    Console(highlight=False).print(table)
    products = len(calibration.wanted) - len(names)
    print(f"{len(names)} statistics, and {products} products of two of them; of the former, those")
    print("that were furthest from the training data")
