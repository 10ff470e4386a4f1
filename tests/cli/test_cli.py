"""Every command as a user runs it: results, exit codes, and one sentence per error."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rdkit import Chem

import molfldd.run
from molfldd.checkpoint import read_checkpoint, write_checkpoint
from molfldd.config import parse_config, read_recipe, recipes
from molfldd.model import load_model
from molfldd.run import LOG, MODEL, STATE

Command = Callable[..., Any]

PROGRAM = [sys.executable, "-c", "from molfldd.cli.main import run; run()"]
CPU = ("--accelerator", "cpu", "--precision", "32-true")


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


# --- the program as a whole


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "datasets"])
def test_help_has_an_example(molfldd: Command, command: str) -> None:
    result = molfldd(command, "--help")
    assert result.code == 0
    assert f"Example: molfldd {command}" in " ".join(result.out.split())
    assert command in molfldd("--help").out


def test_help_without_arguments_and_version(molfldd: Command) -> None:
    assert molfldd().out == molfldd("--help").out
    assert molfldd("--version").out.startswith("molfldd ")


def test_help_needs_no_heavy_import() -> None:
    code = "import sys, molfldd.cli.main; print({'torch', 'rdkit', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "arguments", [["bake"], ["sample", "--nmu", "3"], ["evaluate"], ["sample", "--num", "many"]]
)
def test_unparsable_command_line(molfldd: Command, arguments: list[str]) -> None:
    result = molfldd(*arguments)
    assert result.code == 2
    assert "--help" in result.error


def test_closed_pipe_is_quiet(checkpoint: Path) -> None:
    arguments = [*PROGRAM, "sample", "--num", "300", "--checkpoint", str(checkpoint)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""


def test_ctrl_c_is_quiet(molfldd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("molfldd.molecules.datasets.load_dataset", interrupt)
    result = molfldd("datasets", "tiny")
    assert (result.code, result.err.strip()) == (130, "")


def test_out_of_memory(molfldd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(name: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("molfldd.molecules.datasets.load_dataset", fill)
    result = molfldd("datasets", "tiny")
    assert result.code == 1
    assert "smaller batch" in result.error


def test_system_error_is_one_sentence(molfldd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(name: str) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("molfldd.molecules.datasets.load_dataset", fill)
    result = molfldd("datasets", "tiny")
    assert result.code == 1
    assert result.error == "error: somewhere: No space left on device"


# --- datasets


def test_datasets_lists(molfldd: Command) -> None:
    result = molfldd("datasets")
    assert result.code == 0
    assert "tiny: a few molecules" in result.out
    assert f"recipes: {', '.join(recipes())}" in result.out
    assert {"qm9", "qm9-fixed", "toy"} <= set(recipes())
    assert "embedded models:" in result.out


def test_datasets_describes(molfldd: Command) -> None:
    result = molfldd("datasets", "tiny")
    assert result.code == 0
    assert "tiny: 70 molecules" in result.out
    assert "vocabulary: C" in result.out
    assert result.out.count("fingerprint") == 3


def test_unknown_dataset(molfldd: Command) -> None:
    result = molfldd("datasets", "zinc99")
    assert result.code == 2
    assert "zinc99" in result.error
    assert "known are: qm9, " in result.error


def test_missing_dataset(molfldd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name == "qm9pack" else find(name, package),
    )
    result = molfldd("datasets", "qm9")
    assert result.code == 1
    assert 'pip install "molfldd[qm9]"' in result.error


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
        (["--joint", "smooth"], "known are: independent, systematic"),
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


def test_sample_looks_at_the_output_path_first(molfldd: Command) -> None:
    result = molfldd("sample", "--checkpoint", "missing.safetensors", "--out", "x.xyz")
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


# --- evaluate


def test_evaluate_file_counts_broken_lines(molfldd: Command, tmp_path: Path) -> None:
    path = tmp_path / "some.smi"
    path.write_text("CCO\n\nnonsense\nCCO\nC1CC\nCC.O\n")
    result = molfldd("evaluate", path)
    assert result.code == 0
    assert "6 read, 5 kept, 1 skipped" in result.err
    assert "2 of the kept cannot be parsed" in result.err
    assert "33.33 %" in result.out
    assert "RDKit" in result.out


def test_evaluate_counts_the_invalid_rows_of_a_csv(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    path, report = tmp_path / "samples.csv", tmp_path / "report.json"
    molfldd("sample", "--num", 200, "--checkpoint", checkpoint, "--out", path)
    molfldd("evaluate", path, "--out", report)
    molfldd(
        "evaluate", checkpoint, "--num", 200, "--reference", "none", "--out", tmp_path / "b.json"
    )
    scores = json.loads(report.read_text())["scores"]
    assert scores["valid"] == json.loads((tmp_path / "b.json").read_text())["scores"]["valid"]
    assert 0 < scores["valid"] < 0.2


def test_evaluate_against_a_dataset(molfldd: Command, tmp_path: Path) -> None:
    path, report = tmp_path / "some.smi", tmp_path / "report.json"
    path.write_text("CCO\nCCN\nCCCCCCC\n")
    result = molfldd("evaluate", path, "--reference", "tiny", "--out", report)
    assert result.code == 0
    content = json.loads(report.read_text())
    assert content["input"] == str(path)
    assert content["scores"]["fcd"] > 0
    assert content["scores"]["novel"] is not None
    assert content["protocol"]["training"] + content["protocol"]["reference"] == 70
    again = molfldd("evaluate", path, "--reference", path)
    assert again.code == 0


def test_evaluate_model_with_several_seeds(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    result = molfldd(
        *("evaluate", checkpoint, "--num", 120, "--reference", "none"),
        *("--seed", 0, "--seed", 1, "--out", report),
    )
    assert result.code == 0
    assert "2 runs" in result.out
    content = json.loads(report.read_text())
    assert content["seeds"] == [0, 1]
    assert content["runs"] == 2
    assert content["protocol"]["samples"] == 120


def test_evaluate_model_compares_with_its_own_data(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    assert molfldd("evaluate", checkpoint, "--num", 200, "--out", report).code == 0
    assert json.loads(report.read_text())["protocol"]["training"] > 50


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.smi"], "missing.smi"),
        (["some.docx"], ".docx"),
        (["some.smi", "--out", "report.txt"], ".json"),
        (["some.smi", "--out", "nowhere/report.json"], "no writable directory"),
        (["some.smi", "--reference", "zinc99"], "no reference 'zinc99'"),
        (["some.smi", "--reference", "missing.smi"], "missing.smi"),
        (["some.smi", "--num", "3"], "--num, --seed, --devices and --joint"),
        (["some.smi", "--seed", "3"], "--num, --seed, --devices and --joint"),
        (["some.smi", "--joint", "systematic"], "--num, --seed, --devices and --joint"),
        (["some.smi", "--devices", "2"], "--num, --seed, --devices and --joint"),
        (["empty.smi"], "no molecules"),
        (["zinc99"], "no model 'zinc99'"),
    ],
)
def test_evaluate_refuses(
    molfldd: Command, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "some.smi").write_text("CCO\n")
    (tmp_path / "empty.smi").write_text("")
    before = files(tmp_path)
    result = molfldd("evaluate", *arguments)
    assert result.code == 2
    assert words in result.error
    assert files(tmp_path) == before


def test_evaluate_binary_file(molfldd: Command, tmp_path: Path) -> None:
    (tmp_path / "image.smi").write_bytes(bytes(range(256)))
    result = molfldd("evaluate", tmp_path / "image.smi")
    assert result.code == 2
    assert "image.smi" in result.error


# --- train


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / MODEL).sampler.reverse.state_dict()


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@contextmanager
def stopping_after(iterations: int) -> Iterator[None]:
    """As if Ctrl-C had been pressed during that iteration."""

    class Stop:
        left = iterations

        def is_set(self) -> bool:
            self.left -= 1
            return self.left == 0

    @contextmanager
    def signals() -> Iterator[Stop]:
        yield Stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(molfldd.run, "stop_signals", signals)
        yield


def test_train_writes_the_folder(molfldd: Command, recipe: Path, tmp_path: Path) -> None:
    result = molfldd("train", recipe, *CPU)
    assert result.code == 0
    folder = Path("runs/tiny")
    names = [MODEL, STATE, LOG, "config.yaml"]
    assert result.out.split() == [str(folder / name) for name in names]
    assert {path.name for path in files(folder)} == set(names)
    written = parse_config(yaml.safe_load((folder / "config.yaml").read_text()))
    assert written == parse_config(read_recipe(str(recipe)))
    assert molfldd("sample", "--num", 5, "--checkpoint", folder / MODEL).code == 0


def test_set_changes_the_recipe(molfldd: Command, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    changes = ("--set", "training.seed=5", "--set", "phases.0.iterations=1")
    assert molfldd("train", recipe, "--out", out, *changes, *CPU).code == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["training"]["seed"] == 5
    assert config["phases"][0]["iterations"] == 1


@pytest.mark.parametrize("iterations", [2, 3, 4])
def test_resumed_training_equals_uninterrupted(
    molfldd: Command, recipe: Path, tmp_path: Path, iterations: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert molfldd("train", recipe, "--out", whole, *CPU).code == 0
    with stopping_after(iterations):
        stopped = molfldd("train", recipe, "--out", parts, *CPU)
    assert stopped.code == 130
    assert f"stopped after {iterations} iterations" in stopped.err
    assert not same_weights(whole, parts)
    recipe.write_text("what stands in the folder counts")
    assert molfldd("train", recipe, "--out", parts, "--resume", *CPU).code == 0
    assert same_weights(whole, parts)
    entries = [json.loads(line) for line in (parts / LOG).read_text().splitlines()]
    numbers = [entry["iteration"] for entry in entries if entry["event"] == "train"]
    assert numbers == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("changed", "parts", "anew"),
    [
        ("steps=3", ("reverse", "forward"), set()),
        ("even_pace=0.9", ("reverse", "forward"), set()),
        ("steps=4", ("reverse", "forward"), {"pace_logits"}),
        ("forward=fixed", ("reverse",), set()),
    ],
)
def test_training_begins_with_the_networks_of_a_checkpoint(
    molfldd: Command,
    recipe: Path,
    checkpoint: Path,
    tmp_path: Path,
    changed: str,
    parts: tuple[str, ...],
    anew: set[str],
) -> None:
    """Of the forward process too, if it is of the same kind, without what belongs to each step."""
    still = [f"--set=phases.{i}.lr_{p}=1e-12" for i in (0, 1) for p in ("forward", "reverse")]
    short = [f"--set=phases.{i}.iterations=1" for i in (0, 1)]
    out = tmp_path / "new"
    more = (f"--set=process.{changed}", *still, *short, *CPU)
    result = molfldd("train", recipe, "--init", checkpoint, "--out", out, *more)
    assert result.code == 0, result.err
    assert f"beginning with {'both processes' if len(parts) == 2 else 'the reverse'}" in result.err
    _, begun = read_checkpoint(out / MODEL)
    _, given = read_checkpoint(checkpoint)
    for part in parts:
        for name, value in given[part].items():
            if name not in anew:
                torch.testing.assert_close(begun[part][name], value, rtol=1e-2, atol=1e-4)


def test_training_cannot_begin_with_another_network(
    molfldd: Command, recipe: Path, checkpoint: Path, tmp_path: Path
) -> None:
    more = ("--init", checkpoint, "--out", tmp_path / "new", "--set", "network.width=32", *CPU)
    result = molfldd("train", recipe, *more)
    assert result.code == 1
    assert "its network is" in result.error
    assert files(tmp_path) == {recipe}


def test_training_cannot_begin_with_another_kind_of_data(
    molfldd: Command, recipe: Path, toy_checkpoint: Path, tmp_path: Path
) -> None:
    result = molfldd("train", recipe, "--init", toy_checkpoint, "--out", tmp_path / "new", *CPU)
    assert result.code == 1
    assert "other categories" in result.error
    assert files(tmp_path) == {recipe}


def test_resumed_training_has_networks_of_its_own(
    molfldd: Command, recipe: Path, checkpoint: Path
) -> None:
    out = checkpoint.parent
    result = molfldd("train", recipe, "--resume", "--init", checkpoint, "--out", out)
    assert result.code == 2
    assert "leave out --init" in result.error


def test_existing_training_is_kept(molfldd: Command, recipe: Path, checkpoint: Path) -> None:
    before = checkpoint.with_name(STATE).read_bytes()
    result = molfldd("train", recipe, "--out", checkpoint.parent)
    assert result.code == 2
    assert "--resume" in result.error
    assert checkpoint.with_name(STATE).read_bytes() == before


def test_nothing_to_resume(molfldd: Command, recipe: Path, tmp_path: Path) -> None:
    result = molfldd("train", recipe, "--out", tmp_path / "new", "--resume")
    assert result.code == 2
    assert "no state to resume" in result.error
    assert files(tmp_path) == {recipe}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("network.width=32", "does not fit"),
        ("training.optimizer=adamw", "does not fit"),
        ("data.test_fraction=0.5", "other data"),
    ],
)
def test_resume_refuses_another_model(
    molfldd: Command, recipe: Path, tmp_path: Path, change: str, words: str
) -> None:
    with stopping_after(1):
        molfldd("train", recipe, "--out", tmp_path / "a", *CPU)
    state = (tmp_path / "a" / STATE).read_bytes()
    result = molfldd("train", recipe, "--out", tmp_path / "a", "--resume", "--set", change, *CPU)
    assert result.code == 1
    assert words in result.error
    assert (tmp_path / "a" / STATE).read_bytes() == state


def test_damaged_state(molfldd: Command, recipe: Path, tmp_path: Path) -> None:
    with stopping_after(1):
        molfldd("train", recipe, "--out", tmp_path / "a", *CPU)
    state = tmp_path / "a" / STATE
    state.write_bytes(state.read_bytes()[:-50])
    result = molfldd("train", recipe, "--out", tmp_path / "a", "--resume", *CPU)
    assert result.code == 1
    assert "not a readable checkpoint" in result.error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("network.depth=3", "'network.depth' is unknown"),
        ("colour=red", "'colour' is unknown"),
        ("phases.0.speed=3", "'phases.0.speed' is unknown"),
        ("phases.1.estimator.samples=3", "'phases.1.estimator.samples' is unknown"),
        ("phases.7.iterations=3", "leads nowhere"),
        ("domain.name=3", "leads nowhere"),
        ("training.batch_size=many", "training.batch_size"),
        ("process.steps=2.5", "process.steps"),
        ("process.steps=0", "at least 1"),
        ("process.forward=backward", "process.forward"),
        ("process.prior=uniform", "absorbing"),
        ("phases.0.estimator.kind=magic", "estimator"),
        ("phases.0.iterations=0", "at least 1 iteration"),
        ("training.clip=-1", "clip must be positive"),
        ("network.heads=3", "divisible"),
        ("monitor.samples=0", "at least 1"),
        ("domain=crystals", "no domain 'crystals'"),
        ("data.name=zinc99", "no data set 'zinc99'"),
        ("data.test_fraction=2", "between 0 and 1"),
        ("data.split=missing.json", "missing.json"),
        ("training", "key.subkey=value"),
        ("training.seed=[", "YAML"),
    ],
)
def test_train_refuses_a_recipe(
    molfldd: Command, recipe: Path, tmp_path: Path, change: str, words: str
) -> None:
    result = molfldd("train", recipe, "--out", tmp_path / "new", "--set", change, *CPU)
    assert result.code == 2
    assert words in result.error
    assert files(tmp_path) == {recipe}
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [("- a list", "not a mapping"), ("a: [", "cannot read"), ("domain: molecules", "required")],
)
def test_unusable_recipe_file(molfldd: Command, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    result = molfldd("train", path)
    assert result.code == 2
    assert words in result.error


@pytest.mark.parametrize("name", ["zinc99", "missing.yaml"])
def test_unknown_recipe(molfldd: Command, name: str) -> None:
    result = molfldd("train", name)
    assert result.code == 2
    assert name in result.error
    assert ", ".join(recipes()) in result.error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--devices", "0"], "--devices"),
        (["--nodes", "0"], "--nodes"),
        (["--precision", "3-bit"], "3-bit"),
        (["--accelerator", "abacus"], "abacus"),
        (["--devices", "3"], "batch_size"),
    ],
)
def test_train_refuses_an_engine(
    molfldd: Command, recipe: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    result = molfldd("train", recipe, "--out", tmp_path / "new", *options)
    assert result.code == 2
    assert words in result.error
    assert files(tmp_path) == {recipe}


def test_folder_that_cannot_be_written(molfldd: Command, recipe: Path) -> None:
    result = molfldd("train", recipe, "--out", recipe / "run")
    assert result.code == 2
    assert "cannot write into" in result.error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(molfldd: Command, recipe: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "no permission" in molfldd("train", recipe, "--out", locked / "run").error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_state(tmp_path: Path, number: signal.Signals) -> None:
    small = ["data.examples=300", "network.width=16", "training.batch_size=16"]
    small += ["phases.0.iterations=10000000", "monitor.log_every=1", "monitor.samples=10"]
    changes = [part for change in small for part in ("--set", change)]
    arguments = ["train", "toy", "--out", str(tmp_path / "a"), *changes, *CPU]
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "a" / LOG
    deadline = time.monotonic() + 60
    while not log.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in err
    assert "Traceback" not in err
    header, state = read_checkpoint(tmp_path / "a" / STATE)
    assert state["iteration"] == header["metrics"]["iterations"] > 0
    assert {path.name for path in files(tmp_path)} == {STATE, MODEL, LOG, "config.yaml"}
