"""What the invalid molecules of a model are, and which step of the generation broke them.

Every invalid molecule is put down to its first problem: a valence that is too high, a ring that
cannot be kekulized or aromatic, or several fragments. A valence broke in the first step after
which no element (or, once it was drawn, not the element of the atom) could carry the bonds drawn
so far. If that step drew two or more of the bonds and the element, it drew together what is not
independent; if it drew one, the network knew the others and erred.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Annotated

import torch
import typer
from loading import molecule_model
from rdkit import Chem
from rdkit.rdBase import BlockLogs
from rich.console import Console
from rich.table import Table
from torch import Tensor

from molfldd.cli.running import run_script
from molfldd.core.sampling import Samples
from molfldd.model import Manner, batches
from molfldd.molecules.codec import pair_index
from molfldd.molecules.metrics import connected, valid

console = Console(soft_wrap=True, highlight=False)
TOGETHER = "drawn together with what it contradicts"
ALONE = "drawn against what was already there"


def reveal_steps(drawn: Samples, block: str) -> Tensor:
    """The step t at which every element took its final value, (B, n)."""
    states = torch.stack([state[block] for state in drawn.trajectory])
    changed = states[1:] != states[:-1]
    steps = torch.arange(len(changed), 0, -1)[:, None, None]
    return torch.where(changed, steps, len(changed)).amin(0)


def overloaded_atom(mol: Chem.Mol) -> int | None:
    """Index of the first atom whose valence is too high."""
    with BlockLogs():
        problems = Chem.DetectChemistryProblems(mol)
    found = [p.GetAtomIdx() for p in problems if p.GetType() == "AtomValenceException"]
    return found[0] if found else None


@cache
def capacity(symbol: str, charge: int) -> int:
    """The largest sum of bond orders that an atom can carry."""
    for bonds in range(8, 0, -1):
        mol = Chem.RWMol()
        atom = Chem.Atom(symbol)
        atom.SetFormalCharge(charge)
        atom.SetNumExplicitHs(bonds)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
        if overloaded_atom(mol) is None:
            return bonds
    return 0


def breaking(
    orders: list[tuple[int, float]], drawn: int, own: int, largest: int
) -> tuple[int, int]:
    """When a valence broke, and how many of the bonds and the element that step drew.

    Args:
        orders: Step and order of every bond of the atom.
        drawn: Step of its element.
        own: What the element can carry.
        largest: What any element can carry.
    """
    for step in sorted({drawn, *(t for t, _ in orders)}, reverse=True):
        carried = sum(order for t, order in orders if t >= step)
        if carried > (own if drawn >= step else largest):
            return step, sum(t == step for t, _ in orders) + (drawn == step)
    raise AssertionError("the valence is not too high")


def verdict(
    mol: Chem.Mol, atoms: Tensor, bonds: Tensor, largest: int
) -> tuple[str, str, int | None]:
    """The problem of an invalid molecule, how it came about, and the step that made it.

    Args:
        mol: The molecule.
        atoms: Step at which each atom was drawn, (n,).
        bonds: Step at which each pair was drawn, (P,).
        largest: The largest sum of bond orders that any element can carry.
    """
    index = overloaded_atom(mol)
    if index is None:
        return ("several fragments" if not connected(mol) else "ring or aromaticity"), "", None
    atom = mol.GetAtomWithIdx(index)
    orders = [
        (int(bonds[pair_index(index, b.GetOtherAtomIdx(index))]), b.GetBondTypeAsDouble())
        for b in atom.GetBonds()
    ]
    own = capacity(atom.GetSymbol(), atom.GetFormalCharge())
    step, count = breaking(orders, int(atoms[index]), own, largest)
    return f"valence of {atom.GetSymbol()}", TOGETHER if count > 1 else ALONE, step


def main(
    model: Annotated[str, typer.Option(help="An embedded model or a checkpoint.")] = "qm9",
    num: Annotated[int, typer.Option(min=1, help="Molecules to generate.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the molecules.")] = 0,
    joint: Annotated[
        str | None, typer.Option(help="How steps draw their elements together.")
    ] = None,
) -> None:
    """Print the problems by kind, and the steps at which valences broke."""
    loaded, domain = molecule_model(model)
    loaded = loaded.drawing(Manner(joint))
    largest = max(capacity(*atom) for atom in domain.vocabulary.atoms)
    problems: Counter[tuple[str, str]] = Counter()
    broken: Counter[int] = Counter()
    for rows in batches(num, 500):
        drawn = loaded.sampler.sample(seed, rows, keep_trajectory=True)
        atoms, bonds = reveal_steps(drawn, "atoms"), reveal_steps(drawn, "bonds")
        for i, mol in enumerate(loaded.domain.samples(drawn)):
            if valid(mol) is None:
                problem, how, step = verdict(mol, atoms[i], bonds[i], largest)
                problems[problem, how] += 1
                if step is not None:
                    broken[step] += 1
    table = Table("problem", "how", "molecules", "% of all")
    for (problem, how), count in problems.most_common():
        table.add_row(problem, how, str(count), f"{100 * count / num:.2f}")
    console.print(table)
    steps = ", ".join(f"t = {t}: {broken[t]}" for t in sorted(broken, reverse=True))
    console.print(f"valences broken at {steps or 'no step'}")


if __name__ == "__main__":
    run_script(main)
