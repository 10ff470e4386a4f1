"""Data sets: in memory, from the cache, known ones, files, and how they are divided."""

import dataclasses
import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from molfldd.download import Download
from molfldd.errors import MolflddError, UsageError
from molfldd.molecules import datasets
from molfldd.molecules.codec import decode, to_smiles
from molfldd.molecules.datasets import (
    MoleculeDataset,
    Rules,
    build_dataset,
    cache_file,
    cached_dataset,
    file_source,
    load_dataset,
    load_file,
    load_qm9,
)
from molfldd.molecules.domain import MoleculeData, comparison_with
from molfldd.molecules.fcd import reference_statistics
from molfldd.molecules.moses import moses_statistics
from molfldd.molecules.preparation import Source
from molfldd.molecules.ragged import Ragged
from molfldd.molecules.splits import split, split_by_file
from molfldd.molecules.vocabulary import Vocabulary
from molfldd.splitting import in_test_split

SMILES = ["C" * n + tail for n in range(1, 40) for tail in ("", "O", "N", "C#N", "C(=O)[O-]")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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
        "not a SMILES": 2,
        "without a SMILES": 1,
        "with radicals, isotopes, wildcards or special bonds": 1,
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


def test_split_is_by_molecule_and_nested(dataset: MoleculeDataset) -> None:
    train, test = split(dataset, 0.3)
    assert sorted(train.smiles + test.smiles) == sorted(dataset.smiles)
    assert not set(train.smiles) & set(test.smiles)
    assert 0.2 < len(test) / len(dataset) < 0.4
    assert set(split(dataset, 0.1)[1].smiles) < set(test.smiles)
    shuffled = dataset.subset(np.random.default_rng(0).permutation(len(dataset)))
    assert set(split(shuffled, 0.3)[1].smiles) == set(test.smiles)


def test_split_rule_does_not_drift() -> None:
    chosen = [smiles for smiles in SMILES[:60] if in_test_split(smiles, 0.1)]
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
    monkeypatch.setattr(datasets, "_qm9_files", lambda: [tmp_path / "a.csv", tmp_path / "b.csv"])
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
        datasets.ZINC250K, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
    )
    places = {published: path, datasets.ZINC250K_TEST: tmp_path / "test.json"}
    monkeypatch.setattr(datasets, "ZINC250K", published)
    monkeypatch.setattr(datasets, "fetch", lambda file: places[file])
    info = datasets.DATASETS["zinc250k"]
    known = datasets.Published(published.sha256, datasets.load_zinc250k)
    monkeypatch.setitem(datasets.DATASETS, "zinc250k", dataclasses.replace(info, published=known))
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


