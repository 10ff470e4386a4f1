"""Published samples of other systems must get the numbers known for them.

Needs the environment variable MOLFLDD_TEST_DATA: a directory with samples/digress_qm9_graphs.txt.gz
(generated QM9 graphs), samples/digress_qm9_noH.txt and samples/digress_moses.smi (SMILES, one a
line) and qm9/test_13082.smi (reference).
"""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rdkit import Chem

from molfldd.molecules import metrics
from molfldd.molecules.cached import cached_dataset
from molfldd.molecules.codec import decode, parse_smiles, to_smiles
from molfldd.molecules.evaluation import evaluate
from molfldd.molecules.fcd import fcd
from molfldd.molecules.own_files import file_source
from molfldd.report import Comparison

FOLDER = Path(os.environ.get("MOLFLDD_TEST_DATA", "."))
COUNTS = 2
FCD = 0.005

pytestmark = pytest.mark.skipif(
    "MOLFLDD_TEST_DATA" not in os.environ, reason="MOLFLDD_TEST_DATA names no directory"
)

_BONDS = {
    "1": Chem.BondType.SINGLE,
    "2": Chem.BondType.DOUBLE,
    "3": Chem.BondType.TRIPLE,
    "4": Chem.BondType.AROMATIC,
}


def read_graphs(path: Path) -> Iterator[Chem.Mol]:
    """Unsanitized molecules of records "N=9", "X:", element numbers, "E:", 9 rows of bonds."""
    with gzip.open(path, "rt") as file:
        for record in file.read().split("N=")[1:]:
            size, _, elements, _, *rows = record.split("\n")
            bonds = [row.split() for row in rows[: int(size)]]
            yield build_graph([int(element) for element in elements.split()], bonds)


def build_graph(elements: list[int], bonds: list[list[str]]) -> Chem.Mol:
    """Molecule of element numbers (0 to 3: C N O F) and a symmetric matrix of bond numbers."""
    mol = Chem.RWMol()
    for element in elements:
        mol.AddAtom(Chem.Atom("CNOF"[element]))
    for later, row in enumerate(bonds):
        for earlier, bond in enumerate(row[:later]):
            if bond != "0":
                mol.AddBond(later, earlier, _BONDS[bond])
    return mol.GetMol()


def read_lines(name: str) -> list[str]:
    return (FOLDER / name).read_text().split("\n")[:-1]


def count(smiles: list[str | None]) -> int:
    return sum(entry is not None for entry in smiles)


@pytest.fixture(scope="module")
def graphs() -> list[Chem.Mol]:
    return list(read_graphs(FOLDER / "samples" / "digress_qm9_graphs.txt.gz"))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path_factory.getbasetemp() / "acceptance-cache"))


def test_qm9_graphs(graphs: list[Chem.Mol]) -> None:
    fragments = [metrics.valid_fragment(mol) for mol in graphs]
    assert len(graphs) == 10_000
    assert count(fragments) == pytest.approx(9_921, abs=COUNTS)
    assert count([metrics.valid(mol) for mol in graphs]) == pytest.approx(9_893, abs=COUNTS)
    assert sum(map(metrics.valid_gdss, graphs)) == pytest.approx(9_949, abs=COUNTS)
    assert len(metrics.distinct(fragments)) == pytest.approx(9_611, abs=COUNTS)


def test_qm9_report(graphs: list[Chem.Mol]) -> None:
    scores = evaluate([graphs], Comparison(None, None)).mean
    assert scores["valid"] == pytest.approx(0.9893, abs=COUNTS / 10_000)
    assert scores["valid_fragment"] == pytest.approx(0.9921, abs=COUNTS / 10_000)
    assert scores["valid_gdss"] == pytest.approx(0.9949, abs=COUNTS / 10_000)


def test_qm9_smiles_are_the_same_molecules(graphs: list[Chem.Mol]) -> None:
    smiles = [parse_smiles(entry) for entry in read_lines("samples/digress_qm9_noH.txt")]
    fragments = [metrics.valid_fragment(mol) for mol in smiles]
    assert fragments == [metrics.valid_fragment(mol) for mol in graphs]


def test_qm9_fcd(graphs: list[Chem.Mol]) -> None:
    fragments = [smiles for smiles in map(metrics.valid_fragment, graphs) if smiles is not None]
    assert fcd(fragments, read_lines("qm9/test_13082.smi")) == pytest.approx(0.2785, abs=FCD)


def test_moses() -> None:
    mols = [parse_smiles(entry) for entry in read_lines("samples/digress_moses.smi")]
    assert len(mols) == 25_000
    assert count([metrics.valid(mol) for mol in mols]) == pytest.approx(21_508, abs=COUNTS)


def test_zinc250k_comes_back() -> None:
    dataset = cached_dataset(file_source(FOLDER / "zinc250k" / "part_24445.smi", distinct=False))
    assert len(dataset) == 24_445
    assert dataset.max_atoms == 38
    for row, smiles in enumerate(dataset.smiles):
        assert to_smiles(decode(*dataset.graph(row), dataset.vocabulary)) == smiles
