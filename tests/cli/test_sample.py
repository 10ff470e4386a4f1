"""``molfldd sample`` as a user runs it, also with checkpoints that are broken."""

import csv
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from program import Command, files
from rdkit import Chem

from molfldd.checkpoint import read_checkpoint, write_checkpoint
from molfldd.model import Model
from molfldd.run import STATE


# --- sample
def test_sample_prints_valid_smiles(molfldd: Command, checkpoint: Path) -> None:
    result = molfldd("sample", "--num", 200, "--checkpoint", checkpoint)
    assert result.code == 0
    printed = result.out.splitlines()
    assert printed
    assert all(Chem.MolFromSmiles(smiles) is not None for smiles in printed)
    assert f"{len(printed)} valid" in result.err


def test_sample_is_determined_by_the_seed(molfldd: Command, checkpoint: Path) -> None:
    def sample(*more: object) -> str:
        return str(molfldd("sample", "--num", 200, "--checkpoint", checkpoint, *more).out)

    first = sample()
    assert sample("--seed", 0) == first
    assert sample("--batch-size", 7) == first
    assert sample("--steps", 3, "--device", "cpu") == first
    assert sample("--seed", 1) != first


@pytest.mark.parametrize("suffix", [".sdf", ".smi", ".csv", ".png", ".svg"])
def test_sample_writes(molfldd: Command, checkpoint: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    arguments = ("sample", "--num", 200, "--checkpoint", checkpoint)
    valid = len(molfldd(*arguments).out.splitlines())
    result = molfldd(*arguments, "--out", path)
    assert (result.code, result.out) == (0, "")
    assert f"{valid} valid" in result.err
    assert str(path) in result.err
    assert files(tmp_path) == {path}
    assert path.stat().st_size > 0


def test_sample_files_agree_with_stdout(molfldd: Command, checkpoint: Path, tmp_path: Path) -> None:
    arguments = ("sample", "--num", 200, "--checkpoint", checkpoint)
    printed = molfldd(*arguments).out.splitlines()
    for suffix in (".smi", ".csv", ".sdf"):
        molfldd(*arguments, "--out", tmp_path / f"out{suffix}")
    assert (tmp_path / "out.smi").read_text().splitlines() == printed
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 200
    assert [row["smiles"] for row in rows if row["valid"] == "1"] == printed
    records = [mol.GetProp("SMILES") for mol in Chem.SDMolSupplier(str(tmp_path / "out.sdf"))]
    assert records == printed
    assert "100.00 %" in molfldd("evaluate", tmp_path / "out.sdf").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--num", "0"], "--num"),
        (["--num", "-3"], "--num"),
        (["--batch-size", "0"], "--batch-size"),
        (["--steps", "-1"], "--steps"),
        (["--seed", "-1"], "--seed"),
        (["--device", "abacus"], "--device"),
        (["--steps", "7"], "not trained for 7 steps; it has: 3"),
        (["--joint", "smooth"], "known are: independent, balanced"),
        (["--temperature", "0"], "must be at least 0.0001 and finite"),
        (["--temperature", "nan"], "must be at least 0.0001 and finite"),
        (["--temperature", "inf"], "must be at least 0.0001 and finite"),
        (["--min-p", "1"], "min_p must be at least 0 and less than 1, got 1"),
        (["--min-reveal", "-0.1"], "min_reveal must be at least 0 and less than 1, got -0.1"),
        (["--min-p", "nan"], "min_p must be at least 0 and less than 1, got nan"),
        (["--out", "molecules.xyz"], ".sdf"),
        (["--out", "molecules"], ".sdf"),
        (["--out", "nowhere/molecules.sdf"], "no directory nowhere"),
        (["--out", "."], "cannot write"),
    ],
)
def test_sample_refuses(
    molfldd: Command, checkpoint: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    result = molfldd("sample", "--checkpoint", checkpoint, *arguments)
    assert result.code == 2
    assert words in result.error
    assert result.out == ""
    assert not files(tmp_path)


def test_sample_looks_at_the_output_path_before_it_draws(
    molfldd: Command, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("molfldd.core.sampling.Sampler.sample")
    result = molfldd("sample", "--checkpoint", checkpoint, "--out", "x.xyz")
    assert "x.xyz" in result.error


def test_sample_needs_a_cuda_device(
    molfldd: Command, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = molfldd("sample", "--checkpoint", checkpoint, "--device", "cuda")
    assert result.code == 2
    assert "--device cpu" in result.error


def test_sample_is_for_molecules(molfldd: Command, toy_checkpoint: Path, tmp_path: Path) -> None:
    result = molfldd("sample", "--checkpoint", toy_checkpoint, "--out", tmp_path / "a.sdf")
    assert result.code == 2
    assert "domain 'mixture'" in result.error
    assert not files(tmp_path)


# --- broken checkpoints
def truncated(path: Path, model: Path) -> None:
    path.write_bytes(model.read_bytes()[:-100])


def not_a_checkpoint(path: Path, model: Path) -> None:
    path.write_text("CCO\n" * 100)


def foreign(path: Path, model: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weights": torch.zeros(3)}, path)


def newer(path: Path, model: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("molfldd.checkpoint.FORMAT_VERSION", 99)
        write_checkpoint(path, {}, {})


def other_content(path: Path, model: Path) -> None:
    write_checkpoint(path, {"some": "thing"}, {"any": torch.zeros(2)})


def weights_of_another_width(path: Path, model: Path) -> None:
    header, tree = read_checkpoint(model)
    header["config"]["network"]["width"] = 32
    write_checkpoint(path, header, tree)


def unknown_domain(path: Path, model: Path) -> None:
    header, tree = read_checkpoint(model)
    header["config"]["domain"] = "crystals"
    write_checkpoint(path, header, tree)


def missing(path: Path, model: Path) -> None:
    pass


BROKEN = {
    truncated: "not a readable checkpoint",
    not_a_checkpoint: "not a readable checkpoint",
    foreign: "not one of molfldd",
    newer: "upgrade molfldd",
    other_content: "is no model checkpoint",
    weights_of_another_width: "do not fit",
    unknown_domain: "broken.safetensors does not suit",
    missing: "there is no checkpoint",
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_broken_checkpoint(
    molfldd: Command,
    checkpoint: Path,
    tmp_path: Path,
    command: str,
    damage: Callable[[Path, Path], None],
) -> None:
    path = tmp_path / "broken.safetensors"
    damage(path, checkpoint)
    before = files(tmp_path)
    option = ["--checkpoint"] if command == "sample" else []
    out = tmp_path / ("out.sdf" if command == "sample" else "out.json")
    result = molfldd(command, *option, path, "--out", out)
    assert result.code == 1
    assert BROKEN[damage] in result.error
    assert files(tmp_path) == before


def test_state_is_no_model(molfldd: Command, checkpoint: Path) -> None:
    result = molfldd("sample", "--checkpoint", checkpoint.with_name(STATE))
    assert result.code == 1
    assert STATE in result.error


def test_unknown_model(molfldd: Command) -> None:
    result = molfldd("sample", "--checkpoint", "zinc99")
    assert result.code == 2
    assert "no model 'zinc99'" in result.error


@pytest.mark.parametrize("suffix", [".smi", ".csv", ".sdf"])
def test_few_molecules_are_held_however_many_are_written(
    molfldd: Command,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    alive: weakref.WeakSet[Chem.Mol] = weakref.WeakSet()
    most = 0

    def draw(model: Model, seed: int, indices: Sequence[int]) -> list[Chem.Mol]:
        nonlocal most
        drawn = [Chem.MolFromSmiles("CCO") for _ in indices]
        alive.update(drawn)
        most = max(most, len(alive))
        return drawn

    monkeypatch.setattr(Model, "draw_usable", draw)
    path = tmp_path / f"out{suffix}"
    arguments = ("--checkpoint", checkpoint, "--batch-size", 50, "--out", path)
    assert molfldd("sample", "--num", 5000, *arguments).code == 0
    assert path.read_text().count("CCO") >= 5000
    assert most <= 150
