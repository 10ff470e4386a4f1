"""Bias, noise and cost of every gradient estimator, at several points of a training.

A recipe is trained a while; then every estimator is asked many times for the gradient of the same
few examples with respect to the forward process. For the toy mixture the exact gradient is a sum
over all states z_t; for larger problems an unbiased estimator with many samples stands for it, and
the bias found includes what that errs by. A control variate has been fitted to other examples, as
in training. Two minutes on one core for each point of the toy, and a quarter of an hour for each
of ``--recipe qm9``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import Annotated, Any

import torch
import typer
from ablations import SMALL as ABLATION
from tables import markdown
from torch import Tensor

from molfldd.cli.diagnose import SUFFIXES
from molfldd.cli.running import run_script
from molfldd.config import override, parse_config, read_recipe
from molfldd.core.blocks import Batch, Examples
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
from molfldd.storage import check_writable
from molfldd.toy.exact import all_points

EXAMPLES = 32
"""Of which the gradient is taken."""

FITS = 300
"""Steps of fitting a control variate."""

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


def exact_gradient(diffusion: Diffusion, batch: Batch) -> tuple[Tensor, float]:
    """The sum over all steps and all states of every example, and its error, which is 0."""
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
            term = Term.of(diffusion, one, torch.tensor([t])).repeat(len(states))
            weight = log_marginal(term.transition, states.codes, states).exp()
            total = total + (weight * sum_blocks(term.kl(states.codes, torch.Generator()))).sum()
    return gradient(total / len(batch), diffusion), 0.0


def sampled_gradient(diffusion: Diffusion, batch: Batch, calls: int) -> tuple[Tensor, float]:
    """The mean of many unbiased gradients, of random numbers of their own, and its error."""
    generator = torch.Generator().manual_seed(17)
    estimator = LeaveOneOut(samples=4)
    rows = [one_gradient(estimator, diffusion, batch, generator) for _ in range(calls)]
    together = torch.stack(rows)
    return together.mean(0), float((together.var(0).sum() / calls).sqrt())


def all_steps(diffusion: Diffusion, batch: Batch) -> Term:
    """Every example once at every step."""
    t = torch.arange(1, diffusion.steps + 1).repeat_interleave(len(batch))
    return Term.of(diffusion, batch, t)


def one_gradient(
    estimator: Estimator, diffusion: Diffusion, batch: Batch, generator: torch.Generator
) -> Tensor:
    """What one call of an estimator gives for the forward process."""
    return gradient(estimator(all_steps(diffusion, batch), generator, 0.0).loss, diffusion)


def ready(described: Any, diffusion: Diffusion, examples: Examples) -> Estimator:
    """The estimator; a control variate is fitted to random examples first, the processes stay."""
    if not isinstance(described, ControlVariate):
        return described
    estimator = described.build(diffusion, examples.sizes)
    optimizer = torch.optim.Adam(estimator.parameters(), 0.05)
    generator = torch.Generator().manual_seed(1)
    for _ in range(FITS):
        batch = examples.batch(torch.randint(len(examples), (EXAMPLES,), generator=generator))
        optimizer.zero_grad()
        estimator(all_steps(diffusion, batch), generator, 0.0).loss.backward()
        optimizer.step()
    return estimator


def measure(
    estimator: Estimator, diffusion: Diffusion, batch: Batch, calls: int
) -> tuple[Tensor, float]:
    """Gradients of independent calls, (calls, parameters), and CPU seconds of the median call."""
    generator = torch.Generator().manual_seed(0)
    rows, clock = [], [time.process_time()]
    for _ in range(calls):
        rows.append(one_gradient(estimator, diffusion, batch, generator))
        clock.append(time.process_time())
    return torch.stack(rows), median(end - start for start, end in pairwise(clock))


@dataclass(frozen=True)
class Found:
    """What was measured of an estimator at a point of training.

    Attributes:
        bias: Distance of the mean gradient from the true one.
        sampling: About as much of it comes from the number of calls, and from what the true
            gradient errs by.
        noise: Standard deviation of one call.
        seconds: CPU time of the median call, for the gradient of the forward process alone.

    All but the last are relative to the norm of the true gradient.
    """

    bias: float
    sampling: float
    noise: float
    seconds: float

    @property
    def own_bias(self) -> float:
        """The bias without what sampling adds to it."""
        return max(self.bias**2 - self.sampling**2, 0.0) ** 0.5

    def at_time_of(self, other: Found) -> float:
        """The noise if it were averaged over as many calls as take the time of another's one."""
        return self.noise * (self.seconds / other.seconds) ** 0.5


