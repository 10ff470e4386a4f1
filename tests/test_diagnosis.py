"""A run's health: what is complained about, and the picture of a real log."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from molfldd.cli.main import app
from molfldd.core.report import BoundReport
from molfldd.diagnosis import complaints, draw, without_order
from molfldd.log import read_log


def report(kl: list[float]) -> BoundReport:
    table = torch.tensor(kl)[:, None]
    return BoundReport(("letters",), table, 0.0, 0.0, table, table, table)


def test_a_healthy_run_gets_no_complaint() -> None:
    assert complaints(report([1.0, 2.0, 0.5]), None) == []
    assert complaints(report([1.0, 2.0, 0.5]), 3.4) == []


def test_a_size_never_seen_is_named() -> None:
    unseen = dataclasses.replace(report([1.0, 2.0]), size=math.inf)
    (message,) = complaints(unseen, 3.4)
    assert message.startswith("the bound is infinite: some held-out example has a size")
    content = json.loads(json.dumps(unseen.to_json(), allow_nan=False))
    assert content["bound"] is None
    assert content["kl"] == {"letters": [1.0, 2.0]}


def test_idle_steps_are_named() -> None:
    (message,) = complaints(report([3.0, 0.001, 2.0, 0.0]), None)
    assert message.startswith("steps collapse: only 2 of 4 steps")
    assert "steps 2, 4 do not" in message


def test_a_soft_bound_far_below_the_hard_one_is_a_leak() -> None:
    (message,) = complaints(report([10.0, 20.0]), 5.0)
    assert message.startswith("the relaxation leaks: 5.00 nats on soft samples, 30.00 on hard")


def masking_report(*probabilities: list[float]) -> BoundReport:
    """Of two blocks, the first with elements that are masked so at t = 1, 2, 3."""
    p = torch.tensor(probabilities)
    own = torch.stack([1 - p.mean(0), (torch.special.entr(p) + torch.special.entr(1 - p)).mean(0)])
    coin = torch.tensor([[0.5, 0.5, 0.0], [math.log(2), math.log(2), 0.0]])
    kept, entropy = torch.stack([own, coin], -1)
    return BoundReport(("letters", "coins"), torch.ones(3, 2), 0.0, 0.0, kept, entropy, kept)


def test_blocks_without_an_order_are_named() -> None:
    alike = masking_report([0.31, 0.6, 1.0], [0.29, 0.6, 1.0])
    (message,) = without_order(alike)
    assert message.startswith("no order was learned within letters and coins:")
    ordered = masking_report([0.31, 0.9, 1.0], [0.29, 0.3, 1.0])
    (message,) = without_order(ordered)
    assert message.startswith("no order was learned within coins:")


@pytest.mark.parametrize(
    ("probabilities", "order"),
    [
        ([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]], 1.0),
        ([[0.0, 0.5, 1.0], [1.0, 0.5, 1.0]], 0.5),
        ([[0.3, 0.6, 1.0]], 0.0),
    ],
)
def test_order_is_the_share_of_the_entropy_that_masks_alike_would_have(
    probabilities: list[list[float]], order: float
) -> None:
    expected = {"letters": order, "coins": 0.0}
    assert masking_report(*probabilities).order == pytest.approx(expected, abs=1e-6)


def test_one_step_has_no_order() -> None:
    assert report([3.0]).order == {"letters": 0.0}


def entry(event: str, iteration: int, **more: object) -> str:
    return json.dumps({"event": event, "iteration": iteration, "seconds": 1.0, **more})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with two phases, two blocks and a warning."""
    steps = {"atoms": [0.5, 0.4], "bonds": [1.0, 0.8]}
    lines = []
    for i, phase in ((10, "learn"), (20, "polish")):
        norms = {"reverse": 1.0} if phase == "polish" else {"reverse": 2.0, "forward": 0.1}
        lines.append(
            entry(
                "train",
                i,
                phase=phase,
                bound=3.0,
                kl=steps,
                gradient_norm=norms,
                gradient_variance=norms,
            )
        )
        lines.append(
            entry(
                "evaluate",
                i,
                bound=2.7,
                valid=0.5,
                kl=steps,
                kept=steps,
                entropy=steps,
                information=steps,
            )
        )
    lines.append(entry("warning", 20, message="steps collapse: none left"))
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_picture_is_drawn(log: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    draw(read_log(log), path, suffix)
    start = path.read_bytes()[:200]
    assert {".png": b"PNG", ".svg": b"<svg", ".pdf": b"%PDF"}[suffix] in path.read_bytes()[:2000]
    assert start


def test_command_draws_beside_the_log_and_prints_warnings(log: Path) -> None:
    result = CliRunner().invoke(app, ["diagnose", str(log.parent)])
    assert result.exit_code == 0, result.output
    assert (log.parent / "diagnosis.png").stat().st_size > 10_000
    assert "warning: steps collapse: none left" in result.output
