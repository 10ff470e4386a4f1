"""What is counted in a molecule: known ones, and that nothing is left out or counted twice."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem

from molfldd.molecules.composition import composition, parts

SMILES = [
    "c1ccccc1",
    "c1cc[nH]c1",
    "CC(=O)OC1CC1C#N",
    "C[NH3+]",
    "[O-]C(=O)C1=CCC=C1",
    "OC1C2CC1C2",
    "FC(F)(F)c1ncno1",
    "C",
]
ELEMENTS = ("C", "N", "O", "F")


def test_benzene_and_pyrrole() -> None:
    assert parts(Chem.MolFromSmiles("c1ccccc1")) == {
        "c with 1 H, 2 neighbours": 6,
        "C:C in a ring": 6,
        "aromatic ring of 6 with 0 other than C": 1,
        "1 rings in all": 1,
    }
    assert parts(Chem.MolFromSmiles("c1cc[nH]c1")) == {
        "c with 1 H, 2 neighbours": 4,
        "n with 1 H, 2 neighbours": 1,
        "C:C in a ring": 3,
        "C:N in a ring": 2,
        "aromatic ring of 5 with 1 other than C": 1,
        "1 rings in all": 1,
    }


def test_a_chain_with_a_charge() -> None:
    assert parts(Chem.MolFromSmiles("C[NH3+]")) == {
        "C with 3 H, 1 neighbours": 1,
        "N+1 with 3 H, 1 neighbours": 1,
        "C-N": 1,
        "0 rings in all": 1,
    }
    counts = composition(Chem.MolFromSmiles("C[NH3+]"), ELEMENTS)
    assert (counts["atoms"], counts["C"], counts["N"], counts["charged atoms"]) == (2, 1, 1, 1)


@given(st.sampled_from(SMILES), st.randoms())
def test_the_order_of_the_atoms_does_not_matter(smiles: str, chance: random.Random) -> None:
    mol = Chem.MolFromSmiles(smiles)
    order = list(range(mol.GetNumAtoms()))
    chance.shuffle(order)
    other = Chem.MolFromSmiles(Chem.MolToSmiles(Chem.RenumberAtoms(mol, order), canonical=False))
    assert parts(other) == parts(mol)
    assert composition(other, ELEMENTS) == composition(mol, ELEMENTS)


def test_bonds_of_other_kinds_are_counted_too() -> None:
    """Sanitizing makes the fourth bond of a nitrogen to a metal a dative one."""
    mol = Chem.MolFromSmiles("C[N](C)(C)->[Zn]")
    assert parts(mol)["N~Zn"] == 1


@pytest.mark.parametrize("smiles", SMILES)
def test_every_atom_bond_and_ring_is_counted_once(smiles: str) -> None:
    mol = Chem.MolFromSmiles(smiles)
    counts = parts(mol)
    of_atoms = sum(value for name, value in counts.items() if "neighbours" in name)
    of_rings = sum(value for name, value in counts.items() if "ring of" in name)
    in_all = sum(value for name, value in counts.items() if "in all" in name)
    assert of_atoms == mol.GetNumAtoms()
    assert of_rings == mol.GetRingInfo().NumRings()
    assert sum(counts.values()) - of_atoms - of_rings - in_all == mol.GetNumBonds()
    coarse = composition(mol, ELEMENTS)
    assert sum(coarse[element] for element in ELEMENTS) == coarse["atoms"] == mol.GetNumAtoms()
    rings = sum(value for name, value in coarse.items() if "rings" in name)
    assert rings == mol.GetRingInfo().NumRings()
