"""A model trained for several numbers of steps is asked for one of them."""

import json
from pathlib import Path

import pytest
from conftest import known_as_tiny, write_recipe
from program import Command
from rich.console import Console

from molfldd.config import override, parse_config, read_recipe
from molfldd.engine import Engine
from molfldd.log import LOG
from molfldd.model import Manner, load_model
from molfldd.molecules.store import MoleculeDataset
from molfldd.run import MODEL, Run


@pytest.fixture(scope="module")
def trained(tiny: MoleculeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for 3 steps and for 2."""
    folder = tmp_path_factory.mktemp("steps")
    recipe = override(read_recipe(str(write_recipe(folder))), ["process.steps=[3, 2]"])
    with known_as_tiny(tiny):
        run = Run(parse_config(recipe), folder, Engine("cpu", precision="32-true"))
        run.train(Console(quiet=True))
    return folder


def test_its_header_and_log_tell_of_all(trained: Path) -> None:
    assert load_model(trained / MODEL).sampler.reverse.clock.walks == (3, 2)
    entries = [json.loads(line) for line in (trained / LOG).read_text().splitlines()]
    last = [entry for entry in entries if entry["event"] == "evaluate"][-1]
    assert len(last["kl"]["atoms"]) == 3
    assert list(last["other_bounds"]) == ["2"]
    assert last["other_bounds"]["2"] == pytest.approx(last["bound"], rel=0.3)


def test_it_samples_in_as_many_steps_as_it_is_asked_for(trained: Path) -> None:
    model = load_model(trained / MODEL)
    lengths = {
        steps: len(
            model.drawing(Manner(steps=steps))
            .sampler.sample(0, [0], keep_trajectory=True)
            .trajectory
        )
        for steps in (None, 3, 2)
    }
    assert lengths == {None: 4, 3: 4, 2: 3}
    assert model.steps == 3


def test_the_program_takes_one_of_them(molfldd: Command, trained: Path) -> None:
    arguments = ("sample", "--num", 200, "--checkpoint", trained / MODEL)
    default = molfldd(*arguments).out
    assert molfldd(*arguments, "--steps", 3).out == default
    assert molfldd(*arguments, "--steps", 2).out != default
    refused = molfldd(*arguments, "--steps", 4)
    assert (refused.code, refused.out) == (2, "")
    assert "not trained for 4 steps; it has: 2, 3" in refused.error


def test_its_scores_are_those_of_the_steps(molfldd: Command, trained: Path, tmp_path: Path) -> None:
    metrics, found = load_model(trained / MODEL).metrics, {}
    bounds = {3: metrics["bound"], 2: metrics["other_bounds"]["2"]}
    for steps in (3, 2):
        report = tmp_path / f"{steps}.json"
        assert (
            load_model(trained / MODEL).drawing(Manner(steps=steps)).recorded["bound"]
            == bounds[steps]
        )
        more = ("--num", 300, "--reference", "none", "--steps", steps, "--out", report)
        assert molfldd("evaluate", trained / MODEL, *more).code == 0
        found[steps] = json.loads(report.read_text())
        assert found[steps].pop("steps") == steps
    assert found[2] != found[3]
