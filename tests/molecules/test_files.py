import csv
import gzip
import resource
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import rdkit.Chem
from rdkit import Chem

from molfldd.errors import MolflddError, UsageError
from molfldd.molecules.codec import assemble, pair_index, parse_smiles
from molfldd.molecules.files import (
    WRITERS,
    ParseReport,
    read_molecules,
    read_smiles,
)
from molfldd.molecules.metrics import valid
from molfldd.storage import check_writable

SMILES = ["CCO", "O=[N+]([O-])c1ccccc1", "c1cc[nH]c1", "C#N"]


def overloaded() -> Chem.Mol:
    """A molecule that fails sanitization: fluorine with two bonds."""
    import numpy as np

    bonds = np.zeros(3, np.uint8)
    bonds[[pair_index(0, 1), pair_index(0, 2)]] = 1
    return assemble([("F", 0), ("C", 0), ("C", 0)], bonds)


def write(path: Path, mols: Iterable[Chem.Mol | None]) -> None:
    """As a command does, after it has asked whether they are valid."""
    smiles = (None if mol is None else valid(mol) for mol in mols)
    WRITERS[path.suffix](path, (None if text is None else parse_smiles(text) for text in smiles))


@pytest.fixture
def mols() -> list[Chem.Mol | None]:
    first, *rest = [parse_smiles(smiles) for smiles in SMILES]
    return [first, None, *rest, overloaded()]


def test_sdf_has_a_record_per_valid_molecule(mols: list[Chem.Mol | None], tmp_path: Path) -> None:
    path = tmp_path / "out.sdf"
    write(path, mols)
    records = list(Chem.SDMolSupplier(str(path)))
    assert [record.GetProp("SMILES") for record in records] == SMILES
    assert [Chem.MolToSmiles(record) for record in records] == SMILES
    positions = records[0].GetConformer().GetPositions()
    assert (abs(positions[0] - positions[1]) > 0.1).any()
    assert read_smiles(path) == (SMILES, ParseReport(4, 4, {}))


def test_smi_has_a_line_per_valid_molecule(mols: list[Chem.Mol | None], tmp_path: Path) -> None:
    path = tmp_path / "out.smi"
    write(path, iter(mols))
    assert path.read_text() == "".join(f"{smiles}\n" for smiles in SMILES)


def test_csv_has_a_row_per_molecule(mols: list[Chem.Mol | None], tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write(path, mols)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == list("012345")
    assert [row["smiles"] for row in rows] == [SMILES[0], "", *SMILES[1:], ""]
    assert "".join(row["valid"] for row in rows) == "101110"
    assert read_smiles(path) == (SMILES, ParseReport(6, 4, {"without a SMILES": 2}))


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_pictures_show_the_first_molecules(
    mols: list[Chem.Mol | None], tmp_path: Path, suffix: str, start: bytes
) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, mols)
    assert path.read_bytes().startswith(start)
    write(path, mols * 10)


def test_only_pictures_need_what_rdkit_draws_with(
    mols: list[Chem.Mol | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On servers without X11 the import of RDKit's drawing fails."""
    monkeypatch.setitem(sys.modules, "rdkit.Chem.Draw", None)
    monkeypatch.delattr(rdkit.Chem, "Draw", raising=False)
    write(tmp_path / "out.sdf", mols)
    with pytest.raises(MolflddError, match="RDKit cannot draw here"):
        write(tmp_path / "out.png", mols)


def test_picture_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MolflddError, match="no valid molecule to draw"):
        write(tmp_path / "out.png", [None])


def test_valid_molecules_are_not_changed_by_writing(tmp_path: Path) -> None:
    mol = parse_smiles("CCO")
    write(tmp_path / "out.sdf", [mol])
    assert mol.GetNumConformers() == 0
    assert not mol.HasProp("SMILES")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("out.xyz", r"suffix '\.xyz' is none of \.sdf \.smi \.csv \.png \.svg"),
        ("out", "suffix '' is none of"),
        ("missing/out.smi", "no directory"),
        ("folder.smi", "is a directory"),
    ],
)
def test_unwritable_paths_are_refused_before_work(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder.smi").mkdir()

    with pytest.raises(UsageError, match=reason):
        check_writable(tmp_path / name, WRITERS)


def test_a_file_without_molecules_is_told_where_it_may_belong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("Once upon a time.\nThe end.\n")
    assert read_molecules(tmp_path / "a.txt") == [None, None]
    assert "--domain text" in capsys.readouterr().err
    (tmp_path / "a.smi").write_text("CCO\nno\n")
    read_molecules(tmp_path / "a.smi")
    assert "--domain" not in capsys.readouterr().err


def test_smi_lines_with_names_and_gaps(tmp_path: Path) -> None:
    path = tmp_path / "in.smi.gz"
    path.write_bytes(gzip.compress(b"CCO ethanol\n\nnot_a_molecule\n  \nC#N\t2\n"))
    smiles, report = read_smiles(path)
    assert smiles == ["CCO", "not_a_molecule", "C#N"]
    assert report == ParseReport(5, 3, {"without a SMILES": 2})
    assert str(report) == "5 read, 3 kept, 2 skipped (2 without a SMILES)"


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("id,SMILES\n1,CCO\n2\n3,C\n", None, ["CCO", "C"]),
        ("structure,x\nCCO,1\nC,2\n", None, ["CCO", "C"]),
        ("x,Structure\n1,CCO\n2,C\n", "structure", ["CCO", "C"]),
        ("\n \nid,smiles\n1,CCO\n", " Smiles ", ["CCO"]),
        ("", None, []),
    ],
)
def test_csv_columns(tmp_path: Path, text: str, column: str | None, expected: list[str]) -> None:
    path = tmp_path / "in.csv"
    path.write_text(text)
    assert read_smiles(path, column)[0] == expected


