"""FCD of real QM9: training molecules drawn at random against the test split, per seed.

This is the least that any model can be expected to reach with as many samples.
"""

from statistics import fmean, stdev
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from molfldd.molecules.datasets import load_qm9, split
from molfldd.molecules.fcd import content_hash, fcd


def main(
    samples: Annotated[int, typer.Option(min=2, help="Training molecules to draw.")] = 10_000,
    seeds: Annotated[int, typer.Option(min=1, help="Number of draws: seeds 0, 1, ...")] = 3,
) -> None:
    """Print the FCD of every draw, and their mean and standard deviation."""
    train, test = split(load_qm9())
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{len(train):,} training molecules, {len(test):,} test molecules")
    console.print(f"reference sha256 {content_hash(test.smiles)}")
    distances = []
    for seed in range(seeds):
        rows = np.random.default_rng(seed).choice(len(train), samples, replace=False)
        distances.append(fcd([train.smiles[row] for row in rows], test.smiles))
        console.print(f"seed {seed}: {samples:,} samples, FCD {distances[-1]:.4f}")
    if seeds > 1:
        console.print(f"mean {fmean(distances):.4f}, spread {stdev(distances):.4f}")


if __name__ == "__main__":
    typer.run(main)
