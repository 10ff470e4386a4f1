"""What padding costs the graph transformer: dense and packed layouts at QM9 and ZINC250k sizes.

Random graphs of the usual sizes, with the networks and batch sizes of the recipes, on one thread.
Each variant takes every batch in turn, several rounds over; its time is the sum over batches of
the least CPU time of any round, so that other work on the machine disturbs little. Compare the
ratios of one run, not times of different runs.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
import torch_geometric.typing
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from molfldd.cli.running import run_script
from molfldd.config import parse_config, read_recipe
from molfldd.core.blocks import Block, masks
from molfldd.molecules.domain import bond_count
from molfldd.molecules.network import GraphTransformer
from molfldd.progress import shown

BLOCKS = (Block("atoms", 15, torch.Tensor.clone), Block("bonds", 5, bond_count))
STATES = {block.name: block.categories for block in BLOCKS}
POOL = 200
"""Batches among which examples are sorted by size."""

Inputs = tuple[dict[str, Tensor], dict[str, Tensor], Tensor]
"""Values, masks and times."""


def qm9_sizes(count: int, generator: torch.Generator) -> Tensor:
    """Sizes as frequent as in QM9, 1 to 9, (count,)."""
    counts = torch.tensor([0.0, 3, 5, 9, 31, 127, 608, 3138, 17879, 109031])
    return torch.multinomial(counts, count, replacement=True, generator=generator)


def zinc250k_sizes(count: int, generator: torch.Generator) -> Tensor:
    """Sizes with the mean and the spread of ZINC250k, 6 to 38, (count,)."""
    sizes = 23.1 + 4.5 * torch.randn(count, generator=generator)
    return sizes.round().clamp(6, 38).long()


SIZES = {"qm9": qm9_sizes, "zinc250k": zinc250k_sizes}


@dataclass(frozen=True)
class Variant:
    """One way to compute the same.

    Attributes:
        name: For the table.
        layout: Of the network.
        grouped: Whether batches are made of similar sizes.
        torch_scatter: Whether its kernels are used.
    """

    name: str
    layout: str
    grouped: bool = False
    torch_scatter: bool = False


VARIANTS = (
    Variant("dense", "dense"),
    Variant("dense, grouped by size", "dense", grouped=True),
    Variant("packed", "packed"),
    Variant("packed, torch-scatter", "packed", torch_scatter=True),
)


def padding(batches: Sequence[Tensor]) -> list[float]:
    """Fraction of the dense elements of each block that are padding."""
    padded = []
    for block in BLOCKS:
        lengths = [block.length(sizes) for sizes in batches]
        held = sum(len(entry) * int(entry.max()) for entry in lengths)
        padded.append(1 - sum(int(entry.sum()) for entry in lengths) / held)
    return padded


def inputs(sizes: Tensor, generator: torch.Generator) -> Inputs:
    """Random graphs of the given sizes (B,)."""
    mask = masks(BLOCKS, sizes)
    values = {
        name: torch.rand(*m.shape, STATES[name], generator=generator) for name, m in mask.items()
    }
    return values, mask, torch.rand(len(sizes), generator=generator)


@contextmanager
def torch_scatter(use: bool) -> Iterator[None]:
    """Let segment reductions use torch-scatter or not."""
    installed = torch_geometric.typing.WITH_TORCH_SCATTER
    torch_geometric.typing.WITH_TORCH_SCATTER = use
    try:
        yield
    finally:
        torch_geometric.typing.WITH_TORCH_SCATTER = installed


def seconds(network: GraphTransformer, batch: Inputs, backward: bool) -> float:
    """CPU time of one pass."""
    network.zero_grad()
    with torch.set_grad_enabled(backward):
        start = time.process_time()
        features = network(*batch)
        if backward:
            torch.stack([y.sum() for y in features.values()]).sum().backward()
        return time.process_time() - start


def measure(
    networks: Mapping[Variant, GraphTransformer],
    batches: Mapping[Variant, Sequence[Inputs]],
    rounds: int,
    name: str,
) -> dict[Variant, tuple[float, float]]:
    """Seconds of each variant for all its batches: forward, and forward and backward."""
    least = {
        (variant, backward): torch.full((len(graphs),), torch.inf)
        for variant, graphs in batches.items()
        for backward in (False, True)
    }
    for _ in shown(range(rounds), name):
        for (variant, backward), times in least.items():
            with torch_scatter(variant.torch_scatter):
                now = [seconds(networks[variant], graph, backward) for graph in batches[variant]]
            torch.minimum(times, torch.tensor(now), out=times)
    return {v: (float(least[v, False].sum()), float(least[v, True].sum())) for v in networks}


def benchmark(
    table: Table, name: str, variants: Sequence[Variant], count: int, rounds: int
) -> None:
    """Add the rows of one data set's sizes."""
    config = parse_config(read_recipe(name))
    generator = torch.Generator().manual_seed(0)
    sizes = SIZES[name](POOL * config.training.share(1), generator)
    grouped = sizes.sort().values
    pools = {variant: grouped if variant.grouped else sizes for variant in variants}
    batches = {v: pool.split(config.training.share(1)) for v, pool in pools.items()}
    networks = {
        variant: GraphTransformer(
            dataclasses.replace(config.network, layout=variant.layout),
            int(sizes.max()),
            STATES,
            STATES,
        )
        for variant in variants
    }
    timed = slice(POOL // count // 2, None, POOL // count)
    graphs = {v: [inputs(s, generator) for s in batches[v][timed][:count]] for v in variants}
    found = measure(networks, graphs, rounds, name)
    for variant, times in found.items():
        padded = padding(batches[variant]) if variant.layout == "dense" else (0.0, 0.0)
        ratios = (now / first for now, first in zip(times, found[variants[0]], strict=True))
        per_molecule = 1000 * times[1] / (count * config.training.share(1))
        table.add_row(
            name,
            variant.name,
            *(f"{share:.1%}" for share in padded),
            *(f"{ratio:.2f}" for ratio in ratios),
            f"{per_molecule:.2f}",
        )
    table.add_section()


def main(
    batches: Annotated[int, typer.Option(min=1, max=POOL, help="Batches per variant.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Passes over them.")] = 3,
) -> None:
    """Print one table; times are relative to the first row of each data set."""
    torch.set_num_threads(1)
    installed = torch_geometric.typing.WITH_TORCH_SCATTER
    variants = [variant for variant in VARIANTS if installed or not variant.torch_scatter]
    table = Table("sizes of", "layout", title="CPU time on one thread, relative to dense")
    for heading in (
        "padded\natoms",
        "\npairs",
        "\nforward",
        "forward+\nbackward",
        "ms per\nmolecule",
    ):
        table.add_column(heading, justify="right")
    for name in SIZES:
        benchmark(table, name, variants, batches, rounds)
    Console().print(table)
    if not installed:
        print("torch-scatter is not installed")


if __name__ == "__main__":
    run_script(main)
