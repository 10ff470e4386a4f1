import importlib.util
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem

from molfldd.errors import MolflddError
from molfldd.molecules.codec import (
    NotRepresentable,
    canonical_smiles,
    decode,
    encode,
    num_pairs,
    pair_index,
    pairs,
    parse_smiles,
    to_smiles,
    typed_graph,
)
from molfldd.molecules.qm9 import qm9_smiles
from molfldd.molecules.vocabulary import UnsupportedAtom, Vocabulary, atom_name, parse_atom_name

TRICKY = [
    "C",
    "[NH4+]",
    "c1ccccc1",
    "c1cc[nH]c1",
    "Cn1cc[nH+]c1",
    "c1ccc2[nH]cnc2c1",
    "O=[N+]([O-])c1ccccc1",
    "[C-]#[N+]C",
    "C#CC#N",
    "C[NH2+]CC(=O)[O-]",
    "O=c1[nH]c(=O)c2[nH]cnc2[nH]1",
    "c1ccc2ccc3cccc4ccc1c2c34",
    "CS(=O)(=O)N",
    "CP(=O)(O)OC",
    "FC(F)(F)Br",
    "[O-][n+]1ccccc1",
    "CN=[N+]=[N-]",
    "[Na+].[Cl-]",
    "CC(=O)O.CCN",
    "OC1CC1OC1COC1",
    "c1ncc[cH-]1",
    "C1=CC=C[CH+]C=C1",
    "F/C=C/F",
    "N[C@@H](C)C(=O)O",
    "[H]OC([H])([H])[H]",
]


def flat_smiles(smiles: str) -> str:
    """Reference: stereochemistry removed from the molecule, then written twice over."""
    mol = Chem.MolFromSmiles(smiles)
    Chem.RemoveStereochemistry(mol)
    return Chem.MolToSmiles(Chem.MolFromSmiles(Chem.MolToSmiles(mol)))


def round_trip(smiles: str) -> str | None:
    mol = parse_smiles(smiles)
    vocabulary = Vocabulary.from_molecules([mol])
    return to_smiles(decode(*encode(mol, vocabulary), vocabulary))


@pytest.mark.parametrize("smiles", TRICKY)
def test_decode_inverts_encode(smiles: str) -> None:
    assert round_trip(smiles) == flat_smiles(smiles)


def test_qm9_molecules_come_back() -> None:
    if importlib.util.find_spec("qm9pack") is None:
        pytest.skip("qm9pack is not installed")
    for _, smiles in random.Random(0).sample(qm9_smiles(), 400):
        assert round_trip(smiles) == flat_smiles(smiles)


@given(st.sampled_from(TRICKY), st.randoms(use_true_random=False))
def test_encoding_does_not_depend_on_atom_order(smiles: str, rng: random.Random) -> None:
    mol = parse_smiles(smiles)
    order = list(range(mol.GetNumAtoms()))
    rng.shuffle(order)
    vocabulary = Vocabulary.from_molecules([mol])
    expected = encode(mol, vocabulary)
    shuffled = encode(Chem.RenumberAtoms(mol, order), vocabulary)
    np.testing.assert_array_equal(shuffled.atoms, expected.atoms)
    np.testing.assert_array_equal(shuffled.bonds, expected.bonds)


@pytest.mark.parametrize("smiles", TRICKY)
def test_encoding_is_in_canonical_order(smiles: str) -> None:
    mol = parse_smiles(smiles)
    flat = Chem.Mol(mol)
    Chem.MolToSmiles(flat, isomericSmiles=False)
    order = flat.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"]
    by_order = [mol.GetAtomWithIdx(index).GetSymbol() for index in order]
    assert [symbol for symbol, _ in typed_graph(mol)[1].atoms] == by_order


def test_known_codes() -> None:
    vocabulary = Vocabulary.from_json(["C", "N", "O"])
    graph = encode(Chem.MolFromSmiles("C#CC=O"), vocabulary)
    assert canonical_smiles(Chem.MolFromSmiles("C#CC=O")) == "C#CC=O"
    assert graph.atoms.tolist() == [0, 0, 0, 2]
    bonds = {(0, 1): 3, (0, 2): 0, (1, 2): 1, (0, 3): 0, (1, 3): 0, (2, 3): 2}
    assert all(graph.bonds[pair_index(i, j)] == code for (i, j), code in bonds.items())


@given(st.integers(0, 60))
def test_pairs_invert_pair_index(n: int) -> None:
    first, second = pairs(n)
    assert len(first) == len(second) == num_pairs(n)
    assert all(first < second)
    assert [pair_index(i, j) for i, j in zip(first, second, strict=True)] == list(
        range(num_pairs(n))
    )


@given(st.integers(0, 30), st.integers(0, 30))
def test_pairs_of_a_smaller_molecule_come_first(n: int, more: int) -> None:
    for small, large in zip(pairs(n), pairs(n + more), strict=True):
        np.testing.assert_array_equal(small, large[: num_pairs(n)])


@given(st.integers(0, 100), st.integers(0, 100))
def test_pair_index_is_symmetric(i: int, j: int) -> None:
    assert pair_index(i, j) == pair_index(j, i)


@pytest.mark.parametrize(
    "smiles", ["[CH3]", "[13CH4]", "[2H]C", "[Cu]<-N", "*C", "[CH3:1]O", "O=[SH2]"]
)
def test_what_a_graph_cannot_say_is_refused(smiles: str) -> None:
    mol = parse_smiles(smiles)
    with pytest.raises(NotRepresentable):
        encode(mol, Vocabulary.from_molecules([mol]))


def test_atom_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(UnsupportedAtom, match=r"atom N\+ is not in the vocabulary \(C O\)"):
        encode(parse_smiles("C[NH3+]"), Vocabulary.from_json(["C", "O"]))


def test_impossible_valence_has_no_smiles() -> None:
    vocabulary = Vocabulary.from_json(["C", "F"])
    atoms = np.array([1, 0, 0], np.uint8)
    mol = decode(atoms, np.array([3, 0, 1], np.uint8), vocabulary)
    assert to_smiles(mol) is None
    assert to_smiles(Chem.Mol()) is None


def test_charge_of_the_model_is_kept() -> None:
    vocabulary = Vocabulary.from_json(["C", "N+"])
    bonds = np.array([1], np.uint8)
    assert to_smiles(decode(np.array([0, 1], np.uint8), bonds, vocabulary)) == "C[NH3+]"


def test_padding_left_on_is_an_error() -> None:
    with pytest.raises(MolflddError, match="cut the padding"):
        decode(np.zeros(2, np.uint8), np.zeros(3, np.uint8), Vocabulary.from_json(["C"]))


@given(st.sampled_from(["C", "Cl", "Na"]), st.integers(-4, 4))
def test_atom_names_invert(symbol: str, charge: int) -> None:
    assert parse_atom_name(atom_name((symbol, charge))) == (symbol, charge)


def test_vocabulary_order_and_json() -> None:
    mols = [Chem.MolFromSmiles(smiles) for smiles in ("CCO", "[O-]C", "C[NH3+]", "[O-]CN")]
    vocabulary = Vocabulary.from_molecules(mols)
    assert vocabulary.names == ("C", "N", "O", "O-", "N+")
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    assert vocabulary.index(("O", -1)) == 3


@pytest.mark.parametrize("names", [["C", "C"], ["c"], ["N++"], [""], ["C", "Xx"]])
def test_bad_vocabularies_are_refused(names: list[str]) -> None:
    with pytest.raises(MolflddError):
        Vocabulary.from_json(names)
