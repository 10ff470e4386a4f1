"""What a run does when training breaks down."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from molfldd.config import override, parse_config, read_recipe
from molfldd.errors import MolflddError
from molfldd.run import STATE, Engine, Run


def tiny_run(folder: Path) -> Run:
    changes = ["data.grid=8", "data.means=[[2.0, 2.0], [5.0, 5.0]]", "data.examples=500"]
    small = ["network.width=8", "monitor.checkpoint_every=2", "monitor.evaluate_every=1000"]
    config = parse_config(override(read_recipe("toy"), [*changes, *small]))
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
    with pytest.raises(MolflddError, match=r"gradient of 'reverse' is nan after 2 iterations; the state"):
        run.train(Console(file=io.StringIO()))
    again = tiny_run(tmp_path / "run")
    again.resume()
    assert again.trainer.iteration == 2
    assert (tmp_path / "run" / STATE).is_file()
    assert all(p.isfinite().all() for p in again.trainer.diffusion.parameters())
