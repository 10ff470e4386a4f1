"""What an atom and a bond can be: the categories of a molecule graph and their codes."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self, TypeAlias

from rdkit import Chem

from molfldd.errors import MolflddError, UsageError

AtomType: TypeAlias = tuple[str, int]
"""Element symbol and formal charge, in units of the elementary charge."""

BOND_ORDERS: tuple[Chem.BondType | None, ...] = (
    None,
    Chem.BondType.SINGLE,
    Chem.BondType.DOUBLE,
    Chem.BondType.TRIPLE,
)
"""Bond categories by code 0..3; bonds are kekulized, and code 0 is no bond."""

NO_BOND = 0

_ATOM_NAME = re.compile(r"([A-Z][a-z]?)(?:([+-])(\d*))?")
_ELEMENTS = frozenset(map(Chem.GetPeriodicTable().GetElementSymbol, range(1, 119)))
_MAX_ATOM_TYPES = 256


class UnsupportedAtom(MolflddError):
    """A molecule has an atom (element and charge) that the vocabulary does not hold."""


def atom_name(atom: AtomType) -> str:
    """Name of an atom type: ``C``, ``N+``, ``O-``, ``N+2``."""
    symbol, charge = atom
    sign = "+" if charge > 0 else "-" if charge < 0 else ""
    return f"{symbol}{sign}{abs(charge) if abs(charge) > 1 else ''}"


def parse_atom_name(name: str) -> AtomType:
    """Atom type of a name, the inverse of `atom_name`.

    Raises `UsageError` if the text is not an element symbol with an optional charge.
    """
    match = _ATOM_NAME.fullmatch(name)
    if match is None or match[1] not in _ELEMENTS:
        raise UsageError(f'atom name {name!r} is not a symbol with a charge such as "N+" or "C"')
    symbol, sign, size = match.groups()
    charge = int(size or 1) if sign else 0
    return symbol, -charge if sign == "-" else charge


@dataclass(frozen=True)
class Vocabulary:
    """The atom types of a data set; the code of an atom type is its position."""

    atoms: tuple[AtomType, ...]

    def __post_init__(self) -> None:
        """Raise `MolflddError` for repeated atom types and for more than a byte can code."""
        if len(set(self.atoms)) != len(self.atoms):
            raise MolflddError(f"the vocabulary {' '.join(self.names)} names an atom type twice")
        if len(self.atoms) > _MAX_ATOM_TYPES:
            raise MolflddError(
                f"the vocabulary has {len(self.atoms)} atom types; at most {_MAX_ATOM_TYPES} fit"
            )

    def __len__(self) -> int:
        """Number of atom types."""
        return len(self.atoms)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the atom types in the order of their codes."""
        return tuple(atom_name(atom) for atom in self.atoms)

    @cached_property
    def _codes(self) -> dict[AtomType, int]:
        return {atom: code for code, atom in enumerate(self.atoms)}

    def index(self, atom: AtomType) -> int:
        """Code of an atom type; raises `UnsupportedAtom` if the vocabulary lacks it."""
        try:
            return self._codes[atom]
        except KeyError:
            raise UnsupportedAtom(
                f"atom {atom_name(atom)} is not in the vocabulary ({' '.join(self.names)}); "
                "leave the molecule out or build a vocabulary from the data that have it"
            ) from None

    def to_json(self) -> list[str]:
        """Names of the atom types, for a JSON or YAML file."""
        return list(self.names)

    @classmethod
    def from_json(cls, names: Sequence[str]) -> Self:
        """Vocabulary of a list of names; raises `UsageError` for a name it cannot read."""
        return cls(tuple(parse_atom_name(name) for name in names))

    @classmethod
    def from_counts(cls, counts: Mapping[AtomType, int]) -> Self:
        """Vocabulary of counted atom types: neutral ones first, then by frequency and name."""

        def rank(atom: AtomType) -> tuple[bool, int, str]:
            return atom[1] != 0, -counts[atom], atom_name(atom)

        return cls(tuple(sorted(counts, key=rank)))

    @classmethod
    def from_molecules(cls, mols: Iterable[Chem.Mol]) -> Self:
        """Vocabulary of the atoms of some molecules, hydrogens left out."""
        return cls.from_counts(
            Counter(
                (atom.GetSymbol(), atom.GetFormalCharge())
                for mol in mols
                for atom in mol.GetAtoms()
                if atom.GetAtomicNum() != 1
            )
        )
