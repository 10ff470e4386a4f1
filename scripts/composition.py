"""What a model's molecules are made of, beside the molecules it was trained on.

The FCD says how far two sets of molecules are apart, not in what. Here are the means over the
valid ones of counts a chemist knows, and by how many standard errors they differ.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Annotated, cast

import numpy as np
import typer
from loading import molecule_model
from numpy.typing import NDArray
from rdkit import Chem
from tables import markdown

from molfldd.cli.running import run_script
from molfldd.errors import UsageError
from molfldd.molecules.composition import composition
from molfldd.molecules.domain import MoleculeData
from molfldd.molecules.metrics import valid


def table(smiles: Iterable[str], elements: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The counts of molecules, an array over molecules for each name."""
    rows = [composition(Chem.MolFromSmiles(text), elements) for text in smiles]
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}


def main(
    model: Annotated[str, typer.Option(help="An embedded model or a checkpoint.")] = "qm9",
    num: Annotated[int, typer.Option(min=2, help="Molecules to generate, and to compare.")] = 5_000,
    seed: Annotated[int, typer.Option(help="Of the molecules.")] = 0,
) -> None:
    """Print the means over generated and training molecules as Markdown."""
    loaded, domain = molecule_model(model)
    data = cast(MoleculeData, loaded.config.data)
    training = list(data.divide(data.load_all())[0].smiles)
    drawn = [smiles for smiles in map(valid, loaded.sample(num, seed=seed)) if smiles is not None]
    if not drawn:
        raise UsageError(f"none of {num:,} molecules of {model} is valid; draw more with --num")
    elements = domain.elements
    real = table(random.Random(seed).sample(training, min(num, len(training))), elements)
    rows = []
    for name, found in table(drawn, elements).items():
        error = np.hypot(*(v.std() / len(v) ** 0.5 for v in (found, real[name])))
        difference = found.mean() - real[name].mean()
        away = f"{difference / error:+.1f}" if error else ""
        rows.append([name, f"{found.mean():.3f}", f"{real[name].mean():.3f}", away])
    print(markdown(["mean of", model, "training molecules", "standard errors apart"], rows))
    print(f"\n{len(drawn):,} valid ones of {num:,}, seed {seed}; as many training molecules.")


if __name__ == "__main__":
    run_script(main)
