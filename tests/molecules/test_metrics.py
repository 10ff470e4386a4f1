"""Each definition of validity on molecules made by hand; properties on random graphs."""

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem

from molfldd.errors import MolflddError
from molfldd.molecules import metrics

BOND = {
    1: Chem.BondType.SINGLE,
    2: Chem.BondType.DOUBLE,
    3: Chem.BondType.TRIPLE,
    4: Chem.BondType.AROMATIC,
}


def build(atoms: str, *bonds: tuple[int, int, int]) -> Chem.Mol:
    """Unsanitized molecule of atoms such as "C N+ O-" and bonds (first, second, order)."""
    mol = Chem.RWMol()
    for name in atoms.split():
        atom = Chem.Atom(name.rstrip("+-"))
        atom.SetFormalCharge(name.count("+") - name.count("-"))
        mol.AddAtom(atom)
    for first, second, order in bonds:
        mol.AddBond(first, second, BOND[order])
    return mol.GetMol()


def star(center: str, arms: int) -> Chem.Mol:
    """An atom with as many methyl groups."""
    return build(" ".join([center, *["C"] * arms]), *[(0, arm, 1) for arm in range(1, arms + 1)])


def two(first: Chem.Mol, second: Chem.Mol) -> Chem.Mol:
    return Chem.CombineMols(first, second)


ETHANOL = build("C C O", (0, 1, 1), (1, 2, 1))
AMMONIUM = star("N+", 4)
BORATE = star("B-", 4)
NITRO = build("C N+ O O-", (0, 1, 1), (1, 2, 2), (1, 3, 1))
PYRIDINE = build("N C C C C C", *[(i, (i + 1) % 6, 1 + i % 2) for i in range(6)])
NOTHING = build("")

CASES = {
    #                             valid, fragment, gdss, connected
    "ethanol": (ETHANOL, "CCO", "CCO", True, True),
    "ring": (PYRIDINE, "c1ccncc1", "c1ccncc1", True, True),
    "nitro": (NITRO, "C[N+](=O)[O-]", "C[N+](=O)[O-]", True, True),
    "charge of its own": (AMMONIUM, "C[N+](C)(C)C", "C[N+](C)(C)C", True, True),
    "charge missing": (star("N", 4), None, None, True, True),
    "charge missing on O": (star("O", 3), None, None, True, True),
    "charge outside the rule": (BORATE, "C[B-](C)(C)C", "C[B-](C)(C)C", False, True),
    "two too many": (star("N", 5), None, None, False, True),
    "carbon": (star("C", 5), None, None, False, True),
    "two fragments": (two(ETHANOL, star("C", 1)), None, "CCO", True, False),
    "small one broken": (two(star("F", 2), star("C", 4)), None, "CC(C)(C)C", False, False),
    "large one broken": (two(ETHANOL, star("C", 5)), None, None, False, False),
    "not aromatic": (build("C C O", (0, 1, 4), (1, 2, 1)), None, None, True, True),
    "no atoms": (NOTHING, None, None, False, False),
    "not readable": (None, None, None, False, False),
}


@pytest.mark.parametrize("name", CASES)
def test_definitions(name: str) -> None:
    mol, valid, fragment, gdss, connected = CASES[name]
    assert metrics.valid(mol) == valid
    assert metrics.valid_fragment(mol) == fragment
    assert metrics.valid_gdss(mol) is gdss
    assert metrics.connected(mol) is connected


def test_largest_fragment_counts_atoms_and_takes_the_first_of_equals() -> None:
    long_name, many_atoms = build("Br Br", (0, 1, 1)), build("C C C", (0, 1, 1), (1, 2, 1))
    assert metrics.valid_fragment(two(long_name, many_atoms)) == "CCC"
    assert metrics.valid_fragment(two(build("N"), build("O"))) == "N"
    assert metrics.valid_fragment(two(build("O"), build("N"))) == "O"


def test_map_numbers_make_no_other_molecule() -> None:
    mapped = [Chem.MolFromSmiles(text) for text in ("CCO", "[CH3:1][CH2:2][OH:3]", "C[CH2:7]O")]
    assert metrics.distinct(map(metrics.valid, mapped)) == {"CCO"}
    assert [atom.GetAtomMapNum() for atom in mapped[1].GetAtoms()] == [1, 2, 3]


def test_smiles_have_no_stereo() -> None:
    mol = Chem.MolFromSmiles("C/C=C/[C@H](N)O")
    assert metrics.valid(mol) == metrics.valid_fragment(mol) == "CC=CC(N)O"


