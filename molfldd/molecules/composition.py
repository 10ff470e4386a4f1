"""What molecules are made of: counts a chemist knows, and finer ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rdkit import Chem

BONDS = {
    "double bonds": Chem.BondType.DOUBLE,
    "triple bonds": Chem.BondType.TRIPLE,
    "aromatic bonds": Chem.BondType.AROMATIC,
}
"""Counted after aromaticity is perceived, so an aromatic bond is neither single nor double."""

SYMBOLS = {"SINGLE": "-", "DOUBLE": "=", "TRIPLE": "#", "AROMATIC": ":"}
"""Of bond types; others, such as the dative ones of metals, are ``~``."""


def composition(mol: Chem.Mol, elements: Sequence[str]) -> dict[str, float]:
    """Atoms by element, charges, multiple bonds, rings by size in a sanitized molecule."""
    symbols = [atom.GetSymbol() for atom in mol.GetAtoms()]
    kinds = [bond.GetBondType() for bond in mol.GetBonds()]
    rings = [len(ring) for ring in mol.GetRingInfo().AtomRings()]
    return {
        "atoms": len(symbols),
        **{element: symbols.count(element) for element in elements},
        "charged atoms": sum(atom.GetFormalCharge() != 0 for atom in mol.GetAtoms()),
        **{name: kinds.count(kind) for name, kind in BONDS.items()},
        **{f"rings of {size}": rings.count(size) for size in range(3, 8)},
        "larger rings": sum(ring > 7 for ring in rings),
        "atoms with 4 neighbours": sum(atom.GetDegree() == 4 for atom in mol.GetAtoms()),
    }


def parts(mol: Chem.Mol) -> dict[str, float]:
    """How often each kind of atom, bond and ring occurs in a sanitized molecule.

    An atom is known by its element, charge, hydrogens, neighbours and aromaticity (lower case, as
    in SMILES), a bond by its elements, its order and whether it lies in a ring, a ring by its size,
    its atoms other than carbon and whether it is aromatic. "2 rings in all" is 1 for a molecule
    that has 2.
    """
    rings = mol.GetRingInfo().AtomRings()
    kinds = [*map(_atom, mol.GetAtoms()), *map(_bond, mol.GetBonds()), *_rings(mol, rings)]
    return {**Counter(kinds), f"{len(rings)} rings in all": 1.0}


def _atom(atom: Chem.Atom) -> str:
    symbol = atom.GetSymbol().lower() if atom.GetIsAromatic() else atom.GetSymbol()
    charge = f"{atom.GetFormalCharge():+d}" if atom.GetFormalCharge() else ""
    return f"{symbol}{charge} with {atom.GetTotalNumHs()} H, {atom.GetDegree()} neighbours"


def _bond(bond: Chem.Bond) -> str:
    first, second = sorted((bond.GetBeginAtom().GetSymbol(), bond.GetEndAtom().GetSymbol()))
    where = " in a ring" if bond.IsInRing() else ""
    return f"{first}{SYMBOLS.get(str(bond.GetBondType()), '~')}{second}{where}"


def _rings(mol: Chem.Mol, rings: Sequence[Sequence[int]]) -> Iterator[str]:
    for ring in rings:
        atoms = [mol.GetAtomWithIdx(i) for i in ring]
        kind = "aromatic ring" if all(atom.GetIsAromatic() for atom in atoms) else "ring"
        others = sum(atom.GetSymbol() != "C" for atom in atoms)
        yield f"{kind} of {len(ring)} with {others} other than C"
