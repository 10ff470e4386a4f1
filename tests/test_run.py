"""What a run does when training breaks down, and what is read back from its folder."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from molfldd.config import override, parse_config, read_recipe
from molfldd.errors import MolflddError
from molfldd.run import MODEL, STATE, Engine, Run, load_run


def tiny_run(folder: Path, *more: str) -> Run:
    changes = ["data.grid=8", "data.means=[[2.0, 2.0], [5.0, 5.0]]", "data.examples=500"]
    small = ["network.width=8", "monitor.checkpoint_every=2", "monitor.evaluate_every=1000"]
    config = parse_config(override(read_recipe("toy"), [*changes, *small, *more]))
    folder.mkdir(exist_ok=True)
    return Run(config, folder, Engine(accelerator="cpu", precision="32-true"))


def test_a_gradient_that_is_not_finite_ends_the_run_and_keeps_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run")
    save = run.save

    def save_then_poison() -> None:
        save()
        next(run.trainer.diffusion.reverse.parameters()).data.fill_(torch.nan)

    monkeypatch.setattr(run, "save", save_then_poison)
    with pytest.raises(
        MolflddError, match=r"gradient of 'reverse' is nan after 2 iterations; the state"
    ):
        run.train(Console(file=io.StringIO()))
    again = tiny_run(tmp_path / "run")
    again.resume()
    assert again.trainer.iteration == 2
    assert (tmp_path / "run" / STATE).is_file()
    assert all(p.isfinite().all() for p in again.trainer.diffusion.parameters())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = tiny_run(tmp_path_factory.mktemp("run"), "phases.0.iterations=5", "phases.1.iterations=2")
    run.train(Console(file=io.StringIO()))
    return run


def test_both_processes_of_a_run_are_read_back(finished: Run) -> None:
    trained, averaged = load_run(finished.folder), finished.trainer.averaged
    for found, expected in (
        (trained.diffusion.forward_process, averaged.forward_process),
        (trained.diffusion.reverse, averaged.reverse),
        (trained.model.sampler.reverse, averaged.reverse),
    ):
        state = expected.state_dict()
        assert found.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    assert not trained.diffusion.training


@pytest.mark.parametrize("name", [MODEL, STATE])
def test_a_folder_without_model_or_state_is_no_run(
    finished: Run, tmp_path: Path, name: str
) -> None:
    other = {MODEL: STATE, STATE: MODEL}[name]
    (tmp_path / other).write_bytes((finished.folder / other).read_bytes())
    with pytest.raises(MolflddError, match=rf"there is no checkpoint .*{name}"):
        load_run(tmp_path)