@pytest.mark.parametrize(
    ("mol", "charges"),
    [
        (star("N-", 4), [1, 0, 0, 0, 0]),
        (star("O", 3), [1, 0, 0, 0]),
        (star("O-", 1), [0, 0]),
        (star("S", 3), [0, 0, 0, 0]),
        (star("N", 5), [1, 0, 0, 0, 0, 0]),
        (NITRO, [0, 1, 0, 0]),
    ],
)
def test_gdss_charges_only_what_is_one_too_many(mol: Chem.Mol, charges: list[int]) -> None:
    assert [atom.GetFormalCharge() for atom in metrics.gdss_charged(mol).GetAtoms()] == charges


@pytest.mark.parametrize(
    ("mol", "smiles"),
    [
        (ETHANOL, "CCO"),
        (star("N", 4), "C[N+](C)(C)C"),
        (NITRO, "C[N+](=O)O"),
        (star("C", 5), "CC(C)(C)C"),
        (build("C O", (0, 1, 3)), "C#[O+]"),
        (build("C F", (0, 1, 3)), "CF"),
        (two(ETHANOL, star("C", 4)), "CC(C)(C)C"),
        (Chem.MolFromSmiles("c1cc[nH]c1"), "c1cc[nH]c1"),
        (NOTHING, None),
        (None, None),
    ],
)
def test_gdss_correction(mol: Chem.Mol | None, smiles: str | None) -> None:
    assert metrics.gdss_corrected(mol) == smiles


ATOMS = ["C", "N", "O", "F", "N+", "O-", "S"]


@st.composite
def random_graphs(draw: st.DrawFn) -> Chem.Mol:
    atoms = draw(st.lists(st.sampled_from(ATOMS), min_size=1, max_size=7))
    orders = st.sampled_from([0, 0, 0, 0, 1, 1, 1, 2, 3])
    drawn = [(i, j, draw(orders)) for i, j in combinations(range(len(atoms)), 2)]
    return build(" ".join(atoms), *[bond for bond in drawn if bond[2]])


@given(random_graphs())
def test_definitions_agree_with_each_other(mol: Chem.Mol) -> None:
    before = mol.ToBinary()
    valid, fragment = metrics.valid(mol), metrics.valid_fragment(mol)
    corrected = metrics.gdss_corrected(mol)
    assert mol.ToBinary() == before
    if metrics.connected(mol):
        assert valid == fragment
    else:
        assert valid is None
    for smiles in filter(None, (valid, fragment)):
        again = Chem.MolFromSmiles(smiles)
        assert metrics.valid(again) == smiles
        assert "." not in smiles
    assert corrected is not None
    assert metrics.valid(Chem.MolFromSmiles(corrected)) == corrected


@given(random_graphs(), st.randoms(use_true_random=False))
def test_order_of_atoms_does_not_matter(mol: Chem.Mol, generator: random.Random) -> None:
    order = list(range(mol.GetNumAtoms()))
    generator.shuffle(order)
    other = Chem.RenumberAtoms(mol, order)
    assert metrics.valid(other) == metrics.valid(mol)
    assert metrics.connected(other) == metrics.connected(mol)


@given(random_graphs())
def test_gdss_accepts_what_needs_no_charges(mol: Chem.Mol) -> None:
    neutral = Chem.Mol(mol)
    for atom in neutral.GetAtoms():
        atom.SetFormalCharge(0)
    assert metrics.valid_gdss(mol) == metrics.valid_gdss(neutral)
    if metrics.valid(neutral) is not None and "+" not in str(metrics.valid(neutral)):
        assert metrics.valid_gdss(mol)
        assert metrics.gdss_corrected(mol) == metrics.valid(neutral)


def test_distinct_leaves_out_what_is_not_there() -> None:
    assert metrics.distinct(["CC", None, "CC", "CO", None]) == {"CC", "CO"}


def test_novelty_ignores_stereo_on_both_sides() -> None:
    mols = [Chem.MolFromSmiles(smiles) for smiles in ("N[C@H](C)O", "N[C@@H](C)O", "CCO", "CCN")]
    training = ["C[C@@H](N)O", "CCO"]
    assert metrics.novel(map(metrics.valid, mols), training) == {"CCN"}
    assert metrics.novel(map(metrics.valid, mols), []) == {"CC(N)O", "CCO", "CCN"}


def test_without_stereo() -> None:
    assert metrics.without_stereo(r"C/C=C\C") == "CC=CC"
    assert metrics.without_stereo("CCO") == "CCO"
    with pytest.raises(MolflddError, match=r"cannot read .*'\[C@H'"):
        metrics.without_stereo("[C@H")
