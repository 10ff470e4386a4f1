"""Bias, noise and cost of every gradient estimator, at several points of a training.

A recipe is trained a while; then every estimator is asked many times for the gradient of the same
few examples with respect to the forward process. For the toy mixture the exact gradient is a sum
over all states z_t; for larger problems an unbiased estimator with many samples stands for it, and
the bias found includes what that errs by. About a minute on one core for the toy, and for
``--recipe qm9`` a quarter of an hour for each point.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, Any

import torch
import typer
from ablations import SMALL as ABLATION
from rich.console import Console
from rich.table import Table
from torch import Tensor

from molfldd.config import override, parse_config, read_recipe
from molfldd.core.blocks import Batch
from molfldd.core.diffusion import Diffusion
from molfldd.core.estimators import (
    ConcreteRelaxation,
    ControlVariate,
    Estimator,
    LeaveOneOut,
    Pathwise,
    Reinforce,
    ReinMax,
    StraightThrough,
    Term,
    log_marginal,
)
from molfldd.core.estimators.base import sum_blocks
from molfldd.engine import Engine
from molfldd.run import Run
from molfldd.toy.exact import all_points

FITS = 300
"""Steps of fitting a control variate."""

console = Console(soft_wrap=True, highlight=False)

ESTIMATORS: tuple[tuple[str, Any], ...] = (
    ("pathwise only", Pathwise()),
    ("REINFORCE, K = 1", Reinforce()),
    ("control variate, K = 1", ControlVariate(samples=1)),
    ("leave-one-out, K = 2", LeaveOneOut(samples=2)),
    ("control variate, K = 2", ControlVariate(samples=2)),
    ("leave-one-out, K = 4", LeaveOneOut(samples=4)),
    ("control variate, K = 4", ControlVariate(samples=4)),
    ("Concrete, temperature 1", ConcreteRelaxation(start=1.0, end=1.0)),
    ("Concrete, temperature 0.1", ConcreteRelaxation(start=0.1, end=0.1)),
    ("straight-through, temperature 1", StraightThrough(temperature=1.0)),
    ("ReinMax", ReinMax()),
)


TOY = [
    "data.grid=8",
    "data.means=[[2, 2], [5, 5]]",
    "data.sigma=0.8",
    "process.steps=3",
]
"""A lattice small enough to enumerate."""


def training(recipe: str, assignments: Sequence[str], last: int) -> Run:
    """A run of the recipe's first phase, so many iterations of it."""
    small = TOY if recipe == "toy" else ABLATION
    content = override(read_recipe(recipe), [*small, *assignments, f"phases.0.iterations={last}"])
    content["phases"] = content["phases"][:1]
    engine = Engine(accelerator="cpu", precision="32-true")
    return Run(parse_config(content), Path(mkdtemp()), engine)


def gradient(loss: Tensor, diffusion: Diffusion) -> Tensor:
    """With respect to the forward process, as one row."""
    parameters = list(diffusion.forward_process.parameters())
    parts = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for p, g in zip(parameters, parts, strict=True)
        ]
    )


def exact_gradient(diffusion: Diffusion, batch: Batch) -> Tensor:
    """The sum over all steps and all states of every example."""
    states = all_points(diffusion.prior.states("coordinates"))
    total: Any = 0.0
    for i in range(len(batch)):
        row = torch.tensor([i])
        one = Batch(
            {name: x[row] for name, x in batch.codes.items()},
            {name: m[row] for name, m in batch.mask.items()},
            batch.sizes[row],
        )
        for t in range(1, diffusion.steps + 1):
            term = Term(diffusion, one, torch.tensor([t])).repeat(len(states))
            weight = log_marginal(term.transition, states.codes, states).exp()
            total = total + (weight * sum_blocks(term.kl(states.codes))).sum()
    return gradient(total / len(batch), diffusion)


