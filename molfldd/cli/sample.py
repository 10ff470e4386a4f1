"""``molfldd sample``: molecules from a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molfldd.cli.generation import Device, Generation, molecule_model

if TYPE_CHECKING:
    from rdkit import Chem


def sample(
    num: Annotated[int, typer.Option(min=1, help="How many molecules to generate.")] = 100,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write: .sdf (with 2D coordinates), .smi, .csv (also the invalid ones), "
            "or a picture of the first 24: .png, .svg. Default: SMILES on stdout."
        ),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option(help="Name of an embedded model, or path of a checkpoint.")
    ] = "qm9",
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Sampling steps; must be what the model was trained for."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same molecules.")] = 0,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Molecules computed at once; does not change them.")
    ] = 500,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
) -> None:
    """Generate molecules with a trained model.

    Writes the valid ones: one fragment, and RDKit accepts it as it is, without any repair.
    Says on stderr how many were generated, how many of them are valid, and how long it took.
    """
    if out is not None:
        from molfldd.molecules.files import check_writable

        check_writable(out)
    model = molecule_model(checkpoint, device)
    model.check_steps(steps)
    generation = Generation(model, num, seed, batch_size, quiet=out is None)
    valid = _print(generation) if out is None else _write(generation, out)
    typer.echo(_summary(generation, valid, out), err=True)


def _summary(generation: Generation, valid: int, out: Path | None) -> str:
    share = 100 * valid / generation.num
    place = "printed" if out is None else f"written to {out}"
    return (
        f"{generation.num:,} molecules generated in {generation.seconds:.1f} s, "
        f"{valid:,} valid ({share:.1f} %), {place}"
    )


def _print(generation: Generation) -> int:
    """Print SMILES of the valid molecules; how many there were."""
    from molfldd.molecules.metrics import valid

    printed = 0
    for smiles in map(valid, generation):
        if smiles is not None:
            typer.echo(smiles)
            printed += 1
    return printed


def _write(generation: Generation, out: Path) -> int:
    """Write the molecules; how many were valid."""
    from molfldd.molecules.files import write_molecules

    counted = _ValidOnly(generation)
    write_molecules(out, counted)
    return counted.valid


class _ValidOnly:
    """Molecules with None for each that is not valid by the headline definition."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.valid = 0

    def __iter__(self) -> Iterator[Chem.Mol | None]:
        from molfldd.molecules.codec import parse_smiles
        from molfldd.molecules.metrics import valid

        for smiles in map(valid, self.generation):
            self.valid += smiles is not None
            yield None if smiles is None else parse_smiles(smiles)
