"""The data sets known by name: QM9, ZINC250k and MOSES, from stand-ins for what is published."""

import dataclasses
import gzip
import hashlib
import importlib.metadata
import importlib.util
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molfldd.download import Download
from molfldd.errors import MolflddError, UsageError
from molfldd.molecules import zinc250k
from molfldd.molecules.cached import build_dataset
from molfldd.molecules.codec import decode, to_smiles
from molfldd.molecules.datasets import DATASETS, Published, load_dataset, load_file
from molfldd.molecules.domain import MoleculeData, comparison_with
from molfldd.molecules.fcd import reference_statistics
from molfldd.molecules.moses import PARTS, moses_source, moses_statistics
from molfldd.molecules.qm9 import load_qm9
from molfldd.molecules.splits import split

pytestmark = pytest.mark.usefixtures("cache")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'qm10'; known are: qm9, zinc250k, moses, file"):
        load_dataset("qm10")


def test_qm9_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MolflddError, match=r'pip install "molfldd\[qm9\]"'):
        load_qm9()


def test_qm9_is_read_in_the_order_of_its_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    header = "XYZ_file,Index,SMILES,Elements\n"
    (tmp_path / "a.csv").write_text(header + '"x",7,"CCO","[\'C\',\'O\']"\n"x",2,"N","[]"\n')
    (tmp_path / "b.csv").write_text(header + '"x",1,"C","[]"\n')
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    monkeypatch.setattr("molfldd.molecules.qm9._qm9_files", lambda: files)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1")
    made = load_dataset("qm9")
    assert made.smiles == ["C", "N", "CCO"]
    assert made.ids.tolist() == [1, 2, 7]
    (tmp_path / "a.csv").unlink()
    assert load_dataset("qm9").fingerprint == made.fingerprint


# --- ZINC250k


ZINC = 'smiles,logP,qed\n"CC(C)O\n",1.0,0.5\n"C[NH2+]C\n",1.0,0.5\n"OC(C)C\n",1,1\n"CCBr\n",1,1\n'


@pytest.fixture
def zinc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A csv file that passes for the published one, and its index file; nothing is downloaded."""
    path = tmp_path / "zinc.csv"
    path.write_text(ZINC)
    (tmp_path / "test.json").write_text("[0, 3]")
    published = dataclasses.replace(
        zinc250k.ZINC250K, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
    )
    places = {published: path, zinc250k.ZINC250K_TEST: tmp_path / "test.json"}
    monkeypatch.setattr(zinc250k, "ZINC250K", published)
    monkeypatch.setattr(zinc250k, "fetch", lambda file: places[file])
    info = DATASETS["zinc250k"]
    known = Published(published.sha256, zinc250k.load_zinc250k)
    monkeypatch.setitem(DATASETS, "zinc250k", dataclasses.replace(info, published=known))
    return path


def test_zinc250k_has_its_rows_and_its_test_set(zinc: Path) -> None:
    train, test = MoleculeData("zinc250k").load()
    assert train.smiles == ["C[NH2+]C", "CC(C)O"]
    assert train.ids.tolist() == [2, 3]
    assert test.smiles == ["CC(C)O", "CCBr"]
    assert train.vocabulary.names == ("C", "O", "Br", "N+")


def test_a_copy_of_zinc250k_is_zinc250k(zinc: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.csv"
    copy.write_bytes(zinc.read_bytes())
    whole = load_dataset("zinc250k")
    mine = MoleculeData("zinc250k", path=str(copy))
    assert mine.load_all().fingerprint == whole.fingerprint
    assert mine.load()[1].smiles == ["CC(C)O", "CCBr"]


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [({"max_atoms": 3}, {"C[NH2+]C", "CCBr"}), ({"atoms": ("C", "O")}, {"CC(C)O"})],
)
def test_of_a_copy_molecules_can_be_left_out(
    zinc: Path, capsys: pytest.CaptureFixture[str], chosen: dict[str, Any], kept: set[str]
) -> None:
    mine = MoleculeData("zinc250k", path=str(zinc), **chosen)
    assert set(mine.load_all().smiles) == kept
    assert "is read as any file, not as zinc250k" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no column 'structure'"):
        MoleculeData("zinc250k", path=str(zinc), smiles_column="structure").load_all()


def test_another_file_is_not_zinc250k(
    zinc: Path, chains: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.smi"
    other.write_text("\n".join(chains))
    _, test = MoleculeData("zinc250k", path=str(other)).load()
    assert set(test.smiles) == set(split(load_file(other))[1].smiles)
    assert "other.smi is not the published file of zinc250k" in capsys.readouterr().err


def test_zinc250k_can_be_divided_by_hash(zinc: Path) -> None:
    train, test = MoleculeData("zinc250k", split="hash", test_fraction=0.5).load()
    assert not set(train.smiles) & set(test.smiles)


def test_the_published_files_are_named_by_checksum_and_mirrors() -> None:
    for file in (zinc250k.ZINC250K, zinc250k.ZINC250K_TEST):
        assert isinstance(file, Download)
        assert len(bytes.fromhex(file.sha256)) == 32
        assert len(set(file.urls)) >= 2
        assert all(url.startswith("https://") for url in file.urls)


# --- MOSES


class FakeDistribution:
    """An installed package whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_file(self, path: str) -> Path:
        return self.folder / path


