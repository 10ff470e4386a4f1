"""A file of one's own as a data set: what it tells itself, rules, tables, and the report."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from molfldd.errors import MolflddError, UsageError
from molfldd.molecules.cached import cache_file
from molfldd.molecules.datasets import load_file
from molfldd.molecules.domain import MoleculeData
from molfldd.molecules.files import looks_like_molecules
from molfldd.molecules.own_files import file_source
from molfldd.molecules.parsing import Rules
from molfldd.molecules.splits import split

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def file(chains: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "my.smi"
    path.write_text("\n".join([*chains, "CCCO", "", "C1CC", "C.C", "CC[Se]C"]))
    return path


def test_a_file_tells_everything_itself(file: Path, chains: list[str]) -> None:
    made = load_file(file)
    assert sorted(made.smiles) == sorted([*chains, "CC[Se]C"])
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
    assert made.report.examples["not a SMILES"] == [(len(chains) + 3, "C1CC")]


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
    file: Path, chains: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = MoleculeData("file", path=str(file))
    data.show_report(data.load_all())
    error = capsys.readouterr().err
    assert f"my.smi: {len(chains) + 5} read, {len(chains) + 1} kept, 4 skipped" in error
    assert f"line {len(chains) + 3} C1CC" in error
    assert "atoms C O N Se O-; 1 to 42 per molecule" in error


def test_what_a_file_holds_is_told_by_different_entries(tmp_path: Path) -> None:
    diary, molecules = tmp_path / "diary.txt", tmp_path / "some.txt"
    diary.write_text("".join(f"{who} went home .\n" for who in ["I"] * 9 + ["She", "He", "They"]))
    molecules.write_text("CCO one\nCCN two\nsalt\n")
    assert not looks_like_molecules(diary)
    assert looks_like_molecules(molecules)
