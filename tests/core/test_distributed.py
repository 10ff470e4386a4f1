"""Two processes that share the batch against one that has it all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import two_processes

import molfldd

SCRIPT = Path(two_processes.__file__)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What one process finds, and what two find."""
    folder = tmp_path_factory.mktemp("distributed")
    here = (str(Path(molfldd.__file__).parents[1]), str(SCRIPT.parent))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*here, os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    finished = subprocess.run(
        [sys.executable, str(SCRIPT), "2", str(folder / "2.pt")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    two_processes.main(1, folder / "1.pt")
    return torch.load(folder / "1.pt"), torch.load(folder / "2.pt")


def test_gradients_are_those_of_the_whole_batch(results: tuple[dict, dict]) -> None:
    """Without noise in the objective they agree to rounding; at both of two iterations."""
    one, two = results
    for (norm, gradient), (other_norm, other) in zip(
        one["gradients"], two["gradients"], strict=True
    ):
        assert norm == pytest.approx(other_norm, rel=1e-4)
        assert norm > 0.1
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-5)


def test_two_processes_reach_the_bound_of_one(results: tuple[dict, dict]) -> None:
    one, two = results
    assert one["before"] == pytest.approx(two["before"], rel=1e-5)
    gained = one["before"] - one["after"]
    assert gained > 0.5
    assert abs(one["after"] - two["after"]) < 0.1 * gained


def test_processes_end_with_the_same_weights(results: tuple[dict, dict]) -> None:
    _, two = results
    first, second = two["weights"]
    assert torch.equal(first, second)
    assert len(two["norms"]) == 120
