"""``molfldd train`` as a user runs it: results, resuming, and one sentence per error."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from program import CPU, PROGRAM, Command, files, same_weights, stopping_after

from molfldd.config import parse_config, read_recipe, recipes
from molfldd.log import LOG
from molfldd.run import MODEL, STATE


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


def test_existing_training_is_kept(molfldd: Command, recipe: Path, checkpoint: Path) -> None:
    before = checkpoint.with_name(STATE).read_bytes()
    result = molfldd("train", recipe, "--out", checkpoint.parent)
    assert result.code == 2
    assert "--resume" in result.error
    assert checkpoint.with_name(STATE).read_bytes() == before


def test_a_model_without_a_state_is_kept(molfldd: Command, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / MODEL).write_text("precious")
    result = molfldd("train", recipe, "--out", tmp_path / "mine")
    assert result.code == 2
    assert "already holds a model" in result.error
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["precious"]


def test_leftovers_of_the_log(molfldd: Command, recipe: Path, tmp_path: Path) -> None:
    """Of a run that left no state they are dropped; a line that was cut does not hinder."""
    folder = tmp_path / "run"
    folder.mkdir()
    log = folder / LOG
    log.write_text('{"event": "train", "iteration": 1}\n')
    assert molfldd("train", recipe, "--out", folder).code == 0
    whole = log.read_text()
    assert not whole.startswith('{"event": "train", "iteration": 1}\n')
    for cut in (30, 1):
        log.write_text(whole[:-cut])
        assert molfldd("train", recipe, "--out", folder, "--resume").code == 0
        for line in log.read_text().splitlines():
            json.loads(line)
    fewer = ("--resume", "--set", "phases.0.iterations=1", "--set", "phases.1.iterations=1")
    result = molfldd("train", recipe, "--out", folder, *fewer)
    assert result.code == 1
    assert "give its phases more" in result.error


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
        ("training.batch_size=auto", "needs a number of elements"),
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
        (["--precision", "64-true"], "known are: auto, 32-true, bf16-mixed"),
        (["--set", "training.seed=99999999999999999999999"], "seed must lie in"),
        (["--precision", "16-mixed"], "known are: auto, 32-true, bf16-mixed"),
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


def test_without_a_compiler_nothing_can_be_compiled(tmp_path: Path) -> None:
    """In a process of its own, which finds no compiler and no result of an earlier one."""
    where = {
        "PATH": str(tmp_path),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "c"),
    }
    changes = ("--set", "training.compile=true", "--set", "data.examples=100")
    result = subprocess.run(
        [*PROGRAM, "train", "toy", "--out", str(tmp_path / "run"), *CPU, *changes],
        capture_output=True,
        text=True,
        env={**os.environ, **where},
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert "the network cannot be compiled here" in error
    assert "without training.compile" in error
