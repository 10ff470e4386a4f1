"""What a run does when training breaks down, and what is read back from its folder."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from molfldd.checkpoint import read_checkpoint, write_checkpoint
from molfldd.config import override, parse_config, read_recipe
from molfldd.core.blocks import Batch
from molfldd.engine import Engine
from molfldd.errors import MolflddError
from molfldd.model import load_diffusion
from molfldd.run import MODEL, STATE, Run


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
    """The reverse one exactly, the forward one in half precision."""
    found, averaged = load_diffusion(finished.folder / MODEL), finished.trainer.averaged
    assert not found.training
    state = averaged.state_dict()
    assert found.state_dict().keys() == state.keys()
    for name, value in found.state_dict().items():
        exact = name.startswith("reverse.")
        tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-3, "atol": 1e-6}
        torch.testing.assert_close(value, state[name], **tolerance)


def test_a_checkpoint_without_forward_process_says_so(finished: Run, tmp_path: Path) -> None:
    header, tree = read_checkpoint(finished.folder / MODEL)
    del tree["forward"]
    write_checkpoint(tmp_path / MODEL, header, tree)
    with pytest.raises(MolflddError, match="no forward process"):
        load_diffusion(tmp_path / MODEL)


def test_the_bound_is_of_held_out_examples_from_everywhere_always_the_same(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones may be alike: data sets come sorted, molecules by size."""
    seen: list[torch.Tensor] = []

    def record(diffusion: object, batches: list[Batch], *more: object) -> None:
        seen.append(torch.cat([next(iter(batch.codes.values())) for batch in batches]))

    monkeypatch.setattr("molfldd.run.evaluate_bound", record)
    monitor = replace(finished.config.monitor, examples=20)
    monkeypatch.setattr(finished, "config", finished.config.model_copy(update={"monitor": monitor}))
    finished.bound()
    finished.bound()
    assert torch.equal(*seen)
    held_out = finished.data.test
    (whole,) = held_out.batch(torch.arange(len(held_out))).codes.values()
    assert len(seen[0]) == 20 < len(whole)
    assert not torch.equal(seen[0], whole[:20])
    assert {tuple(x) for x in seen[0].tolist()} <= {tuple(x) for x in whole.tolist()}
