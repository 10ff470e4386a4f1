"""Data sets: in memory, from the cache, and how they are divided."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from molfldd.errors import MolflddError, UsageError
from molfldd.molecules.cached import build_dataset, cache_file, cached_dataset
from molfldd.molecules.codec import decode, to_smiles
from molfldd.molecules.domain import MoleculeData
from molfldd.molecules.preparation import Source
from molfldd.molecules.ragged import Ragged
from molfldd.molecules.splits import split, split_by_file
from molfldd.molecules.store import MoleculeDataset
from molfldd.molecules.vocabulary import Vocabulary
from molfldd.splitting import in_test_split

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def dataset(chains: list[str]) -> MoleculeDataset:
    return build_dataset("chains", chains, ids=range(1, len(chains) + 1))[0]


def test_every_graph_decodes_to_its_smiles(dataset: MoleculeDataset) -> None:
    for index, smiles in enumerate(dataset.smiles):
        assert to_smiles(decode(*dataset.graph(index), dataset.vocabulary)) == smiles


def test_padding_is_zero(dataset: MoleculeDataset) -> None:
    for row, n in enumerate(dataset.sizes.astype(int)):
        assert not dataset.atoms[row, n:].any()
        assert not dataset.bonds[row, n * (n - 1) // 2 :].any()


def test_text_is_ragged(dataset: MoleculeDataset, chains: list[str]) -> None:
    assert isinstance(dataset.text, Ragged)
    assert list(dataset.iterate_smiles()) == dataset.smiles == chains


def test_broken_lines_are_counted_and_not_fatal() -> None:
    lines = ["CCO", "", "C1CC", "xyz", "[CH3]", "CF", "C" * 256, "CN"]
    made, report = build_dataset("lines", lines, Vocabulary.from_json(["C", "O", "N"]), range(8))
    assert made.smiles == ["CCO", "CN"]
    assert made.ids is not None
    assert made.ids.tolist() == [0, 7]
    assert (report.read, report.kept) == (8, 2)
    assert report.skipped == {
        "not a SMILES": 2,
        "without a SMILES": 1,
        "with radicals, isotopes, map numbers, wildcards or special bonds": 1,
        "with F, not in the vocabulary": 1,
        "with more than 255 atoms": 1,
    }
    assert str(report).startswith("8 read, 2 kept, 6 skipped (2 not a SMILES, 1 with F,")


def test_nothing_usable_is_an_error() -> None:
    with pytest.raises(MolflddError, match="no molecule of junk can be used"):
        build_dataset("junk", ["C1CC", ""])


def test_fingerprint_sees_every_part(dataset: MoleculeDataset) -> None:
    rows = np.arange(len(dataset))
    assert dataset.subset(rows).fingerprint == dataset.fingerprint
    assert dataset.subset(rows[::-1]).fingerprint != dataset.fingerprint
    for changed in (
        {"atoms": dataset.atoms ^ 1},
        {"bonds": dataset.bonds ^ 1},
        {"sizes": dataset.sizes - 1},
        {"text": dataset.text.take(rows[::-1])},
        {"ids": dataset.ids + 1},
        {"vocabulary": Vocabulary(dataset.vocabulary.atoms[::-1])},
    ):
        assert dataclasses.replace(dataset, **changed).fingerprint != dataset.fingerprint


def test_fingerprint_does_not_drift() -> None:
    made = build_dataset("a", ["CCO", "N", "C[N+](C)(C)C"], ids=[1, 2, 7])[0]
    assert made.fingerprint == "517313dd4c68d9f99349c194517738f1937873fdc67db343f493931ab774a2e0"


def test_consecutive_rows_are_shared(dataset: MoleculeDataset) -> None:
    part = dataset.subset(range(20, 60))
    assert part.smiles == dataset.smiles[20:60]
    assert np.shares_memory(part.bonds, dataset.bonds)
    assert np.shares_memory(part.text.values, dataset.text.values)
    assert part.graph(3).atoms.tolist() == dataset.graph(23).atoms.tolist()


def test_size_histogram(dataset: MoleculeDataset) -> None:
    histogram = dataset.size_histogram()
    assert histogram.shape == (dataset.max_atoms + 1,)
    assert histogram.sum() == len(dataset)
    assert histogram[1] == 1
    part = dataset.subset([0]).size_histogram()
    assert part.shape == histogram.shape
    assert part.sum() == 1


def test_a_known_data_set_that_is_whole_needs_no_report(
    dataset: MoleculeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    MoleculeData("qm9").show_report(dataset)
    assert capsys.readouterr().err == ""


# --- the cache


def counting_source(builds: list[int]) -> Source:
    """A source that notes when it is read."""

    def entries() -> list[tuple[int, str]]:
        builds.append(1)
        return [(1, "CCO"), (2, "CN")]

    return Source("lines", "1", {"all": entries})


def test_a_source_is_read_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    builds: list[int] = []
    source = counting_source(builds)
    first = cached_dataset(source)
    assert cached_dataset(source).fingerprint == first.fingerprint
    assert len(builds) == 1
    assert capsys.readouterr().err == ""
    assert [path.name for path in cache.glob("[!.]*")] == [cache_file(source).name]


def test_another_version_is_another_file() -> None:
    source = counting_source([])
    assert cache_file(source) != cache_file(dataclasses.replace(source, version="2"))


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_damaged_cache_is_rebuilt(
    cache: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    builds: list[int] = []
    source = counting_source(builds)
    fingerprint = cached_dataset(source).fingerprint
    cache_file(source).write_bytes(content)
    assert cached_dataset(source).fingerprint == fingerprint
    error = capsys.readouterr().err
    assert error.startswith("rebuilding the cache: ")
    assert error.count("\n") == 1
    assert cached_dataset(source).fingerprint == fingerprint
    assert len(builds) == 2


def test_cache_directory_that_cannot_be_made(cache: Path) -> None:
    cache.write_text("")
    with pytest.raises(MolflddError, match="MOLFLDD_CACHE"):
        cached_dataset(counting_source([]))


# --- how they are divided


def test_split_is_by_molecule_and_nested(dataset: MoleculeDataset) -> None:
    train, test = split(dataset, 0.3)
    assert sorted(train.smiles + test.smiles) == sorted(dataset.smiles)
    assert not set(train.smiles) & set(test.smiles)
    assert 0.2 < len(test) / len(dataset) < 0.4
    assert set(split(dataset, 0.1)[1].smiles) < set(test.smiles)
    shuffled = dataset.subset(np.random.default_rng(0).permutation(len(dataset)))
    assert set(split(shuffled, 0.3)[1].smiles) == set(test.smiles)


def test_split_rule_does_not_drift(chains: list[str]) -> None:
    chosen = [smiles for smiles in chains[:60] if in_test_split(smiles, 0.1)]
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


def test_a_split_file_may_name_a_last_line_that_was_skipped(tmp_path: Path) -> None:
    dataset, _ = build_dataset("own", ["C", "CC", "CCC", "CCCC", "C1CC"])
    path = tmp_path / "split.json"
    path.write_text("[2, 5]")
    assert split_by_file(dataset, path, "gdb")[1].ids.tolist() == [2]
    path.write_text("[2, 6]")
    with pytest.raises(UsageError, match="exceeds the 5 molecules"):
        split_by_file(dataset, path, "gdb")


@pytest.mark.parametrize(
    "content", ["{}", "[1, ", '["a"]', "[]", "[195]", "[-1]", "3", f"[{10**30}]", None]
)
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