def test_missing_column_names_those_there(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,SMILES\n1,CCO\n")
    with pytest.raises(UsageError, match="no column 'mol'; the columns are: id, SMILES"):
        read_smiles(path, "mol")


@pytest.mark.parametrize("packed", [False, True])
def test_broken_sdf_records_are_counted(tmp_path: Path, packed: bool) -> None:
    write(tmp_path / "good.sdf", [parse_smiles("CCO"), parse_smiles("C#N")])
    first, second, _ = (tmp_path / "good.sdf").read_text().split("$$$$\n")
    text = "$$$$\n".join([first, second.replace("  2  1  0", "  9  9  0"), first, ""])
    path = tmp_path / ("in.sdf.gz" if packed else "in.sdf")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    smiles, report = read_smiles(path)
    assert smiles == ["CCO", "CCO"]
    assert report == ParseReport(3, 2, {"without a SMILES": 1})


def test_quotation_marks_in_a_table_with_tabs_are_characters(tmp_path: Path) -> None:
    path = tmp_path / "in.tsv"
    path.write_text('smiles\tname\nCCO\t"5-inch\nCCN\tb\n')
    assert read_smiles(path)[0] == ["CCO", "CCN"]
    path.write_text('"name"\t"smiles"\n"x"\t"CCO"\n"y"\tCCN\n')
    assert read_smiles(path)[0] == read_smiles(path, "smiles")[0] == ["CCO", "CCN"]


@pytest.mark.parametrize("tail", ["", "\n", "\r\n", " \n\n"])
def test_nothing_follows_the_last_record_of_an_sdf(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "in.sdf"
    write(path, [parse_smiles("CCO"), parse_smiles("C#N")])
    text = path.read_text().replace("$$$$", "> <note>\n$$$$ no end\n\n$$$$") + tail
    path.write_bytes(text.encode())
    assert read_smiles(path) == (["CCO", "C#N"], ParseReport(2, 2, {}))


def test_an_sdf_without_its_last_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "in.sdf"
    write(path, [parse_smiles("CCO"), parse_smiles("C#N")])
    path.write_text(path.read_text().removesuffix("$$$$\n"))
    assert read_smiles(path)[0] == ["CCO", "C#N"]


@pytest.mark.parametrize("suffix", [".sdf", ".smi", ".csv"])
def test_a_full_disk_is_noticed(mols: list[Chem.Mol | None], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write(path, mols * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "in.smi").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "in.csv.gz").write_bytes(b"no gzip")
    (tmp_path / "in.sdf.gz").write_bytes(b"no gzip")
    cut = gzip.compress(b"CCO\n" * 1000)[:-20]
    for name in ("cut.smi.gz", "cut.sdf.gz"):
        (tmp_path / name).write_bytes(cut)
    for name in ("missing.smi", "in.pdf", "in.smi", "in.csv.gz", "in.gz", "in.sdf.gz"):
        with pytest.raises(UsageError, match="cannot read"):
            read_smiles(tmp_path / name)
    for name in ("cut.smi.gz", "cut.sdf.gz"):
        with pytest.raises(UsageError, match="cannot read"):
            read_smiles(tmp_path / name)