def sampled_gradient(diffusion: Diffusion, batch: Batch, calls: int) -> Tensor:
    """The mean of many unbiased gradients, of random numbers of their own."""
    generator = torch.Generator().manual_seed(17)
    estimator = LeaveOneOut(samples=4)
    rows = [one_gradient(estimator, diffusion, batch, generator) for _ in range(calls)]
    return torch.stack(rows).mean(0)


def all_steps(diffusion: Diffusion, batch: Batch) -> Term:
    """Every example once at every step."""
    t = torch.arange(1, diffusion.steps + 1).repeat_interleave(len(batch))
    return Term(diffusion, batch.repeat(diffusion.steps), t)


def one_gradient(
    estimator: Estimator, diffusion: Diffusion, batch: Batch, generator: torch.Generator
) -> Tensor:
    """What one call of an estimator gives for the forward process."""
    return gradient(estimator(all_steps(diffusion, batch), generator, 0.0).loss, diffusion)


def ready(described: Any, diffusion: Diffusion, batch: Batch) -> Estimator:
    """The estimator; a control variate is fitted first, the processes stay."""
    if not isinstance(described, ControlVariate):
        return described
    categories = {block.name: block.categories for block in diffusion.blocks}
    lengths = {name: codes.shape[1] for name, codes in batch.codes.items()}
    estimator = described.build(diffusion.steps, categories, lengths)
    optimizer = torch.optim.Adam(estimator.parameters(), 0.05)
    generator = torch.Generator().manual_seed(1)
    for _ in range(FITS):
        optimizer.zero_grad()
        estimator(all_steps(diffusion, batch), generator, 0.0).loss.backward()
        optimizer.step()
    return estimator


def measure(
    estimator: Estimator, diffusion: Diffusion, batch: Batch, calls: int
) -> tuple[Tensor, float]:
    """Gradients of independent calls, (calls, parameters), and seconds per call."""
    generator = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    rows = [one_gradient(estimator, diffusion, batch, generator) for _ in range(calls)]
    return torch.stack(rows), (time.perf_counter() - started) / calls


def compare(diffusion: Diffusion, batch: Batch, calls: int, *, exact: bool) -> Table:
    """One row per estimator; bias and noise relative to the norm of the true gradient."""
    true = exact_gradient if exact else partial(sampled_gradient, calls=4 * calls)
    target = true(diffusion, batch)
    table = Table("estimator", "bias %", "of it sampling", "noise %", "time", "noise at equal time")
    first = None
    for name, described in ESTIMATORS:
        rows, seconds = measure(ready(described, diffusion, batch), diffusion, batch, calls)
        noise = float(rows.var(0).sum().sqrt() / target.norm())
        error = noise / calls**0.5
        bias = float((rows.mean(0) - target).norm() / target.norm())
        first = first or seconds
        table.add_row(
            name,
            f"{100 * bias:.0f}",
            f"{100 * error:.0f}",
            f"{100 * noise:.0f}",
            f"{seconds / first:.2f}",
            f"{100 * noise * (seconds / first) ** 0.5:.0f}",
        )
    return table


def main(
    recipe: Annotated[str, typer.Option(help="What to train: toy or qm9.")] = "toy",
    at: Annotated[list[int] | None, typer.Option(help="Iterations after which to look.")] = None,
    calls: Annotated[int, typer.Option(min=10, help="Gradients per estimator.")] = 400,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: key.subkey=value.")
    ] = None,
) -> None:
    """Print a table for each point of the training."""
    points = sorted(at or [400])
    run = training(recipe, assign or [], points[-1])
    batch = run.data.train.batch(run.data.train.some(32))
    for iteration in run.trainer.run():
        if iteration.number in points:
            console.print(f"after {iteration.number:,} iterations")
            diffusion = run.trainer.diffusion
            console.print(compare(diffusion, batch, calls, exact=recipe == "toy"))
    console.print(
        "bias and noise (standard deviation) in percent of the true gradient's norm; of the bias "
        "found, about 'of it sampling' comes from the number of calls; time relative to the first "
        "row; noise at equal time is noise times the root of the time"
    )


if __name__ == "__main__":
    typer.run(main)