def compare(
    diffusion: Diffusion, examples: Examples, calls: int, *, exact: bool
) -> dict[str, Found]:
    """What is found of every estimator, by its name, at some of the examples."""
    batch = examples.batch(examples.some(EXAMPLES))
    true = exact_gradient if exact else partial(sampled_gradient, calls=4 * calls)
    target, error = true(diffusion, batch)
    found = {}
    for name, described in ESTIMATORS:
        rows, seconds = measure(ready(described, diffusion, examples), diffusion, batch, calls)
        noise = float(rows.var(0).sum().sqrt() / target.norm())
        bias = float((rows.mean(0) - target).norm() / target.norm())
        sampling = math.hypot(noise / calls**0.5, error / float(target.norm()))
        found[name] = Found(bias, sampling, noise, seconds)
    return found


def shown(found: Mapping[str, Found]) -> str:
    """One row per estimator, in percent."""
    headings = ("estimator", "bias", "of it sampling", "noise", "ms", "time", "noise at equal time")
    first = next(iter(found.values()))
    rows = []
    for name, one in found.items():
        percent = (one.bias, one.sampling, one.noise, one.at_time_of(first))
        bias, sampling, noise, equal = (f"{100 * value:.0f}" for value in percent)
        time = f"{1000 * one.seconds:.0f}", f"{one.seconds / first.seconds:.2f}"
        rows.append([name, bias, sampling, noise, *time, equal])
    return markdown(headings, rows)


def picture(points: Mapping[int, Mapping[str, Found]], path: Path) -> None:
    """Noise at equal time and bias against iterations, a line for each estimator."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    colors = plt.get_cmap("tab20")
    for i, (name, _) in enumerate(ESTIMATORS):
        of = [found[name] for found in points.values()]
        first = [next(iter(found.values())) for found in points.values()]
        style = {"label": name, "marker": "o", "color": colors(i)}
        noise = [100 * one.at_time_of(other) for one, other in zip(of, first, strict=True)]
        left.plot(list(points), noise, **style)
        right.plot(list(points), [max(100 * one.own_bias, 1) for one in of], **style)
    for axes, title in ((left, "noise at equal time, %"), (right, "bias, % (at least 1)")):
        axes.set(xlabel="iterations", title=title, yscale="log", xscale="log")
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(
    recipe: Annotated[str, typer.Option(help="What to train: toy or qm9.")] = "toy",
    at: Annotated[list[int] | None, typer.Option(help="Iterations after which to look.")] = None,
    calls: Annotated[int, typer.Option(min=10, help="Gradients per estimator.")] = 400,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: key.subkey=value.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also draw it: .png, .svg or .pdf.")] = None,
) -> None:
    """Print a table for each point of the training."""
    if out is not None:
        check_writable(out, SUFFIXES)
    wanted = sorted(at or [400])
    run = training(recipe, assign or [], wanted[-1])
    points = {}
    for iteration in run.trainer.run():
        if iteration.number in wanted:
            print(f"after {iteration.number:,} iterations")
            diffusion = run.trainer.diffusion
            found = compare(diffusion, run.data.train, calls, exact=recipe == "toy")
            points[iteration.number] = found
            print(shown(found))
    print(
        "bias and noise (standard deviation) in percent of the true gradient's norm; of the bias "
        "found, about 'of it sampling' comes from the number of calls; CPU milliseconds of a "
        "gradient, and time relative to the first row; noise at equal time is noise times the root "
        "of the time"
    )
    if out is not None:
        picture(points, out)


if __name__ == "__main__":
    run_script(main)