def test_another_file_is_not_zinc250k(
    zinc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.smi"
    other.write_text("\n".join(SMILES))
    _, test = MoleculeData("zinc250k", path=str(other)).load()
    assert set(test.smiles) == set(split(load_file(other))[1].smiles)
    assert "other.smi is not the published file of zinc250k" in capsys.readouterr().err


def test_zinc250k_can_be_divided_by_hash(zinc: Path) -> None:
    train, test = MoleculeData("zinc250k", split="hash", test_fraction=0.5).load()
    assert not set(train.smiles) & set(test.smiles)


def test_the_published_files_are_named_by_checksum_and_mirrors() -> None:
    for file in (datasets.ZINC250K, datasets.ZINC250K_TEST):
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
    assert moses_statistics() is None  # not the published file, so it is not opened
    checksum = hashlib.sha256((moses / "test_stats.npz").read_bytes()).hexdigest()
    monkeypatch.setattr("molfldd.molecules.moses._STATISTICS_SHA256", checksum)
    assert comparison_with("moses").reference == ["CCCl"]
    found = reference_statistics(["CCCl"])
    assert found.count == 7
    assert (found.mean == brought["mu"]).all()
    assert (found.covariance == brought["sigma"]).all()


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


# --- files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my.smi"
    path.write_text("\n".join([*SMILES, "CCCO", "", "C1CC", "C.C", "CC[Se]C"]))
    return path


def test_a_file_tells_everything_itself(file: Path) -> None:
    made = load_file(file)
    assert sorted(made.smiles) == sorted([*SMILES, "CC[Se]C"])
    assert made.name == "my.smi"
    assert made.max_atoms == 42
    assert made.vocabulary.names == ("C", "O", "N", "Se", "O-")
    assert made.report is not None
    assert made.report.skipped == {
        "the same as an earlier one": 1,
        "without a SMILES": 1,
        "not a SMILES": 1,
        "in several fragments (salts, mixtures)": 1,
    }
    assert made.report.examples["not a SMILES"] == [(len(SMILES) + 3, "C1CC")]


def test_both_parts_of_a_file_are_mapped(file: Path) -> None:
    made = load_file(file)
    for part in split(made, 0.3):
        assert np.shares_memory(part.bonds, made.bonds)


def test_rules_leave_out_more(file: Path) -> None:
    data = MoleculeData("file", path=str(file), max_atoms=5, atoms=("C", "O", "N"))
    made = data.load_all()
    assert made.vocabulary.names == ("C", "O", "N")
    assert made.max_atoms == 5
    assert made.report is not None
    assert made.report.skipped["with more than 5 atoms"] > 100
    assert made.report.skipped["with Se, not in the vocabulary"] == 1


def test_changed_files_and_rules_are_read_again(file: Path) -> None:
    sources = [file_source(file), file_source(file, rules=Rules(9)), file_source(file, "x")]
    file.write_text("CCO\nCN\n")
    sources += [file_source(file), file_source(file, distinct=False)]
    assert len({cache_file(source) for source in sources}) == 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("my.csv", "id,Structure\n1,CCO\n2,CN\n"),
        ("my.tsv.gz", "id\tStructure\n1\tCCO\n2\tCN\n"),
    ],
)
def test_tables(tmp_path: Path, name: str, content: str) -> None:
    packed = gzip.compress(content.encode()) if name.endswith(".gz") else content.encode()
    (tmp_path / name).write_bytes(packed)
    assert sorted(load_file(tmp_path / name, "structure").smiles) == ["CCO", "CN"]
    with pytest.raises(UsageError, match="no column 'smiles'"):
        load_file(tmp_path / name, "smiles")
    with pytest.raises(MolflddError, match=r"2 read, 0 kept.*, such as '1'"):
        load_file(tmp_path / name)


def test_files_that_cannot_be_used(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty.smi").write_text("")
    (tmp_path / "my.pdf").write_text("CCO")
    with pytest.raises(MolflddError, match=r"no molecule of empty\.smi can be used: 0 read"):
        load_file(tmp_path / "empty.smi")
    with pytest.raises(UsageError, match=r"suffix '\.pdf' is none of"):
        load_file(tmp_path / "my.pdf")
    with pytest.raises(UsageError, match=r"cannot read .*none\.smi: No such file"):
        load_file(tmp_path / "none.smi")
    assert not list(cache.glob("[!.]*"))


def test_too_few_to_divide(tmp_path: Path) -> None:
    (tmp_path / "few.smi").write_text("CCO\n")
    with pytest.raises(UsageError, match="1 usable molecules, too few to hold out 10%"):
        MoleculeData("file", path=str(tmp_path / "few.smi")).load()


def test_the_file_must_be_named() -> None:
    with pytest.raises(UsageError, match=r"molfldd train my\.smi"):
        MoleculeData("file", max_atoms=60).load()


def test_rules_are_for_files() -> None:
    with pytest.raises(UsageError, match="are for files, and qm9 is none"):
        MoleculeData("qm9", max_atoms=5).load()


def test_the_report_says_what_was_skipped_and_what_is_left(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = MoleculeData("file", path=str(file))
    data.show_report(data.load_all())
    error = capsys.readouterr().err
    assert f"my.smi: {len(SMILES) + 5} read, {len(SMILES) + 1} kept, 4 skipped" in error
    assert f"line {len(SMILES) + 3} C1CC" in error
    assert "atoms C O N Se O-; 1 to 42 per molecule" in error


def test_a_known_data_set_that_is_whole_needs_no_report(
    dataset: MoleculeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    MoleculeData("qm9").show_report(dataset)
    assert capsys.readouterr().err == ""


def test_text_is_ragged(dataset: MoleculeDataset) -> None:
    assert isinstance(dataset.text, Ragged)
    assert list(dataset.iterate_smiles()) == dataset.smiles == SMILES
