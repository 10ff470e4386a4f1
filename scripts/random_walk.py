"""The random walk of Section 3 in two steps: what learned forward processes make of it.

x^1 = 0, x^{i+1} = x^i +- 1. An exact solution in two factorized steps exists: z_1 holds the
increments, drawn independently; the second step takes prefix sums, which are deterministic. Its
bound is the entropy of the data, (D - 1) log 2 nats. For each process this prints the bound on
held-out walks, the share of generated sequences that are walks, and what z_1 has become: the sum
over positions of the mutual information between z_1^i and the increment before it, and between
z_1^i and x^i itself (in bits; the exact solution has D - 1 of the first).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated

import torch
import typer
from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from molfldd.cli.running import run_script
from molfldd.core.blocks import (
    Block,
    Examples,
    Prior,
    SizeDistribution,
    absorbing_prior,
    uniform_prior,
)
from molfldd.core.diffusion import Diffusion
from molfldd.core.estimators import ControlVariate, Pathwise
from molfldd.core.forward import (
    FixedForward,
    ForwardProcess,
    FreeForward,
    MaskingForward,
    PinnedForward,
)
from molfldd.core.network import NetworkFactory
from molfldd.core.phases import Phase, TrainingOptions
from molfldd.core.report import evaluate_bound
from molfldd.core.reverse import DirectReverse, UnmaskingReverse
from molfldd.core.sampling import Sampler
from molfldd.core.training import Trainer
from molfldd.progress import shown
from molfldd.toy.network import COORDINATES, Perceptron, PerceptronConfig

STEPS = 2
HELD_OUT, GENERATED = 4000, 4000

Processes = Callable[[Block, NetworkFactory], Diffusion]
console = Console(soft_wrap=True, highlight=False)


def walks(count: int, length: int, generator: torch.Generator) -> Tensor:
    """Random walks from 0, shifted by length - 1 to be categories; (count, length) int64."""
    increments = 2 * torch.randint(2, (count, length - 1), generator=generator) - 1
    return torch.nn.functional.pad(increments.cumsum(-1), (1, 0)) + length - 1


def are_walks(x: Tensor) -> Tensor:
    """Whether each row (B, D) is a walk from 0, (B,) bool."""
    return (x[:, 0] == x.shape[1] - 1) & (x.diff(dim=-1).abs() == 1).all(-1)


def _masked(
    forward: Callable[..., ForwardProcess], block: Block, network: NetworkFactory
) -> Diffusion:
    prior = absorbing_prior([block])
    return Diffusion(
        forward([block], prior, STEPS, network), UnmaskingReverse([block], prior, STEPS, network)
    )


def _uniform(
    forward: Callable[..., ForwardProcess], block: Block, network: NetworkFactory
) -> Diffusion:
    prior: Prior = uniform_prior([block])
    return Diffusion(
        forward([block], prior, STEPS, network), DirectReverse([block], prior, STEPS, network)
    )


def _fixed(
    blocks: list[Block], prior: Prior, steps: int, network: NetworkFactory
) -> ForwardProcess:
    return FixedForward(blocks, prior, steps)


PROCESSES: Mapping[str, Processes] = {
    "fixed masking": partial(_masked, _fixed),
    "learned masking": partial(_masked, MaskingForward),
    "fixed, uniform prior": partial(_uniform, _fixed),
    "pinned, uniform prior": partial(_uniform, PinnedForward),
    "free, uniform prior": partial(_uniform, FreeForward),
}


def train(name: str, diffusion: Diffusion, data: Examples, iterations: int, seed: int) -> Diffusion:
    """Both processes, then the reverse one alone; the latter averaged."""
    learned = len(list(diffusion.forward_process.parameters())) > 0
    rate = 1e-3 if learned else 0.0
    half = iterations // 2
    phases = (
        Phase("learn", half, ControlVariate() if learned else Pathwise(), rate, 1e-3, 100),
        Phase("polish", iterations - half, Pathwise(), 0.0, 1e-3, schedule="cosine"),
    )
    options = TrainingOptions(batch_size=256, ema_decay=0.995, seed=seed)
    trainer = Trainer(Fabric(accelerator="cpu", devices=1), diffusion, data, phases, options)
    for _ in shown(trainer.run(), name, iterations):
        pass
    return trainer.averaged


def information(z: Tensor, y: Tensor) -> float:
    """Mutual information of two categorical variables, from samples (N,) each, in bits."""
    joint = torch.zeros(int(z.max()) + 1, int(y.max()) + 1)
    joint.index_put_((z, y), torch.ones(len(z)), accumulate=True)
    joint = joint / joint.sum()
    independent = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    positive = joint > 0
    return float((joint[positive] * (joint[positive] / independent[positive]).log2()).sum())


@torch.no_grad()
def meaning(
    diffusion: Diffusion, data: Examples, generator: torch.Generator
) -> tuple[float, float]:
    """Sums over i of I(z_1^i; x^i - x^{i-1}) and of I(z_1^i; x^i), bits."""
    batch = data.batch(torch.arange(len(data)))
    forward = diffusion.forward_process
    t = torch.ones_like(batch.sizes)
    z = forward.transition(batch, forward.encode(batch), t).draw(generator)[COORDINATES]
    x = batch.codes[COORDINATES]
    up = (x.diff(dim=-1) > 0).long()
    columns = range(1, x.shape[1])
    increments = sum(information(z[:, i], up[:, i - 1]) for i in columns)
    return increments, sum(information(z[:, i], x[:, i]) for i in columns)


def main(
    length: Annotated[int, typer.Option(min=2, help="D, positions of a walk.")] = 16,
    iterations: Annotated[int, typer.Option(min=2, help="Optimizer steps of each process.")] = 6000,
    width: Annotated[int, typer.Option(min=1, help="Channels of the networks.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of the data and the training.")] = 0,
) -> None:
    """Train each process on random walks and print what became of it."""
    generator = torch.Generator().manual_seed(seed)
    block = Block(COORDINATES, 2 * length - 1, Tensor.clone)

    def examples(count: int) -> Examples:
        codes = {COORDINATES: walks(count, length, generator)}
        return Examples((block,), codes, torch.full((count,), length))

    def network(inputs: Mapping[str, int], outputs: Mapping[str, int]) -> nn.Module:
        return Perceptron(PerceptronConfig(3, width), inputs, outputs, length)

    data, held_out = examples(200_000), examples(HELD_OUT)
    sizes = SizeDistribution.of(data.sizes)
    table = Table(
        "process", "bound, nats", "over the entropy", "walks", "I(z_1; step)", "I(z_1; x)"
    )
    for name, processes in PROCESSES.items():
        torch.manual_seed(seed)
        diffusion = train(name, processes(block, network), data, iterations, seed)
        batches = [held_out.batch(rows) for rows in torch.arange(HELD_OUT).split(500)]
        bound = evaluate_bound(diffusion, batches, sizes, generator).total
        sampler = Sampler(diffusion.reverse, diffusion.prior, sizes)
        generated = sampler.sample(seed, range(GENERATED)).codes[COORDINATES]
        share = 100 * float(are_walks(generated).float().mean())
        steps, positions = meaning(diffusion, held_out, generator)
        excess = bound - (length - 1) * math.log(2)
        cells = (
            f"{bound:.3f}",
            f"{excess:.3f}",
            f"{share:.1f} %",
            f"{steps:.2f}",
            f"{positions:.2f}",
        )
        table.add_row(name, *cells)
    console.print(table)
    console.print(f"entropy of the data: {(length - 1) * math.log(2):.3f} nats, {length - 1} bits")


if __name__ == "__main__":
    run_script(main)
