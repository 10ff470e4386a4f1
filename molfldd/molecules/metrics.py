"""Validity of single molecules, and uniqueness and novelty of sets of them.

A generated molecule is a `Chem.Mol`, usually unsanitized and possibly in several fragments, or
None where nothing could be read. No function changes its argument. A SMILES that stands for a
molecule in a set is canonical and without stereochemistry.
"""

from collections.abc import Iterable

from rdkit import Chem
from rdkit.rdBase import BlockLogs

from molfldd.errors import MolflddError
from molfldd.molecules.codec import canonical_smiles, parse_smiles, to_smiles

GDSS_VALENCES = {"N": 3, "O": 2, "S": 2}
"""Valences of the GDSS charge rule; RDKit allows sulphur 3, so the rule never meets it."""

_STEREO_MARKS = frozenset("@/\\")


def connected(mol: Chem.Mol | None) -> bool:
    """Whether the molecule is exactly one fragment, whatever its valences."""
    return mol is not None and len(Chem.GetMolFrags(mol)) == 1


def valid(mol: Chem.Mol | None) -> str | None:
    """SMILES of a valid molecule, else None.

    Valid: at least one atom, one fragment, passes full sanitization with the charges it has, and
    its SMILES can be parsed again.
    """
    return valid_fragment(mol) if connected(mol) else None


def valid_fragment(mol: Chem.Mol | None) -> str | None:
    """SMILES of the largest fragment if that fragment is `valid`, else None.

    The largest fragment has the most atoms; of several, it is the first. Map numbers of its atoms
    are no part of it.
    """
    if mol is None or mol.GetNumAtoms() == 0:
        return None
    fragment = _largest_fragment(mol)
    for atom in fragment.GetAtoms():
        atom.SetAtomMapNum(0)
    smiles = to_smiles(fragment)
    again = None if smiles is None else parse_smiles(smiles)
    return None if again is None else canonical_smiles(again)


def _largest_fragment(mol: Chem.Mol) -> Chem.Mol:
    with BlockLogs():
        fragments: tuple[Chem.Mol, ...] = Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False)
    return max(fragments, key=Chem.Mol.GetNumAtoms)


def valid_gdss(mol: Chem.Mol | None) -> bool:
    """Whether no valence is too high after `gdss_charged`; several fragments are allowed.

    This is the convention of GDSS and MoFlow. It asks for neither rings that can be aromatic nor
    one fragment. A molecule without atoms is not valid.
    """
    if mol is None or mol.GetNumAtoms() == 0:
        return False
    return _overloaded_atom(gdss_charged(mol)) is None


def gdss_charged(mol: Chem.Mol) -> Chem.RWMol:
    """The elements and bonds of a molecule with the charges that GDSS gives them.

    Its own charges are dropped. The bonds come in one by one, in the order of their later atom;
    when RDKit then refuses the valence of an N, O or S that is one too high, it gets the charge
    +1. The result is unsanitized, its bonds kekulized where they can be.
    """
    kekulized = _kekulized(mol)
    charged = Chem.RWMol()
    for atom in kekulized.GetAtoms():
        charged.AddAtom(Chem.Atom(atom.GetSymbol()))
    for later, earlier, bond_type in sorted(_bonds(kekulized), key=lambda bond: bond[:2]):
        charged.AddBond(later, earlier, bond_type)
        refused = _overloaded_atom(charged)
        if refused is not None and _valence(refused) - 1 == GDSS_VALENCES.get(refused.GetSymbol()):
            refused.SetFormalCharge(1)
    return charged


def gdss_corrected(mol: Chem.Mol | None) -> str | None:
    """SMILES of what GDSS makes of any molecule; None if there are no atoms or RDKit refuses it.

    After `gdss_charged`, the strongest bond of the first atom with too high a valence becomes
    weaker by one until none is too high. Of several fragments, the one with the longest SMILES
    is kept.
    """
    if mol is None or mol.GetNumAtoms() == 0:
        return None
    corrected = gdss_charged(mol)
    while (atom := _overloaded_atom(corrected)) is not None:
        _weaken(corrected, max(atom.GetBonds(), key=Chem.Bond.GetBondTypeAsDouble))
    largest = parse_smiles(max(Chem.MolToSmiles(corrected).split("."), key=len))
    return None if largest is None else canonical_smiles(largest)


def _kekulized(mol: Chem.Mol) -> Chem.Mol:
    """Copy without aromatic bonds if RDKit can place the double bonds, else an equal copy."""
    copy = Chem.Mol(mol)
    with BlockLogs():
        copy.UpdatePropertyCache(strict=False)
        Chem.KekulizeIfPossible(copy, clearAromaticFlags=True)
    return copy


def _bonds(mol: Chem.Mol) -> Iterable[tuple[int, int, Chem.BondType]]:
    """Later atom, earlier atom and type of each bond."""
    for bond in mol.GetBonds():
        first, second = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        yield max(first, second), min(first, second), bond.GetBondType()


def _overloaded_atom(mol: Chem.Mol) -> Chem.Atom | None:
    """First atom whose valence RDKit refuses as too high, or None."""
    with BlockLogs():
        problems = Chem.DetectChemistryProblems(mol, Chem.SanitizeFlags.SANITIZE_PROPERTIES)
    return mol.GetAtomWithIdx(problems[0].GetAtomIdx()) if problems else None


def _valence(atom: Chem.Atom) -> float:
    """Sum of the bond orders of an atom, without hydrogens."""
    return float(sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()))


def _weaken(mol: Chem.RWMol, bond: Chem.Bond) -> None:
    """Lower the order of a bond by one; a single bond goes."""
    weaker = {
        Chem.BondType.TRIPLE: Chem.BondType.DOUBLE,
        Chem.BondType.DOUBLE: Chem.BondType.SINGLE,
    }.get(bond.GetBondType())
    first, second = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    mol.RemoveBond(first, second)
    if weaker is not None:
        mol.AddBond(first, second, weaker)


def has_stereo(smiles: str) -> bool:
    """Whether a SMILES says anything about stereochemistry."""
    return not _STEREO_MARKS.isdisjoint(smiles)


def without_stereo(smiles: str) -> str:
    """Canonical SMILES without stereochemistry; one that has none is taken to be canonical.

    So a list that is canonical already costs nothing. Raises `MolflddError` if a SMILES with
    stereochemistry cannot be parsed.
    """
    if not has_stereo(smiles):
        return smiles
    mol = parse_smiles(smiles)
    if mol is None:
        raise MolflddError(f"RDKit cannot read the SMILES {smiles!r}; remove it from the list")
    return canonical_smiles(mol)


def distinct(smiles: Iterable[str | None]) -> set[str]:
    """The different SMILES; None is nobody's."""
    return {entry for entry in smiles if entry is not None}


def novel(smiles: Iterable[str | None], training: Iterable[str]) -> set[str]:
    """The different SMILES that are no training molecule.

    `training` holds canonical SMILES; stereochemistry in them is ignored as `without_stereo` does.
    """
    return distinct(smiles) - {without_stereo(entry) for entry in training}
