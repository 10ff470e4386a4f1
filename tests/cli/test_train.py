"""``molfldd train`` as a user runs it: results, resuming, and one sentence per error."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from program import CPU, Command, files, start

import molfldd.run
from molfldd.checkpoint import read_checkpoint
from molfldd.config import parse_config, read_recipe, recipes
from molfldd.model import load_model
from molfldd.run import LOG, MODEL, STATE


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
        ("process.steps=3", ("reverse", "forward"), set()),
        ("process.even_pace=0.9", ("reverse", "forward"), set()),
        ("process.steps=4", ("reverse", "forward"), {"pace_logits"}),
        ("process.steps=[3, 4]", ("reverse", "forward"), {"pace_logits"}),
        ("process.components=3", ("reverse", "forward"), set()),
        ("network.layers=2", ("reverse", "forward"), set()),
        ("network.triangles=3", ("reverse", "forward"), set()),
        ("process.forward=fixed", ("reverse",), set()),
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
    more = (f"--set={changed}", *still, *short, *CPU)
    result = molfldd("train", recipe, "--init", checkpoint, "--out", out, *more)
    assert result.code == 0, result.err
    assert f"beginning with {'both processes' if len(parts) == 2 else 'the reverse'}" in result.err
    _, begun = read_checkpoint(out / MODEL)
    _, given = read_checkpoint(checkpoint)
    for part in parts:
        for name, value in given[part].items():
            if name not in anew:
                found = begun[part][name].clone()
                same = tuple(slice(size) for size in value.shape)
                torch.testing.assert_close(found[same], value, rtol=1e-2, atol=1e-4)
                found[same] = 0.0
                assert (found.abs() < 1e-6).all()


@pytest.mark.parametrize("changed", ["width=32", "heads=4"])
def test_training_cannot_begin_with_another_network(
    molfldd: Command, recipe: Path, checkpoint: Path, tmp_path: Path, changed: str
) -> None:
    sets = (f"--set=network.{changed}", "--init", checkpoint)
    result = molfldd("train", recipe, *sets, "--out", tmp_path / "new", *CPU)
    assert result.code == 1
    assert "its network is" in result.error
    assert files(tmp_path) == {recipe}


@pytest.mark.parametrize("changed", [["reverse=jump"], ["reverse=direct", "forward=mixed"]])
def test_training_cannot_begin_with_another_reverse_process(
    molfldd: Command, recipe: Path, checkpoint: Path, tmp_path: Path, changed: list[str]
) -> None:
    sets = [f"--set=process.{change}" for change in changed]
    result = molfldd("train", recipe, "--init", checkpoint, "--out", tmp_path / "new", *sets, *CPU)
    assert result.code == 1
    assert "its reverse process is unmasking" in result.error
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


ENDLESS = [
    "data.examples=300",
    "network.width=16",
    "training.batch_size=16",
    "phases.0.iterations=10000000",
    "monitor.log_every=1",
    "monitor.checkpoint_every=5",
    "monitor.samples=10",
]


def toy_arguments(folder: Path, *changes: str) -> list[str]:
    sets = [part for change in (*ENDLESS, *changes) for part in ("--set", change)]
    return ["train", "toy", "--out", str(folder), *sets, *CPU]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_state(tmp_path: Path, number: signal.Signals) -> None:
    process = start(*toy_arguments(tmp_path / "a"))
    wait_for(tmp_path / "a" / LOG, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in err
    assert "Traceback" not in err
    header, state = read_checkpoint(tmp_path / "a" / STATE)
    assert state["iteration"] == header["metrics"]["iterations"] > 0
    assert {path.name for path in files(tmp_path)} == {STATE, MODEL, LOG, "config.yaml"}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there are no such signals here")
def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    """At most the iterations since then are lost, and the end is that of an unbroken run.

    All are processes of their own, with as many threads: rounding depends on that.
    """
    process = start(*toy_arguments(tmp_path / "killed"))
    wait_for(tmp_path / "killed" / STATE, process)
    process.kill()
    process.communicate(timeout=60)
    logged = [json.loads(line) for line in whole_lines(tmp_path / "killed" / LOG)]
    _, state = read_checkpoint(tmp_path / "killed" / STATE)
    assert 0 <= logged[-1]["iteration"] - state["iteration"] <= 5
    short = (f"phases.0.iterations={state['iteration'] + 3}", "phases.1.iterations=2")
    finish(start(*toy_arguments(tmp_path / "killed", *short), "--resume"))
    finish(start(*toy_arguments(tmp_path / "whole", *short)))
    assert same_weights(tmp_path / "killed", tmp_path / "whole")


def finish(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def whole_lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
