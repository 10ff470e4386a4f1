"""Molecule <-> graph of codes, losing nothing but stereochemistry.

A molecule of n atoms is n atom codes and one bond code for each unordered pair of atoms. The
pair (i, j), i < j, has the index j (j - 1) / 2 + i. So the pairs of the first n atoms are the
first n (n - 1) / 2 pairs of any larger molecule, and padding is a suffix of atoms and of bonds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.rdBase import BlockLogs

from molfldd.errors import MolflddError
from molfldd.molecules.vocabulary import BOND_ORDERS, NO_BOND, AtomType, Vocabulary

Codes = NDArray[np.uint8]

_BOND_CODES = {order: code for code, order in enumerate(BOND_ORDERS) if order is not None}


class NotRepresentable(MolflddError):
    """Atom types and bond orders do not determine this molecule: radicals, isotopes, and such."""


class MoleculeGraph(NamedTuple):
    """A molecule as codes: `atoms` (n,) uint8, `bonds` (n (n - 1) / 2,) uint8 in pair order."""

    atoms: Codes
    bonds: Codes


class TypedGraph(NamedTuple):
    """A molecule before a vocabulary is known: n atom types, `bonds` as in `MoleculeGraph`."""

    atoms: tuple[AtomType, ...]
    bonds: Codes


def num_pairs(n: int) -> int:
    """Number of unordered pairs of n atoms."""
    return n * (n - 1) // 2


def pair_index(i: int, j: int) -> int:
    """Index of the unordered pair of the two different atoms i and j."""
    low, high = sorted((i, j))
    return num_pairs(high) + low


def pairs(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both atoms (i, j), i < j, of each pair in pair order: two arrays (n (n - 1) / 2,)."""
    j, i = np.tril_indices(n, -1)
    return i, j


def parse_smiles(smiles: str) -> Chem.Mol | None:
    """Sanitized molecule of a SMILES, or None if RDKit cannot read it or it has no atoms."""
    with BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    return mol if mol is not None and mol.GetNumAtoms() else None


def canonical_smiles(mol: Chem.Mol) -> str:
    """Canonical SMILES of a sanitized molecule without stereochemistry and isotopes."""
    return Chem.MolToSmiles(mol, isomericSmiles=False)


def to_smiles(mol: Chem.Mol) -> str | None:
    """Stereo-free canonical SMILES; None if the molecule is empty or fails sanitization.

    Takes a molecule as `decode` returns it and leaves it unchanged.
    """
    clean = Chem.Mol(mol)
    with BlockLogs():
        failed = Chem.SanitizeMol(clean, catchErrors=True)
    return None if failed or not clean.GetNumAtoms() else canonical_smiles(clean)


def disassemble(mol: Chem.Mol) -> TypedGraph:
    """Atom types and bonds of a sanitized molecule in its own atom order, kekulized.

    Raises `NotRepresentable` for a bond that is not single, double or triple.
    """
    kekulized = Chem.Mol(mol)
    Chem.Kekulize(kekulized, clearAromaticFlags=True)
    atoms = tuple((atom.GetSymbol(), atom.GetFormalCharge()) for atom in kekulized.GetAtoms())
    bonds = np.zeros(num_pairs(len(atoms)), np.uint8)
    for bond in kekulized.GetBonds():
        code = _BOND_CODES.get(bond.GetBondType())
        if code is None:
            raise NotRepresentable(
                f"{canonical_smiles(mol)} has a bond of type {bond.GetBondType().name.lower()}; "
                "only single, double and triple bonds are supported"
            )
        bonds[pair_index(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())] = code
    return TypedGraph(atoms, bonds)


def assemble(atoms: Sequence[AtomType], bonds: Codes) -> Chem.Mol:
    """Unsanitized molecule of n atom types and (n (n - 1) / 2,) bond codes, hydrogens implicit."""
    mol = Chem.RWMol()
    for symbol, charge in atoms:
        atom = Chem.Atom(symbol)
        atom.SetFormalCharge(charge)
        mol.AddAtom(atom)
    first, second = pairs(len(atoms))
    for pair in np.flatnonzero(bonds != NO_BOND):
        mol.AddBond(int(first[pair]), int(second[pair]), BOND_ORDERS[bonds[pair]])
    return mol.GetMol()


def _is_labelled(atom: Chem.Atom) -> bool:
    return bool(atom.GetIsotope() or atom.GetAtomMapNum() or not atom.GetAtomicNum())


def _settled(mol: Chem.Mol) -> Chem.Mol | None:
    """The molecule as its canonical SMILES gives it; None if that cannot be read.

    A hydrogen that is there for a stereo bond is gone only after the first reading.
    """
    text = canonical_smiles(mol)
    read = parse_smiles(text)
    again = text if read is None else canonical_smiles(read)
    return read if again == text else parse_smiles(again)


def typed_graph(mol: Chem.Mol) -> tuple[str, TypedGraph]:
    """Stereo-free canonical SMILES of a sanitized molecule and its graph in the SMILES' order.

    The graph is read from the SMILES, so it does not depend on the atom order of `mol`.
    Raises `NotRepresentable` if `assemble` would not give the same molecule back.
    """
    if any(_is_labelled(atom) for atom in mol.GetAtoms()):
        raise NotRepresentable(
            f"{Chem.MolToSmiles(mol)} has isotopes, map numbers or wildcards; remove them first"
        )
    canonical = _settled(mol)
    if canonical is None:
        raise NotRepresentable("the molecule is empty or RDKit cannot read its own SMILES back")
    smiles = canonical_smiles(canonical)
    graph = disassemble(canonical)
    if to_smiles(assemble(*graph)) != smiles:
        raise NotRepresentable(
            f"{smiles} has radicals or unusual hydrogen counts, which atom types and bond orders "
            "do not determine; leave it out"
        )
    return smiles, graph


def encode(mol: Chem.Mol, vocabulary: Vocabulary) -> MoleculeGraph:
    """Graph of a sanitized molecule in canonical order, without stereochemistry and hydrogens.

    Raises `UnsupportedAtom` for an atom outside the vocabulary and `NotRepresentable` for a
    molecule that `decode` would not give back.
    """
    _, (atoms, bonds) = typed_graph(mol)
    return MoleculeGraph(np.array([vocabulary.index(atom) for atom in atoms], np.uint8), bonds)


def decode(atoms: Codes, bonds: Codes, vocabulary: Vocabulary) -> Chem.Mol:
    """Unsanitized molecule of (n,) atom codes and (n (n - 1) / 2,) bond codes.

    The charges are those of the atom types; `Chem.SanitizeMol` then computes the hydrogens.
    Raises `MolflddError` if the two lengths do not belong together.
    """
    if len(bonds) != num_pairs(len(atoms)):
        raise MolflddError(
            f"{len(atoms)} atoms have {num_pairs(len(atoms))} pairs, but {len(bonds)} bond codes "
            "were given; cut the padding off both"
        )
    return assemble([vocabulary.atoms[code] for code in atoms], bonds)
