"""Check that molecules survive encoding and decoding: prints ``130831 of 130831`` for QM9.

Every row of the data set is decoded and its stereo-free canonical SMILES compared with that of the
SMILES in the source, from which stereochemistry is removed by RDKit alone. Before, the molecules
of the source that the data set does not hold are named with the reason. Exits with 1 if a row
differs, or if more than one molecule of the source in a thousand does not come back.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rdkit import Chem
from rich.console import Console

from molfldd.cli.running import run_script
from molfldd.molecules.cached import cached_dataset
from molfldd.molecules.codec import decode, to_smiles
from molfldd.molecules.files import unit
from molfldd.molecules.moses import moses_source
from molfldd.molecules.own_files import file_source
from molfldd.molecules.parsing import Entry
from molfldd.molecules.preparation import Source
from molfldd.molecules.qm9 import qm9_source
from molfldd.molecules.store import MoleculeDataset
from molfldd.molecules.zinc250k import zinc250k_source
from molfldd.progress import shown

SOURCES = {"qm9": qm9_source, "zinc250k": zinc250k_source, "moses": moses_source}
MAX_LOST = 0.001


def flat_smiles(smiles: str) -> str:
    """Canonical SMILES without stereochemistry, by RDKit's own removal."""
    mol = Chem.MolFromSmiles(smiles)
    Chem.RemoveStereochemistry(mol)
    return Chem.MolToSmiles(mol)


def differing(dataset: MoleculeDataset, entries: list[Entry]) -> list[str]:
    """SMILES of the source that come back as another molecule."""
    source = dict(entries)
    different = []
    for row, number in enumerate(shown(dataset.ids.tolist(), "decoding")):
        decoded = to_smiles(decode(*dataset.graph(row), dataset.vocabulary))
        if decoded != flat_smiles(source[number]):
            different.append(source[number])
    return different


def check(source: Source, dataset: MoleculeDataset) -> int:
    """Compare all parts and print the count; how many molecules did not come back."""
    read = dataset.report.read if dataset.report else 0
    different = []
    for part, entries in source.parts.items():
        different += differing(dataset.part(part), list(entries()))
    for smiles in different:
        print(f"differs: {smiles}")
    same = len(dataset) - len(different)
    print(f"{same} of {read}")
    return read if different else read - same


def main(
    name: Annotated[
        str, typer.Argument(help="qm9, zinc250k, moses, or a file of SMILES.", metavar="NAME|FILE")
    ] = "qm9",
) -> None:
    """Check a data set; the exit status is 1 if molecules are lost."""
    source = SOURCES[name]() if name in SOURCES else file_source(Path(name), distinct=False)
    dataset = cached_dataset(source)
    if dataset.report and dataset.report.skipped:
        Console(highlight=False).print(dataset.report.table(source.name, unit(Path(name))))
    lost = check(source, dataset)
    sys.exit(lost > MAX_LOST * len(dataset))


if __name__ == "__main__":
    run_script(main)