@pytest.fixture
def moses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site" / "moses" / "dataset" / "data"
    folder.mkdir(parents=True)
    for part, lines in {
        "train": "SMILES\nCCO\nCS\nCCO\n",
        "test": "SMILES\nCCCl\n",
        "test_scaffolds": "SMILES\nc1ccccc1\n",
    }.items():
        (folder / f"{part}.csv.gz").write_bytes(gzip.compress(lines.encode()))
    found = FakeDistribution(tmp_path / "site")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: found)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1")
    return folder


def test_moses_has_its_own_parts(moses: Path) -> None:
    train, test = MoleculeData("moses").load()
    assert train.smiles == ["CCO", "CS", "CCO"]
    assert test.smiles == ["CCCl"]
    assert load_dataset("moses").part("test_scaffolds").smiles == ["c1ccccc1"]
    assert train.max_atoms == test.max_atoms == 6


def test_moses_brings_the_statistics_of_its_test_part(
    moses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path / "cache"))
    brought = {"mu": np.arange(3.0), "sigma": np.eye(3)}
    stats = {"FCD": brought, "SNN": {"fps": np.zeros((7, 2))}}
    np.savez(moses / "test_stats.npz", stats=np.array(stats, dtype=object))
    assert moses_statistics("test") is None  # not the published file, so it is not opened
    checksum = hashlib.sha256((moses / "test_stats.npz").read_bytes()).hexdigest()
    monkeypatch.setattr("molfldd.molecules.moses._STATISTICS_SHA256", {"test": checksum})
    assert comparison_with("moses").reference == ["CCCl"]
    found = reference_statistics(["CCCl"])
    assert found.count == 7
    assert (found.mean == brought["mu"]).all()
    assert (found.covariance == brought["sigma"]).all()
    mine = tmp_path / "mine.smi"
    mine.write_text("\n".join("C" * n for n in range(1, 40)))
    own = MoleculeData("moses", path=str(mine), test_fraction=0.4)
    compared = comparison_with("moses", own).reference
    assert compared is not None
    assert reference_statistics(compared).count == len(compared)


def test_a_part_can_be_the_reference(moses: Path) -> None:
    (moses / "test_scaffolds_stats.npz").write_bytes(b"")  # not the published file
    compared = comparison_with("moses:test_scaffolds")
    assert (compared.reference, compared.training) == (["c1ccccc1"], ["CCO", "CS", "CCO"])
    with pytest.raises(UsageError, match="no part 'valid'; known are: train, test, test_scaffolds"):
        comparison_with("moses:valid")


def test_moses_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(MolflddError, match="pip install --no-deps molsets"):
        load_dataset("moses")


def test_moses_with_a_file_missing(moses: Path) -> None:
    (moses / "test.csv.gz").unlink()
    with pytest.raises(MolflddError, match=r"has no test\.csv\.gz; reinstall"):
        load_dataset("moses")


@pytest.mark.skipif(
    importlib.util.find_spec("moses") is None, reason="pip install --no-deps molsets"
)
@pytest.mark.parametrize("part", PARTS)
def test_the_molecules_of_moses_come_back_from_their_codes(part: str) -> None:
    """The first thousand of each part of the real data set, which are written canonically."""
    smiles = [entry for _, entry in islice(moses_source().parts[part](), 1000)]
    dataset, report = build_dataset(part, smiles)
    assert (report.read, report.kept) == (1000, 1000)
    back = [to_smiles(decode(*dataset.graph(row), dataset.vocabulary)) for row in range(1000)]
    assert back == dataset.smiles
    assert sum(a == b for a, b in zip(back, smiles, strict=True)) >= 990  # RDKit's way may change
    statistics = moses_statistics(part)
    assert (statistics is None) == (part == "train")
    assert statistics is None or statistics.mean.shape == (512,)
