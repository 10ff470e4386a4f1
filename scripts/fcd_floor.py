"""FCD of real data: training molecules drawn at random against the test split, per seed.

This is the least that any model can be expected to reach with as many samples.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from molfldd.cli.running import run_script
from molfldd.errors import UsageError
from molfldd.molecules.domain import comparison_with
from molfldd.molecules.fcd import content_hash, fcd


def floor(train: Sequence[str], test: Sequence[str], samples: int, seeds: int) -> Iterator[float]:
    """FCD of so many training molecules drawn without replacement, for seeds 0, 1, ..."""
    for seed in range(seeds):
        rows = np.random.default_rng(seed).choice(len(train), samples, replace=False)
        yield fcd([train[row] for row in rows], test)


def main(
    data: Annotated[str, typer.Argument(help="qm9, zinc250k or moses.")] = "qm9",
    samples: Annotated[int, typer.Option(min=2, help="Training molecules to draw.")] = 10_000,
    seeds: Annotated[int, typer.Option(min=1, help="Number of draws: seeds 0, 1, ...")] = 3,
) -> None:
    """Print the FCD of every draw, and their mean and standard deviation."""
    compared = comparison_with(data)
    train, test = compared.training or [], compared.reference or []
    if samples > len(train):
        raise UsageError(f"{data} has {len(train):,} training molecules; --samples asks for more")
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{len(train):,} training molecules, {len(test):,} test molecules")
    console.print(f"reference sha256 {content_hash(test)}")
    distances = []
    for seed, distance in enumerate(floor(train, test, samples, seeds)):
        distances.append(distance)
        console.print(f"seed {seed}: {samples:,} samples, FCD {distance:.4f}")
    if seeds > 1:
        console.print(f"mean {fmean(distances):.4f}, spread {stdev(distances):.4f}")


if __name__ == "__main__":
    run_script(main)
