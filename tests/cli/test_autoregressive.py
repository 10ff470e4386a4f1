"""A model that draws one element after another, from ``train --init`` to ``calibrate``."""

import json
from pathlib import Path

import pytest
import torch
from program import CPU, Command

from molfldd.checkpoint import read_checkpoint
from molfldd.log import LOG
from molfldd.run import MODEL

FROZEN = [f"--set=phases.{i}.{key}" for i in (0, 1) for key in ("lr_forward=0", "only_last=true")]
HEAD = ["--set=process.reverse=autoregressive", "--set=phases.0.estimator={kind: pathwise}"]


@pytest.fixture
def model(molfldd: Command, recipe: Path, checkpoint: Path, tmp_path: Path) -> Path:
    """Begun with a factorized model, and trained for a moment."""
    out = tmp_path / "head"
    arguments = ("train", recipe, "--init", checkpoint, "--out", out, *HEAD, *FROZEN, *CPU)
    result = molfldd(*arguments)
    assert result.code == 0, result.err
    return out / MODEL


def test_all_but_the_last_layers_is_that_of_the_factorized_model(
    model: Path, checkpoint: Path
) -> None:
    (_, trained), (_, given) = read_checkpoint(model), read_checkpoint(checkpoint)
    for name, value in given["reverse"].items():
        same = torch.equal(trained["reverse"][name][: len(value)], value)
        assert same is not name.startswith("network.read_"), name
    assert any(name.startswith("head.") for name in trained["reverse"])
    entries = [json.loads(line) for line in model.with_name(LOG).read_text().splitlines()]
    assert all(set(e["gradient_norm"]) == {"reverse"} for e in entries if e["event"] == "train")


def test_it_can_go_on_without_its_head(
    molfldd: Command, recipe: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "without"
    still = [f"--set=phases.{i}.lr_reverse=1e-12" for i in (0, 1)]
    result = molfldd("train", recipe, "--init", model, "--out", out, *still, *FROZEN, *CPU)
    assert result.code == 0, result.err
    (_, trained), (_, given) = read_checkpoint(out / MODEL), read_checkpoint(model)
    assert trained["reverse"].keys() < given["reverse"].keys()
    for name, value in trained["reverse"].items():
        expected = given["reverse"][name][: len(value)]
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=0, msg=name)


def test_it_draws_evaluates_and_is_calibrated(
    molfldd: Command, model: Path, tmp_path: Path
) -> None:
    first, again = (
        molfldd("sample", "--checkpoint", model, "--num", 30, "--out", name, *more)
        for name, more in (("a.csv", ()), ("b.csv", ("--batch-size", 7)))
    )
    assert first.code == again.code == 0
    assert Path("a.csv").read_text() == Path("b.csv").read_text()
    report = ("evaluate", model, "--num", 20, "--reference", "none", "--out", "report.json")
    assert molfldd(*report).code == 0
    assert json.loads(Path("report.json").read_text())["joint"] == "autoregressive"
    out = tmp_path / "calibrated.safetensors"
    result = molfldd("calibrate", model, "--num", 20, "--batch-size", 10, "--out", out)
    assert result.code == 0, result.err
    header, _ = read_checkpoint(out)
    assert header["metrics"]["calibrated"]["joint"] == "autoregressive"
    assert isinstance(header["metrics"]["bound"], float)


def test_it_takes_no_joint_draw(molfldd: Command, model: Path) -> None:
    result = molfldd("sample", "--checkpoint", model, "--joint", "independent")
    assert result.code == 2
    assert "one element after another" in result.error


def test_the_forward_process_has_to_be_frozen(molfldd: Command, recipe: Path) -> None:
    result = molfldd("train", recipe, *HEAD, *CPU)
    assert result.code == 2
    assert "lr_forward 0" in result.error
    result = molfldd("train", recipe, *HEAD[:1], *FROZEN, *CPU)
    assert result.code == 2
    assert "estimator pathwise" in result.error
